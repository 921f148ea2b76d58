package logging

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// ErrStuck means that records could not be written in time at the end.
var ErrStuck = errors.New("the log's last records could not be written")

// Log takes records and writes them, to standard error or to rotated files.
type Log struct {
	stderr io.Writer
	shape  atomic.Pointer[shape]
	lost   atomic.Uint64
	group  sync.WaitGroup

	mu      sync.Mutex
	queue   [][]byte
	missing uint64 // lost since the last record that was queued
	max     int    // records the queue may hold
	out     io.Writer
	closed  bool
	work    chan struct{} // readable when there is something to do
	idle    chan struct{} // closed when everything has been written; nil: nobody waits
}

// shape is what formatting needs of the configuration.
type shape struct {
	level   slog.Level
	layout  layout
	section config.Log
}

// New returns a running log. Until Configure names a directory, it writes to stderr.
func New(stderr io.Writer, c config.Log) *Log {
	l := &Log{stderr: stderr, out: stderr, work: make(chan struct{}, 1)}
	l.configure(c)
	l.group.Add(1)
	go func() {
		defer l.group.Done()
		l.write()
	}()
	return l
}

// Logger returns the logger whose records l writes.
func (l *Log) Logger() *slog.Logger { return slog.New(&handler{log: l}) }

// Lost is how many records were lost because the queue was full.
func (l *Log) Lost() uint64 { return l.lost.Load() }

// Open begins to write to the files the section asks for. Without log.dir it
// does nothing; on an error everything goes to standard error as before.
func (l *Log) Open(c config.Log) error {
	out := io.Writer(l.stderr)
	if c.Dir != "" {
		f, err := openFile(c)
		if err != nil {
			return err
		}
		out = f
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = out // the writer closes the old one when it comes across the new one
	l.signal()
	return nil
}

// Configure puts another section into force.
func (l *Log) Configure(c config.Log) error {
	old := l.shape.Load().section
	l.configure(c)
	if old.Dir == c.Dir && old.FileSize == c.FileSize && old.FileNum == c.FileNum && old.Mode == c.Mode {
		return nil
	}
	return l.Open(c)
}

func (l *Log) configure(c config.Log) {
	l.shape.Store(&shape{level: Level(c.Level), layout: newLayout(c), section: c})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.max = c.MaxQueueSize
	if l.max <= 0 { // Python's queues: no bound; ours needs one
		l.max = defaultQueue
	}
}

// defaultQueue is log.max_queue_size where it is not set.
const defaultQueue = 1000

// put queues one record; it never waits for a device.
func (l *Log) put(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) >= l.max || l.closed {
		l.lost.Add(1)
		l.missing++
		return
	}
	if n := l.missing; n > 0 {
		l.missing = 0
		s := l.shape.Load()
		l.queue = append(l.queue, s.layout.format(record{time: time.Now(), level: slog.LevelWarn,
			message: strconv.FormatUint(n, 10) + " log records were lost here: they came faster than they could be written"}))
	}
	l.queue = append(l.queue, line)
	l.signal()
}

func (l *Log) signal() {
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// write is the goroutine that writes, until Close has been called and the queue is empty.
func (l *Log) write() {
	out := l.stderr
	for range l.work {
		for {
			l.mu.Lock()
			lines, next, closed := l.queue, l.out, l.closed
			l.queue = nil
			if len(lines) == 0 && l.idle != nil {
				close(l.idle)
				l.idle = nil
			}
			l.mu.Unlock()
			if next != out {
				closeWriter(out)
				out = next
			}
			for _, line := range lines {
				if _, err := out.Write(line); err != nil && out != l.stderr {
					_, _ = l.stderr.Write(line) // a full disk: the journal may still take it
				}
			}
			if len(lines) == 0 {
				if closed {
					closeWriter(out)
					return
				}
				break
			}
		}
	}
}

func closeWriter(w io.Writer) {
	if f, ok := w.(*file); ok {
		_ = f.Close() // everything was written unbuffered
	}
}

// Flush waits until everything queued so far has been written, or ctx ends.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.signal()
	l.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ErrStuck
	}
}

// Close writes what is queued and ends the log; ErrStuck when that took longer
// than ctx allows. Records that come later are lost.
func (l *Log) Close(ctx context.Context) error {
	err := l.Flush(ctx)
	l.mu.Lock()
	l.closed = true
	l.signal()
	l.mu.Unlock()
	if err == nil {
		l.group.Wait()
	}
	return err
}
