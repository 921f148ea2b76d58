package agent

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres"
)

// lockedText is a text shared between goroutines.
type lockedText struct {
	mu   sync.Mutex
	text string
}

// set replaces the text and tells whether it is another one.
func (t *lockedText) set(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := t.text != text
	t.text = text
	return changed
}

func (t *lockedText) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}

// alarm is something about backups that an operator should see to.
type alarm struct {
	key  string // the same for as long as it lasts
	text string
	// shared: it is about the cluster, not about this host; the leader logs it.
	shared bool
}

// alarmFacts is everything the alarms are judged by.
type alarmFacts struct {
	now     time.Time
	backup  *config.Backup
	repo    lookResult
	stanza  string // why the stanza could not be made, "" if it could
	archive postgres.ArchiveState
	known   bool // archive is from a server that answered
	disk    diskSpace
}

// diskSpace is pg_wal's file system.
type diskSpace struct {
	total, free int64         // bytes; 0 unknown
	full        time.Duration // until it is full at the rate of the last minutes; 0: it does not fill up
}

// Limits of the alarms that are not configured.
const (
	fullPercent = 80
	fullSoon    = time.Hour
)

// alarmsOf judges the facts.
func alarmsOf(f *alarmFacts) []alarm {
	var out []alarm
	add := func(key string, shared bool, format string, args ...any) {
		out = append(out, alarm{key: key, shared: shared, text: fmt.Sprintf(format, args...)})
	}
	switch {
	case f.stanza != "":
		add("stanza", true, "the stanza cannot be made: %s", f.stanza)
	case f.repo.err != nil && !f.repo.known():
		add("repository", true, "the repository cannot be read: %s", f.repo.err)
	}
	if f.repo.known() {
		f.ageAlarm(add)
	}
	if f.known {
		f.archiveAlarms(add)
	}
	if d := f.disk; d.total > 0 {
		used := 100 - 100*d.free/d.total
		if used > fullPercent {
			add("disk", false, "the file system of pg_wal is %d %% full, %s are left", used, size(d.free))
		}
		if d.full > 0 && d.full < fullSoon {
			add("filling", false, "pg_wal grows: its file system is full in about %s", roundTime(d.full))
		}
	}
	return out
}

// ageAlarm: the newest usable backup is older than max_age.
func (f *alarmFacts) ageAlarm(add func(string, bool, string, ...any)) {
	limit := f.backup.MaxAge
	if limit <= 0 {
		return
	}
	var newest time.Time
	if f.repo.repo != nil {
		for _, b := range f.repo.repo.Backups {
			if !b.Damaged && b.Stop.After(newest) {
				newest = b.Stop
			}
		}
	}
	if newest.IsZero() {
		add("age", true, "there is no backup (pgha.backup.max_age is %s)", roundTime(limit))
		return
	}
	if age := f.now.Sub(newest); age > limit {
		add("age", true, "the newest backup is %s old (pgha.backup.max_age is %s)", roundTime(age), roundTime(limit))
	}
}

func (f *alarmFacts) archiveAlarms(add func(string, bool, string, ...any)) {
	a := &f.archive
	if limit := f.backup.ArchiveMaxLag; limit > 0 && a.OldestReady > limit {
		add("lag", false, "%d WAL segments wait to be archived, the oldest for %s (pgha.backup.archive_max_lag is %s)", a.ReadyFiles, roundTime(a.OldestReady), roundTime(limit))
	}
	if !a.Failing {
		return
	}
	why := ""
	if f.repo.err != nil && !f.repo.known() {
		why = ": " + f.repo.err.Error()
	}
	add("archiving", false, "archiving fails, at %s since %s%s", a.LastFailed, a.LastFailTime.Format(time.RFC3339), why)
}

// roundTime shows a duration without digits that nobody reads.
func roundTime(d time.Duration) string {
	if d >= time.Hour {
		return d.Round(time.Minute).String()
	}
	return d.Round(time.Second).String()
}

// texts are the sentences of alarms, never nil.
func texts(list []alarm) []string {
	out := make([]string, 0, len(list))
	for _, a := range list {
		out = append(out, a.text)
	}
	return out
}

// bell logs each alarm once when it begins and once when it ends.
type bell struct {
	ringing map[string]bool
}

// ring takes in the present alarms; those about the cluster are the leader's to log.
func (b *bell) ring(log *slog.Logger, list []alarm, leader bool) {
	now := map[string]bool{}
	for _, a := range list {
		if a.shared && !leader {
			continue
		}
		now[a.key] = true
		if !b.ringing[a.key] {
			log.Warn("backup alarm: " + a.text)
		}
	}
	for key := range b.ringing {
		if !now[key] {
			log.Info("backup alarm ended: " + key)
		}
	}
	b.ringing = now
}
