package leash

import (
	"fmt"
	"time"
)

// WatchdogMode is the word of watchdog.mode (wire contract §1.10).
type WatchdogMode int

// Modes of the kernel watchdog.
const (
	WatchdogOff       WatchdogMode = iota
	WatchdogAutomatic              // used where it can be
	WatchdogRequired               // without it nothing is armed
)

func (m WatchdogMode) String() string {
	switch m {
	case WatchdogAutomatic:
		return "automatic"
	case WatchdogRequired:
		return "required"
	case WatchdogOff:
	}
	return "off"
}

// Watchdog is the part of State that is about the kernel watchdog. The device
// is opened for the first arm, gets keepalives while armed, none that would
// move its reset past the hard limit H, and is switched off where it is proven
// that nothing needs to be reset: disarmed, suspended, or left without a server.
// A fence proves nothing: it is what the reset is for.
type Watchdog struct {
	Mode WatchdogMode
	// Want is Wd of safety B.1, Longest the longest timeout that is of use,
	// and Tail what H lies behind the deadline.
	Want, Longest, Tail int64

	Open    bool
	Timeout int64 // of the open device
	Pinged  int64 // when its countdown began last
	Fresh   bool  // opened for an arm that has not come yet
	Release bool  // disarmed during a sweep: switched off at its end
	// Fault is why the device could not be opened, or took no keepalive.
	Fault   string
	FaultAt int64
}

type (
	// SetWatchdog changes the settings. An open device keeps its own until it
	// is opened anew; only the hard limit moves at once.
	SetWatchdog struct {
		Mode                WatchdogMode
		Want, Longest, Tail int64
	}
	// Prepare comes before Arm or Resume: it opens the device, if they could
	// succeed with it.
	Prepare struct {
		Resume          bool
		Epoch, Deadline int64
	}
	// Opened is the outcome of OpenWatchdog.
	Opened struct{ Timeout int64 }
	// NotOpened is the other one.
	NotOpened struct{ Why string }
	// Pinged is the outcome of a keepalive; Why is "" if the device took it.
	Pinged struct{ Why string }
)

func (SetWatchdog) input() {}
func (Prepare) input()     {}
func (Opened) input()      {}
func (NotOpened) input()   {}
func (Pinged) input()      {}

type (
	// OpenWatchdog opens the device with the timeout Want.
	OpenWatchdog struct{}
	// PingWatchdog sends a keepalive.
	PingWatchdog struct{}
	// CloseWatchdog switches the countdown off.
	CloseWatchdog struct{}
)

func (OpenWatchdog) action()  {}
func (PingWatchdog) action()  {}
func (CloseWatchdog) action() {}

// inForce tells whether the host is reset should the leash not run.
func (w *Watchdog) inForce() bool { return w.Open && w.Fault == "" }

func setWatchdog(s State, in SetWatchdog, now int64) (State, []Action, error) {
	if in.Mode < WatchdogOff || in.Mode > WatchdogRequired {
		return s, nil, refuse(CodeInvalid, "watchdog refused: unknown mode %d", in.Mode)
	}
	ok := in.Want >= int64(time.Second) && in.Longest >= in.Want && in.Longest <= LmaxLimit && in.Tail >= 0 && in.Tail <= LmaxLimit
	if in.Mode != WatchdogOff && !ok {
		return s, nil, refuse(CodeInvalid, "watchdog refused: timeout %v, at most %v, %v behind the deadline",
			time.Duration(in.Want), time.Duration(in.Longest), time.Duration(in.Tail))
	}
	w := &s.Watchdog
	w.Mode, w.Want, w.Longest, w.Tail = in.Mode, in.Want, in.Longest, in.Tail
	if !w.Open {
		w.Fault = ""
	}
	if !s.Armed {
		return s, nil, nil
	}
	return openFor(s, s.Deadline, now)
}

// prepare asks the rules of arm or resume, the watchdog apart.
func prepare(s State, in Prepare, now int64) (State, []Action, error) {
	trial, err := s, error(nil)
	trial.Watchdog = Watchdog{}
	if in.Resume {
		_, _, err = resume(trial, Resume{in.Epoch, in.Deadline}, now)
	} else {
		_, _, err = arm(trial, Arm{in.Epoch, in.Deadline}, now)
	}
	if err != nil || in.Resume && in.Epoch == 0 {
		return s, nil, nil // what follows is refused, or arms nothing
	}
	return openFor(s, in.Deadline, now)
}

// openFor opens the device if it is wanted, and if its countdown would end
// before the hard limit.
func openFor(s State, deadline, now int64) (State, []Action, error) {
	w := &s.Watchdog
	if w.Mode == WatchdogOff || w.Open {
		return s, nil, nil
	}
	if left := deadline + w.Tail - now; left < w.Longest {
		w.Fault = fmt.Sprintf("only %v are left of this leadership, too little to begin with", time.Duration(left))
		w.FaultAt = now
		return s, nil, nil
	}
	return s, []Action{OpenWatchdog{}}, nil
}

func opened(s State, in Opened, now int64) (State, []Action, error) {
	w := &s.Watchdog
	w.Open, w.Timeout, w.Pinged, w.Fault = true, in.Timeout, now, ""
	w.Fresh, w.Release = !s.Armed, false
	return s, nil, nil
}

// checkWatchdog is the last precondition of arming.
func checkWatchdog(s State) error {
	w := &s.Watchdog
	if w.Mode != WatchdogRequired || w.inForce() {
		return nil
	}
	return refuse(CodeWatchdog, "arm refused: watchdog.mode is required, and it is not in force: %s", w.why())
}

func (w *Watchdog) why() string {
	switch {
	case w.Fault != "":
		return w.Fault
	case w.Mode == WatchdogOff && !w.Open:
		return "watchdog.mode is off"
	case !w.Open:
		return "it is opened when this node becomes the leader"
	}
	return ""
}

// released follows an arm that was refused although the device had been opened
// for it: it has never guarded anything and is switched off again.
func released(s State, acts []Action, err error) (State, []Action, error) {
	if err != nil && s.Watchdog.Fresh && !s.Armed {
		s, acts = switchOff(s)
	}
	return s, acts, err
}

func switchOff(s State) (State, []Action) {
	w := &s.Watchdog
	open := w.Open
	w.Open, w.Timeout, w.Pinged, w.Fresh, w.Release = false, 0, 0, false, false
	if !open {
		return s, nil
	}
	w.Fault = ""
	return s, []Action{CloseWatchdog{}}
}

// every is the least pause between keepalives. The shell looks every
// BeatInterval while armed, which is what makes them come.
func (w *Watchdog) every() int64 { return min(int64(BeatInterval)/2, w.Timeout/4) }

// keepAlive sends a keepalive if one is due: while armed, and never one that
// would let the device wait past the hard limit.
func keepAlive(s State, now int64) (State, []Action) {
	w := &s.Watchdog
	if !w.Open || !s.Armed || now < w.Pinged+w.every() || now+w.Timeout > s.Deadline+w.Tail {
		return s, nil
	}
	w.Pinged = now
	return s, []Action{PingWatchdog{}}
}
