package agent

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

func TestSeenSurvivesRestarts(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	data := filepath.Join(dir, "data")
	open := func(base string) *seenFile {
		t.Helper()
		f, err := openSeen(data, run, base, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	synctest.Test(t, func(t *testing.T) {
		f := open("/service/demo")
		if f.first != (ha.Seen{}) {
			t.Fatalf("knows %+v before anything was seen", f.first)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.run(ctx); close(done) }()
		stored := func() ha.Seen { synctest.Wait(); return open("/service/demo").first }
		first := ha.Seen{ClusterID: 7, Revision: 100, Epoch: 90, Timeline: 2, SystemID: "1", Count: 1, Stale: 3}
		f.saw(first)
		if got := stored(); got != first {
			t.Fatalf("a new leadership is not written at once: %+v", got)
		}
		next := first
		next.Revision = 120
		f.saw(next)
		if got := stored(); got.Revision != 100 {
			t.Errorf("every revision is written: %+v", got)
		}
		time.Sleep(seenRest)
		if got := stored(); got != next {
			t.Errorf("the revision is not written in time: %+v", got)
		}
		next.Revision = 130
		f.saw(next)
		cancel()
		<-done
		if got := open("/service/demo").first; got != next {
			t.Errorf("not written at the end: %+v", got)
		}
	})
	if got := open("/service/other").first; got != (ha.Seen{}) {
		t.Errorf("another cluster's: %+v", got)
	}
	if _, err := os.Stat(data + ".pgha.seen"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(data+".pgha.seen", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openSeen(data, run, "x", slog.Default()); err == nil || !strings.Contains(err.Error(), "remove that file") {
		t.Errorf("garbage: %v", err)
	}
}

func TestSeenElsewhere(t *testing.T) {
	run := t.TempDir()
	f, err := openSeen("/proc/nowhere/data", run, "b", slog.Default())
	if err != nil || f.path != filepath.Join(run, "seen") {
		t.Fatalf("%+v, %v", f, err)
	}
}

func TestAccept(t *testing.T) {
	var out bytes.Buffer
	f, err := openSeen(filepath.Join(t.TempDir(), "data"), t.TempDir(), "b", slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if no := f.accept(&ha.View{}, "me"); no == nil || no.Status != 409 || f.accepted().Serial != 0 {
		t.Errorf("accepts what nobody doubts: %+v", no)
	}
	if no := f.accept(&ha.View{Quarantine: "etcd went back"}, "me@192.0.2.9"); no != nil || f.accepted() != (ha.Acceptance{Serial: 1, By: "me@192.0.2.9"}) {
		t.Errorf("%+v, %+v", no, f.accepted())
	}
	if !strings.Contains(out.String(), "me@192.0.2.9") || !strings.Contains(out.String(), "etcd went back") {
		t.Errorf("not recorded: %s", out.String())
	}
}
