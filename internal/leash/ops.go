package leash

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	opHello     = "hello"
	opStatus    = "status"
	opStart     = "start"
	opAdopt     = "adopt"
	opArm       = "arm"
	opDisarm    = "disarm"
	opSuspend   = "suspend"
	opResume    = "resume"
	opSignal    = "signal"
	opFence     = "fence"
	opSweep     = "sweep"
	opConfigure = "configure"
	opForget    = "forget"
	opWatchdog  = "watchdog"
	opQuit      = "quit"
)

// do carries out one request. later: the answer is due when nothing of the
// server is left.
func (l *leash) do(c *conn, r request) (later bool, err error) {
	switch r.Op {
	case opHello:
		return false, l.greet(c, r)
	case opStatus:
		return false, nil
	case opStart:
		return false, l.start(r.Start)
	case opAdopt:
		return false, l.adopt(r.DataDir, r.SystemID)
	case opArm:
		_ = l.apply(Prepare{Epoch: r.Epoch, Deadline: r.Deadline}) // what is wrong is refused below
		_ = l.apply(Counted{r.Etcd})                               // before the epoch: at worst, old ones count as this cluster's, and refuse
		err = l.apply(Arm{r.Epoch, r.Deadline})
	case opDisarm:
		err = l.apply(l.disarmFacts(r.Epoch))
	case opSuspend:
		err = l.apply(Suspend{r.Reason})
	case opResume:
		_ = l.apply(Prepare{Resume: true, Epoch: r.Epoch, Deadline: r.Deadline}) // as above
		if r.Epoch != 0 {
			_ = l.apply(Counted{r.Etcd})
		}
		err = l.apply(Resume{r.Epoch, r.Deadline})
	case opSignal:
		err = l.apply(Signal{syscall.Signal(r.Signal)})
	case opFence:
		err = l.apply(Fence{})
		later = err == nil
	case opSweep:
		return l.sweep(r.DataDir)
	case opConfigure:
		return false, l.apply(Configure{Lmax: r.Lmax, Quiet: r.Quiet})
	case opWatchdog:
		return false, l.setDog(r.Watchdog)
	case opForget:
		err = l.apply(Forget{})
	case opQuit:
		err = l.apply(Quit{})
	default:
		return false, refuse(CodeInvalid, "unknown operation %q", r.Op)
	}
	l.logDone(r, err)
	return later, err
}

func (l *leash) logDone(r request, err error) {
	switch {
	case err != nil:
		l.log.printf("%v", err)
	case r.Deadline != 0:
		l.log.printf("%s epoch %d, deadline in %v", r.Op, r.Epoch, time.Duration(r.Deadline-Now()))
	case r.Signal != 0:
		l.log.printf("%s %v", r.Op, syscall.Signal(r.Signal))
	default:
		l.log.printf("%s %s", r.Op, r.Reason)
	}
}

func (l *leash) greet(c *conn, r request) error {
	if r.Protocol != Protocol {
		return refuse(CodeProtocol, "the agent speaks protocol %d, the leash that runs (process %d) %d: they are of different versions; run the agent of the leash's version, or stop PostgreSQL and the agent of that version here once, so that a new leash is started",
			r.Protocol, os.Getpid(), Protocol)
	}
	c.hello = true
	l.log.printf("process %d attached", c.pid)
	return nil
}

func (l *leash) status() Status {
	s := l.state
	st := Status{
		Protocol: Protocol, PID: os.Getpid(), Armed: s.Armed, Epoch: s.Epoch, Deadline: s.Deadline,
		HighestArmed: s.Highest, HighestLatched: s.Latched, Etcd: s.Etcd, Suspended: s.Suspended, SuspendReason: s.Reason,
		Lmax: time.Duration(s.Lmax), Quiet: time.Duration(s.Quiet), LastExit: l.lastExit,
		Watchdog: l.dogStatus(),
	}
	if l.srv != nil {
		st.Server = &Server{
			PID: l.srv.pid, Started: l.srv.started, DataDir: l.srv.dataDir,
			Phase: s.Phase.String(), Writable: s.Writable, Adopted: l.srv.adopted,
		}
		if text := l.srv.degraded(); text != "" {
			st.Degraded = append(st.Degraded, text)
		}
	}
	if text := l.dogDegraded(); text != "" {
		st.Degraded = append(st.Degraded, text)
	}
	return st
}

