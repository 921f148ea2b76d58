package loop

import (
	"context"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

// Run turns until a decision ends the agent, or ctx does (then Exit is nil).
// Any readable channel in wakes the loop early; stop, once closed, asks for an
// orderly end. turned is called after each finished step.
func (l *Loop) Run(ctx context.Context, wake <-chan struct{}, stop <-chan struct{}, turned func()) *ha.Exit {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, exit := l.Step(ctx)
		if exit != nil {
			return exit
		}
		turned()
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-stop:
			stop = nil
			l.Stop()
		case <-wake:
		case <-l.DCS.Changed():
		case <-timer.C:
		}
	}
}
