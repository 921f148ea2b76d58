package leash

import (
	"fmt"
	"syscall"
	"time"
)

// Phase is what happens to the server.
type Phase int

const (
	// NoServer: no process of the server is left and no shared memory is attached.
	NoServer Phase = iota
	// Running: the postmaster lives, as far as the leash has noticed.
	Running
	// Fencing: SIGQUIT was sent, the sweep follows at KillAt.
	Fencing
	// Sweeping: SIGKILL for everything, until nothing is left.
	Sweeping
)

func (p Phase) String() string {
	switch p {
	case NoServer:
		return "none"
	case Running:
		return "running"
	case Fencing:
		return "fencing"
	case Sweeping:
		return "sweeping"
	}
	return "unknown"
}

// State is everything the rules depend on. It changes in Step only. Instants
// and durations are nanoseconds on the clock of Now.
type State struct {
	Lmax  int64 // a deadline further away than this is refused
	Quiet int64 // time between SIGQUIT and the sweep (q of safety B.1)

	Armed    bool
	Epoch    int64 // the armed epoch; set aside while suspended
	Deadline int64
	Highest  int64 // highest epoch ever armed
	Latched  int64 // highest epoch whose deadline passed
	// Etcd is the id of the etcd cluster whose epochs these are; 0: not known.
	Etcd uint64

	Suspended bool
	Reason    string // why suspended

	Phase    Phase
	Writable bool  // the server may write: started without standby.signal, or armed since
	KillAt   int64 // end of Fencing
	Mark     bool  // create standby.signal when the server is gone

	Watchdog Watchdog
}

// Extension is what the agent wrote into the shared record last. The zero
// value extends nothing.
type Extension struct {
	Epoch    int64
	Deadline int64
}

// Input is one thing that happened or was asked for.
type Input interface{ input() }

type (
	// Tick is the passing of time.
	Tick struct{}
	// Arm gives the deadline of a new epoch, or a later one of the armed epoch.
	Arm struct{ Epoch, Deadline int64 }
	// Disarm ends the hold after a demotion. The facts are read by the leash.
	Disarm struct {
		Epoch         int64
		StandbySignal bool // standby.signal exists and no promotion is asked for
		InRecovery    bool // pg_control says so
	}
	// Start asks for a server. The facts are read by the leash.
	Start struct {
		Writable      bool   // the caller means a primary
		Bootstrap     bool   // first start of a new cluster
		StandbySignal bool   // the directory has standby.signal
		Marker        string // contents of an in-progress marker, "" if there is none
		Obstacle      string // any other reason not to start this directory
	}
	// StartFailed reports that the postmaster could not be created.
	StartFailed struct{}
	// Adopt takes over a server that the leash is not the parent of.
	Adopt struct {
		StandbySignal bool
		Obstacle      string
	}
	// Suspend puts the deadline aside (pause).
	Suspend struct{ Reason string }
	// Resume ends a suspension; Epoch 0 leaves the leash unarmed.
	Resume struct{ Epoch, Deadline int64 }
	// Signal asks for a signal to the postmaster.
	Signal struct{ Sig syscall.Signal }
	// Fence asks for the sequence of the deadline, without a latch.
	Fence struct{}
	// Sweep asks for SIGKILL at once: for the running server, or for what is
	// left of one whose postmaster is dead.
	Sweep struct{ Obstacle string }
	// Exited reports the end of the postmaster.
	Exited struct{}
	// Swept reports that nothing of the server is left.
	Swept struct{}
	// Configure changes Lmax and Quiet.
	Configure struct{ Lmax, Quiet int64 }
	// Counted says which etcd cluster the next epoch to be armed is of.
	Counted struct{ Etcd uint64 }
	// Forget starts the count of epochs anew (safety S11, on the operator's word).
	Forget struct{}
	// Quit asks the leash to leave, which ends the hold.
	Quit struct{}
)

func (Tick) input()        {}
func (Arm) input()         {}
func (Disarm) input()      {}
func (Start) input()       {}
func (StartFailed) input() {}
func (Adopt) input()       {}
func (Suspend) input()     {}
func (Resume) input()      {}
func (Signal) input()      {}
func (Fence) input()       {}
func (Sweep) input()       {}
func (Exited) input()      {}
func (Swept) input()       {}
func (Configure) input()   {}
func (Counted) input()     {}
func (Forget) input()      {}
func (Quit) input()        {}

// Action is something the shell does after a step.
type Action interface{ action() }

type (
	// SendSignal sends Sig to the postmaster.
	SendSignal struct{ Sig syscall.Signal }
	// BeginSweep starts the sweep; Swept is its end.
	BeginSweep struct{}
	// MarkStandby creates standby.signal, so that whoever starts the server by
	// hand gets a read-only one.
	MarkStandby struct{}
	// Leave ends the process.
	Leave struct{}
)

