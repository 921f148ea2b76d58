package agent

import (
	"testing"
	"time"

	"github.com/pgha/pgha/internal/leash"
	"github.com/pgha/pgha/pkg/ha"
)

func (r *dogRig) leash() leash.Status {
	r.Helper()
	r.mu.Lock()
	c := r.client
	r.mu.Unlock()
	st, err := c.Status(r.ctx)
	if err != nil {
		r.Fatal(err)
	}
	return st
}

// TestLeashLearnsTheTiming: a ttl that changes under a primary reaches its leash,
// which would refuse the deadlines of a much longer one, and stop the server.
func TestLeashLearnsTheTiming(t *testing.T) {
	r := newDogRig(t, leash.WatchdogOff)
	o := r.spawn()
	o.Lmax, o.Quiet = 10*time.Second, 500*time.Millisecond
	r.spawn = func() leash.SpawnOptions { return o }
	if err := r.Arm(r.ctx, 1, in(4*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	o.Lmax, o.Quiet = time.Minute, time.Second
	far := in(27 * time.Second)
	r.Extend(1, far)
	r.until("the later deadline is taken", func() bool { return r.leash().Deadline == int64(far) })
	if st := r.leash(); st.Lmax != time.Minute || st.Quiet != 500*time.Millisecond {
		t.Errorf("limit %v, quiet %v: an armed leash takes no longer to fence", st.Lmax, st.Quiet)
	}
	o.Lmax, o.Quiet = 10*time.Second, 400*time.Millisecond
	r.retell(r.ctx)
	if st := r.leash(); st.Lmax != time.Minute || st.Quiet != 400*time.Millisecond {
		t.Errorf("limit %v, quiet %v: the deadline in force is the longer ttl's", st.Lmax, st.Quiet)
	}
	r.Extend(1, far) // not later: what a first round with a shorter ttl does
	if st := r.leash(); !st.Armed || ha.Instant(st.Deadline) != far {
		t.Errorf("leash %+v", st)
	}
}

// TestArmAfterUnheardSuspension: the agent was stopped while the leash answered that it is suspended, and the pause
// is over: the leash is armed all the same, and the leadership goes on.
func TestArmAfterUnheardSuspension(t *testing.T) {
	r := newDogRig(t, leash.WatchdogOff)
	if err := r.Arm(r.ctx, 1, in(time.Minute), 1); err != nil {
		t.Fatal(err)
	}
	if err := r.Suspend(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.until("the suspension is known", func() bool { return r.Status().Suspended })
	r.mu.Lock()
	r.status.Suspended = false
	r.mu.Unlock()
	if err := r.Arm(r.ctx, 1, in(time.Minute), 1); err != nil {
		t.Fatal(err)
	}
	r.until("armed", func() bool { s := r.Status(); return s.Armed == 1 && !s.Suspended })
}

// TestHolds: a deadline counts as the leash has it now, extended or not; neither
// the agent's memory of it nor a deadline that passed meanwhile does.
func TestHolds(t *testing.T) {
	r := newDogRig(t, leash.WatchdogOff)
	if r.holds(r.ctx) == nil {
		t.Error("nothing is armed")
	}
	if err := r.Arm(r.ctx, 1, in(time.Minute), 1); err != nil { // which starts the leash
		t.Fatal(err)
	}
	early := in(time.Second)
	if err := r.Arm(r.ctx, 2, early, 1); err != nil {
		t.Fatal(err)
	}
	late := early.Add(time.Second)
	r.Extend(2, late)
	r.until("the first deadline is over", func() bool { return now() > early })
	if err := r.holds(r.ctx); err != nil {
		t.Error(err)
	}
	r.until("the second is over", func() bool { return now() > late })
	if r.holds(r.ctx) == nil {
		t.Error("the deadline has passed")
	}
}
