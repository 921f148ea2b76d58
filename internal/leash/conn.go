package leash

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	maxConns = 16
	// maxUnsent is what an agent may leave unread before it is cut off: a
	// stopped agent must not cost the leash memory.
	maxUnsent = 256 << 10
)

// conn is one connection of an agent or of a tool.
type conn struct {
	fd      int
	in, out []byte
	hello   bool // it spoke a protocol we know
	pid     int32
	broken  bool
}

// debt is an answer that waits until nothing of the server is left.
type debt struct {
	conn *conn
	id   uint64
}

// Positions in the poll set; connections follow.
const (
	fdTimer = iota
	fdWake
	fdListener
	fdServer
	fdConns
)

func (l *leash) listen() error {
	path := filepath.Join(l.cfg.RunDir, socketName)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("create socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("bind %s: %w", path, err)
	}
	l.listener = fd
	if err := unix.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("chmod %s: %w", path, err)
	}
	if err := unix.Listen(fd, maxConns); err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	return nil
}

func (l *leash) pollSet() []unix.PollFd {
	server := -1 // ignored by poll
	if l.srv != nil && !l.srv.exited {
		server = l.srv.pidfd
	}
	fds := make([]unix.PollFd, fdConns, fdConns+len(l.conns))
	fds[fdTimer] = unix.PollFd{Fd: int32(l.timer), Events: unix.POLLIN}
	fds[fdWake] = unix.PollFd{Fd: int32(l.wake[0]), Events: unix.POLLIN}
	fds[fdListener] = unix.PollFd{Fd: int32(l.listener), Events: unix.POLLIN}
	fds[fdServer] = unix.PollFd{Fd: int32(server), Events: unix.POLLIN}
	for _, c := range l.conns {
		events := int16(unix.POLLIN)
		if len(c.out) > 0 {
			events |= unix.POLLOUT
		}
		fds = append(fds, unix.PollFd{Fd: int32(c.fd), Events: events})
	}
	return fds
}

func readable(fd unix.PollFd) bool {
	return fd.Revents&(unix.POLLIN|unix.POLLHUP|unix.POLLERR) != 0
}

// serve deals with the sockets. l.conns is as it was when fds was made.
func (l *leash) serve(fds []unix.PollFd) {
	for i, c := range l.conns {
		if readable(fds[fdConns+i]) {
			l.receive(c)
		}
		l.flush(c)
	}
	l.dropBroken()
	if readable(fds[fdListener]) {
		l.accept()
	}
}

func (l *leash) accept() {
	fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return // it went away again, or we are out of descriptors: poll comes back
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || (int(cred.Uid) != os.Geteuid() && cred.Uid != 0) || len(l.conns) >= maxConns {
		l.log.printf("connection refused: not our uid, or more than %d", maxConns)
		_ = unix.Close(fd)
		return
	}
	l.conns = append(l.conns, &conn{fd: fd, pid: cred.Pid})
}

// receive reads what there is and handles whole messages. The loop is bounded
// so that a flood cannot hold up the deadline.
func (l *leash) receive(c *conn) {
	var buf [16 << 10]byte
	n, err := unix.Read(c.fd, buf[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil || n == 0:
		c.broken = true
		return
	}
	c.in = append(c.in, buf[:n]...)
	for !c.broken {
		body, rest, err := cut(c.in)
		if err != nil {
			l.log.printf("process %d: %v", c.pid, err)
			c.broken = true
			return
		}
		if body == nil {
			break
		}
		c.in = rest
		l.handle(c, body)
		_ = l.apply(Tick{}) // between two requests of a batch
	}
	if len(c.in) == 0 {
		c.in = nil
	}
}

func (l *leash) handle(c *conn, body []byte) {
	var r request
	if err := json.Unmarshal(body, &r); err != nil {
		l.log.printf("process %d: message is not understood: %v", c.pid, err)
		c.broken = true
		return
	}
	if !c.hello && r.Op != opHello {
		l.answer(c, r.ID, refuse(CodeInvalid, "say hello first"))
		return
	}
	later, err := l.do(c, r)
	if later {
		l.owed = append(l.owed, debt{c, r.ID})
		return
	}
	l.answer(c, r.ID, err)
}

func (l *leash) answer(c *conn, id uint64, err error) {
	st := l.status()
	rep := reply{ID: id, Status: &st}
	if err != nil {
		rep.Refusal = asRefusal(err)
	}
	l.send(c, rep)
}

func asRefusal(err error) *Refusal {
	if r := (*Refusal)(nil); errors.As(err, &r) {
		return r
	}
	return refuse(CodeSystem, "%v", err)
}

func (l *leash) push(e Event) {
	for _, c := range l.conns {
		if c.hello {
			l.send(c, reply{Event: &e})
		}
	}
}

func (l *leash) payDebts() {
	owed := l.owed
	l.owed = nil
	for _, d := range owed {
		l.answer(d.conn, d.id, nil)
	}
}

func (l *leash) send(c *conn, rep reply) {
	frame, err := encode(rep)
	if err != nil || len(c.out)+len(frame) > maxUnsent {
		l.log.printf("process %d does not read: cut off", c.pid)
		c.broken = true
		return
	}
	c.out = append(c.out, frame...)
	l.flush(c)
}

func (l *leash) flush(c *conn) {
	for len(c.out) > 0 && !c.broken {
		n, err := unix.SendmsgN(c.fd, c.out, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			return
		case err != nil:
			c.broken = true
		default:
			c.out = c.out[n:]
		}
	}
}

// dropBroken forgets connections that ended. That is a line in the log and
// never a reason to touch the server.
func (l *leash) dropBroken() {
	kept := l.conns[:0]
	for _, c := range l.conns {
		if !c.broken {
			kept = append(kept, c)
			continue
		}
		if c.hello {
			l.log.printf("process %d detached", c.pid)
		}
		_ = unix.Close(c.fd)
	}
	clear(l.conns[len(kept):])
	l.conns = kept
}

func (l *leash) attached() bool {
	for _, c := range l.conns {
		if c.hello && !c.broken {
			return true
		}
	}
	return false
}
