package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/lab"
)

// Timings of the demo's cluster. With the usual ttl of 30 seconds a spectator
// would wait half a minute for the loss of a node to be noticed.
const (
	demoTTL          = 8 * time.Second
	demoLoopWait     = 1 * time.Second
	demoRetryTimeout = 2 * time.Second
	// demoPatience lets a machine that is busy with something else bring the
	// cluster up, too.
	demoPatience = 3 * time.Minute
)

type demoOptions struct {
	tour   bool
	backup bool
	dir    string
	keep   bool
	port   int
}

// newDemoCommand starts a whole cluster on this machine, for a look at it.
func newDemoCommand(a *App) *cobra.Command {
	var opts demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start a cluster of three nodes on this machine and show it, or play a guided tour",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runDemo(cmd.Context(), opts)
		},
	}
	cmd.Flags().BoolVar(&opts.tour, "tour", false, "play the guided tour, with synchronous replication: switchover, crash, loss of a node, its return; then clean up")
	cmd.Flags().BoolVar(&opts.backup, "backup", false, "play the act about backups: full backup, replica from it, back to before a mistake; needs pgBackRest")
	cmd.Flags().StringVar(&opts.dir, "dir", "", "empty or absent directory for the cluster (default: a new one below the directory for temporary files)")
	cmd.Flags().BoolVar(&opts.keep, "keep", false, "keep the directory afterwards")
	cmd.Flags().IntVar(&opts.port, "port", 25000, "first of 200 TCP ports to use on 127.0.0.1")
	cmd.AddCommand(&cobra.Command{
		Use:    lab.InitArg,
		Short:  "Init process of one host of the demo",
		Hidden: true,
		Args:   atMost(0),
		RunE:   func(*cobra.Command, []string) error { return lab.RunInit(a.In, a.Out) },
	})
	return cmd
}

// runDemo builds the cluster, shows it, and takes it down again.
func (a *App) runDemo(ctx context.Context, opts demoOptions) (err error) {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own executable: %w", err)
	}
	if opts.backup {
		if err := needBackupTool(); err != nil {
			return err
		}
	}
	dir, err := demoDir(opts.dir)
	if err != nil {
		return err
	}
	n := newNarrator(a)
	defer n.close()
	options := lab.Options{
		Dir:          dir,
		BasePort:     opts.port,
		TTL:          demoTTL,
		LoopWait:     demoLoopWait,
		RetryTimeout: demoRetryTimeout,
		InitCommand:  []string{self, "demo", lab.InitArg},
		Progress:     func(line string) { n.say("%s", line) },
	}
	if opts.backup {
		options.Backup = lab.BackupPosix
	}
	if opts.tour {
		options.DCS = map[string]any{"synchronous_mode": true}
	}
	cluster, err := lab.New(options)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		n.say("stopping everything")
		err = errors.Join(err, cluster.Close(), a.leaveDemoDir(dir, opts.keep || err != nil))
	}()
	d := &demo{app: a, lab: cluster, narrator: n}
	if opts.tour || opts.backup {
		return d.play(ctx, d.scenes(opts.tour, opts.backup))
	}
	return d.foreground(ctx)
}

// demoDir makes the directory, open to the account the servers run as.
func demoDir(wanted string) (string, error) {
	if wanted != "" {
		dir, err := filepath.Abs(wanted)
		if err != nil {
			return "", fmt.Errorf("find directory of the demo: %w", err)
		}
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			return "", fmt.Errorf("use directory %s for the demo: it is not empty; name another one", dir)
		}
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "pgha-demo-")
	if err != nil {
		return "", fmt.Errorf("make directory of the demo: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", fmt.Errorf("open directory of the demo: %w", err)
	}
	return dir, nil
}

// leaveDemoDir removes the directory, or tells where it is.
func (a *App) leaveDemoDir(dir string, keep bool) error {
	if keep {
		a.printf("The directory with data and logs stays: %s\n", dir)
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove directory of the demo: %w", err)
	}
	return nil
}

// demo is one run of the demo.
type demo struct {
	app      *App
	lab      *lab.Lab
	narrator *narrator
	load     *lab.Load
	leader   *lab.Node
}

