package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

func newConfigCommand(a *App, opts *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Explain a member's configuration",
		RunE:  group,
	}
	cmd.AddCommand(newExplainCommand(a, opts))
	return cmd
}

// explainOptions are those of config explain.
type explainOptions struct {
	key, member string
	format      format
}

func newExplainCommand(a *App, opts *globals) *cobra.Command {
	o := explainOptions{format: formatPretty}
	cmd := &cobra.Command{
		Use:   "explain [KEY]",
		Short: "Show the value of a setting that is in force, where it comes from, and whether a restart is pending",
		Long: "Show the value of a setting that is in force, where it comes from, and whether a restart is pending.\n\n" +
			"KEY is a dotted name such as postgresql.parameters.work_mem, or a section; without it everything is shown.\n" +
			"Without --member it is about the file named by -c, with the /config of its cluster.",
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.key = strings.Trim(args[0], ".")
			}
			if o.format != formatPretty && o.format != formatJSON {
				return usageError{fmt.Sprintf("unknown format %q; choose pretty or json", o.format)}
			}
			s, err := a.newSession(opts)
			if err != nil {
				return err
			}
			defer s.close()
			return a.explain(cmd.Context(), s, o)
		},
	}
	o.format.addDocumentTo(cmd)
	cmd.Flags().StringVarP(&o.member, "member", "m", "", "ask this running member what is in force there")
	// Its argument is no cluster.
	cmd.ValidArgsFunction = a.offer(opts, settingNames)
	_ = cmd.RegisterFlagCompletionFunc("member", a.offer(opts, func(ctx context.Context, s *session, _ []string) ([]string, error) {
		return memberNames(ctx, s, nil)
	}))
	return cmd
}

func (a *App) explain(ctx context.Context, s *session, o explainOptions) error {
	var all []config.Explained
	var err error
	if o.member != "" {
		all, err = s.explainMember(ctx, o.member)
	} else {
		all, err = a.explainFile(ctx, s)
	}
	if err != nil {
		return err
	}
	picked := pick(all, o.key)
	if len(picked) == 0 {
		hint := ""
		if near := config.Nearest(o.key, all); near != "" {
			hint = "; did you mean " + near + "?"
		}
		return refuse("%s is not set, has no default, or is no setting%s", o.key, hint)
	}
	switch {
	case o.format == formatJSON:
		text, err := json.MarshalIndent(picked, "", "  ")
		if err != nil {
			return err
		}
		a.printf("%s\n", text)
	case len(picked) == 1 && picked[0].Key == o.key:
		a.printf("%s", story(&picked[0]))
	default:
		t := table{columns: []string{"Key", "Value", "From", "Notes"}}
		for i := range picked {
			p := &picked[i]
			t.rows = append(t.rows, []any{p.Key, plain.OneLine(valueText(p.Value)), from(p), strings.Join(remarks(p), "\n")})
		}
		return t.write(a.Out, formatPretty)
	}
	return nil
}

// pick keeps a key, or the keys below it.
func pick(all []config.Explained, key string) []config.Explained {
	if key == "" {
		return all
	}
	var out []config.Explained
	for _, e := range all {
		if e.Key == key || strings.HasPrefix(e.Key, key+".") {
			out = append(out, e)
		}
	}
	return out
}

// story is one setting for a person.
func story(e *config.Explained) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s = %s\n  from: %s\n", e.Key, valueText(e.Value), from(e))
	for _, r := range remarks(e) {
		b.WriteString("  " + r + "\n")
	}
	return b.String()
}

func from(e *config.Explained) string {
	switch e.Source {
	case config.SourceEnvironment:
		return "environment variable " + e.Origin
	case config.SourceForced:
		if e.Origin == "" {
			return "forced"
		}
		return "forced, from " + e.Origin
	case config.SourceDefault:
		return "default"
	case config.SourceDynamic, config.SourceFile:
	}
	return e.Origin
}

func remarks(e *config.Explained) []string {
	out := e.Notes
	if p := e.PendingRestart; p != nil {
		out = append(out[:len(out):len(out)], fmt.Sprintf("pending restart: %s -> %s", p.Old, p.New))
	}
	return out
}

func valueText(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(pyjson.AppendRaw(nil, text, pyjson.Spaced))
}

// explainMember asks a running member.
func (s *session) explainMember(ctx context.Context, name string) ([]config.Explained, error) {
	if s.local.Scope == "" {
		return nil, fmt.Errorf("%s has no scope; name a file that has, with -c", s.source)
	}
	c, err := s.read(ctx, s.local.Scope)
	if err != nil {
		return nil, err
	}
	m := c.Member(name)
	if m == nil || m.APIURL == "" {
		return nil, refuse("there is no member %s in cluster %s that runs an agent", name, s.local.Scope)
	}
	api, err := s.memberAPI()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	status, body, err := api.Get(ctx, strings.TrimSuffix(m.APIURL, "/patroni")+"/explain")
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", name, err)
	}
	var out []config.Explained
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return nil, fmt.Errorf("ask %s: it answers %d %s; set ctl.authentication, or ask from an address that is allowed to", name, status, plain.OneLine(body))
	case status != http.StatusOK || json.Unmarshal([]byte(body), &out) != nil:
		return nil, fmt.Errorf("ask %s: it answers %d and no configuration; it may be a member that runs Patroni", name, status)
	}
	return out, nil
}

// explainFile joins the session's file with /config and with what the member
// publishes. Without etcd the cluster's part is unknown, which is said.
func (a *App) explainFile(ctx context.Context, s *session) ([]config.Explained, error) {
	var dyn *config.Dynamic
	pending := map[string]config.PendingValue{}
	if s.local.Scope != "" {
		c, err := s.read(ctx, s.local.Scope)
		switch {
		case err != nil:
			a.warnf("%v; what /config sets is not known here", err)
		case c.Config != nil:
			if dyn, err = config.ParseDynamic(c.Config.Raw); err != nil {
				return nil, err
			}
		}
		if err == nil {
			pending = pendingOf(c.Member(s.local.Name))
		}
	}
	return config.EffectiveOf(s.local, dyn).Explain(pending), nil
}

// settingNames are the keys that can be asked for. Without etcd these are those of
// the file, and the defaults.
func settingNames(ctx context.Context, s *session, args []string) ([]string, error) {
	if len(args) > 0 {
		return nil, nil
	}
	var dyn *config.Dynamic
	if s.local.Scope != "" {
		if c, err := s.read(ctx, s.local.Scope); err == nil && c.Config != nil {
			dyn, _ = config.ParseDynamic(c.Config.Raw)
		}
	}
	var names []string
	for _, e := range config.EffectiveOf(s.local, dyn).Explain(nil) {
		names = append(names, e.Key)
	}
	return names, nil
}

// pendingOf reads what a member publishes about pending restarts.
func pendingOf(m *dcs.Member) map[string]config.PendingValue {
	out := map[string]config.PendingValue{}
	if m != nil {
		_ = json.Unmarshal(m.PendingRestartReason, &out) // another form than Patroni's tells nothing
	}
	return out
}
