package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// pidFile is postmaster.pid, as far as we read it.
type pidFile struct {
	PID     int // negative: a single-user backend
	DataDir string
	Start   int64 // seconds since the epoch
	Port    int
	Status  string // "starting", "ready", "standby", "stopping"; PostgreSQL 10 and later
}

// accepting tells whether the postmaster says that it takes connections.
func (p pidFile) accepting() bool { return p.Status == "ready" || p.Status == "standby" }

func (s *Server) readPidFile() (pidFile, error) {
	b, err := os.ReadFile(s.inData("postmaster.pid"))
	if err != nil {
		return pidFile{}, fmt.Errorf("read postmaster.pid: %w", err)
	}
	return parsePidFile(string(b))
}

// parsePidFile reads the lines that are there yet: the server writes the file
// in several steps.
func parsePidFile(text string) (pidFile, error) {
	lines := strings.Split(text, "\n")
	pid, err := strconv.ParseInt(strings.TrimSpace(lines[0]), 10, 32)
	if err != nil || pid == 0 {
		return pidFile{}, errors.New("parse postmaster.pid: no process id in the first line")
	}
	p := pidFile{PID: int(pid)}
	at := func(i int) string {
		if i < len(lines) {
			return strings.TrimSpace(lines[i])
		}
		return ""
	}
	p.DataDir = at(1)
	p.Start, _ = strconv.ParseInt(at(2), 10, 64)
	p.Port, _ = strconv.Atoi(at(3))
	p.Status = at(7)
	return p, nil
}

// staleOwner finds a live process that took over the pid of a dead postmaster.
// The server would refuse to start because of it; it is told through
// PG_GRANDPARENT_PID that this pid is no postmaster. The file is never
// deleted. A live postmaster of this directory is an error.
func (s *Server) staleOwner() (pid int, err error) {
	p, err := s.readPidFile()
	if err != nil || p.PID < 0 || unix.Kill(p.PID, 0) != nil {
		return 0, nil
	}
	if s.isPostmaster(p.PID) {
		return 0, fmt.Errorf("start server: %w: process %d holds %s", ErrRunning, p.PID, s.inData("postmaster.pid"))
	}
	return p.PID, nil
}

// isPostmaster compares executable name and working directory (D11).
func (s *Server) isPostmaster(pid int) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	if err != nil {
		return false
	}
	name := strings.TrimSuffix(filepath.Base(exe), " (deleted)")
	if name != filepath.Base(s.bin("postgres")) && name != "postgres" && name != "postmaster" {
		return false
	}
	cwd, err1 := os.Stat(filepath.Join(proc, "cwd"))
	dir, err2 := os.Stat(s.config().DataDir)
	return err1 != nil || err2 != nil || os.SameFile(cwd, dir)
}
