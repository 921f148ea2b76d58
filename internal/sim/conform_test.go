package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// The model of PostgreSQL is held to the real one (safety C.7): one list of
// operations is done to three modelled and to three real servers, and after each
// an agent must see the same of both.

// sight is what an agent sees of a server.
type sight struct {
	runs, recovery, streams bool
	timeline, checkpoint    wal.Timeline
	control                 string
	at                      wal.LSN
}

// trio is three servers, a, b and c, modelled or real.
type trio interface {
	create(i int)      // a new cluster, running as a primary
	clone(i, from int) // a copy, not running
	start(i, up int)   // as a standby of up; up is i for a primary
	stop(i int, immediately bool)
	kill(i int)
	follow(i, up int) // up is i for nobody: the receiver ends for good
	promote(i int)
	rewind(i, from int)
	hold(i int, on bool)      // the receiver takes nothing, and stays connected
	names(i int, text string) // synchronous_standby_names
	write(i int)              // a commit begins
	acked(i int) int          // how many commits that began on i have returned
	visible(i int) int        // how many can be seen there
	look(i int) sight
}

// operation is one step, or a few that nobody looks between.
type operation struct {
	what string
	do   func(t trio)
}

// letters are the names of the three.
const letters = "abc"

// conformance are the operations, in order: each goes on from the one before.
func conformance() []operation {
	const a, b, c = 0, 1, 2
	return []operation{
		{"a new cluster", func(t trio) { t.create(a) }},
		{"two standbys", func(t trio) { t.clone(b, a); t.clone(c, a); t.start(b, a); t.start(c, a) }},
		{"a commit reaches both", func(t trio) { t.write(a) }},
		{"a standby without a receiver stays where it is", func(t trio) { t.follow(c, c); t.write(a) }},
		{"and catches up", func(t trio) { t.follow(c, a) }},
		{"a commit with its synchronous standby", func(t trio) { t.names(a, "b"); t.write(a) }},
		{"a receiver that stands still holds a commit up", func(t trio) { t.hold(b, true); t.write(a) }},
		{"and lets it go", func(t trio) { t.hold(b, false) }},
		{"a stopped one holds it up", func(t trio) { t.stop(b, false); t.write(a) }},
		{"any of two", func(t trio) { t.names(a, "ANY 1 (b,c)") }},
		{"first of two, one of them away", func(t trio) { t.names(a, "FIRST 1 (b,c)"); t.write(a) }},
		{"waiting again", func(t trio) { t.names(a, "b"); t.write(a) }},
		{"what waits is set free by an empty value", func(t trio) { t.names(a, "") }},
		{"a frozen synchronous standby acknowledges nothing", func(t trio) { t.names(a, "c"); t.follow(c, c); t.write(a) }},
		{"after a crash it is visible, and was not acknowledged", func(t trio) { t.kill(a); t.start(a, a) }},
		{"both come back", func(t trio) { t.follow(c, a); t.start(b, a) }},
		{"no longer synchronous", func(t trio) { t.names(a, ""); t.write(a) }},
		{"an immediate stop of a standby", func(t trio) { t.stop(b, true) }},
		{"and its start", func(t trio) { t.start(b, a) }},
		{"a fast stop tells the standbys all", func(t trio) { t.stop(a, false) }},
		{"promotion", func(t trio) { t.promote(b) }},
		{"the other one follows", func(t trio) { t.follow(c, b) }},
		{"and the old primary, without a rewind", func(t trio) { t.start(a, b); t.write(b) }},
		{"WAL that nobody else has", func(t trio) { t.follow(a, a); t.follow(c, c); t.write(b) }},
		{"a crash", func(t trio) { t.kill(b) }},
		{"the third timeline", func(t trio) { t.promote(a); t.follow(c, a); t.write(a) }},
		{"what diverged does not stream", func(t trio) { t.start(b, a) }},
		{"until it is rewound", func(t trio) { t.stop(b, false); t.rewind(b, a); t.start(b, a) }},
		{"two promotions give one number", func(t trio) { t.follow(b, b); t.follow(c, c); t.promote(b); t.promote(c) }},
		{"an immediate stop of a primary", func(t trio) { t.stop(a, true) }},
	}
}

// picture is all that is compared: positions only with each other.
func picture(t trio) string {
	var out strings.Builder
	var seen [3]sight
	for i := range seen {
		s := t.look(i)
		seen[i] = s
		role := "down"
		if s.runs {
			role = "primary"
			if s.recovery {
				role = "standby"
			}
			role += fmt.Sprintf(" on %d", s.timeline)
			if s.streams {
				role += ", streaming"
			}
			if !s.recovery {
				role += fmt.Sprintf(", checkpoint on %d, %d visible", s.checkpoint, t.visible(i))
			}
		}
		fmt.Fprintf(&out, "%c: %s, %s, %d acknowledged; ", letters[i], role, s.control, t.acked(i))
	}
	for i := range seen {
		for j := range i {
			if seen[i].runs && seen[j].runs && seen[i].timeline == seen[j].timeline && (seen[i].recovery || seen[j].recovery) { // a promotion writes a record of its own
				sign := "="
				switch {
				case seen[j].at < seen[i].at:
					sign = "<"
				case seen[j].at > seen[i].at:
					sign = ">"
				}
				fmt.Fprintf(&out, "%c%s%c ", letters[j], sign, letters[i])
			}
		}
	}
	return out.String()
}

