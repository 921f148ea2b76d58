package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

// Periods of the commands that follow a long operation.
const (
	followPeriod = time.Second     // between two looks
	followLines  = 5 * time.Second // between two lines where lines cannot be rewritten
	// followPatience is how long there may be no news before a command gives
	// up: what it follows goes on without it.
	followPatience = 2 * time.Minute
)

// follower shows how far something is: on a terminal in one place, elsewhere by
// a line whenever the phase changes and every few seconds.
type follower struct {
	app   *App
	phase string
	last  time.Time // of the last line, where lines cannot be rewritten
	dirty bool      // the terminal's cursor stands in a line of ours
}

// show prints the present state; phase is the part of it that seldom changes.
func (f *follower) show(phase, text string) {
	if f.app.Terminal {
		f.app.printf("\r\x1b[K%s", f.app.fitting(text))
		f.dirty = true
		return
	}
	now := f.app.Now()
	if phase == f.phase && now.Sub(f.last) < followLines {
		return
	}
	f.phase, f.last = phase, now
	f.app.printf("%s\n", text)
}

// fitting cuts a text to one line of the terminal: a longer one could not be
// written over.
func (a *App) fitting(text string) string {
	file, ok := a.Out.(*os.File)
	if !ok {
		return text
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if runes := []rune(text); err == nil && width > 1 && len(runes) >= width {
		return string(runes[:width-1])
	}
	return text
}

// clear removes the line, for something that is to stay.
func (f *follower) clear() {
	if f.dirty {
		f.app.printf("\r\x1b[K")
		f.dirty = false
	}
}

// follow looks again and again until look says that it is over, or ctx ends,
// whose error it then returns. A look that fails is repeated, for a while.
func (a *App) follow(ctx context.Context, f *follower, look func() (over bool, err error)) error {
	defer f.clear()
	period := a.pollPeriod
	if period == 0 {
		period = followPeriod
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	news := a.Now()
	for {
		over, err := look()
		var unseen unseenError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && over:
			return nil
		case err == nil:
			news = a.Now()
		case !errors.As(err, &unseen):
			return err
		case a.Now().Sub(news) > followPatience:
			return fmt.Errorf("lost sight of it, it may go on: %w", unseen.error)
		default:
			f.show("no news", "no news: "+plain.OneLine(unseen.Error()))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// unseenError is a look that failed and says nothing about what was looked at.
type unseenError struct{ error }

func (e unseenError) Unwrap() error { return e.error }

// left ends a command that was interrupted while it followed something that
// goes on without it; the text says so. It is no abort.
type left string

func (l left) Error() string { return string(l) }

// percentOf is how far p is; ok is false when its total is not known.
func percentOf(done, total int64) (percent float64, ok bool) {
	if total <= 0 {
		return 0, false
	}
	return min(100*float64(done)/float64(total), 100), true
}

// progressFigures prints "41% 12.3 GB of 30.1 GB, 180 MB/s, 1m40s left", as far
// as known.
func progressFigures(done, total, rate int64, remaining time.Duration) string {
	var b strings.Builder
	if percent, ok := percentOf(done, total); ok {
		fmt.Fprintf(&b, "%d%% %s of %s", int(percent), byteText(done), byteText(total))
	} else {
		b.WriteString(byteText(done))
	}
	if rate > 0 {
		fmt.Fprintf(&b, ", %s/s", byteText(rate))
	}
	if remaining >= time.Second {
		fmt.Fprintf(&b, ", %s left", spanText(remaining))
	}
	return b.String()
}

// publishedText is a progress in one cell or line: what runs, and how far it is.
func publishedText(p *dcs.Progress) string {
	text := p.Operation
	if p.Method != "" && p.Method != p.Operation {
		text += " (" + p.Method + ")"
	}
	if p.Done == 0 && p.Total == 0 {
		return text
	}
	return text + " " + progressFigures(p.Done, p.Total, p.Rate, p.Left())
}

// progressObject is a progress where the format has objects of its own.
func progressObject(p *dcs.Progress) pyjson.Object {
	var o pyjson.Object
	o.Set("operation", p.Operation)
	o.Set("method", p.Method)
	o.Set("done", p.Done)
	o.Set("total", p.Total)
	if percent, ok := percentOf(p.Done, p.Total); ok {
		o.Set("percent", percent)
	}
	o.Set("rate", p.Rate)
	o.Set("left_seconds", p.Left().Seconds())
	if !p.Started.IsZero() {
		o.Set("started", p.Started.Format(time.RFC3339))
	}
	return o
}

// barWidth is the length of a progress bar in characters.
const barWidth = 20

// barText draws a bar and the figures; the bar is left out while the total is
// not known.
func barText(p restapi.Progress) string {
	figures := progressFigures(p.Done, p.Total, p.Rate, seconds(p.Left))
	percent, ok := percentOf(p.Done, p.Total)
	if !ok {
		return figures
	}
	full := int(percent * barWidth / 100)
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", barWidth-full) + "] " + figures
}

// byteText prints a size with units of 1024, as PostgreSQL does: 12.3 GB.
func byteText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	units := [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	for v >= 1023.5 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	if v >= 99.95 {
		return fmt.Sprintf("%.0f %s", v, units[unit])
	}
	return fmt.Sprintf("%.1f %s", v, units[unit])
}

// spanText prints a duration with its two greatest units: 1m40s, 2h05m, 3d04h.
func spanText(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()+0.5))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// clockText prints a time in the zone of the reader, with the zone.
func (a *App) clockText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(a.Now().Location()).Format("2006-01-02 15:04:05 MST")
}

// addWait adds --wait, which is the default, and --no-wait.
func addWait(flags *pflag.FlagSet, wait, noWait *bool) {
	flags.BoolVar(wait, "wait", true, "follow it until it has ended")
	flags.BoolVar(noWait, "no-wait", false, "order it only")
}