func (SendSignal) action()  {}
func (BeginSweep) action()  {}
func (MarkStandby) action() {}
func (Leave) action()       {}

// LmaxLimit bounds Lmax itself: no lease of ours is longer.
const LmaxLimit = int64(24 * time.Hour)

// Step applies one input. It is a function of its arguments alone. The error
// is a *Refusal; the state it comes with may still have changed, because time
// passes with every input.
func Step(s State, ext Extension, in Input, now int64) (State, []Action, error) {
	s = extend(s, ext, now)
	s, acts := passTime(s, now)
	s, more, err := apply(s, in, now)
	s, ping := keepAlive(s, now)
	return s, append(append(acts, more...), ping...), err
}

// extend moves the deadline of the armed epoch forward, and nothing else. A
// passed deadline can still be moved: the caller has not fenced yet.
func extend(s State, ext Extension, now int64) State {
	if s.Armed && ext.Epoch == s.Epoch && ext.Deadline > s.Deadline && ext.Deadline <= now+s.Lmax {
		s.Deadline = ext.Deadline
	}
	return s
}

// passTime latches at the deadline and ends the patience after SIGQUIT.
func passTime(s State, now int64) (State, []Action) {
	var acts []Action
	if s.Armed && now >= s.Deadline {
		s.Armed = false
		s.Latched = max(s.Latched, s.Epoch)
		s.Mark = s.Mark || s.Phase != NoServer
		if s.Phase == Running {
			// Counted from the deadline: a leash that woke late has no second to give.
			s.Phase, s.KillAt = Fencing, s.Deadline+s.Quiet
			acts = append(acts, SendSignal{syscall.SIGQUIT})
		}
	}
	if s.Phase == Fencing && now >= s.KillAt {
		s.Phase = Sweeping
		acts = append(acts, BeginSweep{})
	}
	return s, acts
}

func apply(s State, in Input, now int64) (State, []Action, error) {
	switch in := in.(type) {
	case Tick:
		return s, nil, nil
	case Arm:
		return released(arm(s, in, now))
	case Disarm:
		return disarm(s, in)
	case Start:
		return start(s, in)
	case StartFailed:
		s.Phase, s.Writable, s.Mark = NoServer, false, false
		return s, nil, nil
	case Adopt:
		return adopt(s, in)
	case Suspend:
		return suspend(s, in)
	case Resume:
		return released(resume(s, in, now))
	case Signal:
		return forward(s, in)
	case Fence:
		return fence(s, now)
	case Sweep:
		return sweep(s, in)
	case Exited:
		return exited(s)
	case Swept:
		return swept(s)
	case Configure:
		return configure(s, in)
	case Counted:
		s.Etcd = in.Etcd
		return s, nil, nil
	case Forget:
		return forget(s)
	case Quit:
		if s.Phase != NoServer {
			return s, nil, refuse(CodeServerRuns, "quit refused: a server is %s; stop it first", s.Phase)
		}
		s.Armed = false // the next leash takes up what is published, and would hold this epoch without a watchdog
		s, acts := switchOff(s)
		return s, append(acts, Leave{}), nil
	case SetWatchdog:
		return setWatchdog(s, in, now)
	case Prepare:
		return prepare(s, in, now)
	case Opened:
		return opened(s, in, now)
	case NotOpened:
		s.Watchdog.Fault, s.Watchdog.FaultAt = in.Why, now
		return s, nil, nil
	case Pinged:
		s.Watchdog.Fault, s.Watchdog.FaultAt = in.Why, now
		return s, nil, nil
	}
	return s, nil, refuse(CodeInvalid, "unknown input %T", in)
}

func arm(s State, in Arm, now int64) (State, []Action, error) {
	if s.Suspended {
		return s, nil, refuse(CodeSuspended, "arm refused: suspended (%s); resume arms", s.Reason)
	}
	if s.Phase == Fencing || s.Phase == Sweeping {
		return s, nil, refuse(CodeBusy, "arm refused: the server is %s", s.Phase)
	}
	if err := checkDeadline(s, in.Deadline, now); err != nil {
		return s, nil, err
	}
	again := s.Armed && in.Epoch == s.Epoch
	if !again {
		if err := checkNewEpoch(s, in.Epoch); err != nil {
			return s, nil, err
		}
	}
	if err := checkWatchdog(s); err != nil {
		return s, nil, err
	}
	if again {
		s.Deadline = max(s.Deadline, in.Deadline)
		return s, nil, nil
	}
	return hold(s, in.Epoch, in.Deadline), nil, nil
}

