package ha

import (
	"testing"
	"time"
	_ "time/tzdata" // the zones below, on any host

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

func schedule(t *testing.T, text string) *config.Schedule {
	t.Helper()
	s, err := config.ParseSchedule(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(t *testing.T, zone, text string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	v, err := time.ParseInLocation("2006-01-02 15:04:05", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// backupBase: Sunday, 1:00:05 UTC. A full backup is due on Sundays at 1:00, an
// incremental one every hour; the last ones covered what was due before.
func backupBase(t *testing.T) *BackupFacts {
	o := base()
	now := at(t, "UTC", "2026-11-22 01:00:05")
	for _, name := range []string{"n2", "n3"} {
		mem(o, name).ReplicationState = "streaming"
	}
	return &BackupFacts{
		Now: now, Me: "n1", Cluster: o.DCS.Cluster, Known: true, Began: now.Add(-30 * 24 * time.Hour),
		Backup: config.Backup{Enabled: true, Full: schedule(t, "0 1 * * 0"), Incr: schedule(t, "0 * * * *"), From: config.BackupFromLeader},
		Newest: map[string]time.Time{"full": now.Add(-7 * 24 * time.Hour), "incr": now.Add(-time.Hour)},
	}
}

func TestPlanBackup(t *testing.T) {
	due := at(t, "UTC", "2026-11-22 01:00:00")
	failed := func(f *BackupFacts, kind string, tries int, ago time.Duration) {
		f.Cluster.Backup = &dcs.Backup{Type: kind, Member: "n1", Due: due, Started: f.Now.Add(-ago - sec), Ended: f.Now.Add(-ago), Error: "it failed", Tries: tries}
	}
	asks := func(f *BackupFacts, kind string) *dcs.Backup {
		f.Cluster.Backup = &dcs.Backup{Requested: kind, RequestedAt: f.Now.Add(-200 * time.Millisecond), RequestedBy: "admin"}
		return f.Cluster.Backup
	}
	for _, c := range []struct {
		name    string
		change  func(f *BackupFacts)
		kind    string
		due     time.Time
		runner  string
		standby bool
		why     string
		wait    time.Duration // 0: any
	}{
		{name: "of two types due together the stronger one", kind: "full", due: due, runner: "n1"},
		{name: "everybody sees the same", change: func(f *BackupFacts) { f.Me = "n3" }, kind: "full", due: due, runner: "n1"},
		{name: "a full backup covers the incremental one", change: func(f *BackupFacts) { f.Newest["full"] = due }, why: "nothing is due", wait: 59*time.Minute + 55*sec},
		{name: "one that began before it was due covers nothing", change: func(f *BackupFacts) { f.Newest["full"] = due.Add(-sec) }, kind: "full", due: due, runner: "n1"},
		{name: "an incremental one does not cover the full one", change: func(f *BackupFacts) { f.Newest["incr"] = due.Add(sec) }, kind: "full", due: due, runner: "n1"},
		{name: "a differential one covers incremental ones", change: func(f *BackupFacts) { f.Backup.Full = nil; f.Newest["diff"] = due }, why: "nothing is due"},
		{name: "incremental alone", change: func(f *BackupFacts) { f.Backup.Full = nil }, kind: "incr", due: due, runner: "n1"},
		{name: "the result in etcd counts before the repository was asked again", change: func(f *BackupFacts) {
			f.Cluster.Backup = &dcs.Backup{Type: "full", Due: due, Started: due.Add(sec), Ended: due.Add(2 * sec), Label: "20261122-010001F"}
		}, why: "nothing is due"},
		{name: "missed for days: made up for once", change: func(f *BackupFacts) {
			f.Now = f.Now.Add(50*time.Hour + 20*time.Minute)
			f.Newest["incr"] = f.Now.Add(-10 * time.Minute)
		}, kind: "full", due: due, runner: "n1"},
		{name: "and not again", change: func(f *BackupFacts) {
			f.Now = f.Now.Add(50*time.Hour + 20*time.Minute)
			f.Newest["full"] = f.Now.Add(-10 * time.Minute)
		}, why: "nothing is due"},
		{name: "no older than a day before this process", change: func(f *BackupFacts) {
			f.Now = f.Now.Add(50 * time.Hour)
			f.Began = f.Now
			f.Backup.Incr = nil
		}, why: "nothing is due"},
		{name: "but that day", change: func(f *BackupFacts) {
			f.Now = f.Now.Add(20 * time.Hour)
			f.Began = f.Now
			f.Backup.Incr = nil
		}, kind: "full", due: due, runner: "n1"},
		{name: "the repository is asked first", change: func(f *BackupFacts) { f.Known, f.Newest = false, nil }, why: "the repository was not asked yet"},
		{name: "without a schedule nothing is", change: func(f *BackupFacts) { f.Backup.Full, f.Backup.Incr, f.Known = nil, nil, false }, why: "nothing is due", wait: time.Hour},
		{name: "the cluster is not known", change: func(f *BackupFacts) { f.Cluster = nil }, why: "the cluster is not known yet"},
		{name: "no leader", change: func(f *BackupFacts) { f.Cluster.Leader = nil }, why: "no leader runs"},
		{name: "the leader does not run", change: func(f *BackupFacts) { f.Cluster.Member("n1").State = "stopped" }, why: "no leader runs"},
		{name: "the leader is in recovery yet", change: func(f *BackupFacts) { f.Cluster.Member("n1").Role = "replica" }, why: "no leader runs"},
		{name: "pause makes no difference", change: func(f *BackupFacts) {
			for i := range f.Cluster.Members {
				f.Cluster.Members[i].Pause = true
			}
		}, kind: "full", due: due, runner: "n1"},
		{name: "an open restore order", change: func(f *BackupFacts) { f.Cluster.Restore = &dcs.Restore{State: dcs.RestoreRequested} }, why: "a restore is under way"},
		{name: "one that ended", change: func(f *BackupFacts) { f.Cluster.Restore = &dcs.Restore{State: dcs.RestoreDone} }, kind: "full", due: due, runner: "n1"},
		{name: "another has the lock", change: func(f *BackupFacts) { f.Cluster.BackupLock = &dcs.BackupLock{Member: "n2"} }, why: "n2 makes a backup"},
		{name: "this member has it", change: func(f *BackupFacts) { f.Cluster.BackupLock = &dcs.BackupLock{Member: "n1"} }, kind: "full", due: due, runner: "n1"},

		{name: "a failure waits a minute", change: func(f *BackupFacts) { failed(f, "full", 1, 20*sec); f.Backup.Incr = nil },
			why: "the last attempt failed; trying again later: it failed", wait: 40 * sec},
		{name: "and no longer", change: func(f *BackupFacts) { failed(f, "full", 1, 60*sec) }, kind: "full", due: due, runner: "n1"},
		{name: "the third failure waits four", change: func(f *BackupFacts) { failed(f, "full", 3, 239*sec); f.Backup.Incr = nil }, why: "the last attempt failed; trying again later: it failed", wait: sec},
		{name: "the hundredth half an hour", change: func(f *BackupFacts) { failed(f, "full", 100, 0); f.Backup.Incr = nil }, why: "the last attempt failed; trying again later: it failed", wait: 30 * time.Minute},
		{name: "a weaker one that is due goes on meanwhile", change: func(f *BackupFacts) { failed(f, "full", 1, 20*sec) }, kind: "incr", due: due, runner: "n1"},
		{name: "the failure of an earlier time holds up nothing", change: func(f *BackupFacts) {
			failed(f, "full", 9, sec)
			f.Cluster.Backup.Due = due.Add(-7 * 24 * time.Hour)
		}, kind: "full", due: due, runner: "n1"},
		{name: "a clock that was set back delays no more than the pause", change: func(f *BackupFacts) { failed(f, "full", 1, -time.Hour); f.Backup.Incr = nil },
			why: "the last attempt failed; trying again later: it failed", wait: time.Minute},

		{name: "by hand", change: func(f *BackupFacts) { f.Newest["full"] = due; asks(f, "diff") }, kind: "diff", due: at(t, "UTC", "2026-11-22 01:00:05").Add(-200 * time.Millisecond), runner: "n1", why: "asked for by admin"},
		{name: "by hand, with no answer of the repository", change: func(f *BackupFacts) { f.Backup.Full, f.Backup.Incr, f.Known = nil, nil, false; asks(f, "incr") },
			kind: "incr", due: at(t, "UTC", "2026-11-22 01:00:05").Add(-200 * time.Millisecond), runner: "n1"},
		{name: "by hand, while a stronger one is due", change: func(f *BackupFacts) { asks(f, "incr") }, kind: "full", due: due, runner: "n1"},
		{name: "by hand and made, within the second", change: func(f *BackupFacts) {
			f.Newest["full"] = f.Now.Truncate(sec)
			f.Now = f.Now.Add(900 * time.Millisecond)
			asks(f, "full")
		}, why: "nothing is due"},

		{name: "from the first standby", change: func(f *BackupFacts) { f.Backup.From = config.BackupFromStandby }, kind: "full", due: due, runner: "n2", standby: true},
		{name: "that streams", change: func(f *BackupFacts) {
			f.Backup.From = config.BackupFromStandby
			f.Cluster.Member("n2").ReplicationState = "in archive recovery"
		}, kind: "full", due: due, runner: "n3", standby: true},
		{name: "and runs", change: func(f *BackupFacts) {
			f.Backup.From = config.BackupFromStandby
			f.Cluster.Member("n2").State = "starting"
		}, kind: "full", due: due, runner: "n3", standby: true},
		{name: "nobody streams: the leader itself", change: func(f *BackupFacts) {
			f.Backup.From = config.BackupFromStandby
			f.Cluster.Member("n2").ReplicationState, f.Cluster.Member("n3").ReplicationState = "", ""
		}, kind: "full", due: due, runner: "n1"},
		{name: "after a failure the next standby", change: func(f *BackupFacts) {
			f.Backup.From = config.BackupFromStandby
			failed(f, "full", 1, 61*sec)
		}, kind: "full", due: due, runner: "n3", standby: true},
		{name: "and the first again", change: func(f *BackupFacts) {
			f.Backup.From = config.BackupFromStandby
			failed(f, "full", 2, 121*sec)
		}, kind: "full", due: due, runner: "n2", standby: true},
		{name: "a standby needs a leader, too", change: func(f *BackupFacts) {
			f.Backup.From, f.Cluster.Leader = config.BackupFromStandby, nil
		}, why: "no leader runs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := backupBase(t)
			if c.change != nil {
				c.change(f)
			}
			s := PlanBackup(*f)
			if s.Kind != c.kind || !s.Due.Equal(c.due) || s.Runner != c.runner || s.Standby != c.standby || c.why != "" && s.Why != c.why || s.Why == "" {
				t.Errorf("%+v, want %s due %s by %s (%v) because %q", s, c.kind, c.due, c.runner, c.standby, c.why)
			}
			if s.Wait <= 0 || s.Wait > time.Hour || c.wait != 0 && s.Wait != c.wait {
				t.Errorf("waits %s, want %s", s.Wait, c.wait)
			}
		})
	}
}

// TestBackupTimes: when a schedule is due, in zones and on days that change their clocks.
func TestBackupTimes(t *testing.T) {
	const rome, newYork = "Europe/Rome", "America/New_York"
	for _, c := range []struct {
		name, cron     string
		now, last, due time.Time // last: when the newest backup began
	}{
		{"host's zone", "30 2 * * *", at(t, rome, "2026-06-02 02:31:00"), at(t, rome, "2026-06-01 02:30:00"), at(t, rome, "2026-06-02 02:30:00")},
		{"not before", "30 2 * * *", at(t, rome, "2026-06-02 02:29:59"), at(t, rome, "2026-06-01 02:30:00"), time.Time{}},
		{"a named zone", "CRON_TZ=America/New_York 30 2 * * *", at(t, rome, "2026-06-02 08:31:00"), at(t, rome, "2026-06-02 02:30:00"), at(t, newYork, "2026-06-02 02:30:00")},
		{"spring leaves the hour out: an hour off", "30 2 * * *", at(t, rome, "2026-03-29 03:45:00"), at(t, rome, "2026-03-28 02:30:00"), at(t, rome, "2026-03-29 03:30:00")},
		{"spring: not twice", "30 2 * * *", at(t, rome, "2026-03-29 08:00:00"), at(t, rome, "2026-03-29 03:30:10"), time.Time{}},
		{"spring: the day after", "30 2 * * *", at(t, rome, "2026-03-30 02:30:00"), at(t, rome, "2026-03-29 03:30:10"), at(t, rome, "2026-03-30 02:30:00")},
		{"autumn: not the first of the two", "30 2 * * *", at(t, "UTC", "2026-10-25 00:30:05").In(at(t, rome, "2026-01-01 00:00:00").Location()), at(t, rome, "2026-10-24 02:30:00"), time.Time{}},
		{"autumn: the second", "30 2 * * *", at(t, "UTC", "2026-10-25 01:30:05").In(at(t, rome, "2026-01-01 00:00:00").Location()), at(t, rome, "2026-10-24 02:30:00"), at(t, "UTC", "2026-10-25 01:30:00")},
		{"every hour, in the repeated one too", "0 * * * *", at(t, "UTC", "2026-10-25 01:00:05").In(at(t, rome, "2026-01-01 00:00:00").Location()), at(t, "UTC", "2026-10-25 00:00:01"), at(t, "UTC", "2026-10-25 01:00:00")},
		{"once a year", "0 0 1 1 *", at(t, rome, "2026-12-31 00:00:00"), at(t, rome, "2025-06-01 00:00:00"), at(t, rome, "2026-01-01 00:00:00")},
		{"every minute", "* * * * *", at(t, rome, "2026-12-31 00:00:30"), at(t, rome, "2026-12-30 23:59:00"), at(t, rome, "2026-12-31 00:00:00")},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := backupBase(t)
			f.Backup.Full, f.Backup.Incr = schedule(t, c.cron), nil
			f.Now, f.Began, f.Newest = c.now, c.now.AddDate(-3, 0, 0), map[string]time.Time{"full": c.last}
			s := PlanBackup(*f)
			if !s.Due.Equal(c.due) || (s.Kind == "full") == c.due.IsZero() {
				t.Errorf("at %s, after one at %s: %+v, want %s", c.now, c.last, s, c.due)
			}
		})
	}
}
