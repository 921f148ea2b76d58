package lab

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Sighting is one process of interest and when it was seen. It lived from First
// to Last at least.
type Sighting struct {
	Node        string
	What        Target // BackupRun, RestoreRun, Postmaster, BaseBackup or Rewind
	Pid         int
	First, Last time.Duration // CLOCK_BOOTTIME
}

// More of what Watch looks for.
const (
	BaseBackup Target = "pg_basebackup"
	Rewind     Target = "pg_rewind"
	// RestoreOrphan is a worker of a restore whose parent is dead: it finishes its
	// job of many files unless somebody ends it.
	RestoreOrphan Target = "orphaned pgbackrest restore:local"
)

// Watch records which programs run on the nodes.
type Watch struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	seen map[string]*Sighting
}

// Watch looks at every node's processes each period, until ctx ends or Stop.
func (l *Lab) Watch(ctx context.Context, period time.Duration) *Watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watch{cancel: cancel, seen: map[string]*Sighting{}}
	w.wg.Go(func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			w.look(l)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return w
}

func (w *Watch) look(l *Lab) {
	table := processes()
	tools := map[int]bool{}
	for _, p := range table {
		tools[p.pid] = p.comm == "pgbackrest"
	}
	for _, n := range l.Nodes {
		server, _ := postmasterPid(n.DataDir)
		for _, p := range descendants(table, n.host.init.Process.Pid) {
			// A worker has its parent's command line until it gets its own; only one
			// without a parent is of interest.
			if p.zombie || tools[p.pid] && tools[p.ppid] {
				continue
			}
			if what := classify(p, server); what != "" {
				w.note(n.Name, what, p.pid)
			}
		}
	}
}

// classify names what a process is; "" for one that does not matter.
func classify(p proc, server int) Target {
	switch {
	case p.comm == "postgres" && p.pid == server:
		return Postmaster
	case p.comm == "pg_basebackup":
		return BaseBackup
	case p.comm == "pg_rewind":
		return Rewind
	case p.comm == "pgbackrest":
		switch word, worker := toolWord(p.pid); {
		case worker && word == "restore":
			return RestoreOrphan
		case worker:
		case word == "backup":
			return BackupRun
		case word == "restore":
			return RestoreRun
		}
	}
	return ""
}

func (w *Watch) note(node string, what Target, pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := Boottime()
	key := fmt.Sprintf("%s %s %d", node, what, pid)
	if s := w.seen[key]; s != nil {
		s.Last = now
		return
	}
	w.seen[key] = &Sighting{Node: node, What: what, Pid: pid, First: now, Last: now}
}

// Stop ends the watch.
func (w *Watch) Stop() {
	w.cancel()
	w.wg.Wait()
}

// Sightings gives what was seen of some kind since an instant, in order. An empty
// node means all of them.
func (w *Watch) Sightings(node string, what Target, since time.Duration) []Sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Sighting
	for _, s := range w.seen {
		if s.What == what && s.Last >= since && (node == "" || s.Node == node) {
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b Sighting) int { return int(a.First - b.First) })
	return out
}

// Violations gives a line for each two backups that ran at the same time, for each
// server that ran while its directory was being restored, and for each leftover of
// a restore that wrote into the next one.
func (w *Watch) Violations() []string {
	var out []string
	backups := w.Sightings("", BackupRun, 0)
	for i, a := range backups {
		for _, b := range backups[i+1:] {
			if d := overlap(a, b); d > 0 {
				out = append(out, fmt.Sprintf("backups %d on %s and %d on %s ran together for %s", a.Pid, a.Node, b.Pid, b.Node, d))
			}
		}
	}
	for _, o := range w.Sightings("", RestoreOrphan, 0) {
		for _, r := range w.Sightings(o.Node, RestoreRun, 0) {
			if d := overlap(o, r); d > 0 {
				out = append(out, fmt.Sprintf("worker %d of an earlier restore on %s wrote for %s of restore %d", o.Pid, o.Node, d, r.Pid))
			}
		}
	}
	for _, r := range append(w.Sightings("", RestoreRun, 0), w.Sightings("", RestoreOrphan, 0)...) {
		for _, s := range w.Sightings(r.Node, Postmaster, 0) {
			if d := overlap(r, s); d > 0 {
				out = append(out, fmt.Sprintf("server %d of %s ran for %s of restore %d", s.Pid, s.Node, d, r.Pid))
			}
		}
	}
	return out
}

// overlap is how long both certainly lived.
func overlap(a, b Sighting) time.Duration { return min(a.Last, b.Last) - max(a.First, b.First) }
