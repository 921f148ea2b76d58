package ctl

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// completionTimeout bounds what the shell waits for: a person has just pressed
// a key.
const completionTimeout = 2 * time.Second

// completer offers the names that fit in a place of the command line.
type completer func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective)

// fixed offers the same words always.
func fixed(words ...string) completer {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// offer asks etcd; without an answer there is nothing to offer, and no word
// about it in the middle of somebody's typing.
func (a *App) offer(opts *globals, names func(ctx context.Context, s *session, args []string) ([]string, error)) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		s, err := a.newSession(opts)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer s.close()
		found, err := names(ctx, s, args)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func clusterNames(ctx context.Context, s *session, args []string) ([]string, error) {
	clusters, err := s.readAll(ctx)
	if err != nil {
		return nil, err
	}
	named := func(name string) bool { return slices.Contains(args, name) }
	return slices.DeleteFunc(slices.Sorted(maps.Keys(clusters)), named), nil
}

// memberNames lists the members of the cluster named first, or of that of the
// configuration; those named already are left out.
func memberNames(ctx context.Context, s *session, args []string) ([]string, error) {
	name := s.local.Scope
	if len(args) > 0 {
		name = args[0]
	}
	c, err := s.read(ctx, name)
	if err != nil {
		return nil, err
	}
	names := namesOf(membersWith(c, anyMember))
	return slices.DeleteFunc(names, func(n string) bool { return len(args) > 0 && slices.Contains(args[1:], n) }), nil
}

// replicaNames are the candidates of a switchover.
func replicaNames(ctx context.Context, s *session, args []string) ([]string, error) {
	name := s.local.Scope
	if len(args) > 0 {
		name = args[0]
	}
	c, err := s.read(ctx, name)
	if err != nil {
		return nil, err
	}
	return namesOf(membersWith(c, replicaMember)), nil
}

// addCompletions tells the shell what fits where.
func addCompletions(a *App, opts *globals, cmd *cobra.Command) {
	for name, offer := range map[string]completer{
		"format":    fixed("pretty", "tsv", "json", "yaml"),
		"role":      fixed(memberRoles...),
		"member":    a.offer(opts, memberNames),
		"leader":    a.offer(opts, memberNames),
		"candidate": a.offer(opts, replicaNames),
	} {
		if cmd.Flags().Lookup(name) != nil {
			// It fails only for an option that does not exist, or that the command has
			// words of its own for.
			_ = cmd.RegisterFlagCompletionFunc(name, offer)
		}
	}
	switch {
	case cmd.ValidArgsFunction != nil:
	case cmd.HasSubCommands(): // their names are offered, and nothing else
		cmd.ValidArgsFunction = fixed()
	default:
		cmd.ValidArgsFunction = a.offer(opts, func(ctx context.Context, s *session, args []string) ([]string, error) {
			return argumentNames(ctx, s, cmd, args)
		})
	}
}

// argumentNames offers clusters first, and then what the command takes.
func argumentNames(ctx context.Context, s *session, cmd *cobra.Command, args []string) ([]string, error) {
	switch {
	case cmd.Name() == "why" && len(args) == 0: // its only argument may be a member
		members, err := memberNames(ctx, s, nil)
		if err != nil {
			return nil, err
		}
		clusters, err := clusterNames(ctx, s, nil)
		return append(members, clusters...), err
	case len(args) == 0 || takesClusters(cmd):
		return clusterNames(ctx, s, args)
	case cmd.Name() == "flush":
		names, err := memberNames(ctx, s, args)
		return append(names, flushRestart, flushSwitchover), err
	case takesMembers(cmd):
		return memberNames(ctx, s, args)
	}
	return nil, nil
}

// takesClusters tells whether any number of clusters may be named.
func takesClusters(cmd *cobra.Command) bool { return cmd.Flags().Lookup("all") != nil }

func takesMembers(cmd *cobra.Command) bool {
	switch cmd.Name() {
	case "reload", "reinit", "restart", "version", "why":
		return true
	}
	return false
}

// addCompletionCommand adds the command that prints the shells' scripts; a shell
// that it does not know is an error, as any other unknown word.
func addCompletionCommand(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Args, cmd.RunE = cobra.ArbitraryArgs, group
		}
	}
}