// hold arms. From here on the server may be promoted, so it counts as one
// that writes until it is shown to be in recovery.
func hold(s State, epoch, deadline int64) State {
	s.Armed, s.Epoch, s.Deadline = true, epoch, deadline
	s.Highest = max(s.Highest, epoch)
	s.Watchdog.Fresh, s.Watchdog.Release = false, false
	s.Writable = s.Writable || s.Phase == Running
	return s
}

func checkDeadline(s State, deadline, now int64) error {
	if deadline <= now {
		return refuse(CodeDeadline, "deadline refused: it passed %v ago", time.Duration(now-deadline))
	}
	if deadline > now+s.Lmax {
		return refuse(CodeDeadline, "deadline refused: %v ahead, the limit is %v",
			time.Duration(deadline-now), time.Duration(s.Lmax))
	}
	return nil
}

func checkNewEpoch(s State, epoch int64) error {
	if epoch <= 0 {
		return refuse(CodeEpoch, "epoch %d refused: not positive", epoch)
	}
	if epoch <= s.Latched {
		return refuse(CodeLatched, "epoch %d refused: the deadline of epoch %d passed", epoch, s.Latched)
	}
	if epoch <= s.Highest {
		return refuse(CodeEpoch, "epoch %d refused: epoch %d was armed before (if etcd was made anew: stop the agent, which stops PostgreSQL, and remove its runtime directory)", epoch, s.Highest)
	}
	return nil
}

// disarm is idempotent: a leash that is not armed has nothing to lose.
func disarm(s State, in Disarm) (State, []Action, error) {
	if s.Armed && in.Epoch != s.Epoch {
		return s, nil, refuse(CodeEpoch, "disarm refused: epoch %d is armed, not %d", s.Epoch, in.Epoch)
	}
	readOnly := in.StandbySignal && (!s.Writable || in.InRecovery)
	if s.Phase == Running && !readOnly {
		return s, nil, refuse(CodeWritable, "disarm refused: the server may write; stop it or start it as a standby first")
	}
	s.Armed = false
	switch s.Phase {
	case Running:
		s.Writable = false
	case NoServer:
	case Fencing, Sweeping: // let go, but nothing is proven before the end of the sweep
		s.Watchdog.Release = true
		return s, nil, nil
	}
	s, acts := switchOff(s)
	return s, acts, nil
}

func start(s State, in Start) (State, []Action, error) {
	if s.Phase != NoServer {
		return s, nil, refuse(CodeServerRuns, "start refused: a server is %s", s.Phase)
	}
	if in.Obstacle != "" {
		return s, nil, refuse(CodeDataDir, "start refused: %s", in.Obstacle)
	}
	bootstrap := in.Bootstrap && in.Marker == MarkerBootstrap
	if in.Marker != "" && !bootstrap {
		return s, nil, refuse(CodeInProgress, "start refused: %s did not finish in this data directory; finish it or make the directory anew", in.Marker)
	}
	if !in.StandbySignal {
		if !in.Writable {
			return s, nil, refuse(CodeWritable, "start refused: asked for a standby, but there is no standby.signal")
		}
		if !s.Armed && !s.Suspended && !bootstrap {
			return s, nil, refuse(CodeNotArmed, "start refused: no standby.signal and not armed")
		}
	}
	s.Phase, s.Writable, s.Mark = Running, !in.StandbySignal, false
	return s, nil, nil
}

func adopt(s State, in Adopt) (State, []Action, error) {
	if s.Phase != NoServer {
		return s, nil, refuse(CodeServerRuns, "adopt refused: a server is %s already", s.Phase)
	}
	if in.Obstacle != "" {
		return s, nil, refuse(CodeDataDir, "adopt refused: %s", in.Obstacle)
	}
	s.Phase, s.Mark = Running, false
	s.Writable = !in.StandbySignal || s.Armed
	return s, nil, nil
}

func suspend(s State, in Suspend) (State, []Action, error) {
	if s.Phase == Fencing || s.Phase == Sweeping {
		return s, nil, refuse(CodeBusy, "suspend refused: the server is %s", s.Phase)
	}
	s.Suspended, s.Reason, s.Armed = true, in.Reason, false
	s, acts := switchOff(s)
	return s, acts, nil
}