// TestPostgresConforms does the operations to both.
func TestPostgresConforms(t *testing.T) {
	if testing.Short() {
		t.Skip("real servers take a while")
	}
	model, real := newModel(), newReal(t)
	for _, op := range conformance() {
		begun := time.Now()
		op.do(model)
		op.do(real)
		want := picture(model)
		// The model has had its time; the servers get theirs, and what does not
		// happen must not happen a little later either.
		got, since, limit := "", time.Now(), time.Now().Add(30*time.Second)
		for ; time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
			if next := picture(real); next != got {
				got, since = next, time.Now()
			}
			if got == want && time.Since(since) >= 200*time.Millisecond {
				break
			}
		}
		if got != want {
			t.Fatalf("%s:\nmodel    %s\nservers  %s", op.what, want, got)
		}
		t.Logf("%s (%v): %s", op.what, time.Since(begun).Round(time.Millisecond), got)
	}
}

// model is the trio of the simulator, without agents.
type model struct {
	w       *world
	began   []promise // where each commit ends
	count   [3]int    // of them, by server
	waiting [3]int    // of those that died waiting
}

func newModel() *model {
	s := &Schedule{Seed: 1, Config: timings[0], PPM: make([]int64, 3), MaxLag: 1 << 40, Heal: 1 << 60, End: 1 << 60}
	m := &model{w: newWorld(s, Options{})}
	m.w.queue = nil // no agents, and no load but ours
	for _, n := range m.w.nodes {
		n.yield = func(at int64) bool {
			m.run(at - m.w.now)
			return true
		}
		n.leash.armed, n.leash.deadline = 1, 1<<62
		n.server.replicate()
	}
	return m
}

// run lets time pass.
func (m *model) run(d int64) {
	w := m.w
	for end := w.now + d; ; {
		if len(w.queue) == 0 || w.queue[0].at > end {
			w.now = end
			return
		}
		e := w.queue.pop()
		w.now = e.at
		e.run()
	}
}

func (m *model) node(i int) *node { return m.w.nodes[i] }

func (m *model) up(i, up int) ha.Upstream {
	if i == up {
		return ha.Upstream{}
	}
	return ha.Upstream{Member: m.node(up).name}
}

func (m *model) act(i int, action ha.Action) {
	n := m.node(i)
	operator{n}.Begin(action)
	for n.op.Running {
		m.run(10 * ms)
	}
	if n.op.Error != "" {
		panic(n.op.Error)
	}
	m.run(5 * sec)
}

func (m *model) create(i int) {
	m.act(i, ha.Bootstrap{})
	s := &m.node(i).server
	_ = s.FinishBootstrap(context.Background())
	s.open()
	m.run(5 * sec)
}

func (m *model) clone(i, from int)  { m.act(i, ha.Clone{From: m.up(i, from)}) }
func (m *model) rewind(i, from int) { m.act(i, ha.Rewind{From: m.up(i, from)}) }

func (m *model) start(i, up int) { m.act(i, ha.Start{Primary: i == up, Upstream: m.up(i, up)}) }

func (m *model) stop(i int, immediately bool) {
	mode := ha.StopFast
	if immediately {
		mode = ha.StopImmediate
	}
	m.lose(i)
	m.act(i, ha.Stop{Mode: mode})
}

func (m *model) kill(i int) {
	m.lose(i)
	m.node(i).server.crash("killed")
	m.run(5 * sec)
}

// lose counts the commits whose clients get no answer.
func (m *model) lose(i int) { m.waiting[i] += len(m.node(i).server.sync.waiting) }

func (m *model) follow(i, up int) {
	s := &m.node(i).server
	var err error
	if i == up {
		err = s.Freeze(context.Background())
	} else {
		err = s.Follow(context.Background(), m.up(i, up))
	}
	if err != nil {
		panic(err)
	}
	m.run(5 * sec)
}

func (m *model) promote(i int) {
	m.node(i).server.promote(0)
	m.run(5 * sec)
}

func (m *model) hold(i int, on bool) {
	n := m.node(i)
	if on {
		n.disk = sick{until: 1 << 60, fault: ha.FaultHang}
	} else {
		n.cure(&n.disk)
	}
	m.run(5 * sec)
}

func (m *model) names(i int, text string) {
	text = strings.NewReplacer("a", "n1", "b", "n2", "c", "n3").Replace(text)
	_ = m.node(i).server.SetSyncNames(context.Background(), &text)
	m.run(5 * sec)
}

func (m *model) write(i int) {
	s := &m.node(i).server
	s.commit(100)
	m.began = append(m.began, promise{s.br, s.flush})
	m.count[i]++
	m.run(5 * sec)
}

func (m *model) acked(i int) int {
	return m.count[i] - len(m.node(i).server.sync.waiting) - m.waiting[i]
}

// visible counts the commits that can be seen on i, of whatever server.
func (m *model) visible(i int) (count int) {
	s := &m.node(i).server
	for _, p := range m.began {
		if s.br.has(p.br, p.at) && !slices.Contains(s.sync.waiting, p.at) { // who waits is not yet seen to be done
			count++
		}
	}
	return count
}

func (m *model) look(i int) sight {
	s := &m.node(i).server
	if s.br == nil {
		return sight{}
	}
	pg := s.Facts(context.Background())
	return sight{runs: pg.Known, recovery: pg.Row.InRecovery, streams: pg.Row.ReplicationState == "streaming", timeline: pg.Row.Timeline,
		checkpoint: s.point, control: pg.Control.State, at: pg.Row.Position}
}
