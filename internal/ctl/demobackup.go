package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// backupActLimit bounds the act about backups: it copies the cluster several
// times.
const backupActLimit = 5 * time.Minute

// probePeriod is how often a client tries to write during the restore.
const probePeriod = 20 * time.Millisecond

// needBackupTool says which package is missing.
func needBackupTool() error {
	if _, err := exec.LookPath("pgbackrest"); err != nil {
		return errors.New("the demo of backups needs pgBackRest: install the package pgbackrest (apt-get install pgbackrest)")
	}
	return nil
}

// actBackup: a full backup, a replica made from it, and the way back from a
// wrong DELETE. The clients of the other acts stand aside: what they write after
// the moment that is gone back to would be missing, as it should.
func (d *demo) actBackup(ctx context.Context, r *act) error {
	busy := d.load != nil
	if busy {
		d.load.Stop()
		d.load = nil
	}
	if err := d.fullBackup(ctx); err != nil {
		return err
	}
	if err := d.loseReplica(ctx, r); err != nil {
		return err
	}
	if err := d.wrongDelete(ctx, r); err != nil {
		return err
	}
	if busy {
		return d.startLoad(ctx)
	}
	return nil
}

// pghactl runs a command on the cluster and shows it as typed.
func (d *demo) pghactl(ctx context.Context, args ...string) error {
	config := d.leader.Config
	d.app.printf("\n$ pghactl -c %s %s\n", config, strings.Join(args, " "))
	app := &App{In: d.app.In, Out: d.app.Out, Err: d.app.Err, Now: d.app.Now, Terminal: d.app.Terminal}
	code := app.Main(ctx, append([]string{"-c", config}, args...))
	if code != exitOK {
		return fmt.Errorf("pghactl %s ended with code %d", args[0], code)
	}
	return ctx.Err()
}

func (d *demo) fullBackup(ctx context.Context) error {
	d.narrator.text("pgha.backup names a repository of pgBackRest; stanza, archiving and schedule are the agents' work.")
	if err := d.pghactl(ctx, "backup", "run", "--type", "full", "--force"); err != nil {
		return err
	}
	err := d.pghactl(ctx, "backup", "list")
	d.app.printf("\n")
	return err
}

// loseReplica takes a replica's data away, which comes back from the repository.
func (d *demo) loseReplica(ctx context.Context, r *act) error {
	n := d.lab.Nodes[0]
	if n == d.leader {
		n = d.lab.Nodes[1]
	}
	d.narrator.say("%s loses its disk: kill -9 of everything on it, rm -rf %s", n.Name, n.DataDir)
	if err := d.lab.PowerOff(n); err != nil {
		return err
	}
	if err := os.RemoveAll(n.DataDir); err != nil {
		return fmt.Errorf("remove data directory of %s: %w", n.Name, err)
	}
	_, logged := d.lab.AgentLog(n, 0)
	if err := d.lab.PowerOn(n); err != nil {
		return err
	}
	err := d.narrator.step("waiting for "+n.Name+" to come back and stream", func() error {
		// The cluster shows the dead member until its lease ends: ask itself.
		err := lab.Poll(ctx, func() bool {
			status, err := d.lab.Get(ctx, n, "/replica", nil)
			return err == nil && status == http.StatusOK
		})
		if err != nil {
			return err
		}
		_, err = d.lab.WaitStreaming(ctx)
		return err
	})
	if err != nil {
		return err
	}
	text, _ := d.lab.AgentLog(n, logged)
	rungs := linesWith(text, "from the repository", "files restored")
	if len(rungs) == 0 {
		r.broken = fmt.Sprintf("%s came back without the repository", n.Name)
		return nil
	}
	d.narrator.text("Its log about the way it took; had the repository been away, it would have copied the leader:")
	for _, line := range rungs {
		d.narrator.text("  %s", line)
	}
	return nil
}

// linesWith gives the lines of a text that hold one of the words.
func linesWith(text string, words ...string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// The table of the act about the wrong DELETE, and its whole content in one
// value.
const (
	makeOrders = `CREATE TABLE public.orders (id int PRIMARY KEY, item text NOT NULL);
INSERT INTO public.orders SELECT i, md5(i::text) FROM generate_series(1, 5000) i`
	digestOrders = `SELECT count(*) || ' rows, digest ' || coalesce(md5(string_agg(id || '=' || item, ',' ORDER BY id)), 'none') FROM public.orders`
)

// wrongDelete goes back to the moment before a mistake.
func (d *demo) wrongDelete(ctx context.Context, r *act) error {
	if err := d.lab.PrepareLoad(ctx, d.leader); err != nil {
		return err
	}
	if err := d.sql(ctx, makeOrders); err != nil {
		return err
	}
	before, err := d.digest(ctx, d.leader)
	if err != nil {
		return err
	}
	moment, err := d.serverTime(ctx)
	if err != nil {
		return err
	}
	d.narrator.say("table orders: %s, at %s", before, moment.Format("15:04:05.000000"))
	if err := d.sql(ctx, "DELETE FROM public.orders WHERE id > 0"); err != nil {
		return err
	}
	if err := d.sql(ctx, "INSERT INTO public.orders VALUES (0, 'written after the mistake')"); err != nil {
		return err
	}
	d.narrator.say("somebody runs DELETE FROM orders WHERE id > 0, and work goes on for a while")
	if err := d.goBack(ctx, r, moment); err != nil {
		return err
	}
	return d.compareOrders(ctx, r, before)
}

// goBack restores the cluster while a client tries to write, which tells for
// how long nobody could.
func (d *demo) goBack(ctx context.Context, r *act, moment time.Time) error {
	began := lab.Boottime()
	client := d.lab.NewLoad()
	client.Writer(ctx, probePeriod)
	defer client.Stop()
	if _, err := client.WaitAck(ctx, began); err != nil {
		return err
	}
	err := d.pghactl(ctx, "restore", "--to-time", moment.Format(time.RFC3339Nano), "--force")
	d.app.printf("\n")
	if err != nil {
		return err
	}
	if d.leader, err = d.lab.WaitLeader(ctx, nil); err != nil {
		return err
	}
	until := lab.Boottime()
	if _, err := client.WaitAck(ctx, until); err != nil {
		return err
	}
	r.gap, _ = lab.LongestGap(client.History(), began, until)
	_, err = d.lab.WaitStreaming(ctx)
	return err
}

// compareOrders looks at the table on every node.
func (d *demo) compareOrders(ctx context.Context, r *act, want string) error {
	for _, n := range d.lab.Nodes {
		var got string
		err := lab.Poll(ctx, func() bool {
			var err error
			got, err = d.digest(ctx, n)
			return err == nil
		})
		if err != nil {
			return fmt.Errorf("read table orders on %s: %w", n.Name, err)
		}
		d.narrator.say("%s: %s", n.Name, got)
		if got != want && r.broken == "" {
			r.broken = fmt.Sprintf("the table on %s is not what it was: %s", n.Name, got)
		}
	}
	return nil
}

// sql runs a command on the leader.
func (d *demo) sql(ctx context.Context, text string) error {
	conn, err := d.lab.Connect(ctx, d.leader)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, text); err != nil {
		return fmt.Errorf("run %q: %w", text, err)
	}
	return nil
}

func (d *demo) digest(ctx context.Context, n *lab.Node) (text string, err error) {
	conn, err := d.lab.Connect(ctx, n)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, digestOrders).Scan(&text)
	return text, err
}

func (d *demo) serverTime(ctx context.Context) (now time.Time, err error) {
	conn, err := d.lab.Connect(ctx, d.leader)
	if err != nil {
		return now, err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now)
	return now, err
}
