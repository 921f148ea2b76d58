package view

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

const key = "/b/config"

func kv(value string, rev int64) dcs.KV {
	return dcs.KV{Key: key, Value: []byte(value), CreateRevision: 1, ModRevision: rev}
}

func config(v *View) string {
	c, _ := v.Cluster()
	if c.Config == nil {
		return ""
	}
	return string(c.Config.Raw)
}

func woken(v *View) bool {
	select {
	case <-v.Changed():
		return true
	default:
		return false
	}
}

func ready(t *testing.T) *View {
	t.Helper()
	v := New("/b")
	v.Reset([]dcs.KV{kv("{}", 5)}, 5, 1, 0)
	woken(v)
	return v
}

func TestOwnWriteSeenFirstByTheWatch(t *testing.T) {
	v := ready(t)
	v.Begin(key)
	v.Apply([]Event{{KV: kv(`{"a":1}`, 6)}}, 6)
	v.End([]string{key}, 6, Event{KV: kv(`{"a":1}`, 0)})
	if woken(v) || config(v) != `{"a":1}` {
		t.Errorf("own event woke, or is missing: %s", config(v))
	}
	// A foreign event during an own write wakes after all.
	v.Begin(key)
	v.Apply([]Event{{KV: kv(`{"a":2}`, 7)}}, 7)
	if woken(v) {
		t.Error("woken while it was undecided whose event it is")
	}
	v.End([]string{key}, 8, Event{KV: kv(`{"a":3}`, 0)})
	if !woken(v) || config(v) != `{"a":3}` {
		t.Errorf("foreign event did not wake: %s", config(v))
	}
	v.Begin(key)
	v.Apply([]Event{{KV: kv(`{"a":4}`, 9)}}, 9)
	v.End([]string{key}, 0) // failed or unknown
	if !woken(v) {
		t.Error("event during a failed write did not wake")
	}
}

func TestOldEventsDoNotUndoOwnWrites(t *testing.T) {
	v := ready(t)
	v.Begin(key)
	v.End([]string{key}, 9, Event{KV: dcs.KV{Key: key}, Deleted: true})
	v.Apply([]Event{{KV: kv(`{"a":1}`, 7)}}, 7)
	if config(v) != "" {
		t.Errorf("deleted key came back: %s", config(v))
	}
	v.Reset([]dcs.KV{kv(`{"a":2}`, 8)}, 8, 1, 0) // read before the deletion
	if config(v) != "" {
		t.Errorf("deleted key came back by a read: %s", config(v))
	}
	v.Apply([]Event{{KV: kv(`{"a":3}`, 10)}}, 10)
	if config(v) != `{"a":3}` {
		t.Errorf("newer put is missing: %s", config(v))
	}
	v.Begin(key)
	v.End([]string{key}, 12, Event{KV: kv(`{"a":4}`, 0)})
	v.Reset([]dcs.KV{kv(`{"a":3}`, 10)}, 11, 1, 0)
	if config(v) != `{"a":4}` {
		t.Errorf("own write lost by an older read: %s", config(v))
	}
	if v.Newest() != 12 {
		t.Errorf("the own write is not the newest that is known: %d", v.Newest())
	}
	v.Reset([]dcs.KV{kv(`{"a":3}`, 10)}, 11, 1, 12) // read after it: etcd went back
	if config(v) != `{"a":3}` {
		t.Errorf("own write kept beside older keys: %s", config(v))
	}
	v.Reset([]dcs.KV{kv("{}", 3)}, 4, 2, 0) // another cluster: nothing counts
	if config(v) != "{}" {
		t.Errorf("after a restore: %s", config(v))
	}
}

func TestLostAndWait(t *testing.T) {
	v := ready(t)
	v.Lost()
	if !woken(v) {
		t.Error("loss did not wake")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a lost view was handed out: %v", err)
	}
	done := make(chan *dcs.Cluster)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c, _ := v.Wait(ctx)
		done <- c
	}()
	v.Reset([]dcs.KV{kv("{}", 5)}, 6, 1, 0)
	if c := <-done; c == nil || c.Revision != 6 {
		t.Errorf("waited for %+v", c)
	}
	if woken(v) {
		t.Error("reading the same content again woke")
	}
	a, _ := v.Cluster()
	if b, _ := v.Cluster(); a != b {
		t.Error("decoded again without a change")
	}
}

// A write that returned before the first read was installed is newer than it.
func TestFirstReadDoesNotUndoOwnWrites(t *testing.T) {
	v := New("/b")
	v.Begin(key)
	v.End([]string{key}, 6, Event{KV: kv(`{"ttl":7}`, 0)})
	v.Reset(nil, 5, 1, 0)
	if got := config(v); got != `{"ttl":7}` {
		t.Errorf("after the first read: %q", got)
	}
}

// What the view hands out is what a fresh decode of the same keys gives, also
// after etcd was restored and gave out a revision a second time.
func TestSnapshotsAreDecodedKeys(t *testing.T) {
	v := ready(t)
	first, _ := v.Cluster()
	status := dcs.KV{Key: "/b/status", Value: []byte("5"), CreateRevision: 6, ModRevision: 6}
	v.Apply([]Event{{KV: status}}, 6)
	second, _ := v.Cluster()
	if second.Config != first.Config || second.Status.Optime != 5 || first.Status != nil {
		t.Errorf("%+v after %+v", second, first)
	}
	other := []dcs.KV{kv(`{"a":1}`, 5)}
	v.Reset(other, 6, 2, 0)
	want := dcs.Decode("/b", other)
	want.ID, want.Revision = 2, 6
	if third, _ := v.Cluster(); !reflect.DeepEqual(third, want) || string(first.Config.Raw) != "{}" {
		t.Errorf("%+v, want %+v", third, want)
	}
}

// TestEventsAreNoPartOfAView: an entry of the journal wakes nobody.
func TestEventsAreNoPartOfAView(t *testing.T) {
	v := ready(t)
	journal := dcs.KV{Key: "/b/pgha/events", Value: []byte("[]"), CreateRevision: 6, ModRevision: 6}
	v.Apply([]Event{{KV: journal}}, 6)
	if c, ok := v.Cluster(); woken(v) || !ok || c.Events != nil || c.Revision != 6 {
		t.Errorf("woken, or in the view: %+v", c)
	}
	v.Begin(journal.Key)
	v.End([]string{journal.Key}, 7, Event{KV: journal})
	v.Reset([]dcs.KV{kv("{}", 5), journal}, 8, 1, 0)
	if c, _ := v.Cluster(); woken(v) || c.Events != nil {
		t.Errorf("woken, or in the view after a new read: %+v", c)
	}
}