func resume(s State, in Resume, now int64) (State, []Action, error) {
	if !s.Suspended {
		return s, nil, refuse(CodeNotSuspended, "resume refused: not suspended")
	}
	if in.Epoch == 0 {
		if s.Phase == Running && s.Writable {
			return s, nil, refuse(CodeWritable, "resume refused: the server may write, so a deadline is needed")
		}
		s.Suspended, s.Reason = false, ""
		return s, nil, nil
	}
	if s.Phase == Fencing || s.Phase == Sweeping {
		return s, nil, refuse(CodeBusy, "resume refused: the server is %s", s.Phase)
	}
	if err := checkDeadline(s, in.Deadline, now); err != nil {
		return s, nil, err
	}
	setAside := in.Epoch == s.Epoch && in.Epoch == s.Highest && in.Epoch > s.Latched
	if !setAside {
		if err := checkNewEpoch(s, in.Epoch); err != nil {
			return s, nil, err
		}
	}
	if err := checkWatchdog(s); err != nil {
		return s, nil, err
	}
	s.Suspended, s.Reason = false, ""
	return hold(s, in.Epoch, in.Deadline), nil, nil
}

func forward(s State, in Signal) (State, []Action, error) {
	if s.Phase != Running && s.Phase != Fencing {
		return s, nil, refuse(CodeNoServer, "signal refused: no server runs")
	}
	switch in.Sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGCONT:
		return s, []Action{SendSignal(in)}, nil
	}
	return s, nil, refuse(CodeInvalid, "signal refused: %v is not for a postmaster", in.Sig)
}

func fence(s State, now int64) (State, []Action, error) {
	switch s.Phase {
	case NoServer:
		return s, nil, refuse(CodeNoServer, "fence refused: no server runs")
	case Running:
		s.Phase, s.KillAt = Fencing, now+s.Quiet
		return s, []Action{SendSignal{syscall.SIGQUIT}}, nil
	}
	return s, nil, nil // under way
}

func sweep(s State, in Sweep) (State, []Action, error) {
	if s.Phase == Sweeping {
		return s, nil, nil
	}
	if in.Obstacle != "" {
		return s, nil, refuse(CodeDataDir, "sweep refused: %s", in.Obstacle)
	}
	s.Phase = Sweeping
	return s, []Action{BeginSweep{}}, nil
}

func exited(s State) (State, []Action, error) {
	if s.Phase == NoServer || s.Phase == Sweeping {
		return s, nil, nil
	}
	s.Phase = Sweeping
	return s, []Action{BeginSweep{}}, nil
}

func swept(s State) (State, []Action, error) {
	if s.Phase != Sweeping {
		return s, nil, nil
	}
	var acts []Action
	if s.Mark {
		acts = append(acts, MarkStandby{})
	}
	s.Phase, s.Writable, s.Mark = NoServer, false, false
	if s.Watchdog.Release && !s.Armed {
		var off []Action
		s, off = switchOff(s)
		acts = append(acts, off...)
	}
	return s, acts, nil
}

func configure(s State, in Configure) (State, []Action, error) {
	if in.Lmax <= 0 || in.Lmax > LmaxLimit || in.Quiet < 0 || in.Quiet > in.Lmax {
		return s, nil, refuse(CodeInvalid, "configure refused: limit %v, quiet %v",
			time.Duration(in.Lmax), time.Duration(in.Quiet))
	}
	s.Lmax, s.Quiet = in.Lmax, in.Quiet
	return s, nil, nil
}

func forget(s State) (State, []Action, error) {
	if s.Armed {
		return s, nil, refuse(CodeArmed, "forget refused: epoch %d is armed", s.Epoch)
	}
	if s.Phase != NoServer && s.Writable && !s.Suspended {
		return s, nil, refuse(CodeWritable, "forget refused: a server that may write is %s", s.Phase)
	}
	s.Epoch, s.Deadline, s.Highest, s.Latched, s.Etcd = 0, 0, 0, 0, 0
	return s, nil, nil
}

// Wake is the next instant at which time alone changes the state; 0: never.
func (s State) Wake() int64 {
	switch {
	case s.Phase == Fencing && s.Armed:
		return min(s.KillAt, s.Deadline)
	case s.Phase == Fencing:
		return s.KillAt
	case s.Armed:
		return s.Deadline
	}
	return 0
}

// Codes of refusals, for callers that branch.
const (
	CodeInvalid      = "invalid"
	CodeProtocol     = "protocol"
	CodeArmed        = "armed"
	CodeNotArmed     = "not-armed"
	CodeLatched      = "latched"
	CodeEpoch        = "epoch"
	CodeDeadline     = "deadline"
	CodeSuspended    = "suspended"
	CodeNotSuspended = "not-suspended"
	CodeBusy         = "busy"
	CodeServerRuns   = "server-runs"
	CodeNoServer     = "no-server"
	CodeWritable     = "writable"
	CodeInProgress   = "in-progress"
	CodeDataDir      = "data-directory"
	CodeWatchdog     = "watchdog"
	CodeSystem       = "system"
)

// Refusal is the answer of a leash that will not do what it was asked.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (r *Refusal) Error() string { return r.Message }

func refuse(code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}
