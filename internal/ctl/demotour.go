package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

const (
	tourWriters = 4
	tourPeriod  = 2 * time.Millisecond
	// actLimit bounds each act; none takes half of it.
	actLimit = time.Minute
	// calm is how long writes go on undisturbed around an act.
	calm = 500 * time.Millisecond
)

// act is what one act of the tour showed.
type act struct {
	name   string
	gap    time.Duration // longest time without an acknowledged write
	lost   int           // acknowledged rows missing at the end of the act
	broken string        // the promise that did not hold; empty when all did
	silent bool          // nobody wrote: there is no gap and no loss to tell of
}

// scene is an act before it is played.
type scene struct {
	title string
	limit time.Duration
	play  func(context.Context, *act) error
}

// scenes are the acts that the options ask for.
func (d *demo) scenes(tour, backup bool) []scene {
	const bootstrap = "Bootstrap: three empty machines become a cluster"
	first := scene{bootstrap, actLimit, func(ctx context.Context, r *act) error {
		r.silent = true
		return d.bootstrap(ctx)
	}}
	if tour {
		first.play = d.actBootstrap
	}
	all := []scene{first}
	if backup {
		all = append(all, scene{"Backup: a full backup, a replica made from it, and the way back from a wrong DELETE", backupActLimit, d.actBackup})
	}
	if tour {
		all = append(all,
			scene{"Switchover: the leader hands over, as for maintenance", actLimit, d.actSwitchover},
			scene{"Crash: kill -9 of the primary's postmaster", actLimit, d.actCrash},
			scene{"Loss of a node: kill -9 of agent, leash and PostgreSQL of the primary", actLimit, d.actLoss},
			scene{"Return of the lost node", actLimit, d.actReturn},
		)
	}
	return all
}

// play plays the acts; its error names what did not hold.
func (d *demo) play(ctx context.Context, scenes []scene) error {
	defer func() {
		if d.load != nil {
			d.load.Stop()
		}
	}()
	var played []act
	for i, a := range scenes {
		d.narrator.title(i+1, a.title)
		result := act{name: strings.SplitN(a.title, ":", 2)[0]}
		ctx, cancel := context.WithTimeout(ctx, a.limit)
		err := a.play(ctx, &result)
		if err == nil {
			d.table(ctx)
		}
		cancel()
		if err != nil {
			return fmt.Errorf("act %d (%s): %w", i+1, result.name, d.explain(err))
		}
		d.report(result)
		played = append(played, result)
	}
	return d.summary(played)
}

func (d *demo) report(r act) {
	if !r.silent {
		d.narrator.say("longest write gap %.2f s, acknowledged rows missing afterwards: %d", r.gap.Seconds(), r.lost)
	}
	if r.broken != "" {
		d.narrator.say("NOT AS PROMISED: %s", r.broken)
	}
}

func (d *demo) actBootstrap(ctx context.Context, r *act) error {
	if err := d.bootstrap(ctx); err != nil {
		return err
	}
	d.narrator.text("synchronous_mode is on in this tour: a commit waits until a replica has it, and only such a replica may")
	d.narrator.text("lead next. Each act demands that not one acknowledged row is missing.")
	began := lab.Boottime()
	if err := d.startLoad(ctx); err != nil {
		return err
	}
	first, err := d.load.WaitAck(ctx, began)
	if err != nil {
		return err
	}
	return d.measure(ctx, r, first.Return, d.lab.Nodes)
}

// startLoad has clients write from now on, into a new table, once commits wait for
// a standby.
func (d *demo) startLoad(ctx context.Context) error {
	if _, err := d.syncStandbys(ctx); err != nil {
		return err
	}
	if err := d.lab.PrepareLoad(ctx, d.leader); err != nil {
		return err
	}
	d.load = d.lab.NewLoad()
	for range tourWriters {
		// The writers live as long as the tour, not as this act.
		d.load.Writer(context.WithoutCancel(ctx), tourPeriod)
	}
	d.narrator.say("%d clients begin to write, one row per transaction, wherever GET /primary answers 200", tourWriters)
	return nil
}

func (d *demo) actSwitchover(ctx context.Context, r *act) error {
	old := d.leader
	began := lab.Boottime()
	err := d.narrator.step("asking "+old.Name+" to hand over (POST /switchover)", func() error { return d.lab.Switchover(ctx, old, nil) })
	if err != nil {
		return err
	}
	if d.leader, err = d.lab.WaitLeader(ctx, lab.Except(old)); err != nil {
		return err
	}
	d.narrator.say("%s leads now; %s stopped cleanly, so nothing needs to be rewound", d.leader.Name, old.Name)
	return d.measure(ctx, r, began, d.lab.Nodes)
}

func (d *demo) actCrash(ctx context.Context, r *act) error {
	pid, err := d.lab.Pid(d.leader, lab.Postmaster)
	if err != nil {
		return err
	}
	began := lab.Boottime()
	d.narrator.say("kill -9 %d (postgres of %s)", pid, d.leader.Name)
	if err := d.lab.Kill(d.leader, lab.Postmaster); err != nil {
		return err
	}
	d.narrator.text("The leash sees the exit at once and removes what is left of the server; the agent keeps its")
	d.narrator.text("lease and starts PostgreSQL again in place (primary_start_timeout says how long it may try).")
	if err := d.lab.WaitReplaced(ctx, d.leader, lab.Postmaster, pid); err != nil {
		return err
	}
	now, err := d.lab.WaitLeader(ctx, nil)
	if err != nil {
		return err
	}
	if now != d.leader {
		r.broken = fmt.Sprintf("%s should have been restarted in place, but %s leads now", d.leader.Name, now.Name)
		d.leader = now
	}
	return d.measure(ctx, r, began, d.lab.Nodes)
}