// bootstrap brings the cluster up until all members stream.
func (d *demo) bootstrap(ctx context.Context) error {
	n := d.narrator
	n.text("The lease of the leader (ttl) is %s here, loop_wait %s, retry_timeout %s; the usual values are",
		demoTTL, demoLoopWait, demoRetryTimeout)
	n.text("30, 10 and 10 seconds, and the loss of a node is then noticed accordingly later.")
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	if err := d.lab.Start(ctx); err != nil {
		return err
	}
	err := n.step("waiting for the race to create the cluster", func() (err error) {
		d.leader, err = d.lab.WaitLeader(ctx, nil)
		return err
	})
	if err != nil {
		return d.explain(err)
	}
	n.say("%s has won: it ran initdb, holds the leader lease in etcd and accepts writes", d.leader.Name)
	err = n.step("waiting for the others to copy it (pg_basebackup) and stream", func() error {
		_, err := d.lab.WaitStreaming(ctx)
		return err
	})
	return d.explain(err)
}

// explain adds what the agents said last to an error of a wait that ran out.
func (d *demo) explain(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	d.lab.DumpLogs(d.app.Err, 12)
	text, _ := strings.CutSuffix(err.Error(), ": "+context.DeadlineExceeded.Error())
	return fmt.Errorf("%s: not within the time this should take; is the machine very busy? The logs above, and those that stay, tell more", text)
}

// table shows what 'pghactl list' shows.
func (d *demo) table(ctx context.Context) {
	for _, n := range d.lab.Nodes {
		d.app.printf("\n$ pghactl -c %s list\n", n.Config)
		list := &App{In: d.app.In, Out: d.app.Out, Err: d.app.Err, Now: d.app.Now}
		if list.Main(ctx, []string{"-c", n.Config, "list"}) == exitOK {
			d.app.printf("\n")
			return
		}
	}
}

// foreground leaves the cluster running until ctx ends, and reports changes.
func (d *demo) foreground(ctx context.Context) error {
	if err := d.bootstrap(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C before the cluster stood
		}
		return err
	}
	for _, n := range d.lab.Nodes {
		if err := d.lab.Supervise(n, true); err != nil {
			return err
		}
	}
	d.table(ctx)
	d.hints()
	d.watch(ctx)
	d.app.printf("\n")
	return nil
}

func (d *demo) hints() {
	p := d.app.printf
	first := d.lab.Nodes[0]
	p("Connect (the superuser's password is part of the address):\n")
	for _, n := range d.lab.Nodes {
		p("  psql '%s'   # %s\n", d.lab.DSN(n), n.Name)
	}
	p("  etcd: %v\n", d.lab.Endpoints())
	p("Ask:\n")
	p("  pghactl -c %s list\n", first.Config)
	p("  curl -s http://%s/cluster\n", first.REST)
	p("  curl -s -o /dev/null -w '%%{http_code}\\n' http://%s/primary\n", first.REST)
	p("Give orders:\n")
	p("  pghactl -c %s switchover --force\n", first.Config)
	p("Break things (an agent that dies is started again after a second):\n")
	p("  kill -9 $(head -n 1 %s/postmaster.pid)   # PostgreSQL of %s\n", first.DataDir, first.Name)
	p("  kill -9 $(pgrep -f 'pgha-agent %s')   # its agent\n", first.Config)
	p("  kill -STOP $(pgrep -f 'pgha-agent %s')   # a hung agent; -CONT to wake it\n", first.Config)
	p("Read:\n")
	p("  tail -f %s\n", first.AgentLog)
	p("Ctrl-C ends the cluster and cleans up. Changes are reported here:\n")
}

// watch prints the cluster's members whenever something about them changed.
func (d *demo) watch(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, n := range d.lab.Nodes {
			var c lab.Cluster
			if _, err := d.lab.Get(ctx, n, "/cluster", &c); err != nil || len(c.Members) == 0 {
				continue
			}
			if now := c.String(); now != last {
				last = now
				d.app.printf("  %s  %s\n", d.app.Now().Format(time.TimeOnly), now)
			}
			break
		}
	}
}
