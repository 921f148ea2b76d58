// Command pghactl asks a PostgreSQL cluster about its members and gives it
// orders, like patronictl.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/pgha/pgha/internal/ctl"
)

// gcPercent lets the heap grow to 16 MB before the first collection: most
// commands are over by then, and a tenth of their time was collecting.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	app := &ctl.App{
		In:       os.Stdin,
		Out:      os.Stdout,
		Err:      os.Stderr,
		Now:      time.Now,
		Environ:  os.Environ(),
		Terminal: term.IsTerminal(int(os.Stdout.Fd())),
	}
	code := app.Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
