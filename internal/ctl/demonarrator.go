package ctl

import (
	"fmt"
	"sync"
	"time"
)

// narrator prints what the demo does, line by line, each with the seconds since
// it began. While a step lasts it shows that time goes on: a moving clock on a
// terminal, a line every few seconds elsewhere.
type narrator struct {
	app   *App
	began time.Time

	mu   sync.Mutex
	open string // the step on the terminal's current line
	done chan struct{}
	wg   sync.WaitGroup
}

// Periods of the signs of life during a step.
const (
	terminalTick = 100 * time.Millisecond
	plainTick    = 5 * time.Second
)

func newNarrator(a *App) *narrator {
	n := &narrator{app: a, began: a.Now(), done: make(chan struct{})}
	n.wg.Go(n.tick)
	return n
}

// close stops the clock; the narrator prints still, without it.
func (n *narrator) close() {
	close(n.done)
	n.wg.Wait()
}

func (n *narrator) elapsed() float64 { return n.app.Now().Sub(n.began).Seconds() }

func (n *narrator) tick() {
	period := plainTick
	if n.app.Terminal {
		period = terminalTick
	}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-n.done:
			return
		case <-ticker.C:
		}
		n.mu.Lock()
		switch {
		case n.open == "":
		case n.app.Terminal:
			n.app.printf("\r%6.1f s  %s ...", n.elapsed(), n.open)
		default:
			n.app.printf("%6.1f s  still %s\n", n.elapsed(), n.open)
		}
		n.mu.Unlock()
	}
}

// say prints one line with the time.
func (n *narrator) say(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clearLine()
	n.app.printf("%6.1f s  %s\n", n.elapsed(), fmt.Sprintf(format, args...))
}

// text prints one line of explanation.
func (n *narrator) text(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clearLine()
	n.app.printf("          %s\n", fmt.Sprintf(format, args...))
}

// title prints the heading of an act.
func (n *narrator) title(number int, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clearLine()
	n.app.printf("\n--- %d. %s\n\n", number, text)
}

func (n *narrator) clearLine() {
	if n.open != "" && n.app.Terminal {
		n.app.printf("\r\x1b[K")
	}
}

// step runs f, and shows its name while it runs and how long it took.
func (n *narrator) step(name string, f func() error) error {
	began := n.app.Now()
	n.mu.Lock()
	n.open = name
	if !n.app.Terminal {
		n.app.printf("%6.1f s  %s\n", n.elapsed(), name)
	}
	n.mu.Unlock()
	err := f()
	n.mu.Lock()
	n.clearLine()
	n.open = ""
	n.mu.Unlock()
	if err == nil {
		n.say("%s: done in %.1f s", name, n.app.Now().Sub(began).Seconds())
	}
	return err
}
