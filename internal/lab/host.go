package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// initAnswer bounds the wait for an answer of a host's init.
const initAnswer = killDeadline + 5*time.Second

var errInitGone = errors.New("init of the host is gone")

// host is one machine of the lab: an init process and what runs below it.
type host struct {
	name string
	addr string // IP address, without a port
	dir  string
	ns   *namespace // nil on loopback

	init  *exec.Cmd
	stdin io.WriteCloser
	gone  chan struct{} // closed when the init has ended

	mu      sync.Mutex
	nextID  int
	waiting map[int]chan report
	pid     int    // of the program, 0 when it does not run
	status  string // how the program last ended
	changed chan struct{}
}

// start runs the init of the host inside its namespace.
func (h *host) start(command []string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	errLog, err := os.Create(filepath.Join(h.dir, "init.log"))
	if err != nil {
		return fmt.Errorf("create init log: %w", err)
	}
	defer func() { _ = errLog.Close() }()
	cmd.Stderr = errLog
	if h.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := h.ns.do(cmd.Start); err != nil {
		return fmt.Errorf("start init of %s: %w", h.name, err)
	}
	h.init, h.gone = cmd, make(chan struct{})
	h.waiting, h.changed = map[int]chan report{}, make(chan struct{})
	go h.listen(stdout)
	return nil
}

// listen takes the init's reports until it ends.
func (h *host) listen(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var r report
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			h.take(r)
		}
	}
	_ = h.init.Wait()
	close(h.gone)
}

func (h *host) take(r report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pid = r.Pid
	if r.Status != "" {
		h.status = r.Status
	}
	close(h.changed)
	h.changed = make(chan struct{})
	if answer, ok := h.waiting[r.ID]; ok {
		delete(h.waiting, r.ID)
		answer <- r
	}
}

// order sends one order to the init and waits for its answer.
func (h *host) order(o order) error {
	answer := make(chan report, 1)
	h.mu.Lock()
	h.nextID++
	o.ID = h.nextID
	h.waiting[o.ID] = answer
	line, err := json.Marshal(o)
	if err == nil {
		_, err = h.stdin.Write(append(line, '\n'))
	}
	h.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s %s: %w", o.Do, h.name, err)
	}
	timer := time.NewTimer(initAnswer)
	defer timer.Stop()
	select {
	case r := <-answer:
		if r.Error != "" {
			return fmt.Errorf("%s %s: %s", o.Do, h.name, r.Error)
		}
		return nil
	case <-h.gone:
		return fmt.Errorf("%s %s: %w", o.Do, h.name, errInitGone)
	case <-timer.C:
		return fmt.Errorf("%s %s: no answer from its init", o.Do, h.name)
	}
}

// running gives the program's pid (0 when it does not run), how it last ended,
// and a channel that is closed at the next change.
func (h *host) running() (pid int, status string, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pid, h.status, h.changed
}

// waitEnded waits until the program does not run.
func (h *host) waitEnded(ctx context.Context) error {
	for {
		pid, _, changed := h.running()
		if pid == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-h.gone:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of process %d on %s: %w", pid, h.name, ctx.Err())
		}
	}
}

// tree lists what runs on the host, without its init.
func (h *host) tree() []proc {
	if h.init == nil {
		return nil
	}
	below := descendants(processes(), h.init.Process.Pid)
	return slices.DeleteFunc(below, func(p proc) bool { return p.zombie })
}

// close ends the init, which kills everything on its host first.
func (h *host) close() error {
	if h.init == nil {
		return nil
	}
	_ = h.stdin.Close()
	timer := time.NewTimer(initAnswer)
	defer timer.Stop()
	select {
	case <-h.gone:
		return nil
	case <-timer.C:
		killBelow(h.init.Process.Pid)
		_ = h.init.Process.Kill()
		return fmt.Errorf("stop init of %s: it did not end within %s", h.name, initAnswer)
	}
}
