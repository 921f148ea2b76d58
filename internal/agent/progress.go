package agent

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// reportEvery is how often a long operation says in the log how far it is.
const reportEvery = 5 * time.Second

// meter follows a long operation: it knows the rate, and writes a line now and
// then. It is safe for concurrent use.
type meter struct {
	what string // "creating replica", "backup", ...
	log  *slog.Logger
	now  func() time.Time

	mu    sync.Mutex
	p     dcs.Progress
	begun time.Time // of the present method
	first int64     // bytes done by then
	said  time.Time
}

func newMeter(what, operation string, log *slog.Logger, now func() time.Time) *meter {
	at := now()
	return &meter{what: what, log: log, now: now, begun: at, said: at, p: dcs.Progress{Operation: operation, Started: at}}
}

// report takes in how many bytes are done; total 0: unknown.
func (m *meter) report(method string, done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if method != m.p.Method || done < m.p.Done {
		m.begun, m.first = now, done
	}
	m.p.Method, m.p.Done, m.p.Total, m.p.Rate = method, done, total, 0
	if took := now.Sub(m.begun); took > 0 {
		m.p.Rate = int64(float64(done-m.first) / took.Seconds())
	}
	if now.Sub(m.said) >= reportEvery {
		m.said = now
		m.log.Info(m.what + ": " + describe(&m.p))
	}
}

// progress is how far the operation is.
func (m *meter) progress() *dcs.Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.p
	return &p
}

// describe puts progress into words: "pgbackrest, 1.5 GiB of 3.0 GiB (50 %), 90.0 MiB/s, 17s left".
func describe(p *dcs.Progress) string {
	text := p.Method + ", " + size(p.Done)
	if p.Total > 0 {
		text += fmt.Sprintf(" of %s (%d %%)", size(p.Total), min(100*p.Done/p.Total, 100))
	}
	if p.Rate > 0 {
		text += ", " + size(p.Rate) + "/s"
	}
	if left := p.Left(); left > 0 {
		text += ", " + left.Round(time.Second).String() + " left"
	}
	return text
}

// size renders bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
