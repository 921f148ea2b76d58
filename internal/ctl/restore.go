package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
	"github.com/pgha/pgha/pkg/restapi"
)

// restoreOptions are those of `restore`.
type restoreOptions struct {
	targets      map[string]*string // --to-time, … by type
	latest       bool
	immediate    bool
	exclusive    bool
	timeline     string
	set          string
	forceArchive bool
	force        bool
	cancel       bool
	status       bool
	wait, noWait bool
}

// restoreTargets are the targets that take a value, with the option's meaning.
var restoreTargets = []struct{ kind, meaning string }{
	{"time", "set the cluster back to this time; without a zone it is local time"},
	{"lsn", "set it back to this position, like 0/5000060"},
	{"name", "set it back to a restore point (pg_create_restore_point)"},
	{"xid", "set it back to the commit of this transaction"},
}

func newRestoreCommand(a *App, opts *globals) *cobra.Command {
	o := restoreOptions{targets: map[string]*string{}}
	cmd := &cobra.Command{
		Use:   "restore [CLUSTER]",
		Short: "Set a cluster back to an earlier state from its backups",
		Args:  atMost(1),
	}
	flags := cmd.Flags()
	opts.addGroup(flags)
	for _, t := range restoreTargets {
		o.targets[t.kind] = flags.String("to-"+t.kind, "", t.meaning)
	}
	flags.BoolVar(&o.latest, "to-latest", false, "replay everything the archive holds")
	flags.BoolVar(&o.immediate, "immediate", false, "stop as soon as the backup is consistent")
	flags.BoolVar(&o.exclusive, "exclusive", false, "stop just before the target")
	flags.StringVar(&o.timeline, "timeline", "", "timeline to follow: latest, current (that of the backup) or a number")
	flags.StringVar(&o.set, "set", "", "label of the backup to begin with (default: the newest one before the target)")
	flags.BoolVar(&o.forceArchive, "force-archive", false, "go on although the newest WAL cannot be archived; what is in it alone is lost for good")
	flags.BoolVar(&o.force, "force", false, "ask nothing")
	flags.BoolVar(&o.cancel, "cancel", false, "end the restore that was ordered")
	flags.BoolVar(&o.status, "status", false, "show the restore that was ordered last; with --wait follow it")
	addWait(flags, &o.wait, &o.noWait)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.cancel || o.status {
			return onCluster(a, opts, func(ctx context.Context, s *session, name string) error {
				if o.cancel {
					return a.cancelRestore(ctx, s, name)
				}
				return a.showRestore(ctx, s, name, flags.Changed("wait") && o.wait)
			})(cmd, args)
		}
		r, err := o.request(flags, a.Now())
		if err != nil {
			return err
		}
		return onCluster(a, opts, func(ctx context.Context, s *session, name string) error {
			return a.restore(ctx, s, name, r, &o)
		})(cmd, args)
	}
	return cmd
}

// request makes the body of POST /restore of the options.
func (o *restoreOptions) request(flags *pflag.FlagSet, now time.Time) (restapi.RestoreRequest, error) {
	r := restapi.RestoreRequest{Timeline: o.timeline, Exclusive: o.exclusive, Set: o.set, Force: o.forceArchive}
	var given []string
	choose := func(option, kind, value string) {
		given = append(given, "--"+option)
		r.Type, r.Value = kind, value
	}
	for _, t := range restoreTargets {
		if flags.Changed("to-" + t.kind) {
			choose("to-"+t.kind, t.kind, *o.targets[t.kind])
		}
	}
	if o.latest {
		choose("to-latest", "latest", "")
	}
	if o.immediate {
		choose("immediate", "immediate", "")
	}
	switch {
	case len(given) == 0:
		return r, usageError{"say how far to go back: --to-time, --to-lsn, --to-name, --to-xid, --to-latest or --immediate"}
	case len(given) > 1:
		return r, usageError{"choose one of " + strings.Join(given, " and ")}
	case o.exclusive && r.Type != "time" && r.Type != "lsn" && r.Type != "xid":
		return r, usageError{given[0] + " --exclusive: only a time, a position or a transaction can be left out"}
	}
	if err := checkTimeline(o.timeline); err != nil {
		return r, err
	}
	value, err := targetValue(r.Type, r.Value, now)
	r.Value = value
	return r, err
}

