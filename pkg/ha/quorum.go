package ha

import (
	"errors"
	"fmt"
)

// QuorumState is what a pass of the quorum resolver starts from (ha-behaviour 3.8).
// A commit is acknowledged by any NumSync of Sync; a candidate needs Quorum
// other nodes of Voters and Leader that are not ahead of it, and one more if it
// is none of them itself. The passes keep every set that acknowledges meeting
// every set that elects (S5), also when they are cut short between two steps.
type QuorumState struct {
	// Leader, Quorum and Voters are of /sync.
	Leader string
	Quorum int
	Voters nameSet
	// NumSync and Sync are of synchronous_standby_names as it is in effect.
	NumSync int
	Sync    nameSet
	// Confirmed is how many of Sync have all that was written before Sync changed.
	Confirmed int
	// Active are the standbys fit for synchronous duty now.
	Active nameSet
	// Wanted is synchronous_node_count, Me the leader that runs the pass.
	Wanted int
	Me     string
}

// QuorumStep is one write of a pass.
type QuorumStep struct {
	Kind QuorumStepKind
	// Count and Names are the new quorum and voters, or the new number and
	// names of synchronous standbys.
	Count int
	Names nameSet
}

// QuorumStepKind is what a step writes.
type QuorumStepKind int

// Kinds of steps.
const (
	QuorumStepVoters  QuorumStepKind = iota // /sync, with Me as its leader
	QuorumStepStandby                       // synchronous_standby_names
	QuorumStepRestart                       // nothing: read again how far the standbys are, and begin anew
)

// errQuorum is a state, or a step, that would break the invariants.
var errQuorum = errors.New("quorum and synchronous standbys do not fit each other")

// quorumPass collects the steps; QuorumState is the state after the last one.
type quorumPass struct {
	QuorumState
	steps []QuorumStep
}

// Steps returns the writes that bring the state nearer to what is wanted, in
// order: what raises the protection first, what lowers it last. On an error no
// step is to be taken.
func (q QuorumState) Steps() ([]QuorumStep, error) {
	q.NumSync = min(q.NumSync, len(q.Sync))
	p := &quorumPass{QuorumState: q}
	for _, phase := range []func() (done bool, err error){
		p.takeOver, p.recall, p.finish, p.slack, p.removeGone, p.addNew, p.resize,
	} {
		if done, err := phase(); err != nil {
			return nil, err
		} else if done {
			break
		}
	}
	return merged(p.steps), nil
}

// merged drops a step that the next one of its kind makes void, and all that
// comes after a restart.
func merged(steps []QuorumStep) []QuorumStep {
	var out []QuorumStep
	for _, s := range steps {
		if n := len(out); n > 0 && out[n-1].Kind == s.Kind {
			out = out[:n-1]
		}
		out = append(out, s)
		if s.Kind == QuorumStepRestart {
			break
		}
	}
	return out
}

// check is I1 and I2: the two sets meet, and one holds the other.
func (q *QuorumState) check() error {
	elect := q.Voters.plus(newNameSet(q.Leader))
	ack := q.Sync.plus(newNameSet(q.Me))
	if all := elect.plus(ack); len(q.Voters) > 0 && len(all) > q.Quorum+q.NumSync+1 {
		return fmt.Errorf("%w: quorum %d of %v, %d of %v", errQuorum, q.Quorum, elect, q.NumSync, ack)
	}
	if !elect.within(ack) && !ack.within(elect) {
		return fmt.Errorf("%w: voters %v, synchronous standbys %v", errQuorum, elect, ack)
	}
	return nil
}

// standbys adds the step that writes synchronous_standby_names.
func (p *quorumPass) standbys(n int, names nameSet) error {
	if n < 0 || n > len(names) {
		return fmt.Errorf("%w: %d of %v", errQuorum, n, names)
	}
	p.NumSync, p.Sync = n, names
	p.steps = append(p.steps, QuorumStep{QuorumStepStandby, n, names})
	return p.check()
}

