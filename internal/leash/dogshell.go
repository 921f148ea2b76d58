package leash

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/watchdog"
)

// dog is the device and what is said about it.
type dog struct {
	options   WatchdogOptions // for the next opening
	device    watchdog.Device // nil: not open
	path      string          // of the open device
	caveat    string
	lastReset watchdog.LastReset
	said      string // the last fault that was logged
}

// setDog takes new settings over. An old agent sends none, and changes none.
func (l *leash) setDog(o *WatchdogOptions) error {
	if o == nil {
		return refuse(CodeInvalid, "watchdog refused: no settings")
	}
	old := l.dog.options
	l.dog.options = *o
	err := l.apply(SetWatchdog{Mode: o.Mode, Want: int64(o.Timeout), Longest: int64(o.Longest), Tail: int64(o.Tail)})
	switch {
	case err != nil:
		l.dog.options = old
		l.log.printf("%v", err)
	case *o != old && l.dog.device != nil:
		l.log.printf("watchdog: mode %s, device %s, timeout %v from the next arm on; until then %s stays open", o.Mode, o.Device, o.Timeout, l.dog.path)
	case *o != old:
		l.log.printf("watchdog: mode %s, device %s, timeout %v", o.Mode, o.Device, o.Timeout)
	}
	return err
}

// openDog opens the device. Nothing in it waits (package watchdog).
func (l *leash) openDog() {
	o := l.dog.options
	d, err := watchdog.Open(watchdog.Options{Driver: o.Driver, Path: o.Device, Timeout: o.Timeout, Longest: o.Longest})
	if err != nil {
		why := oneLine(err)
		if why != l.dog.said {
			l.log.printf("the kernel watchdog is not in force: %s", why)
			l.dog.said = why
		}
		_ = l.apply(NotOpened{Why: why}) // a fact, not refused
		return
	}
	l.dog.device, l.dog.path, l.dog.said = d, o.Device, ""
	l.dog.caveat, l.dog.lastReset = d.Caveat(), d.LastReset()
	l.log.printf("watchdog %s is open, timeout %v", o.Device, d.Timeout())
	if l.dog.lastReset == watchdog.ResetWatchdog {
		l.log.printf("the last start of this host followed a reset by the watchdog")
	}
	_ = l.apply(Opened{Timeout: int64(d.Timeout())}) // a fact, not refused
}

func (l *leash) pingDog() {
	if l.dog.device == nil {
		return
	}
	why := ""
	if err := l.dog.device.Ping(); err != nil {
		why = oneLine(err)
	}
	if why == l.state.Watchdog.Fault {
		return
	}
	if why != "" {
		l.log.printf("the kernel watchdog takes no keepalive, and may reset this host: %s", why)
	} else {
		l.log.printf("the kernel watchdog takes keepalives again")
	}
	_ = l.apply(Pinged{Why: why}) // a fact, not refused
	l.push(Event{Kind: WatchdogChanged})
}

func (l *leash) closeDog() {
	if l.dog.device == nil {
		return
	}
	if err := l.dog.device.Close(); err != nil {
		l.log.printf("%s", oneLine(err))
	} else {
		l.log.printf("watchdog %s is switched off", l.dog.path)
	}
	l.dog.device = nil
}

func (l *leash) dogStatus() *WatchdogStatus {
	w := &l.state.Watchdog
	st := &WatchdogStatus{
		Mode: w.Mode.String(), Device: l.dog.options.Device, Open: w.Open, Timeout: time.Duration(w.Timeout),
		InForce: w.inForce() && l.state.Armed, LastReset: string(l.dog.lastReset), Why: w.why(),
	}
	if w.Open {
		st.Device = l.dog.path
	}
	if w.Fault != "" {
		st.Failed = w.FaultAt
	}
	if st.Why == "" && w.Open && !l.state.Armed {
		st.Why = "not armed any more, and not let go: it resets this host unless the agent disarms"
	}
	return st
}

// dogDegraded is the promise of the watchdog that is not kept.
func (l *leash) dogDegraded() string {
	switch w := &l.state.Watchdog; {
	case !l.state.Armed || w.Mode == WatchdogOff && !w.Open:
		return ""
	case !w.inForce():
		return fmt.Sprintf("kernel watchdog: %s", w.why())
	case l.dog.caveat != "":
		return "kernel watchdog: " + l.dog.caveat
	}
	return ""
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