func checkTimeline(text string) error {
	if n, err := strconv.ParseUint(text, 10, 32); err == nil && n > 0 {
		return nil
	}
	switch text {
	case "", "latest", "current":
		return nil
	}
	return usageError{fmt.Sprintf("--timeline %q: want latest, current or a number", text)}
}

// targetValue checks what was typed, and gives it the form of the REST API.
func targetValue(kind, value string, now time.Time) (string, error) {
	switch kind {
	case "time":
		t, err := parseTargetTime(value, now)
		return t.Format(time.RFC3339Nano), err
	case "lsn":
		if _, err := wal.ParseLSN(value); err != nil {
			return "", usageError{fmt.Sprintf("--to-lsn %q: want a position like 0/5000060", value)}
		}
	case "xid":
		if _, err := strconv.ParseUint(value, 10, 64); err != nil {
			return "", usageError{fmt.Sprintf("--to-xid %q: want the number of a transaction", value)}
		}
	case "name":
		if value == "" {
			return "", usageError{"--to-name needs the name of a restore point"}
		}
	}
	return value, nil
}

// targetTimes are the accepted forms of a time; those without a zone are local.
var targetTimes = []string{
	time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05-07", "2006-01-02T15:04:05-07", "2006-01-02 15:04:05 -0700",
	"2006-01-02 15:04:05 UTC", time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04",
}

