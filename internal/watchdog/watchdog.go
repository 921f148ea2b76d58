// Package watchdog drives a kernel watchdog: a device that resets the host
// unless it gets a keepalive within its timeout. It knows two drivers: the
// Linux device, and the pipe protocol that tests use (wire contract §1.10).
//
// Nothing here waits: devices are opened and written without blocking. Who may
// send a keepalive, and until when, is decided elsewhere (package leash).
package watchdog

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Drivers by their names in the configuration.
const (
	DriverLinux   = "default"
	DriverTesting = "testing"
)

// Options say which device to open, and how.
type Options struct {
	Driver string // DriverLinux or DriverTesting
	Path   string
	// Timeout is what is asked for, in whole seconds. A device may keep
	// another one; longer than Longest it is of no use and switched off again.
	Timeout, Longest time.Duration
}

// LastReset is why the host was started last, as far as the device knows.
type LastReset string

// Causes of the last reset.
const (
	ResetUnknown  LastReset = "" // the device cannot tell
	ResetWatchdog LastReset = "watchdog"
	ResetOther    LastReset = "other" // power, reboot: not this watchdog
)

// Device is an open watchdog: it counts down from the moment it was opened.
type Device interface {
	// Timeout is what the device said after it was set.
	Timeout() time.Duration
	// Ping sends one keepalive.
	Ping() error
	// Close switches the countdown off ("magic close") and closes the device.
	// After an error the host may still be reset.
	Close() error
	// LastReset is the cause that the device reported when it was opened.
	LastReset() LastReset
	// Caveat is what this device does not promise, "" if nothing is amiss.
	Caveat() string
}

// Open opens a device and sets its timeout. After an error nothing counts
// down, or the error says so.
func Open(o Options) (Device, error) {
	if o.Timeout < time.Second || o.Timeout%time.Second != 0 || o.Longest < o.Timeout {
		return nil, fmt.Errorf("open watchdog %s: timeout %v, at most %v: not whole seconds of at least one", o.Path, o.Timeout, o.Longest)
	}
	switch o.Driver {
	case DriverLinux:
		return openLinux(o)
	case DriverTesting:
		return openTesting(o)
	}
	return nil, unknownDriver(o.Driver)
}

// Check tells why a device could not be used, without opening it: opening
// starts the countdown.
func Check(driver, path string) error {
	switch driver {
	case DriverLinux:
		return checkNode(path, unix.S_IFCHR, "a watchdog device")
	case DriverTesting:
		return checkNode(path, unix.S_IFIFO, "a named pipe")
	}
	return unknownDriver(driver)
}

func unknownDriver(name string) error {
	return fmt.Errorf("watchdog.driver %q is not known here; it is %s or %s", name, DriverLinux, DriverTesting)
}

func checkNode(path string, kind uint32, what string) error {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("watchdog.device %s does not exist; load a driver for it (softdog, for example), or name another", path)
	case err != nil:
		return fmt.Errorf("watchdog.device %s: %w", path, err)
	case st.Mode&unix.S_IFMT != kind:
		return fmt.Errorf("watchdog.device %s is not %s", path, what)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("watchdog.device %s cannot be written by uid %d (%w); a udev rule can give it to the owner of the data directory", path, unix.Geteuid(), err)
	}
	return nil
}

// open opens for writing, without waiting, and without leaving the descriptor
// to a server: as long as anybody has it open, the device counts as open.
func open(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EBUSY:
			return -1, fmt.Errorf("open watchdog %s: %w; another program (systemd, watchdogd, another agent) has it", path, err)
		case err == unix.ENXIO:
			return -1, fmt.Errorf("open watchdog %s: %w; nobody reads the pipe, or no device is behind it", path, err)
		case err != nil:
			return -1, fmt.Errorf("open watchdog %s: %w", path, err)
		}
		return fd, nil
	}
}

// write sends text whole, or says why not. A full pipe is an error, not a wait.
func write(fd int, text string) error {
	for {
		n, err := unix.Write(fd, []byte(text))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n != len(text):
			return fmt.Errorf("%d of %d bytes taken", n, len(text))
		}
		return nil
	}
}

const (
	keepalive  = "1"
	magicClose = "V"
)
