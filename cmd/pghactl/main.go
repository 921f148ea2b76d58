// Command pghactl asks a PostgreSQL cluster about its members and gives it
// orders, like patronictl.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/pgha/pgha/internal/ctl"
)

func main() {
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
