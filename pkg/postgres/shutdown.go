package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Shutdown is an orderly stop that comes to an end.
type Shutdown struct {
	// Limit is what the orderly part may take. Long before it, logical walsenders
	// that are still there are told to go: they would wait for their clients. At
	// half of it, a server that has written its shutdown checkpoint and waits for
	// archiver and walsenders is ended: nothing of its data is missing. At its end,
	// any other one is, with SIGKILL for what is left half as much later, a second
	// at most: who has little time until the leash acts has none for patience.
	Limit time.Duration
	// Written is called once when the shutdown checkpoint is on disk and the server
	// is still there: nothing can be written any more.
	Written func(checkpoint, publish wal.LSN)
}

// immediateLimit is what an immediate stop gets before everything is killed.
const immediateLimit = time.Second

// Shutdown stops the server by the ladder of o: fast, immediate, SIGKILL. It
// returns when the server and all its orphans are gone.
func (s *Server) Shutdown(ctx context.Context, o Shutdown) error {
	senders := s.logicalSenders(ctx)
	fast, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		s.ladder(fast, o, senders)
	}()
	err := s.Stop(fast, StopFast, false)
	cancel()
	<-done
	if err == nil || ctx.Err() != nil {
		return err
	}
	s.log.Warn("the server does not stop in time: stopping it immediately", "limit", o.Limit, "waits for", s.children())
	return s.quit(ctx, min(immediateLimit, o.Limit/2))
}

// StopNow is an immediate stop, with SIGKILL for everything a second later.
func (s *Server) StopNow(ctx context.Context) error { return s.quit(ctx, immediateLimit) }

// quit is an immediate stop that gets as long as limit before SIGKILL.
func (s *Server) quit(ctx context.Context, limit time.Duration) error {
	quick, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := s.Stop(quick, StopImmediate, false); err == nil || ctx.Err() != nil {
		return err
	}
	s.log.Warn("the server does not stop immediately either: killing all its processes", "left", s.children())
	return s.Kill(ctx)
}

// ladder watches a fast stop from the side, until ctx ends or the orderly part is
// to be given up.
func (s *Server) ladder(ctx context.Context, o Shutdown, senders []int) {
	begun, exited := time.Now(), s.proc.Exited()
	written, told, looked := false, false, begun
	b := backoff{next: glance, max: glance}
	for b.wait(ctx, exited) == nil {
		took := time.Since(begun)
		if !told && took >= o.Limit/4 {
			told = true
			s.endSenders(senders)
		}
		if !written {
			if !s.saysShutDown() && time.Since(looked) < time.Second {
				continue
			}
			looked = time.Now()
			checkpoint, publish, err := s.ShutdownCheckpoint(ctx)
			if err != nil || checkpoint == 0 {
				continue
			}
			written = true
			s.log.Info("the shutdown checkpoint is written; the server waits", "for", s.children())
			if o.Written != nil {
				o.Written(checkpoint, publish)
			}
		}
		if took >= o.Limit/2 {
			s.log.Warn("the server has written everything and is not waited for any longer", "waits for", s.children())
			return
		}
	}
}

// glance is the pause between two looks at a server that stops.
const glance = 20 * time.Millisecond

// saysShutDown looks at the state in the control file without a process, which a busy
// host would take its time for: the fifth field, as it has been in every version. It is
// a hint for when pg_controldata is worth running.
func (s *Server) saysShutDown() bool {
	f, err := os.Open(s.inData("global", "pg_control"))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	var head struct {
		System           uint64
		Version, Catalog uint32
		State            uint32
	}
	return binary.Read(f, binary.NativeEndian, &head) == nil && head.State == 1
}

// logicalSenders are the walsenders of logical slots. They wait for clients that
// may never read, and a fast stop waits for them.
func (s *Server) logicalSenders(ctx context.Context) (pids []int) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, "SELECT active_pid FROM pg_replication_slots WHERE slot_type = 'logical' AND active_pid IS NOT NULL")
		if err != nil {
			return err
		}
		pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
		return err
	})
	if err != nil {
		s.log.Debug("ask for logical walsenders before the stop", "error", err)
	}
	return pids
}

// endSenders tells those of pids that still are children of the server to go.
func (s *Server) endSenders(pids []int) {
	parent, ok := s.Running()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0) // first the handle, then the look: a pid may be somebody else's by now
		if err != nil {
			continue
		}
		if ok && parentOf(pid) == parent {
			s.log.Warn("ending a logical walsender that holds up the stop", "pid", pid)
			_ = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0) // gone meanwhile: all the better
		}
		_ = unix.Close(fd)
	}
}

// children are the titles of the server's processes, for logs.
func (s *Server) children() string {
	parent, ok := s.Running()
	entries, err := os.ReadDir("/proc")
	if !ok || err != nil {
		return ""
	}
	var titles []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || parentOf(pid) != parent {
			continue
		}
		title, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if text := string(bytes.TrimSpace(bytes.ReplaceAll(title, []byte{0}, []byte{' '}))); err == nil && text != "" {
			titles = append(titles, strings.TrimPrefix(text, "postgres: "))
		}
	}
	return strings.Join(titles, "; ")
}

// parentOf is the parent of a process, 0 if that cannot be read.
func parentOf(pid int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// pid (name) state ppid: the name may hold anything.
	rest := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(rest) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(rest[1])
	if err != nil {
		return 0
	}
	return parent
}
