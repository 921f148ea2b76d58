package restapi

import (
	"time"

	"github.com/pgha/pgha/pkg/restapi/metric"
)

// backupReading is what one scrape reads of backups and archiving.
type backupReading struct {
	doc *BackupDocument // never nil
	now time.Time
}

// backupSeries is one metric of backups with the way to compute it; ok false
// leaves it out.
type backupSeries struct {
	name, help string
	counter    bool
	// everywhere: on a member without pgha.backup, too.
	everywhere bool
	value      func(backupReading) (v float64, ok bool)
}

func always(f func(backupReading) float64) func(backupReading) (float64, bool) {
	return func(r backupReading) (float64, bool) { return f(r), true }
}

func backupNumbers() []backupSeries {
	return []backupSeries{
		{"pgha_backup_age_seconds", "Seconds since the newest backup ended; absent without any.", gauge, false, backupAge},
		{"pgha_backup_size_bytes", "Size of the database in the newest backup; absent without any.", gauge, false, backupSize},
		{"pgha_backup_running", "Value is 1 if a member of the cluster makes a backup, 0 otherwise.", gauge, false, always(func(r backupReading) float64 { return num(r.doc.Running != nil) })},
		{"pgha_backup_progress_bytes", "Bytes done of the running backup, 0 without one.", gauge, false, always(func(r backupReading) float64 { return float64(r.running().Done) })},
		{"pgha_backup_total_bytes", "Bytes of the running backup, 0 without one or while unknown.", gauge, false, always(func(r backupReading) float64 { return float64(r.running().Total) })},
		{"pgha_backup_last_attempt_failed", "Value is 1 if the last attempt at a backup failed, 0 otherwise.", gauge, false, always(func(r backupReading) float64 { return num(r.doc.Last != nil && r.doc.Last.Error != "") })},
		{"pgha_backup_alarm", "Number of alarms about backups and archiving; GET /backup says which.", gauge, false, always(func(r backupReading) float64 { return float64(len(r.doc.Alarms)) })},

		{"pgha_archive_ready_files", "WAL segments that wait to be archived.", gauge, true, always(func(r backupReading) float64 { return float64(r.doc.Archive.ReadyFiles) })},
		{"pgha_archive_oldest_ready_seconds", "How long the oldest of them has waited, in seconds.", gauge, true, always(func(r backupReading) float64 { return r.doc.Archive.OldestReady })},
		{"pgha_archive_failed_total", "Failed attempts to archive a segment.", counter, true, always(func(r backupReading) float64 { return float64(r.doc.Archive.FailedCount) })},
		{"pgha_archive_last_success_timestamp_seconds", "Epoch seconds when this server last archived a segment, 0 if never.", gauge, true, always(func(r backupReading) float64 { return float64(epoch(r.doc.Archive.LastTime)) })},
		{"pgha_archive_failing", "Value is 1 if the newest attempt to archive failed, 0 otherwise.", gauge, true, always(func(r backupReading) float64 { return num(r.doc.Archive.Failing) })},
		{"pgha_wal_bytes", "Bytes in pg_wal.", gauge, true, always(func(r backupReading) float64 { return float64(r.doc.Archive.WALBytes) })},
		{"pgha_wal_free_bytes", "Free bytes on the file system of pg_wal.", gauge, true, always(func(r backupReading) float64 { return float64(r.doc.Archive.WALFreeBytes) })},
	}
}

func (r backupReading) running() Progress {
	if r.doc.Running == nil {
		return Progress{}
	}
	return r.doc.Running.Progress
}

// newestBackup is the newest usable backup of a document; nil for none.
func newestBackup(list []BackupEntry) *BackupEntry {
	for i := len(list) - 1; i >= 0; i-- {
		if !list[i].Damaged {
			return &list[i]
		}
	}
	return nil
}

func backupAge(r backupReading) (float64, bool) {
	b := newestBackup(r.doc.Backups)
	if b == nil {
		return 0, false
	}
	return max(r.now.Sub(b.Stop).Seconds(), 0), true
}

func backupSize(r backupReading) (float64, bool) {
	b := newestBackup(r.doc.Backups)
	if b == nil {
		return 0, false
	}
	return float64(b.Size), true
}

// lastSuccess is when the newest usable backup of each type ended.
func lastSuccess(list []BackupEntry) map[string]time.Time {
	out := map[string]time.Time{}
	for _, b := range list {
		if !b.Damaged && b.Stop.After(out[b.Type]) {
			out[b.Type] = b.Stop
		}
	}
	return out
}

// backupMetrics is what is known of backups, archiving and the running operation,
// without waiting for anybody.
func backupMetrics(agent Agent, now time.Time) []metric.Metric {
	done, total := int64(0), int64(0)
	if p := agent.View().Progress; p != nil {
		done, total = p.Done, p.Total
	}
	out := []metric.Metric{
		{Name: "pgha_operation_progress_bytes", Help: "Bytes done of the copy or restore that this member makes, 0 without one.", Value: float64(done)},
		{Name: "pgha_operation_total_bytes", Help: "Bytes of the copy or restore that this member makes, 0 without one or while unknown.", Value: float64(total)},
	}
	doc := agent.BackupKnown()
	if doc == nil {
		return out
	}
	configured := doc.Stanza != ""
	r := backupReading{doc: doc, now: now}
	for _, m := range backupNumbers() {
		if !configured && !m.everywhere {
			continue
		}
		if v, ok := m.value(r); ok {
			out = append(out, metric.Metric{Name: m.name, Help: m.help, Counter: m.counter, Value: v})
		}
	}
	if !configured {
		return out
	}
	for kind, at := range lastSuccess(doc.Backups) {
		out = append(out, metric.Metric{Name: "pgha_backup_last_success_timestamp_seconds", Help: "Epoch seconds when the newest backup of each type ended.",
			Label: "type", Is: kind, Value: float64(epoch(at))})
	}
	return out
}
