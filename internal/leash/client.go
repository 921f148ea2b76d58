package leash

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrLost: the connection to the leash is gone. Attach or Spawn again.
	ErrLost = errors.New("leash: connection lost")
	// ErrNoLeash: nobody listens in the run directory.
	ErrNoLeash = errors.New("leash: none runs")
	// ErrNotArmed: Extend was called for an epoch that is not armed.
	ErrNotArmed = errors.New("leash: epoch not armed")
	// ErrLatched: the deadline of the epoch passed; nothing brings it back.
	ErrLatched = errors.New("leash: epoch latched")
	// ErrDeadline: Extend was called with a deadline that passed or is too far away.
	ErrDeadline = errors.New("leash: deadline out of range")
)

// sendTimeout is for callers whose context has none. A leash reads at once.
const sendTimeout = 5 * time.Second

// eventBuffer is generous: a server exits once, a deadline passes once.
const eventBuffer = 64

// Client is the agent's side of one connection. It is safe for concurrent use.
type Client struct {
	conn    *net.UnixConn
	process *os.File // pidfd of the leash
	rec     *record

	etcd      atomic.Uint64 // see OfEtcd
	extending sync.RWMutex  // guards rec against Close, and its one writer

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan reply
	closing bool
	lost    error // set when the reader ended

	writing sync.Mutex
	events  chan Event
	done    chan struct{} // the reader has ended
}

// Attach connects to the leash of runDir. The server is not touched. The error
// is ErrNoLeash if nobody listens there.
func Attach(ctx context.Context, runDir string) (*Client, error) {
	conn, process, err := dial(ctx, filepath.Join(runDir, socketName))
	if err != nil {
		return nil, err
	}
	c := &Client{
		conn: conn, process: process, waiting: map[uint64]chan reply{},
		events: make(chan Event, eventBuffer), done: make(chan struct{}),
	}
	go c.read()
	if err := c.hello(ctx, runDir); err != nil {
		_ = c.Close() // the first error is the one to report
		return nil, err
	}
	return c, nil
}

// dial gives the connection and a handle on the process behind it. That it is that
// process, and not a later one of the same number, the answer to hello proves.
func dial(ctx context.Context, path string) (*net.UnixConn, *os.File, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, nil, ErrNoLeash
	}
	if err != nil {
		return nil, nil, fmt.Errorf("connect to leash: %w", err)
	}
	u := conn.(*net.UnixConn)
	process, err := checkPeer(u)
	if err != nil {
		_ = u.Close()
		return nil, nil, err
	}
	return u, process, nil
}

func checkPeer(conn *net.UnixConn) (*os.File, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("check leash: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, fmt.Errorf("check leash: %w", err)
	}
	if credErr != nil {
		return nil, fmt.Errorf("check leash: %w", credErr)
	}
	if int(cred.Uid) != os.Geteuid() && cred.Uid != 0 {
		return nil, fmt.Errorf("check leash: it belongs to uid %d, this process is uid %d", cred.Uid, os.Geteuid())
	}
	fd, err := unix.PidfdOpen(int(cred.Pid), 0)
	if err != nil {
		return nil, fmt.Errorf("open process of leash: %w", err)
	}
	return os.NewFile(uintptr(fd), "leash"), nil
}

func (c *Client) hello(ctx context.Context, runDir string) error {
	if _, err := c.call(ctx, request{Op: opHello, Protocol: Protocol}); err != nil {
		return err
	}
	rec, err := openRecord(filepath.Join(runDir, recordName), false)
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err == nil {
		err = rec.check(boot)
	}
	if err != nil {
		rec.close()
		return err
	}
	c.extending.Lock()
	c.rec = rec
	c.extending.Unlock()
	return nil
}

// Status asks the leash.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return c.call(ctx, request{Op: opStatus})
}

// Start starts a server and returns its postmaster's pid. It does not wait
// until the server accepts connections.
func (c *Client) Start(ctx context.Context, r StartRequest) (int, error) {
	st, err := c.call(ctx, request{Op: opStart, Start: &r})
	return serverPID(st), err
}

// Adopt takes over the server that runs in dataDir, whoever started it. An
// empty systemID fits any. The kernel does not stop an adopted server when the
// leash dies, so the status is degraded until its next start.
func (c *Client) Adopt(ctx context.Context, dataDir, systemID string) (int, error) {
	st, err := c.call(ctx, request{Op: opAdopt, DataDir: dataDir, SystemID: systemID})
	return serverPID(st), err
}

func serverPID(st Status) int {
	if st.Server == nil {
		return 0
	}
	return st.Server.PID
}

