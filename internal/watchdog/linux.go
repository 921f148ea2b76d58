package watchdog

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// linuxDevice is a device of the kernel's watchdog interface
// (Documentation/watchdog/watchdog-api.rst).
type linuxDevice struct {
	fd      int
	path    string
	timeout time.Duration
	magic   bool // the countdown stops only after the magic byte
	reset   LastReset
}

// ioctls is what is asked of the kernel, so that the rules around the answers
// can be tested on a host without a watchdog.
type ioctls struct {
	support    func(fd int) (options uint32, err error)
	bootStatus func(fd int) (int, error)
	setTimeout func(fd, seconds int) error
	getTimeout func(fd int) (int, error)
}

var kernel = ioctls{
	support: func(fd int) (uint32, error) {
		info, err := unix.IoctlGetWatchdogInfo(fd)
		if err != nil {
			return 0, err
		}
		return info.Options, nil
	},
	bootStatus: func(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.WDIOC_GETBOOTSTATUS) },
	setTimeout: func(fd, s int) error { return unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, s) },
	getTimeout: func(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.WDIOC_GETTIMEOUT) },
}

func openLinux(o Options) (Device, error) {
	if err := Check(DriverLinux, o.Path); err != nil {
		return nil, err
	}
	// Before it is opened: afterwards there is no way back.
	if nowayout("/sys", o.Path) {
		return nil, fmt.Errorf("watchdog.device %s cannot be switched off again (nowayout), so each pause or handover would reset this host; load its driver with nowayout=0", o.Path)
	}
	fd, err := open(o.Path)
	if err != nil {
		return nil, err
	}
	return setUp(&linuxDevice{fd: fd, path: o.Path}, kernel, o)
}

// setUp asks the open device what it can do and sets the timeout. What it will
// not do is an error, and the device is switched off.
func setUp(d *linuxDevice, k ioctls, o Options) (Device, error) {
	options, err := k.support(d.fd)
	if err != nil {
		return nil, d.giveUp(fmt.Errorf("ask watchdog %s what it supports: %w", d.path, err))
	}
	d.magic = options&unix.WDIOF_MAGICCLOSE != 0
	d.reset = lastReset(k, d.fd, options)
	if options&unix.WDIOF_SETTIMEOUT != 0 {
		if err := k.setTimeout(d.fd, int(o.Timeout/time.Second)); err != nil {
			return nil, d.giveUp(fmt.Errorf("set timeout of watchdog %s to %v: %w", d.path, o.Timeout, err))
		}
	}
	seconds, err := k.getTimeout(d.fd)
	if err != nil {
		return nil, d.giveUp(fmt.Errorf("read timeout of watchdog %s: %w", d.path, err))
	}
	d.timeout = time.Duration(seconds) * time.Second
	if d.timeout < time.Second || d.timeout > o.Longest {
		return nil, d.giveUp(fmt.Errorf("watchdog %s keeps a timeout of %v, but ttl, loop_wait and retry_timeout leave room for %v at most; raise ttl, or use another device", d.path, d.timeout, o.Longest))
	}
	return d, nil
}

func lastReset(k ioctls, fd int, options uint32) LastReset {
	if options&unix.WDIOF_CARDRESET == 0 {
		return ResetUnknown
	}
	switch status, err := k.bootStatus(fd); {
	case err != nil:
		return ResetUnknown
	case status&unix.WDIOF_CARDRESET != 0:
		return ResetWatchdog
	}
	return ResetOther
}

// giveUp closes a device that cannot be used.
func (d *linuxDevice) giveUp(why error) error {
	if err := d.Close(); err != nil {
		return fmt.Errorf("%w; %w", why, err)
	}
	return why
}

// nowayout tells whether the kernel says that the device behind path can never
// be switched off. It says nothing without CONFIG_WATCHDOG_SYSFS.
func nowayout(sys, path string) bool {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false
	}
	major, minor := unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	file := fmt.Sprintf("%s/dev/char/%d:%d/nowayout", sys, major, minor)
	if major == miscMajor && minor == watchdogMinor { // the old name of the first one
		file = sys + "/class/watchdog/watchdog0/nowayout"
	}
	text, err := os.ReadFile(file)
	return err == nil && strings.TrimSpace(string(text)) == "1"
}

// Numbers of /dev/watchdog, which are fixed.
const (
	miscMajor     = 10
	watchdogMinor = 130
)

func (d *linuxDevice) Timeout() time.Duration { return d.timeout }
func (d *linuxDevice) LastReset() LastReset   { return d.reset }

func (d *linuxDevice) Caveat() string {
	if d.magic {
		return ""
	}
	return "the device knows no magic close: it is switched off when the leash dies"
}

func (d *linuxDevice) Ping() error {
	if err := write(d.fd, keepalive); err != nil {
		return fmt.Errorf("keepalive to watchdog %s: %w", d.path, err)
	}
	return nil
}

// Close of a device without magic close sends a last keepalive: should it go on
// counting, it does so from the start.
func (d *linuxDevice) Close() error {
	last := keepalive
	if d.magic {
		last = magicClose
	}
	err := errors.Join(write(d.fd, last), unix.Close(d.fd))
	if err != nil {
		return fmt.Errorf("switch off watchdog %s: %w; it may reset this host", d.path, err)
	}
	return nil
}
