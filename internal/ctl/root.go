package ctl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// globals are the options every command knows (wire contract §6.1).
type globals struct {
	configFile string
	dcsURL     string
	insecure   bool
	group      int // Citus; accepted for scripts and ignored
}

// Command returns the command tree, for those that print its manual.
func Command() *cobra.Command { return newRootCommand(&App{}) }

// newRootCommand builds the command tree. The global options are accepted
// before the command, as patronictl wants them, and after it.
func newRootCommand(a *App) *cobra.Command {
	opts := &globals{}
	root := &cobra.Command{
		Use:              "pghactl",
		Short:            "Ask a PostgreSQL cluster about its members, and give it orders",
		Args:             cobra.ArbitraryArgs,
		RunE:             group,
		SilenceUsage:     true,
		SilenceErrors:    true,
		TraverseChildren: true,
	}
	root.SetIn(a.In)
	root.SetOut(output{a})
	root.SetErr(a.Err)
	root.SetGlobalNormalizationFunc(optionAliases)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var number *strconv.NumError
		text := err.Error()
		if errors.As(err, &number) {
			text = strings.Replace(text, number.Error(), "a number is wanted", 1)
		}
		return usageError{fmt.Sprintf("%s; see %q", text, cmd.CommandPath()+" --help")}
	})
	opts.addTo(root.Flags())
	for _, cmd := range clusterCommands(a, opts) {
		opts.addTo(cmd.Flags())
		addCompletions(a, opts, cmd)
		for _, sub := range cmd.Commands() {
			opts.addTo(sub.Flags())
			addCompletions(a, opts, sub)
		}
		root.AddCommand(cmd)
	}
	root.AddCommand(newDemoCommand(a))
	addCompletionCommand(root)
	return root
}

// group is the RunE of a command that only holds others.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return unknownCommand(cmd, args[0])
}

// clusterCommands lists what pghactl can do with a cluster.
func clusterCommands(a *App, opts *globals) []*cobra.Command {
	return []*cobra.Command{
		newListCommand(a, opts),
		newTopologyCommand(a, opts),
		newHistoryCommand(a, opts),
		newEventsCommand(a, opts),
		newWhyCommand(a, opts),
		newDoctorCommand(a, opts),
		newShowConfigCommand(a, opts),
		newEditConfigCommand(a, opts),
		newConfigCommand(a, opts),
		newPauseCommand(a, opts),
		newResumeCommand(a, opts),
		newReloadCommand(a, opts),
		newRestartCommand(a, opts),
		newFlushCommand(a, opts),
		newRemoveCommand(a, opts),
		newDSNCommand(a, opts),
		newQueryCommand(a, opts),
		newDemoteClusterCommand(a, opts),
		newPromoteClusterCommand(a, opts),
		newSwitchoverCommand(a, opts),
		newFailoverCommand(a, opts),
		newReinitCommand(a, opts),
		newAcceptCommand(a, opts),
		newBackupCommand(a, opts),
		newRestoreCommand(a, opts),
		newVersionCommand(a, opts),
	}
}

// addTo adds the global options to a command's. Where the command uses their
// letter for something else (query), they have their long name there only, and
// the letter before the command.
func (g *globals) addTo(flags *pflag.FlagSet) {
	short := func(letter string) string {
		if flags.ShorthandLookup(letter) != nil {
			return ""
		}
		return letter
	}
	flags.StringVarP(&g.configFile, "config-file", short("c"), "",
		"configuration file or directory (env PATRONICTL_CONFIG_FILE; default ~/.config/patroni/patronictl.yaml)")
	flags.StringVarP(&g.dcsURL, "dcs-url", short("d"), "", "etcd to use instead of the configured one: etcd3://host:port/namespace (env DCS_URL)")
	flags.BoolVarP(&g.insecure, "insecure", short("k"), false, "do not verify the REST API's certificates")
}

// addGroup adds the Citus option that scripts may pass.
func (g *globals) addGroup(flags *pflag.FlagSet) {
	flags.IntVar(&g.group, "group", 0, "Citus group (accepted and ignored)")
}

// optionAliases maps the second names patronictl has for some options.
func optionAliases(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "dcs":
		name = "dcs-url"
	case "primary":
		name = "leader"
	}
	return pflag.NormalizedName(name)
}

func unknownCommand(root *cobra.Command, name string) error {
	hint := ""
	root.SuggestionsMinimumDistance = 2
	if near := root.SuggestionsFor(name); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return usageError{fmt.Sprintf("no such command %q%s (%q lists them)", name, hint, root.CommandPath()+" --help")}
}

// clusterArg takes the cluster's name from the arguments or the scope of the
// configuration.
func clusterArg(cmd *cobra.Command, args []string, s *session) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	if s.local.Scope == "" {
		return "", usageError{fmt.Sprintf(
			"missing the cluster's name: %s has no scope; name the cluster: %q", s.source, cmd.CommandPath()+" CLUSTER")}
	}
	return s.local.Scope, nil
}

// onCluster makes the RunE of a command that works on one cluster.
func onCluster(a *App, opts *globals, run func(ctx context.Context, s *session, name string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s, err := a.newSession(opts)
		if err != nil {
			return err
		}
		defer s.close()
		name, err := clusterArg(cmd, args, s)
		if err != nil {
			return err
		}
		return run(cmd.Context(), s, name)
	}
}

// clusterCommand is a command for one cluster, named or that of the
// configuration.
func clusterCommand(a *App, opts *globals, run func(ctx context.Context, s *session, cluster string) error) *cobra.Command {
	cmd := &cobra.Command{Args: atMost(1), RunE: onCluster(a, opts, run)}
	opts.addGroup(cmd.Flags())
	return cmd
}

// membersCommand is a command for members of a cluster, which must be named.
func membersCommand(a *App, opts *globals, run func(ctx context.Context, s *session, cluster string, members []string) error) *cobra.Command {
	cmd := &cobra.Command{
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Sprintf("missing the cluster's name; usage: %s", cmd.UseLine())}
			}
			s, err := a.newSession(opts)
			if err != nil {
				return err
			}
			defer s.close()
			return run(cmd.Context(), s, args[0], args[1:])
		},
	}
	opts.addGroup(cmd.Flags())
	return cmd
}

// atMost accepts up to n arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return usageError{fmt.Sprintf("unexpected argument %q; usage: %s", args[n], cmd.UseLine())}
	}
}
