// Command pgha-agent keeps one PostgreSQL server of a cluster highly available.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/pgha/pgha/internal/agent"
	"github.com/pgha/pgha/internal/version"
)

func main() { os.Exit(run()) }

func run() int {
	flags := flag.NewFlagSet("pgha-agent", flag.ContinueOnError)
	validate := flags.Bool("validate-config", false, "check the configuration, print every finding with its line and cure, and exit")
	show := flags.Bool("version", false, "print the version and exit")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: pgha-agent [--validate-config] [CONFIG.yml | DIRECTORY]\n\nCONFIG.yml is a Patroni configuration file.\n\n")
		flags.PrintDefaults()
	}
	switch err := flags.Parse(os.Args[1:]); {
	case err == flag.ErrHelp: //nolint:errorlint // the flag package returns it as it is
		return 0
	case err != nil:
		return 2
	}
	if flags.NArg() > 1 {
		flags.Usage()
		return 2
	}
	switch {
	case *show:
		fmt.Printf("pgha-agent %s (compatible with Patroni %s)\n", version.Version(), version.Patroni)
		return 0
	case *validate:
		return agent.Validate(flags.Arg(0), os.Environ(), os.Stdout, os.Stderr)
	}
	return agent.Run(context.Background(), agent.Options{
		ConfigPath: flags.Arg(0), Environ: os.Environ(), Stderr: os.Stderr,
		Reload: reloads(), Stop: stops(),
	})
}

// stops is closed at the first SIGTERM or SIGINT. Later ones are ignored: the
// way out is under way, and its steps have deadlines.
func stops() <-chan struct{} {
	sig, stop := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(sig, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-sig
		close(stop)
	}()
	return stop
}

// reloads is readable for each SIGHUP.
func reloads() <-chan struct{} {
	sig, reload := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(sig, syscall.SIGHUP)
	go func() {
		for range sig {
			select {
			case reload <- struct{}{}:
			default:
			}
		}
	}()
	return reload
}
