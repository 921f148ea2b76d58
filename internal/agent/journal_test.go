package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/mem"
)

func note(text string) dcs.Event { return dcs.Event{Kind: dcs.EventNotice, Text: text} }

func textOf(list []dcs.Event) string {
	var out []string
	for _, e := range list {
		out = append(out, e.Text)
	}
	return strings.Join(out, " ")
}

// memJournal is a journal that writes to a directory and an etcd in memory.
type memJournal struct {
	*journal
	srv   *mem.Server
	store *mem.Client
	dir   string
	end   func()
}

func startJournal(t *testing.T, srv *mem.Server, name, dir string) *memJournal {
	t.Helper()
	m := &memJournal{journal: newJournal(name, time.Now, slog.New(slog.DiscardHandler)), srv: srv, dir: dir}
	m.store = srv.Store("/service/demo", name)
	ctx, cancel := context.WithCancel(t.Context())
	wait := m.start(ctx, []string{filepath.Join(dir, name)}, m.store)
	m.end = func() { cancel(); wait() }
	return m
}

func memEtcd() *mem.Server {
	begun := time.Now()
	return mem.NewServer(mem.Options{Now: func() int64 { return int64(time.Since(begun)) }})
}

// inRing is what the ring in etcd holds.
func (m *memJournal) inRing(t *testing.T) []dcs.Event {
	t.Helper()
	c, err := m.store.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.Events.Events()
}

// TestJournalReachesFileAndRing: what is recorded is in memory at once, then on
// disk and in etcd, also for the run that follows.
func TestJournalReachesFileAndRing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		srv := memEtcd()
		j := startJournal(t, srv, "n1", dir)
		defer j.end()
		j.Record(note("a"))
		if list, lost := j.Events(); textOf(list) != "a" || lost != 0 {
			t.Fatalf("in memory: %q, %d lost", textOf(list), lost)
		}
		time.Sleep(ringGather + time.Millisecond)
		synctest.Wait()
		if got := textOf(j.inRing(t)); got != "a" {
			t.Errorf("in etcd: %q", got)
		}
		if got := textOf(readJournal(filepath.Join(dir, "n1"))); got != "a" {
			t.Errorf("on disk: %q", got)
		}
		j.Record(note("b"))
		j.end() // the last entries are not lost
		if got := textOf(j.inRing(t)); got != "a b" {
			t.Errorf("in etcd at the end: %q", got)
		}
		next := startJournal(t, srv, "n1", dir)
		defer next.end()
		synctest.Wait()
		next.Record(note("c"))
		if list, _ := next.Events(); textOf(list) != "a b c" || list[2].Run <= list[0].Run {
			t.Errorf("the next run shows %q", textOf(list))
		}
	})
}

// TestJournalRingPace: many events at once are few writes, and no event is none.
func TestJournalRingPace(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j := startJournal(t, memEtcd(), "n1", dir)
		defer j.end()
		var puts atomic.Int32
		j.store.SetHook(func(op mem.Op) mem.Fault {
			if op == mem.OpPut {
				puts.Add(1)
			}
			return mem.None
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := puts.Load(); n != 0 {
			t.Errorf("%d writes without an event", n)
		}
		for range 200 {
			j.Record(note("x"))
			time.Sleep(25 * time.Millisecond) // five seconds in all
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := puts.Load(); n < 2 || n > 4 {
			t.Errorf("200 events in five seconds made %d writes", n)
		}
		if got := len(j.inRing(t)); got != dcs.MaxEvents {
			t.Errorf("the ring has %d events", got)
		}
	})
}

// TestJournalRingTogether: members that write at the same time lose nothing.
func TestJournalRingTogether(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		srv := memEtcd()
		var all []*memJournal
		for _, name := range []string{"n1", "n2", "n3"} {
			j := startJournal(t, srv, name, dir)
			defer j.end()
			all = append(all, j)
		}
		for range 10 {
			for _, j := range all {
				j.Record(note("x"))
			}
			time.Sleep(ringPause)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := len(all[0].inRing(t)); got != 30 {
			t.Errorf("the ring has %d events of 30", got)
		}
	})
}

// TestJournalRingFaults: an answer that got lost doubles nothing, and an outage
// loses nothing.
func TestJournalRingFaults(t *testing.T) {
	for name, fault := range map[string]mem.Fault{
		"the answer is lost": mem.AnswerLost,
		"etcd is away":       mem.Unavailable,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				j := startJournal(t, memEtcd(), "n1", dir)
				defer j.end()
				var mended atomic.Bool
				j.store.SetHook(func(op mem.Op) mem.Fault {
					if !mended.Load() && op == mem.OpPut {
						return fault
					}
					return mem.None
				})
				j.Record(note("a"))
				time.Sleep(time.Minute)
				j.Record(note("b"))
				mended.Store(true)
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := textOf(j.inRing(t)); got != "a b" {
					t.Errorf("in etcd: %q", got)
				}
			})
		})
	}
}

// TestJournalNeverBlocks: with a writer that does not write, recording goes on,
// and what was lost is counted and said.
func TestJournalNeverBlocks(t *testing.T) {
	j := newJournal("n1", time.Now, slog.New(slog.DiscardHandler))
	for range fileQueue + 5 {
		j.Record(note("x"))
	}
	list, lost := j.Events()
	if lost != 5 || len(list) != tailLength {
		t.Errorf("%d lost, %d in memory", lost, len(list))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "events")
	j.keepFile(ctx, []string{path})
	if got := readJournal(path); len(got) == 0 || got[len(got)-1].Text != "5 earlier entries did not get into the local file" {
		t.Errorf("the loss is not said: %v", got[len(got)-1])
	}
}

func TestJournalFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events")
	f := &journalFile{path: path, limit: 2000}
	write := func(text string) {
		t.Helper()
		if err := f.write([]dcs.Event{{Member: "n1", Text: text}}); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", st.Mode(), err)
	}
	// A crash in the middle of a line costs that line alone.
	if err := errors.Join(f.close(), appendTo(path, `{"member":"n1","te`)); err != nil {
		t.Fatal(err)
	}
	write("second")
	if got := textOf(readJournal(path)); got != "first second" {
		t.Errorf("after a torn line: %q", got)
	}
	for range 200 {
		write(strings.Repeat("x", 50))
	}
	write("last")
	files, _ := filepath.Glob(path + "*")
	for _, name := range files {
		if st, _ := os.Stat(name); st.Size() > 2000 {
			t.Errorf("%s has %d bytes", name, st.Size())
		}
	}
	if got := readJournal(path); len(files) != 2 || got[len(got)-1].Text != "last" || len(got) < 10 {
		t.Errorf("files %v, %d entries", files, len(got))
	}
	// The disk is full, or somebody took the directory away.
	if err := errors.Join(f.close(), os.RemoveAll(dir)); err != nil {
		t.Fatal(err)
	}
	if err := f.write([]dcs.Event{note("x")}); err == nil {
		t.Error("a directory that is gone was written to")
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// TestJournalFailureIsSaid: a file that cannot be written is logged once.
func TestJournalFailureIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		j := newJournal("n1", time.Now, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		go j.keepFile(ctx, []string{"/nonexistent/events"})
		for range 3 {
			j.Record(note("x"))
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		if _, lost := j.Events(); lost != 3 || strings.Count(log.String(), "write the journal") != 1 {
			t.Errorf("%d lost, log: %s", lost, &log)
		}
	})
}
