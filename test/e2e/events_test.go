//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/doctor"
	"github.com/pgha/pgha/internal/lab"
	"github.com/pgha/pgha/pkg/dcs"
)

// chapter is an event that must come after the one before it.
type chapter struct {
	node  *lab.Node // nil: anybody's
	kind  dcs.EventKind
	state dcs.EventState
	text  string // it must contain
}

// events asks pghactl on a node that is up.
func (r *row) events(on *lab.Node) []dcs.Event {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
	defer cancel()
	out, err := r.Ctl(ctx, on, "events", "-n", "1000", "--format", "json")
	var list []dcs.Event
	if start := strings.Index(out, "["); err != nil || start < 0 || json.Unmarshal([]byte(out[start:strings.LastIndex(out, "]")+1]), &list) != nil {
		r.Fatalf("pghactl events: %v\n%s", err, out)
	}
	return list
}

// story waits until the events since an instant tell the chapters, in order.
func (r *row) story(on *lab.Node, since time.Time, chapters ...chapter) []dcs.Event {
	r.Helper()
	since = since.Truncate(time.Millisecond) // as the journal's own instants are
	var told []dcs.Event
	missing, seen := "", ""
	done := func() bool {
		told, seen = nil, ""
		left := chapters
		for _, e := range r.events(on) {
			if e.At.Before(since) {
				continue
			}
			seen += fmt.Sprintf("%s %s %s %s: %s %s (%.3f s)\n", e.At.Format("15:04:05.000"), e.Member, e.Kind, e.State, e.Text, e.Error, e.Seconds)
			if c := left; len(c) > 0 && e.Kind == c[0].kind && e.State == c[0].state && strings.Contains(e.Text, c[0].text) && (c[0].node == nil || c[0].node.Name == e.Member) {
				told, left = append(told, e), left[1:]
			}
		}
		if len(left) > 0 {
			missing = fmt.Sprintf("%s %s %q", left[0].kind, left[0].state, left[0].text)
		}
		return len(left) == 0
	}
	ctx, cancel := context.WithTimeout(r.ctx, settle)
	defer cancel()
	if err := lab.Poll(ctx, done); err != nil {
		r.Fatalf("the events lack %s; told was\n%s", missing, seen)
	}
	r.Logf("told:\n%s", seen)
	return told
}

// A switchover, a crash and a power cut, as the journal tells them.
func TestEventsTellTheStory(t *testing.T) {
	r := begin(t)
	old := r.leader
	next := r.Nodes[0]
	if next == old {
		next = r.Nodes[1]
	}
	since := time.Now()
	r.must(r.Switchover(r.ctx, old, next))
	r.newLeader(old)
	r.streaming(0)
	told := r.story(next, since,
		chapter{old, dcs.EventRequest, "", "POST /switchover"},
		chapter{old, dcs.EventLeader, dcs.EventDone, "released the leader key"},
		chapter{next, dcs.EventLeader, dcs.EventBegan, "took the leader key, as requested"},
		chapter{next, dcs.EventPromote, dcs.EventDone, "is the primary, on timeline"},
		chapter{old, dcs.EventStart, dcs.EventDone, "started as a standby of " + next.Name},
		chapter{old, dcs.EventStreaming, "", "streams from " + next.Name},
	)
	// The key is released at the shutdown checkpoint, before or after the end of the stop.
	told = append(told, r.story(next, since, chapter{old, dcs.EventDemote, dcs.EventDone, "stopped the primary"})...)
	if told[0].By == "" || told[1].Seconds <= 0 || len(told[1].Phases) != 2 || len(told[3].Phases) == 0 || told[6].Reason != "hand_over" || told[6].Seconds <= 0 {
		t.Errorf("the events of the switchover say too little: %+v", told)
	}

	since = time.Now()
	before, err := r.Pid(next, lab.Postmaster)
	r.must(err)
	r.must(r.Kill(next, lab.Postmaster))
	r.must(r.WaitReplaced(r.ctx, next, lab.Postmaster, before))
	r.acked(lab.Boottime())
	r.story(old, since,
		chapter{next, dcs.EventCrash, "", "the primary, ended without being asked to"},
		chapter{next, dcs.EventStart, dcs.EventDone, "started as a primary"},
	)

	since = time.Now()
	r.must(r.PowerOff(next))
	third := r.newLeader(next)
	r.story(third, since,
		chapter{nil, dcs.EventLeader, dcs.EventFailed, "the leader key of " + next.Name + " is gone"},
		chapter{third, dcs.EventLeader, dcs.EventBegan, "took the leader key"},
		chapter{third, dcs.EventPromote, dcs.EventDone, "is the primary, on timeline"},
	)
	since = time.Now()
	r.must(r.PowerOn(next))
	r.streaming(0)
	r.story(third, since,
		chapter{next, dcs.EventAgent, dcs.EventBegan, "the agent started"},
		chapter{next, dcs.EventStreaming, "", "streams from " + third.Name},
	)
	// What it did before the power cut was not lost with it.
	r.story(third, time.Time{}, chapter{next, dcs.EventCrash, "", "the primary"}, chapter{next, dcs.EventAgent, dcs.EventBegan, "the agent started"})
	r.finish(bounded)
}

