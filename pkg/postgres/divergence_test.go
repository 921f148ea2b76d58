package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// TestRecordEnd compares the ends that are calculated with where a real server
// put the next record, over pages and segments.
func TestRecordEnd(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	a := primaryNode(t, "a")
	begin := a.ask("SELECT pg_current_wal_insert_lsn()")
	a.sql("CREATE TABLE public.wide (id int, filler text)", "INSERT INTO public.wide SELECT g, repeat(md5(g::text), g % 200) FROM generate_series(1, 8000) g",
		"CREATE INDEX ON public.wide (id)", "CHECKPOINT", "UPDATE public.wide SET id = -id") // whole pages
	must(t, a.Stop(ctx, StopFast, true))
	control, err := a.ControlData(ctx)
	must(t, err)
	out, err := a.run(ctx, command{path: a.bin("pg_waldump"), args: []string{"-p", a.inData("pg_wal"), "-s", begin, "-e", control.CheckpointLSN.String()}})
	must(t, err)
	var last walRecord
	var end wal.LSN
	records, overPages := 0, 0
	for line := range strings.Lines(out) {
		rec, ok := parseWalRecord(line)
		if !ok {
			t.Fatalf("not understood: %q", line)
		}
		header := wal.LSN(0)
		if uint64(end)%uint64(control.WalBlockSize) == 0 { // the next one begins behind the header of its page
			header = rec.lsn - end
		}
		if records > 0 && (rec.prev != last.lsn || rec.lsn != end+header || header > 40) {
			t.Fatalf("the record %+v ends at %v, and the next is %+v", last, end, rec)
		}
		end = wal.RecordEnd(rec.lsn, rec.length, control.WalBlockSize, control.WalSegmentSize)
		if uint64(end-rec.lsn) > uint64(rec.length)+7 {
			overPages++
		}
		last = rec
		records++
	}
	if records < 1000 || overPages < 100 {
		t.Errorf("only %d records, %d of them over a page's end", records, overPages)
	}
	if got, err := a.recordEnd(ctx, control.CheckpointTLI, last.lsn); err != nil || got != end {
		t.Errorf("asked for %v: %v, %v; want %v", last.lsn, got, err, end)
	}
	if got, err := a.recordEnd(ctx, control.CheckpointTLI, last.lsn+8); err == nil {
		t.Errorf("the middle of a record ends at %v", got)
	}
}

// TestTogether: a standby that crosses to another timeline between two answers is at no
// position of the old one.
func TestTogether(t *testing.T) {
	timelines, positions := []wal.Timeline{1, 2, 2}, []wal.LSN{100, 120}
	tl, at, err := together(
		func() (wal.Timeline, error) { next := timelines[0]; timelines = timelines[1:]; return next, nil },
		func() (wal.LSN, error) { next := positions[0]; positions = positions[1:]; return next, nil },
	)
	if tl != 2 || at != 120 || err != nil {
		t.Errorf("timeline %d at %d, %v", tl, at, err)
	}
	broken := errors.New("gone")
	if _, _, err := together(func() (wal.Timeline, error) { return 1, nil }, func() (wal.LSN, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, _, err := together(func() (wal.Timeline, error) { return 0, broken }, nil); !errors.Is(err, broken) {
		t.Error(err)
	}
}
