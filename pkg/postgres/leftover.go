package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Tools have children of their own: a worker of pgbackrest outlives the one that
// was killed, finishes its job of many files, and would write old pages into a
// directory that is being restored again or whose server runs. So every tool is
// given a variable that its children inherit, by which they are found.
const toolMark = "PGHA_TOOL"

// leftoverTime bounds the wait for killed processes to be gone. One that is stuck
// in the kernel, on a dead mount for example, stays longer.
const leftoverTime = 10 * time.Second

var errLeftover = errors.New("a process of an earlier run still writes to the data directory and cannot be killed")

// newLife is a word that no other agent process has.
func newLife() string {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails; see its documentation
	return hex.EncodeToString(raw[:])
}

// markOf is the environment of one run of a tool.
func (s *Server) markOf() string {
	return toolMark + "=" + s.life + "." + strconv.FormatInt(s.runs.Add(1), 10) + " " + s.config().DataDir
}

// endRun kills what one run has left behind, and waits until it is gone.
func (s *Server) endRun(mark string) error {
	return s.killMarked(func(m string) bool { return m == mark })
}

// endLeftovers does that for the runs of agents before this one on our directory.
func (s *Server) endLeftovers() error {
	dir, own := " "+s.config().DataDir, toolMark+"="+s.life+"."
	return s.killMarked(func(m string) bool { return strings.HasSuffix(m, dir) && !strings.HasPrefix(m, own) })
}

func (s *Server) killMarked(match func(mark string) bool) error {
	said := false
	ctx, cancel := context.WithTimeout(context.Background(), leftoverTime)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		left := marked(match)
		if len(left) == 0 {
			return nil
		}
		if !said {
			s.log.Warn("ending what an earlier run of a tool has left behind", "processes", left)
			said = true
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select { // a process is gone some time after the signal; nobody tells whose parent we are not
		case <-tick.C:
		case <-ctx.Done():
			return errLeftover
		}
	}
}

// marked lists the processes of this user with a matching mark. Those of others
// cannot be read, and those that have ended have none.
func marked(match func(mark string) bool) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil {
			continue
		}
		for _, v := range bytes.Split(env, []byte{0}) {
			if text := string(v); strings.HasPrefix(text, toolMark+"=") && match(text) {
				out = append(out, pid)
			}
		}
	}
	return out
}
