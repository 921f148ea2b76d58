package watchdog

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// pipe is the driver for tests: a FIFO that somebody reads. The timeout is
// announced as a line, and taken as accepted.
type pipe struct {
	fd      int
	path    string
	timeout time.Duration
}

// openTesting does not wait for a reader, as Patroni would: without one there
// is nothing that could act.
func openTesting(o Options) (Device, error) {
	if err := Check(DriverTesting, o.Path); err != nil {
		return nil, err
	}
	fd, err := open(o.Path)
	if err != nil {
		return nil, err
	}
	if err := write(fd, fmt.Sprintf("Ctimeout=%d\n", o.Timeout/time.Second)); err != nil {
		return nil, errors.Join(fmt.Errorf("set timeout of watchdog %s: %w", o.Path, err), unix.Close(fd))
	}
	return &pipe{fd: fd, path: o.Path, timeout: o.Timeout}, nil
}

func (p *pipe) Timeout() time.Duration { return p.timeout }
func (p *pipe) LastReset() LastReset   { return ResetUnknown }
func (p *pipe) Caveat() string         { return "" }

func (p *pipe) Ping() error {
	if err := write(p.fd, keepalive); err != nil {
		return fmt.Errorf("keepalive to watchdog %s: %w", p.path, err)
	}
	return nil
}

func (p *pipe) Close() error {
	if err := errors.Join(write(p.fd, magicClose), unix.Close(p.fd)); err != nil {
		return fmt.Errorf("switch off watchdog %s: %w; it may reset this host", p.path, err)
	}
	return nil
}