// start reads the facts, asks Step, and only then makes the process.
func (l *leash) start(r *StartRequest) error {
	if r == nil {
		return refuse(CodeInvalid, "start refused: no request")
	}
	if err := l.apply(startFacts(*r)); err != nil {
		l.log.printf("%v", err)
		return err
	}
	srv, err := newServer(r.DataDir)
	if err == nil {
		if err = srv.spawn(*r, l.null); err != nil {
			srv.close()
		}
	}
	if err != nil {
		_ = l.apply(StartFailed{}) // a fact, not refused
		l.log.printf("%v", err)
		return err
	}
	l.srv = srv
	l.log.printf("started postmaster %d on %s, writable %v", srv.pid, srv.dataDir, l.state.Writable)
	return nil
}

func startFacts(r StartRequest) Start {
	in := Start{Writable: r.Writable, Bootstrap: r.Bootstrap}
	if !filepath.IsAbs(r.Path) {
		in.Obstacle = fmt.Sprintf("program %q is not an absolute path", r.Path)
		return in
	}
	var err error
	if in.Marker, err = marker(r.DataDir); err == nil {
		err = checkDir(r.DataDir, r.SystemID)
	}
	if err != nil && (in.Marker == "" || in.Marker == MarkerBootstrap) {
		in.Obstacle = err.Error()
		return in
	}
	in.StandbySignal = exists(filepath.Join(r.DataDir, standbySignal))
	if pid := livePostmaster(r.DataDir); pid != 0 {
		in.Obstacle = fmt.Sprintf("postmaster %d runs on %s already; adopt it", pid, r.DataDir)
	} else if n := attachedTo(r.DataDir); n > 0 {
		in.Obstacle = fmt.Sprintf("%d processes of an earlier server are attached to its shared memory; sweep %s", n, r.DataDir)
	}
	return in
}

func (l *leash) adopt(dataDir, systemID string) error {
	srv, err := l.findServer(dataDir, systemID)
	in := Adopt{StandbySignal: standbyOnly(dataDir)}
	if err != nil {
		in.Obstacle = err.Error()
	}
	if err := l.apply(in); err != nil {
		if srv != nil {
			srv.close()
		}
		l.log.printf("%v", err)
		return err
	}
	l.srv = srv
	l.log.printf("adopted postmaster %d of %s", srv.pid, srv.dataDir)
	return nil
}

func (l *leash) findServer(dataDir, systemID string) (*server, error) {
	if err := checkDir(dataDir, systemID); err != nil {
		return nil, err
	}
	srv, err := newServer(dataDir)
	if err != nil {
		return nil, err
	}
	if err := srv.identify(); err != nil {
		srv.close()
		return nil, err
	}
	return srv, nil
}

// disarmFacts reads while a deadline is running: what a hung disk does not
// tell in time counts as no proof.
func (l *leash) disarmFacts(epoch int64) Disarm {
	if l.srv == nil {
		return Disarm{Epoch: epoch}
	}
	dataDir := l.srv.dataDir
	facts := make(chan Disarm, 1)
	err := inTime(func() error {
		facts <- Disarm{Epoch: epoch, StandbySignal: standbyOnly(dataDir), InRecovery: inRecovery(dataDir)}
		return nil
	})
	if err != nil {
		return Disarm{Epoch: epoch}
	}
	return <-facts
}

// sweep kills the running server, or makes a stand-in for one whose
// postmaster is dead, so that its orphans can be found.
func (l *leash) sweep(dataDir string) (later bool, err error) {
	if l.srv != nil {
		in := Sweep{}
		if filepath.Clean(dataDir) != filepath.Clean(l.srv.dataDir) {
			in.Obstacle = fmt.Sprintf("the server here runs on %s, not on %s", l.srv.dataDir, dataDir)
		}
		err := l.apply(in)
		l.logDone(request{Op: opSweep, Reason: dataDir}, err)
		return err == nil, err
	}
	srv, err := leftovers(dataDir)
	in := Sweep{}
	if err != nil {
		in.Obstacle = err.Error()
	}
	err = l.apply(in)
	l.logDone(request{Op: opSweep, Reason: dataDir}, err)
	if err != nil {
		if srv != nil {
			srv.close()
		}
		return false, err
	}
	l.srv = srv
	return true, nil
}

func leftovers(dataDir string) (*server, error) {
	if !filepath.IsAbs(dataDir) {
		return nil, fmt.Errorf("data directory %q is not an absolute path", dataDir)
	}
	if pid := livePostmaster(dataDir); pid != 0 {
		return nil, fmt.Errorf("postmaster %d runs on %s; adopt it", pid, dataDir)
	}
	srv, err := newServer(dataDir)
	if err != nil {
		return nil, err
	}
	srv.adopted, srv.exited, srv.exitAt = true, true, Now()
	srv.learnShm()
	return srv, nil
}
