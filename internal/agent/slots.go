package agent

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// slotWork carries out the plans for replication slots beside the loop, a lane at
// a time: one that waits holds up no other.
type slotWork struct {
	mu     sync.Mutex
	lanes  map[string]ha.SlotLane
	broken map[string]bool // slots that could not be moved, since what they need is gone
}

// state is a copy for an observation.
func (w *slotWork) state() map[string]ha.SlotLane {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.lanes)
}

// take begins the work of a lane, unless it is at work.
func (w *slotWork) take(lane string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lanes == nil {
		w.lanes, w.broken = map[string]ha.SlotLane{}, map[string]bool{}
	}
	l := w.lanes[lane]
	if l.Busy {
		return false
	}
	l.Busy = true
	w.lanes[lane] = l
	return true
}

// done ends the work of a lane; news tells whether it failed in another way than
// the last time.
func (w *slotWork) done(lane string, at ha.Instant, err error) (news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var l ha.SlotLane
	if err != nil {
		l.Failed, l.Error = at, err.Error()
		news = l.Error != w.lanes[lane].Error
	}
	w.lanes[lane] = l
	return news
}

func (w *slotWork) setBroken(name string, broken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if broken {
		w.broken[name] = true
	} else {
		delete(w.broken, name)
	}
}

// facts are the slots as decisions see them.
func (w *slotWork) facts(all []postgres.Slot) map[string]ha.SlotState {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string]ha.SlotState, len(all))
	for i := range all {
		s := &all[i]
		state := ha.SlotState{
			Type: ha.SlotType(s.Type), Database: s.Database, Plugin: s.Plugin, Active: s.Active, HasXmin: s.Xmin != 0 || s.CatalogXmin != 0,
			Lost: s.Invalid || w.broken[s.Name], Failover: s.Failover, Synced: s.Synced, Restart: s.RestartLSN, At: s.RestartLSN,
		}
		if state.Type == ha.SlotLogical {
			state.At = s.ConfirmedLSN
		}
		out[s.Name] = state
	}
	return out
}

// SyncSlots implements loop.Node.
func (n *node) SyncSlots(plan ha.SyncSlots) {
	if n.srv.FeedbackForced() != plan.Feedback {
		n.srv.ForceFeedback(plan.Feedback)
		n.apply(false)
	}
	lanes := map[string][]ha.SlotStep{}
	for _, s := range plan.Steps {
		lanes[s.Lane()] = append(lanes[s.Lane()], s)
	}
	for lane, steps := range lanes {
		if n.slots.take(lane) {
			n.background(func(ctx context.Context) { n.workSlots(ctx, lane, steps) })
		}
	}
}

// slotsLimit bounds the work on slots of one lane: somewhat longer than the
// server's own limits for a statement.
const (
	slotsLimit        = 15 * time.Second
	logicalSlotsLimit = 6 * time.Minute
)

// workSlots does the steps of one lane. They do not depend on each other. The
// loop is woken when there is more to do than to move a slot.
func (n *node) workSlots(ctx context.Context, lane string, steps []ha.SlotStep) {
	limit := slotsLimit
	if lane != "" {
		limit = logicalSlotsLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var errs []error
	wake := false
	for _, s := range steps {
		err := n.workSlot(ctx, s)
		errs = append(errs, err)
		wake = wake || err == nil && s.Verb != ha.SlotAdvance
	}
	err := errors.Join(errs...)
	if n.slots.done(lane, n.now(), err) {
		n.log.Warn(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if wake {
		n.wake()
	}
}

func (n *node) workSlot(ctx context.Context, s ha.SlotStep) error {
	slot := postgres.Slot{Name: s.Name, Type: string(s.Type), Database: s.Database, Plugin: s.Plugin}
	switch s.Verb {
	case ha.SlotDrop:
		gone, err := n.srv.DropSlot(ctx, s.Name)
		if gone {
			n.slots.setBroken(s.Name, false)
			n.log.Info("dropped a replication slot: "+s.Why, "slot", s.Name)
		}
		return err
	case ha.SlotCreate:
		err := n.srv.CreateSlot(ctx, slot)
		if err == nil {
			n.log.Info("created a replication slot", "slot", s.Name, "type", s.Type)
		}
		return err
	case ha.SlotAdvance:
		err := n.srv.AdvanceSlot(ctx, slot, s.To)
		n.slots.setBroken(s.Name, errors.Is(err, postgres.ErrSlotUnusable))
		return err
	}
	return nil
}

// copyLimit bounds the look at the leader's slots.
const copyLimit = 20 * time.Second

// copySlots brings logical slots over from the leader. The server is restarted
// only if there is something to bring.
func (n *node) copySlots(ctx context.Context, a ha.CopySlots) error {
	up := n.upstreamOf(a.From)
	if up == nil {
		return errors.New("copy logical slots from " + a.From.Member + ": its address cannot be read")
	}
	names := make([]string, len(a.Slots))
	for i := range a.Slots {
		names[i] = a.Slots[i].Name
	}
	read, cancel := context.WithTimeout(ctx, copyLimit)
	files, err := n.srv.ReadSlots(read, *up, names)
	cancel()
	if err != nil {
		return err
	}
	files = n.fitting(files, a.Slots)
	if len(files) == 0 {
		return errors.New(a.From.Member + " has none of the logical slots " + strings.Join(names, ", ") + " that could be copied")
	}
	follow := n.followed()
	n.expectStop()
	if err := n.srv.Stop(ctx, postgres.StopFast, true); err != nil {
		n.mu.Lock()
		n.stopping = false
		n.mu.Unlock()
		return err
	}
	err = n.srv.InstallSlots(files)
	// The server is started all the same.
	if err := errors.Join(err, n.start(ctx, ha.Start{Upstream: follow})); err != nil {
		return err
	}
	for _, f := range files {
		n.slots.setBroken(f.Name, false)
		n.log.Info("copied a logical replication slot", "slot", f.Name, "from", a.From.Member)
	}
	return nil
}

// followed is the upstream in force.
func (n *node) followed() ha.Upstream {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.upstream
}

// fitting leaves out slots that are not what /config says.
func (n *node) fitting(files []postgres.SlotFile, want []ha.Slot) (out []postgres.SlotFile) {
	for _, f := range files {
		for _, w := range want {
			switch {
			case f.Name != w.Name:
			case f.Database == w.Database && f.Plugin == w.Plugin:
				out = append(out, f)
			default:
				n.log.Warn("a logical slot of the leader is not what /config says; it is not copied", "slot", f.Name, "database", f.Database, "plugin", f.Plugin)
			}
		}
	}
	return out
}
