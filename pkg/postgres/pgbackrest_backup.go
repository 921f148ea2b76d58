package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// StanzaCreate makes the stanza in the repository. One that is there already
// and belongs to this cluster is fine. The server must run.
func (s *Server) StanzaCreate(ctx context.Context) error {
	if _, err := s.backrest(ctx, backrestCall{name: "stanza-create", args: []string{s.pgPathOption()}, quick: true}); err != nil {
		return fmt.Errorf("create stanza %q: %w", s.stanzaName(""), err)
	}
	return nil
}

// CheckRepository tests archiving end to end: a WAL segment is switched, and
// has to arrive in the repository.
func (s *Server) CheckRepository(ctx context.Context) error {
	if _, err := s.backrest(ctx, backrestCall{name: "check", args: []string{s.pgPathOption()}, quick: true}); err != nil {
		return fmt.Errorf("check stanza %q: %w", s.stanzaName(""), err)
	}
	return nil
}

// RunBackup makes a backup of type full, diff or incr of the running server
// and gives the new set; where a diff or incr has nothing to build on,
// pgBackRest makes a full one. standby copies the files from a standby: members
// are then the other servers, among them the primary when this one is not.
// progress (may be nil) gets bytes copied and the estimated total, 0 unknown.
//
// Cancelling ctx leaves server and repository as they were; the next backup
// goes on with what was copied where it can.
func (s *Server) RunBackup(ctx context.Context, kind string, standby bool, members []BackupHost, progress func(done, total int64)) (BackupSet, error) {
	set, err := s.runBackup(ctx, kind, standby, members, progress)
	if err != nil {
		return BackupSet{}, fmt.Errorf("make %s backup: %w", kind, err)
	}
	return set, nil
}

// backupGrace is short because a backup is cancelled when the member may be
// about to lose the lock on backups, and must be over before another begins one.
const backupGrace = time.Second

func (s *Server) runBackup(ctx context.Context, kind string, standby bool, members []BackupHost, progress func(done, total int64)) (BackupSet, error) {
	if kind != "full" && kind != "diff" && kind != "incr" {
		return BackupSet{}, errors.New("the type of a backup is full, diff or incr")
	}
	args := []string{"--type=" + kind, s.pgPathOption()}
	if standby {
		args = append(args, "--backup-standby")
		for i, m := range members {
			args = append(args, s.memberOptions(i+2, m)...)
		}
	}
	meter := backupMeter{report: progress}
	_, err := s.backrest(ctx, backrestCall{name: "backup", args: args, line: meter.line, grace: backupGrace})
	if err != nil && (meter.label == "" || !meter.complete) {
		if errors.Is(err, ErrNoStanza) {
			// An object store that answers 404 to an unknown key makes every file look
			// missing; a listing tells.
			if _, why := s.Repository(ctx, ""); errors.Is(why, ErrRepository) {
				err = why
			}
		}
		return BackupSet{}, err
	}
	if err != nil {
		// Only the expiry of old ones can still fail then.
		s.log.Warn("the backup is complete, but removing old ones failed", "backup", meter.label, "error", err)
	}
	repo, err := s.Repository(ctx, "")
	if err != nil {
		return BackupSet{}, fmt.Errorf("backup %s is complete, but: %w", meter.label, err)
	}
	set, err := repo.find(meter.label)
	if err == nil && progress != nil {
		progress(meter.done, meter.done)
	}
	return set, err
}

// memberOptions name another server on the command line.
func (s *Server) memberOptions(n int, m BackupHost) []string {
	up := Upstream{Host: m.Socket, Port: strconv.Itoa(m.Port), Database: s.config().Database}
	args := pgIndexed(n, pgOptions(up, m.Path, s.config().Superuser))
	if m.Host != "" {
		args = append(args, "--pg"+strconv.Itoa(n)+"-host="+m.Host)
	}
	return args
}

// backupMeter reads progress and outcome of a backup from its log.
type backupMeter struct {
	report   func(done, total int64)
	done     int64
	label    string
	complete bool
}

// The percentage has two decimals; below this one the total computed from it
// says nothing.
const tellingPercent = 1.0

func (m *backupMeter) line(line string) {
	if label, ok := strings.CutPrefix(line, "INFO: new backup label = "); ok {
		m.label = strings.TrimSpace(label)
		return
	}
	if strings.HasPrefix(line, "INFO: backup command end: completed") {
		m.complete = true
		return
	}
	size, percent, ok := parseFileLine(line, "backup file ")
	if !ok {
		return
	}
	m.done += size
	if m.report == nil {
		return
	}
	var total int64
	if percent >= tellingPercent {
		total = max(m.done, int64(float64(m.done)*100/percent))
	}
	m.report(m.done, total)
}

// fileLine matches the end of "restore file /data/base/1/2 (8KB, 12.34%) checksum …"
// of "… - exists and matches backup (8KB, 12.34%) checksum …", and of files in
// a bundle, "(bundle 1/2524, 8KB, 12.34%)".
var fileLine = regexp.MustCompile(`\((?:[^()]*[ >])?([0-9.]+)(B|KB|MB|GB|TB|PB), ([0-9.]+)%\)( checksum [0-9a-f]+)?$`)

var sizeUnits = map[string]float64{"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40, "PB": 1 << 50}

// parseFileLine reads a line about one file: its size, rounded, and how much of
// the whole is done with it.
func parseFileLine(line, what string) (size int64, percent float64, ok bool) {
	rest, ok := strings.CutPrefix(line, "DETAIL: ")
	if !ok || !strings.Contains(rest, what) {
		return 0, 0, false
	}
	f := fileLine.FindStringSubmatch(rest)
	if f == nil {
		return 0, 0, false
	}
	n, err1 := strconv.ParseFloat(f[1], 64)
	percent, err2 := strconv.ParseFloat(f[3], 64)
	if err1 != nil || err2 != nil || n > 1e6 || percent > 100 {
		return 0, 0, false
	}
	return int64(n * sizeUnits[f[2]]), percent, true
}
