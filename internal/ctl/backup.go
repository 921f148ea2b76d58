package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

// newBackupCommand is the parent of what pghactl can do with backups.
func newBackupCommand(a *App, opts *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "List, make and check the backups of a cluster",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(newBackupListCommand(a, opts), newBackupRunCommand(a, opts),
		newBackupCheckCommand(a, opts), newBackupCancelCommand(a, opts))
	return cmd
}

func newBackupListCommand(a *App, opts *globals) *cobra.Command {
	var watch watchOptions
	f := formatPretty
	cmd := &cobra.Command{
		Use:   "list [CLUSTER]",
		Short: "Show the backups of a cluster, its archive, and what is wrong with them",
		Args:  atMost(1),
	}
	cmd.RunE = onCluster(a, opts, func(ctx context.Context, s *session, name string) error {
		every, err := watch.interval(cmd.Flags())
		if err != nil {
			return err
		}
		return a.watching(ctx, every, func() error { return a.listBackups(ctx, s, name, f) })
	})
	opts.addGroup(cmd.Flags())
	cmd.Flags().VarP(&f, "format", "f", "output format: pretty, tsv, json or yaml")
	watch.addTo(cmd.Flags())
	return cmd
}

func (a *App) listBackups(ctx context.Context, s *session, name string, f format) error {
	c, err := s.readMembers(ctx, name)
	if err != nil {
		return err
	}
	doc, err := a.backupDocument(ctx, s, c)
	if err != nil {
		return err
	}
	if err := a.writeBackups(doc, name, f); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}

// backupDocument asks the leader, then any member, what it knows of backups.
func (a *App) backupDocument(ctx context.Context, s *session, c *dcs.Cluster) (*restapi.BackupDocument, error) {
	r, err := a.askAny(ctx, s, leaderFirst(c), request{method: http.MethodGet, path: "/backup", limit: repositoryTimeout})
	if err != nil {
		return nil, err
	}
	doc := &restapi.BackupDocument{}
	if err := r.decode(doc); err != nil {
		return nil, err
	}
	return doc, nil
}

// backupTypes are those of pgBackRest, the weakest first.
var backupTypes = []string{"incr", "diff", "full"}

// runOptions are those of `backup run`.
type runOptions struct {
	kind   string
	force  bool
	wait   bool
	noWait bool
}

func newBackupRunCommand(a *App, opts *globals) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [CLUSTER]",
		Short: "Make a backup now",
		Args:  atMost(1),
	}
	run := onCluster(a, opts, func(ctx context.Context, s *session, name string) error {
		return a.runBackup(ctx, s, name, o)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(backupTypes, o.kind) {
			return usageError{fmt.Sprintf("--type %q: choose from full, diff, incr", o.kind)}
		}
		return run(cmd, args)
	}
	opts.addGroup(cmd.Flags())
	cmd.Flags().StringVar(&o.kind, "type", "incr", "full, diff (since the last full one) or incr (since the last one)")
	cmd.Flags().BoolVar(&o.force, "force", false, "ask nothing")
	addWait(cmd.Flags(), &o.wait, &o.noWait)
	return cmd
}

func (a *App) runBackup(ctx context.Context, s *session, name string, o runOptions) error {
	c, err := s.readMembers(ctx, name)
	if err != nil {
		return err
	}
	if !o.force {
		yes, err := a.confirm(ctx, fmt.Sprintf("Are you sure you want to make a backup (%s) of cluster %s?", o.kind, name))
		if err != nil {
			return err
		}
		if !yes {
			return refuse("Aborting backup")
		}
	}
	r, err := a.askAny(ctx, s, leaderFirst(c), request{
		method: http.MethodPost, path: "/backup", body: map[string]string{"type": o.kind}, limit: repositoryTimeout,
	})
	if err != nil {
		return err
	}
	a.printf("%s %s\n", a.timestamp(), plain.OneLine(r.text))
	if !o.wait || o.noWait {
		return nil
	}
	w := &backupWatch{kind: o.kind, before: ended(c.Backup)}
	result, err := w.follow(ctx, a, s, name)
	switch {
	case ctx.Err() != nil:
		return left(fmt.Sprintf("The backup goes on: see \"pghactl backup list %s\"; \"pghactl backup cancel %s\" ends it", name, name))
	case err != nil:
		return err
	case result.Error != "":
		again := ""
		if result.Requested != "" {
			again = fmt.Sprintf("; it is tried again until \"pghactl backup cancel %s\"", name)
		}
		return fmt.Errorf("backup (%s) on %s failed: %s%s", result.Type, result.Member, result.Error, again)
	}
	a.reportBackup(ctx, s, c, name, result)
	return nil
}

// reportBackup prints the finished backup; its sizes, when a member tells them.
func (a *App) reportBackup(ctx context.Context, s *session, c *dcs.Cluster, name string, b *dcs.Backup) {
	sizes := ""
	if doc, err := a.backupDocument(ctx, s, c); err == nil {
		for _, e := range doc.Backups {
			if e.Label == b.Label {
				sizes = fmt.Sprintf(", %s (%s new in the repository)", byteText(e.Size), byteText(e.RepoSize))
			}
		}
	}
	a.printf("%s Backup %s of cluster %s is done: %s by %s%s, %s\n", a.timestamp(), b.Label, name,
		b.Type, b.Member, sizes, spanText(b.Ended.Sub(b.Started)))
}