// OfEtcd says which etcd cluster the epochs are of that are armed from here on.
// A leash of an earlier version does not listen.
func (c *Client) OfEtcd(id uint64) { c.etcd.Store(id) }

// Arm gives the deadline of an epoch. On nil the leash has it.
func (c *Client) Arm(ctx context.Context, epoch, deadline int64) error {
	_, err := c.call(ctx, request{Op: opArm, Epoch: epoch, Etcd: c.etcd.Load(), Deadline: deadline})
	return err
}

// Extend moves the deadline of the armed epoch forward by writing to shared
// memory; it makes no call that could block. The leash takes it at its next
// look, at the latest when the old deadline comes. A deadline that is not
// later than the one in force changes nothing. The errors are ErrLatched,
// ErrNotArmed, ErrDeadline and ErrLost.
func (c *Client) Extend(epoch, deadline int64) error {
	c.extending.Lock()
	defer c.extending.Unlock()
	if c.rec == nil {
		return ErrLost
	}
	p, ok := c.rec.published()
	switch {
	case !ok:
		return ErrLost
	case epoch <= p.Latched:
		return ErrLatched
	case !p.Armed || p.Epoch != epoch:
		return ErrNotArmed
	case deadline == p.Deadline:
		return nil
	}
	if now := Now(); deadline <= now || deadline > now+p.Lmax {
		return ErrDeadline
	}
	c.rec.writeExtension(Extension{Epoch: epoch, Deadline: deadline})
	return nil
}

// Beat is the last instant the leash is known to have looked at its deadline,
// on the clock of Now; 0 after Close. While it is armed or has a server it
// looks every BeatInterval.
func (c *Client) Beat() int64 {
	c.extending.RLock()
	defer c.extending.RUnlock()
	if c.rec == nil {
		return 0
	}
	return c.rec.lastBeat()
}

// Kill ends a leash that does not beat any more, however stuck it is. The kernel then
// tells the server to stop, as its parent is gone.
func (c *Client) Kill() error {
	raw, err := c.process.SyscallConn()
	if err != nil {
		return fmt.Errorf("kill leash: %w", err)
	}
	var killErr error
	if err := raw.Control(func(fd uintptr) { killErr = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }); err != nil {
		killErr = err
	}
	if killErr != nil {
		return fmt.Errorf("kill leash: %w", killErr)
	}
	return nil
}

// Disarm ends the hold after demotion. The leash checks for itself that the
// server is dead or in recovery; an agent that asked for a promotion must not
// call it before that promotion's outcome is known.
func (c *Client) Disarm(ctx context.Context, epoch int64) error {
	_, err := c.call(ctx, request{Op: opDisarm, Epoch: epoch})
	return err
}

// Suspend puts the deadline aside: nothing is killed any more.
func (c *Client) Suspend(ctx context.Context, reason string) error {
	_, err := c.call(ctx, request{Op: opSuspend, Reason: reason})
	return err
}

// Resume ends a suspension with a fresh deadline. Epoch 0 leaves the leash
// unarmed and is refused if the server may write.
func (c *Client) Resume(ctx context.Context, epoch, deadline int64) error {
	_, err := c.call(ctx, request{Op: opResume, Epoch: epoch, Etcd: c.etcd.Load(), Deadline: deadline})
	return err
}

// Signal sends INT, QUIT, TERM, HUP, USR1 or CONT to the postmaster.
func (c *Client) Signal(ctx context.Context, sig syscall.Signal) error {
	_, err := c.call(ctx, request{Op: opSignal, Signal: int(sig)})
	return err
}

// Fence sends SIGQUIT, sweeps after the quiet time, and returns when nothing
// of the server is left. No epoch is latched and no standby.signal is made.
func (c *Client) Fence(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opFence})
	return err
}

// Sweep kills at once, with SIGKILL, every process of the server that runs on
// dataDir, or what is left of one whose postmaster is dead. It returns when no
// process is left and the shared memory is detached. A living postmaster that
// is not the leash's own is refused: adopt it first.
func (c *Client) Sweep(ctx context.Context, dataDir string) error {
	_, err := c.call(ctx, request{Op: opSweep, DataDir: dataDir})
	return err
}

// Configure changes the clamp of deadlines and the quiet time, after a change
// of the TTL. A leash that guards something takes no longer to fence and clamps
// no nearer than before: the deadline in force is of the TTL before.
func (c *Client) Configure(ctx context.Context, quiet, lmax time.Duration) error {
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if st.Armed || st.Suspended || st.Server != nil {
		quiet, lmax = min(quiet, st.Quiet), max(lmax, st.Lmax)
	}
	if quiet == st.Quiet && lmax == st.Lmax {
		return nil
	}
	_, err = c.call(ctx, request{Op: opConfigure, Quiet: int64(quiet), Lmax: int64(lmax)})
	return err
}

