// Command pgha-agent keeps one PostgreSQL server of a cluster highly available.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/pgha/pgha/internal/agent"
	"github.com/pgha/pgha/internal/version"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

const usage = `usage: pgha-agent [CONFIG.yml | DIRECTORY]
       pgha-agent --validate-config [-i] [-p] [CONFIG.yml | DIRECTORY]
       pgha-agent --generate-sample-config [FILE]
       pgha-agent --generate-config [--dsn DSN] [FILE]

CONFIG.yml is a Patroni configuration file.

  --validate-config          check the configuration, print every finding with its line and cure
    -i, --ignore-listen-port   the ports may be in use, since the agent runs
    -p, --print                print a good configuration, with the environment (and passwords) in it
  --generate-sample-config   write a configuration with the defaults
  --generate-config          write a configuration from what a running server says
    --dsn DSN                  how to connect to it, as a superuser (default: libpq's environment)
  --version                  print the version
  -h, --help                 print this
`

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("pgha-agent", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	validate := flags.Bool("validate-config", false, "")
	sample := flags.Bool("generate-sample-config", false, "")
	generate := flags.Bool("generate-config", false, "")
	dsn := flags.String("dsn", "", "")
	show := flags.Bool("version", false, "")
	var o agent.ValidateOptions
	for _, name := range []string{"i", "ignore-listen-port"} {
		flags.BoolVar(&o.IgnoreListenPort, name, false, "")
	}
	for _, name := range []string{"p", "print"} {
		flags.BoolVar(&o.Print, name, false, "")
	}
	names, err := parse(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "error: %v; see pgha-agent --help\n", err)
		return 2
	}
	if problem := misuse(len(names), *validate, *sample, *generate, *dsn != "", o); problem != "" {
		fmt.Fprintln(stderr, "error: "+problem)
		return 2
	}
	name := ""
	if len(names) > 0 {
		name = names[0]
	}
	ctx := context.Background()
	switch {
	case *show:
		fmt.Fprintf(stdout, "pgha-agent %s (compatible with Patroni %s)\n", version.Version(), version.Patroni)
		return 0
	case *validate:
		return agent.Validate(name, os.Environ(), o, stdout, stderr)
	case *sample:
		return agent.GenerateSample(ctx, name, os.Environ(), stdout, stderr)
	case *generate:
		return agent.Generate(ctx, name, *dsn, os.Environ(), stdout, stderr)
	}
	return agent.Run(ctx, agent.Options{
		ConfigPath: name, Environ: os.Environ(), Stderr: stderr,
		Reload: each(syscall.SIGHUP), Upgrade: each(syscall.SIGUSR2), Stop: stops(),
	})
}

// parse reads the flags wherever they stand among the names.
func parse(flags *flag.FlagSet, args []string) (names []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return names, nil
		}
		names, args = append(names, flags.Arg(0)), flags.Args()[1:]
	}
}

// misuse says what is wrong with the command line, "" if nothing is.
func misuse(names int, validate, sample, generate, dsn bool, o agent.ValidateOptions) string {
	modes := 0
	for _, on := range []bool{validate, sample, generate} {
		if on {
			modes++
		}
	}
	switch {
	case names > 1:
		return "more than one file is named; name one, or a directory that holds them"
	case modes > 1:
		return "--validate-config, --generate-config and --generate-sample-config exclude each other"
	case dsn && !generate:
		return "--dsn goes with --generate-config"
	case (o.Print || o.IgnoreListenPort) && !validate:
		return "--print and --ignore-listen-port go with --validate-config"
	}
	return ""
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

// each is readable once a signal has come, however often.
func each(s os.Signal) <-chan struct{} {
	sig, came := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(sig, s)
	go func() {
		for range sig {
			select {
			case came <- struct{}{}:
			default:
			}
		}
	}()
	return came
}
