package loop

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

func TestRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		w := &fakeWorker{end: make(chan error)}
		r := NewRunner(w, func() ha.Instant { return ha.Instant(time.Since(begun) + 1) })
		defer r.Close()
		r.Cancel() // nothing runs: nothing happens
		if op := r.Poll(); op.Kind != ha.OpNone || op.Running || op.Serial != 0 {
			t.Fatalf("at first %+v", op)
		}

		r.Begin(ha.Promote{})
		synctest.Wait()
		if op := r.Poll(); op.Kind != ha.OpPromote || !op.Running || op.Serial != 1 || op.Done != 1 || op.Total != 2 {
			t.Fatalf("while it runs %+v", op)
		}
		time.Sleep(time.Second)
		w.end <- nil
		<-r.Done()
		if op := r.Poll(); op.Running || op.Error != "" || op.ShutdownLSN != 77 || op.Divergence != ha.DivergenceFound || !op.Damaged ||
			op.Ended.Sub(op.Started) != time.Second {
			t.Fatalf("at its end %+v", op)
		}

		r.Begin(ha.Stop{})
		w.end <- errWorker
		<-r.Done()
		if op := r.Poll(); op.Running || op.Error != errWorker.Error() || op.Serial != 2 || op.Kind != ha.OpStop {
			t.Fatalf("failed %+v", op)
		}

		r.Begin(ha.Clone{})
		r.Cancel()
		<-r.Done()
		if op := r.Poll(); op.Running || op.Error == "" {
			t.Fatalf("cancelled %+v", op)
		}

		r.Begin(ha.Rewind{})
		r.Close()
		if op := r.Poll(); op.Running {
			t.Fatalf("closed %+v", op)
		}
	})
}

func TestRunnerProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		w := &fakeWorker{end: make(chan error)}
		r := NewRunner(w, func() ha.Instant { return ha.Instant(time.Since(begun) + 1) })
		defer r.Close()
		r.Begin(ha.Clone{})
		synctest.Wait()
		w.progress("pgbackrest", 1000, 9000) // an interrupted restore goes on: these are no work of this one
		time.Sleep(2 * time.Second)
		w.progress("pgbackrest", 5000, 9000)
		if op := r.Poll(); op.Method != "pgbackrest" || op.Done != 5000 || op.Total != 9000 || op.Rate != 2000 {
			t.Errorf("after two seconds %+v", op)
		}
		w.progress("basebackup", 0, 8000) // the next rung
		time.Sleep(time.Second)
		w.progress("basebackup", 500, 8000)
		if op := r.Poll(); op.Method != "basebackup" || op.Done != 500 || op.Rate != 500 || op.MethodStarted.Sub(op.Started) != 2*time.Second {
			t.Errorf("after the first method failed %+v", op)
		}
		r.Cancel()
		<-r.Done()
		if op := r.Poll(); !op.Cancelled || op.Error == "" {
			t.Errorf("cancelled %+v", op)
		}
		r.Cancel() // after the end: nothing
		r.Begin(ha.Restore{})
		w.end <- nil
		<-r.Done()
		if op := r.Poll(); op.Cancelled || op.Method != "basebackup" || op.Timeline != 4 {
			t.Errorf("the next one %+v", op)
		}
	})
}