// voters adds the step that writes /sync. With adjust, nodes that have not
// caught up yet are made up for by a larger quorum.
func (p *quorumPass) voters(quorum int, names nameSet, adjust bool) error {
	quorum = max(quorum, 0) // more acknowledge than elect
	if quorum > len(names) {
		return fmt.Errorf("%w: quorum %d of %v", errQuorum, quorum, names)
	}
	switch {
	case p.Confirmed == 0 && len(p.Voters) == 0:
		quorum, names = 0, nil // nobody has all yet: nobody may be elected
	case adjust:
		quorum += max(p.NumSync-p.Confirmed, 0)
		quorum = min(quorum, len(names.plus(p.Sync))) // which is everybody
	}
	if quorum == p.Quorum && names.equal(p.Voters) {
		if len(p.Voters) > 0 {
			return nil
		}
		p.steps = append(p.steps, QuorumStep{QuorumStepRestart, quorum, names})
		return nil
	}
	return p.setVoters(quorum, names)
}

func (p *quorumPass) setVoters(quorum int, names nameSet) error {
	p.Quorum, p.Voters = quorum, names
	p.steps = append(p.steps, QuorumStep{QuorumStepVoters, quorum, names})
	return p.check()
}

// takeOver is phase 1: the leader of /sync becomes this node, and the old one a voter.
func (p *quorumPass) takeOver() (done bool, err error) {
	if p.Leader == p.Me {
		err = p.check()
	} else {
		done, err = p.changeLeader()
	}
	if !errors.Is(err, errQuorum) {
		return done, err
	}
	if p.Leader != p.Me {
		return false, err
	}
	return false, p.voters(len(p.Sync)-p.NumSync, p.Sync, true) // somebody edited one of the two
}

func (p *quorumPass) changeLeader() (done bool, err error) {
	names := p.Voters.minus(newNameSet(p.Me)).plus(newNameSet(p.Leader))
	if len(p.Sync) == 0 {
		if err := p.standbys(len(names)-p.Quorum, names); err != nil {
			return false, err
		}
	}
	p.Leader = p.Me
	if err := p.setVoters(p.Quorum, names); err != nil {
		return false, err
	}
	return len(p.Sync.and(p.Active)) == 0, nil // just promoted: give them time to connect
}

// recall is phase 2: after a restart what was confirmed follows from the quorum.
func (p *quorumPass) recall() (bool, error) {
	if known := p.Sync.and(p.Active).and(p.Voters); p.Confirmed == 0 {
		p.Confirmed = max(len(known)-p.Quorum, 0) // so many at least, whoever else acknowledged
	}
	return false, nil
}

// finish is phase 3: a pass that was interrupted has left one set the larger.
func (p *quorumPass) finish() (bool, error) {
	if !p.Sync.within(p.Voters) {
		if err := p.finishStandbys(); err != nil {
			return false, err
		}
	}
	if !p.Voters.within(p.Sync) { // or were, until those who are gone left the others
		if err := p.finishVoters(); err != nil {
			return false, err
		}
	}
	if !p.Sync.equal(p.Voters) {
		return false, fmt.Errorf("%w: voters %v, synchronous standbys %v", errQuorum, p.Voters, p.Sync)
	}
	return false, nil
}

func (p *quorumPass) finishVoters() error {
	if dead := p.Voters.minus(p.Sync).minus(p.Active); len(dead) > 0 {
		rest := p.Voters.minus(dead)
		if err := p.voters(len(rest)-p.NumSync, rest, true); err != nil {
			return err
		}
	}
	if add := p.Voters.and(p.Active).minus(p.Sync); len(add) > 0 {
		return p.standbys(p.NumSync, p.Sync.plus(add))
	}
	return nil
}

func (p *quorumPass) finishStandbys() error {
	dead := p.Sync.minus(p.Active).minus(p.Voters) // voters who are gone: phase 5
	if rest := p.Sync.minus(dead); len(dead) > 0 && len(rest) > 0 {
		if err := p.standbys(min(p.NumSync, len(rest)), rest); err != nil {
			return err
		}
	}
	if add := p.Sync.minus(p.Voters).and(p.Active); len(add) > 0 {
		all := p.Voters.plus(add)
		if err := p.voters(len(all)-p.NumSync, all, true); err != nil {
			return err
		}
	}
	if left := p.Sync.minus(p.Voters); len(left) > 0 {
		rest := p.Sync.minus(left)
		return p.standbys(min(p.NumSync, len(rest)), rest)
	}
	return nil
}

