package agent

import (
	"time"

	"github.com/pgha/pgha/internal/leash"
)

// A leash that hangs guards nothing: its deadline could pass unnoticed. One that has
// missed four beats is ended, and what follows is what follows the loss of any leash.
const (
	beatCheck   = leash.BeatInterval
	missedBeats = 4 // checks without a beat: 2 s
)

// watchBeat ends the leash when it stops beating. It counts its own looks instead of
// reading a clock: after both were stopped together, neither is to blame.
func (k *keeper) watchBeat(c *leash.Client, ended <-chan struct{}) {
	tick := time.NewTicker(beatCheck)
	defer tick.Stop()
	last, missed := int64(0), 0
	for {
		select {
		case <-tick.C:
		case <-ended:
			return
		}
		beat := c.Beat()
		if beat != last || !k.needed() {
			last, missed = beat, 0
			continue
		}
		if missed++; missed < missedBeats {
			continue
		}
		k.log.Error("the leash hangs; it is killed, and the server with it")
		if err := c.Kill(); err != nil {
			k.log.Error(err.Error())
		}
		return
	}
}

// needed tells whether the leash has something to guard, and must show that it does.
// In pause nothing is touched.
func (k *keeper) needed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return (k.status.Armed || k.status.Server != nil) && !k.status.Suspended
}