func parseTargetTime(text string, now time.Time) (time.Time, error) {
	for _, layout := range targetTimes {
		zone := now.Location()
		if strings.HasSuffix(layout, "UTC") {
			zone = time.UTC
		}
		if t, err := time.ParseInLocation(layout, strings.TrimSpace(text), zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError{fmt.Sprintf("--to-time %q: want a time like %s or %s", text,
		now.Format(time.DateTime), now.Format(time.RFC3339))}
}

// restore shows the plan, asks, orders it and follows it to the end.
func (a *App) restore(ctx context.Context, s *session, name string, r restapi.RestoreRequest, o *restoreOptions) error {
	c, err := s.readMembers(ctx, name)
	if err != nil {
		return err
	}
	restorer := restorerOf(c)
	if restorer == nil {
		return refuse("This cluster has no leader, and a restore is the leader's work: wait for one, or see \"pghactl list %s\"", name)
	}
	order := func(dry bool) (*restapi.RestorePlan, error) {
		r.Dry = dry
		got, err := a.askOne(ctx, s, restorer, request{method: http.MethodPost, path: "/restore", body: r, limit: repositoryTimeout})
		switch {
		case err != nil && !dry:
			return nil, fmt.Errorf("%w; \"pghactl restore %s --status\" shows whether it took the order", err, name)
		case err != nil:
			return nil, err
		}
		if !got.ok() {
			return nil, got.refused()
		}
		plan := &restapi.RestorePlan{}
		return plan, got.decode(plan)
	}
	plan, err := order(true)
	if err != nil {
		return err
	}
	a.printf("%s", a.planOf(plan, name, &r))
	if !o.force {
		if err := a.mustTypeName(ctx, name); err != nil {
			return err
		}
	}
	ordered, err := order(false)
	if err != nil {
		return err
	}
	a.printf("%s Restore %s of cluster %s is ordered\n", a.timestamp(), ordered.ID, name)
	if !o.wait || o.noWait {
		return nil
	}
	return a.seeRestored(ctx, s, name, ordered.ID)
}

// restorerOf is the member to ask for a restore: the leader, or where there is
// none the one whose last restore failed half-way. It is nil when there is
// neither.
func restorerOf(c *dcs.Cluster) *dcs.Member {
	if leader := c.LeaderName(); leader != "" {
		return c.Member(leader)
	}
	if c.Restore != nil && c.Restore.State == dcs.RestoreFailed {
		return c.Member(c.Restore.Member)
	}
	return nil
}

// mustTypeName asks for the name of the cluster, as `patronictl remove` does.
func (a *App) mustTypeName(ctx context.Context, name string) error {
	typed := ""
	for typed == "" {
		a.printf("Please confirm the cluster name to restore: ")
		var err error
		if typed, err = a.readLine(ctx); err != nil {
			return err
		}
	}
	if typed != name {
		return refuse("Cluster names specified do not match")
	}
	return nil
}

// planOf says what a restore will replace, and how to come back.
func (a *App) planOf(p *restapi.RestorePlan, name string, r *restapi.RestoreRequest) string {
	var b strings.Builder
	line := func(title, text string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", title, plain.OneLine(fmt.Sprintf(text, args...)))
	}
	fmt.Fprintf(&b, "Restore of cluster %s (%s):\n", name, p.SystemID)
	line("target", "%s", a.targetText(p, r))
	line("backup", "%s, %s of %s, %s, timeline %d", p.Backup.Label, p.Backup.Type, a.clockText(p.Backup.Start),
		byteText(p.Backup.Size), p.Backup.Timeline)
	line("replaces", "the data of %s in %s", p.Member, p.DataDir)
	line("ends here", "timeline %d, now at %s: what was written after the target is no longer in the cluster", p.Timeline, p.Position)
	if len(p.Others) > 0 {
		line("follow", "%s: rewound, or copied again where that is not possible", joined(p.Others))
	}
	line("back again", "timeline %d stays in the archive: pghactl restore %s --to-latest --timeline %d", p.Timeline, name, p.Timeline)
	for _, warning := range p.Warnings {
		line("WARNING", "%s", warning)
	}
	return b.String()
}

// targetText is the target in words; a time is shown in the reader's zone too,
// since that is where the misunderstandings are.
func (a *App) targetText(p *restapi.RestorePlan, r *restapi.RestoreRequest) string {
	text := p.Target
	if t, err := time.Parse(time.RFC3339Nano, r.Value); r.Type == "time" && err == nil {
		text += fmt.Sprintf(" (here: %s)", t.In(a.Now().Location()).Format("2006-01-02 15:04:05.999999 MST -07:00"))
	}
	if r.Exclusive {
		text = "just before " + text
	}
	if r.Timeline != "" {
		text += ", along timeline " + r.Timeline
	}
	return text
}

// seeRestored follows an order to its end, then the members until they stream.
func (a *App) seeRestored(ctx context.Context, s *session, name, id string) error {
	w := &restoreWatch{id: id}
	done, err := w.follow(ctx, a, s, name)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, errAborted):
		return left(fmt.Sprintf("The restore goes on: \"pghactl restore %s --status --wait\" follows it, \"pghactl restore %s --cancel\" ends it", name, name))
	case err != nil:
		return err
	case done.Error != "":
		return fmt.Errorf("restore %s on %s failed: %s", id, done.Member, done.Error)
	}
	a.printf("%s Cluster %s is restored on timeline %d in %s; its members follow\n",
		a.timestamp(), name, done.Timeline, spanText(done.Ended.Sub(done.Requested)))
	err = a.seeMembers(ctx, s, name, done)
	if errors.Is(err, context.Canceled) || errors.Is(err, errAborted) {
		return left(fmt.Sprintf("The restore is done; \"pghactl list %s -e\" shows how the members follow", name))
	}
	if err != nil {
		return err
	}
	c, err := s.read(ctx, name)
	if err != nil {
		a.warnf("%v", err) // it is restored: no failure
		return nil
	}
	return writeMembers(a.Out, c, name, formatPretty, false)
}