// slack is phase 4: more protection than is wanted, on one side or the other.
func (p *quorumPass) slack() (bool, error) {
	q, all := p.Quorum, len(p.Voters.plus(p.Sync))
	switch {
	case q+min(p.NumSync, p.Confirmed)-all > 0:
		if p.NumSync > p.Wanted {
			return false, p.standbys(max(p.Wanted, len(p.Voters)-q), p.Sync)
		}
	case p.NumSync == p.Wanted && p.NumSync > p.Confirmed && q+p.NumSync-all > 0:
	default:
		return false, nil
	}
	return false, p.voters(len(p.Sync)-p.NumSync, p.Voters, true)
}

// removeGone is phase 5.
func (p *quorumPass) removeGone() (bool, error) {
	gone := p.Sync.minus(p.Active)
	if len(gone) == 0 {
		return false, nil
	}
	if gone.equal(p.Sync) {
		if err := p.voters(0, nil, false); err != nil {
			return false, err
		}
		return false, p.standbys(0, nil)
	}
	if q := p.Quorum; q > 0 {
		taken := gone[max(len(gone)-q, 0):]
		gone = gone.minus(taken)
		sync := p.Sync.minus(taken)
		if err := p.standbys(min(max(p.Wanted, p.NumSync), len(sync)), sync); err != nil {
			return false, err
		}
		voters := p.Voters.minus(taken)
		if err := p.voters(len(voters)-p.NumSync, voters, len(gone) == 0); err != nil {
			return false, err
		}
	}
	if len(gone) == 0 {
		return false, nil
	}
	n, sync, voters := p.NumSync-len(gone), p.Sync.minus(gone), p.Voters.minus(gone)
	quorum := n - min(p.Wanted, len(sync))
	if quorum != 0 {
		quorum = min(quorum, len(voters)-1)
	}
	if err := p.voters(quorum, voters, false); err != nil {
		return false, err
	}
	return false, p.standbys(n, sync)
}

// addNew is phase 6.
func (p *quorumPass) addNew() (bool, error) {
	fresh := p.Active.minus(p.Sync)
	if len(fresh) == 0 {
		return false, nil
	}
	want := min(p.Wanted, len(p.Sync.plus(fresh)))
	if more := want - p.NumSync; more > 0 {
		add, count := fresh, want
		if len(p.Sync) > 0 {
			add = fresh[:min(more, len(fresh))]
			count = p.NumSync + len(add)
		}
		fresh = fresh.minus(add)
		if err := p.standbys(count, p.Sync.plus(add)); err != nil {
			return false, err
		}
		voters := p.Voters.plus(add)
		if err := p.voters(len(voters)-p.NumSync, voters, true); err != nil {
			return false, err
		}
	}
	if len(fresh) == 0 {
		return false, nil
	}
	voters := p.Voters.plus(fresh)
	if err := p.voters(len(voters)-want, voters, want > p.Confirmed); err != nil {
		return false, err
	}
	return false, p.standbys(want, p.Sync.plus(fresh))
}

// resize is phase 7: another number of standbys is wanted.
func (p *quorumPass) resize() (bool, error) {
	switch d := min(p.Wanted, len(p.Sync)) - p.NumSync; {
	case d > 0:
		if err := p.standbys(p.NumSync+d, p.Sync); err != nil {
			return false, err
		}
		return false, p.voters(len(p.Voters)-p.NumSync, p.Voters, true)
	case d < 0:
		if need := len(p.Voters) - p.NumSync - d; need > p.Quorum {
			if err := p.voters(need, p.Voters, p.Wanted > p.Confirmed); err != nil {
				return false, err
			}
		}
		return false, p.standbys(p.NumSync+d, p.Sync)
	}
	return false, nil
}

// atPromotion returns synchronous_standby_names for the moment in which Me, just
// elected, becomes writable (ha-behaviour 3.6): /sync is still its predecessor's.
func (q QuorumState) atPromotion() (n int, names nameSet) {
	elect := q.Voters.plus(newNameSet(q.Leader))
	names = elect.minus(newNameSet(q.Me))
	n = len(elect) - q.Quorum - 1
	if !elect.has(q.Me) {
		n++
	}
	return max(n, 0), names
}
