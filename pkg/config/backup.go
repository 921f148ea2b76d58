package config

import (
	"errors"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// NativeMethod is the name that, without a command, means the agent's own
// restore from the repository of pgha.backup.
const NativeMethod = "pgbackrest"

// Backup is pgha.backup: archiving, backups and restores by pgBackRest, driven
// by the agent. The zero value means that the section is absent or empty. Keys
// of the file go before those of /config.
type Backup struct {
	Enabled bool   // the section is there
	Stanza  string // default: the scope
	Command string // program to run, default "pgbackrest"
	// ConfigFile is a pgbackrest.conf of the operator's. Empty: the agent writes
	// one from Repo and Options, which count only then, into its runtime directory.
	ConfigFile string
	Repo       Repo
	// Options are further lines of the section [global] of the written file, in
	// the order configured. No secret is among them, and nothing that another
	// setting here says.
	Options []Option

	Archive bool // archive_mode, archive_command and restore_command where nobody set them
	Restore bool // replicas are made from the repository where create_replica_methods is not set

	ProcessMax int // parallel processes, default 2
	// Schedule says when backups of each type begin; nil: never.
	Full, Diff, Incr *Schedule
	// RetentionFull and RetentionDiff are numbers of backups kept; 0: pgBackRest's default.
	RetentionFull, RetentionDiff int
	From                         BackupSource
	MaxAge                       time.Duration // alarm when the newest backup is older; 0: none
	ArchiveMaxLag                time.Duration // alarm when WAL waits longer to be archived; default 10 min
}

// BackupSource is the member that backs up.
type BackupSource string

// Where a backup is taken.
const (
	BackupFromLeader  BackupSource = "leader"
	BackupFromStandby BackupSource = "standby" // files come from a standby; the leader if there is none
)

// Repo is pgha.backup.repo, used when no ConfigFile is named.
type Repo struct {
	Type string // "posix" (default) or "s3"
	Path string // directory, or place inside the bucket; begins with /, default "/var/lib/pgbackrest"

	Bucket, Endpoint, Region string // s3_bucket, s3_endpoint, s3_region
	URIStyle                 string // "host" (default) or "path"
	KeyFile                  string // s3_key_file: mode 0600, lines "key=…" and "secret=…"
	Port                     int    // s3_port, 0: the endpoint's own or 443
	VerifyTLS                bool   // s3_verify_tls, default true
	CAFile                   string // s3_ca_file
	// CipherPassFile holds the passphrase of an encrypted repository; empty: not encrypted.
	CipherPassFile string
}

// Schedule is a time of backups: five cron fields, or @daily and the like, in
// the time zone of the host unless it starts with CRON_TZ=Zone.
type Schedule struct {
	Text string
	at   cron.Schedule
}

// ParseSchedule reads a cron expression. The intervals of "@every" are refused:
// they have no fixed times that all members could agree on. So is a time that
// never comes, such as February 30.
func ParseSchedule(text string) (*Schedule, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=") {
		// The parser cuts at the blank without looking for it.
		if _, rest, ok := strings.Cut(text, " "); !ok || strings.TrimSpace(rest) == "" {
			return nil, errors.New("the time zone is not followed by five fields")
		}
	}
	if strings.Contains(text, "@every") {
		return nil, errors.New("@every has no fixed times")
	}
	at, err := cron.ParseStandard(text)
	if err != nil {
		return nil, err
	}
	s := &Schedule{Text: text, at: at}
	if s.Next(scheduleProbe).IsZero() {
		return nil, errors.New("this time never comes")
	}
	return s, nil
}

// scheduleProbe is any instant: within the five years after it, which hold a
// leap day, every time that exists comes.
var scheduleProbe = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Next is the first time of the schedule after t; the zero time if there is none.
func (s *Schedule) Next(t time.Time) time.Time {
	if s == nil {
		return time.Time{}
	}
	spec, ok := s.at.(*cron.SpecSchedule)
	if !ok || spec.Hour&everyHour != 0 {
		return s.at.Next(t)
	}
	return nextByWallClock(spec, t)
}

// everyHour is the bit that cron sets for an hour field of "*".
const everyHour = 1 << 63

// nextByWallClock looks for the time on the face of a clock that knows no
// daylight saving, and takes that for the time of the place: a time that the
// change in spring leaves out comes an hour off, one that autumn repeats comes
// once. Cron by itself would leave out the first and repeat the second.
func nextByWallClock(spec *cron.SpecSchedule, t time.Time) time.Time {
	place := spec.Location
	if place == time.Local {
		place = t.Location()
	}
	plain := *spec
	plain.Location = time.UTC
	at := t.In(place)
	wall := time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), time.UTC)
	for {
		wall = plain.Next(wall)
		if wall.IsZero() {
			return wall
		}
		next := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), 0, 0, place)
		if next.After(t) {
			return next.In(t.Location())
		}
	}
}
