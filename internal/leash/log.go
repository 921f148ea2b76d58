package leash

import (
	"fmt"
	"os"
	"time"
)

// asyncLog writes lines from a goroutine of its own: a full pipe or a hung
// disk behind stderr must not hold up the deadline. Lines that find no room
// are dropped and counted.
type asyncLog struct {
	lines   chan string
	done    chan struct{}
	dropped int // main thread only
}

func newLog() *asyncLog {
	l := &asyncLog{lines: make(chan string, 256), done: make(chan struct{})}
	go l.write()
	return l
}

func (l *asyncLog) write() {
	defer close(l.done)
	for line := range l.lines {
		_, _ = os.Stderr.WriteString(line) // nowhere to report it
	}
}

func (l *asyncLog) printf(format string, args ...any) {
	stamp := time.Now().Format("2006-01-02 15:04:05.000")
	line := fmt.Sprintf("%s pgha-leash[%d]: %s\n", stamp, os.Getpid(), fmt.Sprintf(format, args...))
	if l.dropped > 0 {
		line = fmt.Sprintf("%s pgha-leash[%d]: %d lines dropped\n", stamp, os.Getpid(), l.dropped) + line
	}
	select {
	case l.lines <- line:
		l.dropped = 0
	default:
		l.dropped++
	}
}

// close waits for the last lines, but not for a writer that hangs.
func (l *asyncLog) close() {
	close(l.lines)
	select {
	case <-l.done:
	case <-time.After(200 * time.Millisecond):
	}
}
