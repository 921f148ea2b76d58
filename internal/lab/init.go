package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// InitArg is the argument by which a program that uses the lab is re-executed
// as the init of one host; it must then call RunInit and nothing else.
const InitArg = "lab-init"

// restartDelay is what the supervising init waits before it starts a dead agent
// again, as the systemd unit does.
const restartDelay = time.Second

// killDeadline bounds how long the init tries to kill its host.
const killDeadline = 20 * time.Second

// order is one line from the rig to the init.
type order struct {
	ID      int      `json:"id"`
	Do      string   `json:"do"` // "start", "supervise" or "killall"
	Program *program `json:"program,omitempty"`
	On      bool     `json:"on,omitempty"` // supervise: restart the program when it ends
}

// program is what the init starts.
type program struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
	Log  string   `json:"log"` // standard output and error are appended to it
	UID  int      `json:"uid"`
	GID  int      `json:"gid"`
	Su   bool     `json:"su"` // switch to UID and GID
}

// report is one line from the init to the rig. ID is that of the answered order,
// or 0 for news: Pid is the running program, 0 when it ended.
type report struct {
	ID     int    `json:"id,omitempty"`
	Pid    int    `json:"pid"`
	Status string `json:"status,omitempty"` // how the program ended
	Error  string `json:"error,omitempty"`
}

// BeInit runs the init of a host and ends the process, if that is what it was
// started for; a test program calls it first.
func BeInit() {
	if len(os.Args) < 2 || os.Args[1] != InitArg {
		return
	}
	if err := RunInit(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// RunInit is the init of one host. It obeys orders from in until in ends, which
// also happens when the rig dies; then it kills everything on its host.
func RunInit(in io.Reader, out io.Writer) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	i := &hostInit{out: json.NewEncoder(out), child: make(chan os.Signal, 1), again: make(chan struct{}, 1)}
	signal.Notify(i.child, syscall.SIGCHLD)
	orders := make(chan order)
	go readOrders(in, orders)
	for {
		select {
		case o, open := <-orders:
			if !open {
				return i.killAll()
			}
			i.obey(o)
		case <-i.child:
			i.reap()
		case <-i.again:
			i.restart()
		}
	}
}

func readOrders(in io.Reader, orders chan<- order) {
	defer close(orders)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o order
		if json.Unmarshal(lines.Bytes(), &o) == nil {
			orders <- o
		}
	}
}

// hostInit is the state of the init process. Only RunInit's goroutine uses it.
type hostInit struct {
	out       *json.Encoder
	child     chan os.Signal
	again     chan struct{}
	program   *program
	pid       int
	supervise bool
}

func (i *hostInit) obey(o order) {
	var err error
	switch o.Do {
	case "start":
		i.program = o.Program
		if i.pid == 0 {
			err = i.start()
		}
	case "supervise":
		i.supervise = o.On
	case "killall":
		i.supervise = false
		err = i.killAll()
	default:
		err = fmt.Errorf("unknown order %q", o.Do)
	}
	i.tell(report{ID: o.ID, Pid: i.pid, Error: errorText(err)})
}

func (i *hostInit) tell(r report) {
	// The rig may be gone already; then in ends too.
	_ = i.out.Encode(r)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// start runs the program in a session of its own. It uses ForkExec rather than
// os/exec because the loop of reap waits for every child.
func (i *hostInit) start() error {
	p := i.program
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	attr := &syscall.ProcAttr{
		Dir:   p.Dir,
		Env:   p.Env,
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if p.Su {
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.GID)}
	}
	pid, err := syscall.ForkExec(p.Argv[0], p.Argv, attr)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Argv[0], err)
	}
	i.pid = pid
	return nil
}

func (i *hostInit) restart() {
	if !i.supervise || i.pid != 0 || i.program == nil {
		return
	}
	err := i.start()
	i.tell(report{Pid: i.pid, Error: errorText(err)})
}

// reap collects every ended child, orphans included.
func (i *hostInit) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 {
			return
		}
		if pid == i.pid {
			i.pid = 0
			i.tell(report{Status: endOf(status)})
			if i.supervise {
				time.AfterFunc(restartDelay, func() { i.again <- struct{}{} })
			}
		}
	}
}

func endOf(s syscall.WaitStatus) string {
	if s.Signaled() {
		return "killed by " + s.Signal().String()
	}
	return fmt.Sprintf("exit status %d", s.ExitStatus())
}

// killAll ends every process of the host at one instant, as a power cut would.
func (i *hostInit) killAll() error {
	deadline := time.NewTimer(killDeadline)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		n := killBelow(os.Getpid())
		i.reap()
		if n == 0 {
			return nil
		}
		select {
		case <-i.child:
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("kill host: %d processes left after %s", n, killDeadline)
		}
	}
}
