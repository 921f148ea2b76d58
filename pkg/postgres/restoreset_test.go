package postgres

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

func backupOf(label, system string, tl wal.Timeline, start, stop wal.LSN) BackupSet {
	return BackupSet{Label: label, SystemID: system, Timeline: tl, StartLSN: start, StopLSN: stop, Stop: time.Unix(int64(stop), 0)}
}

func TestSetForReplica(t *testing.T) {
	// Timeline 1 ended at 100, 2 at 200; the leader is on 3, at 300.
	leader := leaderPoint{systemID: "7", tl: 3, at: 300, history: wal.History{{Timeline: 1, LSN: 100}, {Timeline: 2, LSN: 200}}}
	damaged := backupOf("D", "7", 3, 250, 260)
	damaged.Damaged = true
	good := backupOf("A", "7", 1, 50, 60)
	for _, c := range []struct {
		name string
		sets []BackupSet
		want string
		err  error
	}{
		{"none", nil, "", ErrNoBackup},
		{"the newest", []BackupSet{good, backupOf("B", "7", 2, 150, 200), backupOf("C", "7", 3, 250, 300)}, "C", nil},
		{"up to the switch", []BackupSet{good, backupOf("B", "7", 2, 150, 200)}, "B", nil},
		{"beyond the switch", []BackupSet{good, backupOf("B", "7", 2, 150, 201)}, "A", nil},
		{"all of it beyond the switch", []BackupSet{good, backupOf("B", "7", 1, 101, 150)}, "A", nil},
		{"ahead of the leader", []BackupSet{good, backupOf("B", "7", 3, 250, 301)}, "A", nil},
		{"of a later timeline", []BackupSet{good, backupOf("B", "7", 4, 250, 260)}, "A", nil},
		{"of a timeline not in the history", []BackupSet{backupOf("B", "7", 9, 10, 20)}, "", errNoAncestor},
		{"damaged", []BackupSet{good, damaged}, "A", nil},
		{"another system", []BackupSet{backupOf("B", "8", 1, 10, 20)}, "", ErrForeignRepository},
		{"after an upgrade", []BackupSet{backupOf("B", "8", 1, 10, 20), backupOf("C", "7", 1, 30, 40)}, "C", nil},
		{"no positions", []BackupSet{backupOf("B", "7", 1, 0, 0)}, "", errNoAncestor},
		{"torn positions", []BackupSet{backupOf("B", "7", 1, 90, 80)}, "", errNoAncestor},
	} {
		got, err := setForReplica(Repository{Backups: c.sets}, leader)
		if got.Label != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v, want %q, %v", c.name, got.Label, err, c.want, c.err)
		}
	}
	first := leaderPoint{systemID: "7", tl: 1, at: 100}
	if got, err := setForReplica(Repository{Backups: []BackupSet{good}}, first); err != nil || got.Label != "A" {
		t.Errorf("timeline 1: %q, %v", got.Label, err)
	}
}

