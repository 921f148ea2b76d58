package ctl

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgha/pgha/internal/plain"
)

type listOptions struct {
	all       bool
	extended  bool
	timestamp bool
	format    format
	watch     watchOptions
}

func newListCommand(a *App, opts *globals) *cobra.Command {
	o := listOptions{format: formatPretty}
	cmd := newMembersCommand(a, opts, &o)
	cmd.Use = "list [CLUSTER...]"
	cmd.Short = "Show the members of one or more clusters"
	flags := cmd.Flags()
	flags.BoolVarP(&o.extended, "extended", "e", false, "show the extra columns even if they are empty")
	flags.BoolVarP(&o.timestamp, "timestamp", "t", false, "print the time first")
	o.format.addTo(flags)
	return cmd
}

// newMembersCommand is what list and topology have in common.
func newMembersCommand(a *App, opts *globals, o *listOptions) *cobra.Command {
	cmd := &cobra.Command{
		RunE: func(cmd *cobra.Command, args []string) error {
			every, err := o.watch.interval(cmd.Flags())
			if err != nil {
				return err
			}
			s, err := a.newSession(opts)
			if err != nil {
				return err
			}
			defer s.close()
			return a.list(cmd.Context(), s, args, o, every)
		},
	}
	opts.addGroup(cmd.Flags())
	cmd.Flags().BoolVar(&o.all, "all", false, "every cluster of the namespace")
	o.watch.addTo(cmd.Flags())
	return cmd
}

func (a *App) list(ctx context.Context, s *session, names []string, o *listOptions, every time.Duration) error {
	switch {
	case o.all && len(names) > 0:
		return usageError{"name clusters, or give --all, not both"}
	case len(names) == 0 && !o.all && s.local.Scope != "":
		names = []string{s.local.Scope}
	case len(names) == 0 && !o.all:
		a.warnf("Listing members: No cluster names were provided")
		return nil
	}
	return a.watching(ctx, every, func() error {
		if a.Terminal && every > 0 {
			a.printf(clearScreen)
		}
		if o.timestamp {
			a.printf("%s\n", a.Now().Format(time.DateTime))
		}
		return a.listOnce(ctx, s, names, o)
	})
}

func (a *App) listOnce(ctx context.Context, s *session, names []string, o *listOptions) error {
	if o.all {
		return a.listAll(ctx, s, o)
	}
	for _, name := range names {
		c, err := s.read(ctx, name)
		if err != nil {
			return err
		}
		if err := writeMembers(a.Out, c, name, o.format, o.extended); err != nil {
			return fmt.Errorf("write the list: %w", err)
		}
	}
	return nil
}

// listAll shows every cluster of the namespace: a table each, or one document
// with the members of all.
func (a *App) listAll(ctx context.Context, s *session, o *listOptions) error {
	clusters, err := s.readAll(ctx)
	if err != nil {
		return err
	}
	all := &table{dropsEmpty: true}
	for _, name := range slices.Sorted(maps.Keys(clusters)) {
		if o.format.isTable() {
			if err := writeMembers(a.Out, clusters[name], name, o.format, o.extended); err != nil {
				return fmt.Errorf("write the list: %w", err)
			}
			continue
		}
		// All columns: which ones there are must not depend on who is there.
		all.join(memberTable(clusters[name], name, o.format, true))
	}
	if o.format.isTable() {
		return nil
	}
	if err := all.write(a.Out, o.format); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}

// String implements pflag.Value.
func (f *format) String() string { return string(*f) }

// Type implements pflag.Value: the word shown in the help.
func (f *format) Type() string { return "FORMAT" }

// Set implements pflag.Value.
func (f *format) Set(text string) error {
	switch text {
	case "pretty", "tsv", "json", "yaml":
		*f = format(text)
	case "yml":
		*f = formatYAML
	default:
		return fmt.Errorf("choose from pretty, tsv, json, yaml, yml")
	}
	return nil
}

func (f *format) addTo(flags *pflag.FlagSet) {
	flags.VarP(f, "format", "f", "output format: pretty, tsv, json or yaml")
}

// addDocumentTo is addTo for a command whose answer has no rows: a text, or JSON.
func (f *format) addDocumentTo(cmd *cobra.Command) {
	cmd.Flags().VarP(f, "format", "f", "output format: pretty or json")
	// It fails only for an option that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("format", fixed(string(formatPretty), string(formatJSON)))
}

// watchOptions are -w SECONDS and -W, which is -w 2.
type watchOptions struct {
	seconds float64
	often   bool
}

func (w *watchOptions) addTo(flags *pflag.FlagSet) {
	flags.Float64VarP(&w.seconds, "watch", "w", 0, "repeat every so many seconds")
	flags.BoolVarP(&w.often, "refresh", "W", false, "repeat every 2 seconds")
}

// defaultWatch is the interval of -W.
const defaultWatch = 2 * time.Second

// interval returns 0 when nothing is to be repeated.
func (w *watchOptions) interval(flags *pflag.FlagSet) (time.Duration, error) {
	if flags.Changed("watch") && !(w.seconds > 0 && w.seconds <= math.MaxInt32) {
		return 0, usageError{"-w needs a number of seconds above 0"}
	}
	switch {
	case w.seconds > 0:
		return max(time.Duration(w.seconds*float64(time.Second)), time.Millisecond), nil
	case w.often:
		return defaultWatch, nil
	}
	return 0, nil
}

// clearScreen empties a terminal and puts the cursor into its first corner.
const clearScreen = "\033[2J\033[1;1H"

// watching runs once, or every so often until ctx ends, which is the normal
// way to end it. Once it worked, a failure is shown and tried again: a watch
// is left running to see the end of the outage too.
func (a *App) watching(ctx context.Context, every time.Duration, once func() error) error {
	if every == 0 {
		return once()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for first := true; ; first = false {
		err := once()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil:
			a.errorf("Error: %s", plain.OneLine(err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
