package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// Bounds of what is kept in memory of the journal.
const (
	tailLength = 1000 // entries that GET /events can show
	fileQueue  = 1024 // entries on their way to the local file
)

// journal keeps the events of this member: the newest in memory, all of them in
// a local file, and the newest of all members in a ring in etcd. Neither file
// nor etcd can hold up whoever records an event: what does not fit into a queue
// is counted and said.
type journal struct {
	me   string
	run  int64
	wall func() time.Time
	log  *slog.Logger
	file chan dcs.Event // to the local file
	poke chan struct{}  // there is something for the ring

	state ha.Journal // owned by the loop

	mu      sync.Mutex
	seq     int64
	tail    []dcs.Event // never changed in place: readers share it
	changed chan struct{}
	lost    int64       // entries that the local file does not have
	owed    int64       // of them not said yet
	ring    []dcs.Event // not in etcd yet
}

func newJournal(me string, wall func() time.Time, log *slog.Logger) *journal {
	return &journal{
		me: me, run: wall().UnixMilli(), wall: wall, log: log,
		file: make(chan dcs.Event, fileQueue), poke: make(chan struct{}, 1), changed: make(chan struct{}),
	}
}

// turned takes in one turn of the loop.
func (j *journal) turned(o *ha.Observation, d *ha.Decision) {
	var events []dcs.Event
	j.state, events = j.state.Next(o, d)
	for _, e := range events {
		j.Record(e)
	}
}

// Record implements restapi.Events.
func (j *journal) Record(e dcs.Event) {
	if e.At.IsZero() {
		e.At = j.wall()
	}
	e.Member, e.Run = j.me, j.run
	e = e.Clean()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	e.Seq = j.seq
	j.tail = shorten(append(j.tail, e), tailLength)
	j.ring = shorten(append(j.ring, e), dcs.MaxEvents)
	close(j.changed)
	j.changed = make(chan struct{})
	select {
	case j.file <- e:
	default:
		j.lost++
		j.owed++
	}
	select {
	case j.poke <- struct{}{}:
	default:
	}
}

// shorten returns at least the last n entries, in a new array whenever it drops
// some: appending costs little on the average.
func shorten(list []dcs.Event, n int) []dcs.Event {
	if len(list) < 2*n {
		return list
	}
	return append(make([]dcs.Event, 0, 2*n), list[len(list)-n:]...)
}

// Events implements restapi.Events.
func (j *journal) Events() (list []dcs.Event, lost int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tail[max(len(j.tail)-tailLength, 0):], j.lost
}

// EventsChanged implements restapi.Events.
func (j *journal) EventsChanged() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.changed
}

// remember puts what earlier runs wrote before what is there.
func (j *journal) remember(earlier []dcs.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tail = append(append(make([]dcs.Event, 0, len(earlier)+len(j.tail)), earlier...), j.tail...)
}

// miss counts entries that could not be written.
func (j *journal) miss(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lost += int64(n)
	j.owed += int64(n)
}

// confess says in the journal itself that entries are missing.
func (j *journal) confess() {
	j.mu.Lock()
	n := j.owed
	j.owed = 0
	j.mu.Unlock()
	if n > 0 {
		j.Record(dcs.Event{Kind: dcs.EventJournal, State: dcs.EventFailed, Text: fmt.Sprintf("%d earlier entries did not get into the local file", n)})
	}
}

// journalEnd is how long the end of the agent waits for the last entries.
const journalEnd = time.Second

// start runs the two writers until ctx ends. The function returned waits for
// them to write what is left, for a second at most: a disk that hangs must not
// keep the agent from ending.
func (j *journal) start(ctx context.Context, places []string, store dcs.Store) (wait func()) {
	ended := make(chan struct{}, 2)
	go func() {
		j.keepFile(ctx, places)
		ended <- struct{}{}
	}()
	go func() {
		j.keepRing(ctx, store)
		ended <- struct{}{}
	}()
	return func() {
		late := time.NewTimer(journalEnd)
		defer late.Stop()
		for range 2 {
			select {
			case <-ended:
			case <-late.C:
				j.log.Warn("the last entries of the journal could not be written in time")
				return
			}
		}
	}
}

// journalPlaces are where the local file may be: beside the data directory, so
// that a reboot does not lose it and no copy takes it along, else in the runtime
// directory.
func journalPlaces(dataDir, runDir string) []string {
	return []string{filepath.Clean(dataDir) + ".pgha.events", filepath.Join(runDir, "events")}
}