// retag writes a node's file with a tag, or without, and has it read.
func (r *row) retag(n *lab.Node, tags map[string]any, more ...map[string]any) {
	r.Helper()
	r.must(r.WriteConfig(n, append(more, map[string]any{"tags": tags})...))
	r.must(r.Signal(n, lab.Agent, syscall.SIGHUP))
}

func TestWhyAndDoctor(t *testing.T) {
	r := begin(t)
	var standbys []*lab.Node
	for _, n := range r.Nodes {
		if n != r.leader {
			standbys = append(standbys, n)
		}
	}
	one, two := standbys[0], standbys[1]
	says := func(n *lab.Node, words string) {
		t.Helper()
		out := ""
		r.eventually("pghactl why says "+words, func() bool {
			out, _ = r.Ctl(r.ctx, r.leader, "why", n.Name)
			return strings.Contains(out, words)
		})
		t.Logf("pghactl why %s:\n%s", n.Name, out)
	}
	says(one, "may be promoted if "+r.leader.Name+" goes")

	text := ""
	report := func() (rep doctor.Report) {
		t.Helper()
		out, err := r.Ctl(r.ctx, one, "doctor", "-f", "json")
		text = out
		if start := strings.Index(text, "{"); start < 0 || json.NewDecoder(strings.NewReader(text[start:])).Decode(&rep) != nil {
			t.Fatalf("pghactl doctor: %v\n%s", err, text)
		}
		if (err != nil) != (rep.Errors() > 0) {
			t.Errorf("pghactl doctor ended with %v:\n%s", err, text)
		}
		return rep
	}
	defer func() {
		if t.Failed() {
			t.Logf("pghactl doctor said last:\n%s", text)
		}
	}()
	r.eventually("a healthy cluster without errors, looked at everywhere", func() bool {
		rep := report()
		return rep.Errors() == 0 && len(rep.Skipped) == 0
	})
	t.Logf("healthy: %s", text)

	// Faults: nobody may take over, the file can be read by everybody, pause, a
	// member that lets in somebody else.
	r.retag(one, map[string]any{"nofailover": true})
	r.retag(two, map[string]any{"nofailover": true}, map[string]any{"restapi": map[string]any{"authentication": map[string]any{"username": "ops", "password": "others'"}}})
	r.eventually("the other standby demands credentials", func() bool {
		code, _, _ := r.Send(r.ctx, two, "POST", "/sigterm", nil)
		return code == 401
	})
	r.must(os.Chmod(one.Config, 0o644))
	r.patch(object{"pause": true})
	says(one, "the tag nofailover is set")
	says(one, "the cluster is paused")
	for check, severity := range map[string]doctor.Severity{"candidates": doctor.Error, "rest credentials": doctor.Error, "permissions": doctor.Warning, "pause": doctor.Warning} {
		r.eventually("the planted fault is named: "+check, func() bool {
			return slices.ContainsFunc(report().Findings, func(f doctor.Finding) bool { return f.Check == check && f.Severity == severity })
		})
	}
	r.must(os.Chmod(one.Config, 0o600))
	r.patch(object{"pause": nil})
	r.retag(one, nil)
	r.retag(two, nil)
	says(one, "may be promoted if")
	says(two, "may be promoted if")

	// A standby that lags.
	r.must(r.SignalSenders(r.leader, syscall.SIGSTOP))
	conn, err := r.ConnectSoon(r.ctx, r.leader)
	r.must(err)
	for range 1 + r.Options().MaximumLag/(1<<20) {
		_, err = conn.Exec(r.ctx, "SELECT pg_logical_emit_message(false, 'lag', repeat('x', 1200000))")
		r.must(err)
	}
	r.must(conn.Close(r.ctx))
	says(one, "and maximum_lag_on_failover is")
	r.must(r.SignalSenders(r.leader, syscall.SIGCONT))
	r.sameLeader()
	r.finish(none)
}