// SetWatchdog changes the settings of the kernel watchdog. A device that is open
// keeps its own until the next arm after a disarm; one that is wanted now is
// opened at once where the leash is armed. A leash of an earlier version knows
// no watchdog: its Status has none, and nothing is asked of it.
func (c *Client) SetWatchdog(ctx context.Context, o WatchdogOptions) error {
	st, err := c.Status(ctx)
	if err != nil || st.Watchdog == nil {
		return err
	}
	_, err = c.call(ctx, request{Op: opWatchdog, Watchdog: &o})
	return err
}

// Forget starts the count of epochs anew, after the operator confirmed that
// etcd was restored (safety S11).
func (c *Client) Forget(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opForget})
	return err
}

// Quit ends the leash, and its hold. It is refused while a server runs. It returns when the
// connection is closed.
func (c *Client) Quit(ctx context.Context) error {
	if _, err := c.call(ctx, request{Op: opQuit}); err != nil {
		return err
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for leash to leave: %w", ctx.Err())
	}
}

// Events is the stream of events. It is closed after LeashLost or Close. If
// nobody reads, the oldest are dropped: Status holds the last exit.
func (c *Client) Events() <-chan Event { return c.events }

// Close detaches. Leash and server go on.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	err := c.conn.Close()
	<-c.done
	_ = c.process.Close()
	c.extending.Lock()
	defer c.extending.Unlock()
	if c.rec != nil {
		c.rec.close()
		c.rec = nil
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (c *Client) call(ctx context.Context, r request) (Status, error) {
	ch := make(chan reply, 1)
	c.mu.Lock()
	if c.lost != nil || c.closing {
		c.mu.Unlock()
		return Status{}, ErrLost
	}
	c.nextID++
	r.ID = c.nextID
	c.waiting[r.ID] = ch
	c.mu.Unlock()
	defer c.forgetCall(r.ID)

	if err := c.send(ctx, r); err != nil {
		return Status{}, err
	}
	select {
	case rep, ok := <-ch:
		return answer(rep, ok)
	case <-ctx.Done():
		return Status{}, fmt.Errorf("ask leash to %s: %w", r.Op, ctx.Err())
	}
}

func answer(rep reply, ok bool) (Status, error) {
	var st Status
	if !ok {
		return st, ErrLost
	}
	if rep.Status != nil {
		st = *rep.Status
	}
	if rep.Refusal != nil {
		return st, rep.Refusal
	}
	return st, nil
}

func (c *Client) forgetCall(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// send writes one whole frame. A frame cut short would garble the stream, so a
// write that runs into the deadline ends the connection.
func (c *Client) send(ctx context.Context, r request) error {
	frame, err := encode(r)
	if err != nil {
		return fmt.Errorf("ask leash to %s: %w", r.Op, err)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ask leash to %s: %w", r.Op, err)
	}
	limit, ok := ctx.Deadline()
	if !ok {
		limit = time.Now().Add(sendTimeout)
	}
	_ = c.conn.SetWriteDeadline(limit) // fails for a closed connection, as the write will
	if _, err := c.conn.Write(frame); err != nil {
		_ = c.conn.Close()
		return errors.Join(ErrLost, err)
	}
	return nil
}

func (c *Client) read() {
	err := c.readLoop()
	c.mu.Lock()
	c.lost = err
	for id, ch := range c.waiting {
		close(ch)
		delete(c.waiting, id)
	}
	closing := c.closing
	c.mu.Unlock()
	if !closing {
		_ = c.conn.Close() // nothing will be read any more
		c.push(Event{Kind: LeashLost})
	}
	close(c.events)
	close(c.done)
}

func (c *Client) readLoop() error {
	in := bufio.NewReader(c.conn)
	for {
		var head [headerSize]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n > maxMessage {
			return errMessageSize
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(in, body); err != nil {
			return err
		}
		var rep reply
		if err := json.Unmarshal(body, &rep); err != nil {
			return fmt.Errorf("decode message: %w", err)
		}
		c.dispatch(rep)
	}
}

func (c *Client) dispatch(rep reply) {
	if rep.Event != nil {
		c.push(*rep.Event)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch, ok := c.waiting[rep.ID]; ok {
		delete(c.waiting, rep.ID)
		ch <- rep
	}
}

// push never blocks: only the reader sends, so dropping the oldest makes room.
func (c *Client) push(e Event) {
	for {
		select {
		case c.events <- e:
			return
		default:
		}
		select {
		case <-c.events:
		default:
		}
	}
}