// backupWatch follows a request for a backup through the keys of the cluster.
type backupWatch struct {
	kind      string
	before    time.Time // end of the attempt before the request
	requested time.Time // as the cluster has it; zero until seen
	idle      int       // looks in a row that showed neither request nor backup
}

// idleLooks is after how many looks without a trace a request counts as gone:
// request, lock and result are written one after the other.
const idleLooks = 5

var errRequestGone = errors.New("the request was taken back, or another backup covers it; see \"pghactl backup list\"")

func ended(b *dcs.Backup) time.Time {
	if b == nil {
		return time.Time{}
	}
	return b.Ended
}

// follow returns what the first attempt for the request came to.
func (w *backupWatch) follow(ctx context.Context, a *App, s *session, name string) (*dcs.Backup, error) {
	f := &follower{app: a}
	var result *dcs.Backup
	err := a.follow(ctx, f, func() (bool, error) {
		c, err := s.look(ctx, name)
		if err != nil {
			return false, err
		}
		if result = w.result(c); result != nil {
			return true, nil
		}
		switch {
		case c.BackupLock != nil:
			w.idle = 0
			l := c.BackupLock
			phase := fmt.Sprintf("%s backup on %s", l.Type, l.Member)
			f.show(phase, phase+": "+lockText(l))
		case w.pending(c):
			w.idle = 0
			f.show("waiting", "waiting for the member that makes backups to begin")
		default:
			if w.idle++; w.idle >= idleLooks {
				return false, errRequestGone
			}
		}
		return false, nil
	})
	return result, err
}

// lockText is how far the backup is; preparations have no size.
func lockText(l *dcs.BackupLock) string {
	p := restapi.ProgressOf(l.Progress)
	if p.Done == 0 && p.Total == 0 {
		return "preparing"
	}
	return barText(p)
}

// pending tells whether the request still stands, and remembers when it was
// made: the attempt for it carries that time.
func (w *backupWatch) pending(c *dcs.Cluster) bool {
	if c.Backup == nil || c.Backup.Requested == "" {
		return false
	}
	if w.requested.IsZero() {
		w.requested = c.Backup.RequestedAt
	}
	return true
}

// result is the ended attempt for the request; nil while there is none. An
// attempt for another due time that ends meanwhile is not meant.
func (w *backupWatch) result(c *dcs.Cluster) *dcs.Backup {
	pending := w.pending(c)
	b := c.Backup
	if b == nil || b.Ended.IsZero() || b.Ended.Equal(w.before) {
		return nil
	}
	if l := c.BackupLock; l != nil && l.Member == b.Member && l.Started.Before(b.Ended) {
		return nil // it is about to be given back
	}
	ours := !w.requested.IsZero() && b.Due.Sub(w.requested).Abs() < time.Second
	if ours || !pending {
		return b
	}
	return nil
}

func newBackupCheckCommand(a *App, opts *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [CLUSTER]",
		Short: "Test repository, stanza and archiving of a cluster from end to end",
		Args:  atMost(1),
		RunE:  onCluster(a, opts, a.checkBackup),
	}
	opts.addGroup(cmd.Flags())
	return cmd
}

func (a *App) checkBackup(ctx context.Context, s *session, name string) error {
	c, err := s.readMembers(ctx, name)
	if err != nil {
		return err
	}
	r, err := a.askAny(ctx, s, leaderFirst(c), request{method: http.MethodPost, path: "/backup_check", limit: checkTimeout})
	if err != nil {
		return err
	}
	var check restapi.BackupCheck
	if err := r.decode(&check); err != nil {
		return err
	}
	a.printf("Backups of cluster %s, looked at by %s:\n%s", name, r.member, checkText(&check))
	if !check.OK {
		return fmt.Errorf("the backups of cluster %s are not in order; the lines marked NOT OK say what to mend", name)
	}
	return nil
}

func newBackupCancelCommand(a *App, opts *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel [CLUSTER]",
		Short: "End the backup that runs, or take back the request for one",
		Args:  atMost(1),
		RunE:  onCluster(a, opts, a.cancelBackup),
	}
	opts.addGroup(cmd.Flags())
	return cmd
}

// cancelBackup asks the member that makes the backup, since only that one can
// end it.
func (a *App) cancelBackup(ctx context.Context, s *session, name string) error {
	c, err := s.readMembers(ctx, name)
	if err != nil {
		return err
	}
	to := leaderFirst(c)
	if c.BackupLock != nil {
		if m := c.Member(c.BackupLock.Member); m != nil {
			to = []*dcs.Member{m}
		}
	}
	r, err := a.askAny(ctx, s, to, request{method: http.MethodDelete, path: "/backup", limit: repositoryTimeout})
	if err != nil {
		return err
	}
	a.printf("%s %s\n", a.timestamp(), plain.OneLine(r.text))
	return nil
}