// TestStrayWAL: what the archive may hold besides an ancestor.
func TestStrayWAL(t *testing.T) {
	const mb = 1 << 20
	// Timeline 1 ended in its segment 5, timeline 2 with its segment 7.
	l := leaderPoint{systemID: "7", tl: 3, at: 9 * mb, segment: mb, history: wal.History{{Timeline: 1, LSN: 5*mb + 100}, {Timeline: 2, LSN: 8 * mb}}}
	old, own := backupOf("A", "7", 1, mb, 2*mb), backupOf("B", "7", 3, 8*mb, 8*mb+5)
	for _, c := range []struct {
		last, why string
		usable    bool
	}{
		{"", "nothing", true},
		{"000000010000000000000004", "before the end of timeline 1", true},
		{"000000010000000000000005", "a full segment 5 of timeline 1 goes beyond its end", false},
		{"000000010000000000000006", "beyond the end of timeline 1", false},
		{"000000020000000000000007", "the last segment of timeline 2", true},
		{"000000020000000000000008", "beyond the end of timeline 2", false},
		{"000000030000000000000008", "the leader's own", true},
		{"000000040000000000000008", "a later timeline", true},
		{"000000010000000100000000", "far beyond", false},
		{"rubbish", "rubbish", false},
	} {
		got, err := setForReplica(Repository{Backups: []BackupSet{old}, MaxWAL: c.last}, l)
		if c.usable && (err != nil || got.Label != "A") || !c.usable && !errors.Is(err, errStrayWAL) {
			t.Errorf("%s: %q, %v", c.why, got.Label, err)
		}
		if got, err := setForReplica(Repository{Backups: []BackupSet{own}, MaxWAL: c.last}, l); err != nil || got.Label != "B" {
			t.Errorf("%s, a backup of the leader's timeline: %q, %v", c.why, got.Label, err)
		}
	}
	for text, want := range map[string]int64{"16MB": 16 * mb, "1GB": 1 << 30, "64kB": 64 << 10, "16": 0, "MB": 0, "-1MB": 0} {
		if got, err := parseSegmentSize(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}

// TestSetForReplicaIsAnAncestor walks the tree of timelines: whatever is
// chosen, each of its positions lies on the leader's own path.
func TestSetForReplicaIsAnAncestor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// A tree: timeline n>1 branched off an earlier one at a position.
		n := rapid.IntRange(1, 6).Draw(t, "timelines")
		parent, at := make([]int, n+1), make([]int, n+1)
		for i := 2; i <= n; i++ {
			parent[i] = rapid.IntRange(1, i-1).Draw(t, "parent")
			at[i] = rapid.IntRange(at[parent[i]], at[parent[i]]+50).Draw(t, "at")
		}
		tl := rapid.IntRange(1, n).Draw(t, "leader")
		leader := leaderPoint{systemID: "7", tl: wal.Timeline(tl), at: wal.LSN(rapid.IntRange(at[tl], at[tl]+50).Draw(t, "pos"))}
		path := map[int]wal.LSN{tl: leader.at} // timeline -> where the leader's path leaves it
		for i := tl; i > 1; i = parent[i] {
			path[parent[i]] = wal.LSN(at[i])
			leader.history = append(wal.History{{Timeline: wal.Timeline(parent[i]), LSN: wal.LSN(at[i])}}, leader.history...)
		}
		var sets []BackupSet
		for i := range rapid.IntRange(0, 8).Draw(t, "backups") {
			btl := rapid.IntRange(1, n).Draw(t, "of")
			start := wal.LSN(rapid.IntRange(at[btl], at[btl]+60).Draw(t, "start"))
			b := backupOf(string(rune('A'+i)), rapid.SampledFrom([]string{"7", "7", "8"}).Draw(t, "system"), wal.Timeline(btl), start, start+wal.LSN(rapid.IntRange(1, 30).Draw(t, "len")))
			b.Damaged = rapid.IntRange(0, 5).Draw(t, "damaged") == 0
			sets = append(sets, b)
		}
		usable := func(b BackupSet) bool {
			end, on := path[int(b.Timeline)]
			return b.SystemID == "7" && !b.Damaged && on && b.StopLSN <= end
		}
		got, err := setForReplica(Repository{Backups: sets}, leader)
		if err == nil && !usable(got) {
			t.Fatalf("chose %+v for %+v", got, leader)
		}
		for _, b := range sets {
			if usable(b) && (err != nil || b.Label > got.Label) {
				t.Fatalf("%+v would do for %+v, chose %+v, %v", b, leader, got, err)
			}
		}
	})
}

func TestSetForTarget(t *testing.T) {
	a, b, c := backupOf("A", "7", 1, 10, 20), backupOf("B", "7", 1, 30, 40), backupOf("C", "7", 2, 50, 60)
	foreign := backupOf("X", "8", 1, 1, 2)
	sets := []BackupSet{foreign, a, b, c}
	at := func(sec int64) string { return time.Unix(sec, 0).UTC().Format(time.RFC3339) }
	for _, c := range []struct {
		name, set string
		target    RecoveryTarget
		want      string
		err       string
	}{
		{"latest", "", RecoveryTarget{}, "C", ""},
		{"named", "A", RecoveryTarget{}, "A", ""},
		{"time", "", RecoveryTarget{Type: "time", Value: at(45)}, "B", ""},
		{"time at the end of one", "", RecoveryTarget{Type: "time", Value: at(40)}, "B", ""},
		{"too early", "", RecoveryTarget{Type: "time", Value: at(19)}, "", "none ended before the target (time 1970"},
		{"named, too late", "B", RecoveryTarget{Type: "time", Value: at(39)}, "", "lies before the end of the backup B: choose an older"},
		{"lsn", "", RecoveryTarget{Type: "lsn", Value: "0/28"}, "B", ""},
		{"lsn too early", "", RecoveryTarget{Type: "lsn", Value: "0/5"}, "", "none ended before"},
		{"timeline", "", RecoveryTarget{Timeline: "1"}, "B", ""},
		{"unknown", "Z", RecoveryTarget{}, "", `no such backup: "Z"`},
		{"foreign", "X", RecoveryTarget{}, "", "belongs to another cluster"},
	} {
		got, err := setForTarget(sets, c.set, c.target, "7")
		if got.Label != c.want || c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %q, %v, want %q, %q", c.name, got.Label, err, c.want, c.err)
		}
	}
}