func (d *demo) actLoss(ctx context.Context, r *act) error {
	old := d.leader
	standbys, err := d.syncStandbys(ctx)
	if err != nil {
		return err
	}
	began := lab.Boottime()
	d.narrator.say("kill -9 of everything on %s, as if its power were cut", old.Name)
	if err := d.lab.PowerOff(old); err != nil {
		return err
	}
	d.narrator.text("Nobody can tell a dead host from a slow one, so the others wait until its lease has run out.")
	err = d.narrator.step("waiting for the lease to expire and a new leader", func() (err error) {
		d.leader, err = d.lab.WaitLeader(ctx, lab.Except(old))
		return err
	})
	if err != nil {
		return err
	}
	d.narrator.say("%s leads now", d.leader.Name)
	rest := make([]*lab.Node, 0, len(d.lab.Nodes))
	for _, n := range d.lab.Nodes {
		if n != old {
			rest = append(rest, n)
		}
	}
	if err := d.measure(ctx, r, began, rest); err != nil {
		return err
	}
	if !slices.Contains(standbys, d.leader.Name) && r.broken == "" {
		r.broken = fmt.Sprintf("%s was elected, and the synchronous standby was %s", d.leader.Name, strings.Join(standbys, ", "))
	}
	d.narrator.text("It was a synchronous standby: each commit had waited for it before the client was told, and nobody")
	d.narrator.text("else could have been elected. So no acknowledged row went with the node. Without synchronous_mode")
	d.narrator.text("a commit is a network round trip quicker, and up to maximum_lag_on_failover of WAL can be lost.")
	return nil
}

func (d *demo) actReturn(ctx context.Context, r *act) error {
	var back *lab.Node
	var logged int
	for _, n := range d.lab.Nodes {
		if _, err := d.lab.Pid(n, lab.Agent); err != nil {
			back = n
			doc, _ := os.ReadFile(n.AgentLog)
			logged = len(doc)
		}
	}
	if back == nil {
		return errors.New("find the lost node: every agent runs")
	}
	began := lab.Boottime()
	if err := d.lab.PowerOn(back); err != nil {
		return err
	}
	err := d.narrator.step("waiting for "+back.Name+" to stream from the new leader", func() error {
		_, err := d.lab.WaitStreaming(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if doc, err := os.ReadFile(back.AgentLog); err == nil && strings.Contains(string(doc[min(logged, len(doc)):]), "pg_rewind") {
		d.narrator.say("it had written what nobody else has: pg_rewind took that back, then it followed")
	} else {
		d.narrator.say("it had written nothing that the new leader lacks: it recovered and followed, without pg_rewind")
	}
	return d.measure(ctx, r, began, d.lab.Nodes)
}

// measure lets the writers go on for a moment, waits until nodes stream and one of
// them does synchronous duty, fills in the act's figures, and demands that no
// acknowledged row is missing.
func (d *demo) measure(ctx context.Context, r *act, began time.Duration, nodes []*lab.Node) error {
	if _, err := d.load.WaitAck(ctx, lab.Boottime()+calm); err != nil {
		return err
	}
	until := lab.Boottime()
	err := d.narrator.step("waiting until every replica streams, and commits wait for one of them", func() error {
		if _, err := d.lab.WaitStreaming(ctx, nodes...); err != nil {
			return err
		}
		_, err := d.syncStandbys(ctx)
		return err
	})
	if err != nil {
		return err
	}
	history := d.load.History()
	audit, err := d.lab.Audit(ctx, history, d.leader, nodes...)
	if err != nil {
		return err
	}
	r.gap, _ = lab.LongestGap(history, began, until)
	r.lost = audit.Lost()
	switch dual := lab.DualPrimaries(history); {
	case len(dual) > 0:
		r.broken = dual[0].String()
	case r.lost > 0 && r.broken == "":
		r.broken = fmt.Sprintf("%d acknowledged rows are missing, and none may be", r.lost)
	}
	return nil
}

// syncStandbys waits until commits wait for standbys, and names these.
func (d *demo) syncStandbys(ctx context.Context) (names []string, err error) {
	err = lab.Poll(ctx, func() bool {
		var c lab.Cluster
		if code, err := d.lab.Get(ctx, d.leader, "/cluster", &c); err != nil || code != http.StatusOK {
			return false
		}
		names = nil
		for _, m := range c.Members {
			if m.Role == "sync_standby" {
				names = append(names, m.Name)
			}
		}
		return len(names) > 0
	})
	if err != nil {
		return nil, fmt.Errorf("wait for a synchronous standby: %w", err)
	}
	return names, nil
}

func (d *demo) summary(played []act) error {
	d.app.printf("\n%-24s %12s %14s   %s\n", "act", "write gap", "rows missing", "as promised")
	var broken []string
	for _, r := range played {
		verdict := "yes"
		if r.broken != "" {
			verdict = "NO: " + r.broken
			broken = append(broken, r.name+": "+r.broken)
		}
		d.app.printf("%-24s %10.2f s %14d   %s\n", r.name, r.gap.Seconds(), r.lost, verdict)
	}
	if len(broken) > 0 {
		return errors.New(strings.Join(broken, "; "))
	}
	return nil
}
