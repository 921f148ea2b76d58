package postgres

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// ErrRecovery means that recovery ended without reaching its target; the text
// says why. Trying again will not help.
var ErrRecovery = errors.New("recovery failed")

// ErrRecoveryKilled means that somebody ended the server while it recovered: the
// leash whose child it was died, or a signal came from outside. The same recovery
// can go on.
var ErrRecoveryKilled = errors.New("the server was ended from outside while it recovered")

// recoveryWords translate PostgreSQL's last words; the first match counts.
var recoveryWords = []struct{ in, out string }{
	{"recovery ended before configured recovery target was reached",
		"the target %s lies beyond the end of the archive, or WAL before it is missing there"},
	{"requested recovery stop point is before consistent recovery point",
		"the target %s lies before the end of the backup: choose an older backup set"},
	{"is not a child of this server's history",
		"the timeline asked for is not in the history of this backup: choose another timeline or an older backup set"},
	{"recovery target timeline", "the timeline asked for is not in the archive"},
	{"could not locate required checkpoint record", "WAL that belongs to the backup is missing in the archive"},
	{"could not locate a valid checkpoint record", "WAL that belongs to the backup is missing in the archive"},
	{"WAL ends before end of online backup", "WAL that belongs to the backup is missing in the archive"},
	{"WAL ends before consistent recovery point", "WAL that belongs to the backup is missing in the archive"},
	{"could not restore file", "the archive cannot be read"},
	{"maximum number of prepared transactions reached", "max_prepared_transactions is lower than the WAL needs: raise it in the dynamic configuration"},
}

// recoveryError explains the end of the private server in one line.
func (s *Server) recoveryError(r Recovery, logFrom int64) error {
	last, ordered := s.fatalSince(logFrom)
	if ordered || last == "" {
		return ErrRecoveryKilled
	}
	for _, w := range recoveryWords {
		if !strings.Contains(last, w.in) {
			continue
		}
		why := w.out
		if strings.Contains(why, "%s") {
			why = fmt.Sprintf(why, "("+s.targetText(r)+")")
		}
		return fmt.Errorf("%w: %s (PostgreSQL: %s)", ErrRecovery, why, last)
	}
	return fmt.Errorf("%w: %s", ErrRecovery, last)
}

func (s *Server) targetText(r Recovery) string {
	if r.Settings == nil {
		return r.Target.String()
	}
	for name, value := range r.Settings {
		if name = strings.ToLower(name); recoveryTargets[name] {
			return name + " " + value
		}
	}
	return "of recovery_conf"
}

// logSize is how much the launcher's log file holds now.
func (s *Server) logSize() int64 {
	fi, err := os.Stat(s.logPath)
	if s.logPath == "" || err != nil {
		return 0
	}
	return fi.Size()
}

// fatalSince is the last FATAL or PANIC message in the log after from that
// says more than that another process ended; ordered tells that the server was
// told to shut down.
func (s *Server) fatalSince(from int64) (last string, ordered bool) {
	if s.logPath == "" {
		return "", false
	}
	f, err := os.Open(s.logPath)
	if err != nil {
		return "", false
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil {
		if fi.Size() < from {
			from = 0 // rotated
		}
		from = max(from, fi.Size()-1<<20)
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return "", false
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return "", false
	}
	for _, line := range strings.Split(string(text), "\n") {
		ordered = ordered || shutdownOrder.MatchString(line)
		for _, level := range []string{"FATAL:", "PANIC:"} {
			_, message, ok := strings.Cut(line, level)
			if ok && !strings.Contains(message, "the database system is") {
				last = s.scrub(clip(strings.TrimSpace(message), 300))
			}
		}
	}
	return last, ordered
}

var shutdownOrder = regexp.MustCompile(`LOG: +received (immediate|fast|smart) shutdown request`)
