package ha

import (
	"flag"
	"fmt"
	"strings"
	"testing"
)

var quorumNodes = flag.Int("quorum.nodes", 4, "cluster size of the exhaustive walk; 5 takes minutes")

// letters is the set of the one-letter names in s.
func letters(s string) nameSet { return newNameSet(strings.Split(s, "")...) }

func (s QuorumStep) String() string {
	return fmt.Sprintf("%c%d/%s", "QSR"[s.Kind], s.Count, strings.Join(s.Names, ""))
}

// TestQuorumSteps has the recorded transitions of ha-behaviour 3.8.
func TestQuorumSteps(t *testing.T) {
	for _, c := range []struct {
		quorum    int
		voters    string
		numSync   int
		sync      string
		confirmed int
		active    string
		wanted    int
		me, want  string
	}{
		{0, "", 0, "", 0, "bcde", 2, "a", "S2/bcde R0/"},
		{0, "", 2, "bcde", 1, "bcde", 2, "a", "Q3/bcde"},
		{3, "bcde", 2, "bcde", 3, "bcde", 2, "a", "Q2/bcde"},
		{0, "b", 1, "b", 1, "bc", 1, "a", "Q1/bc S1/bc"},
		{0, "b", 1, "b", 1, "bc", 2, "a", "S2/bc Q1/bc"},
		{1, "bc", 2, "bc", 2, "bc", 2, "a", "Q0/bc"},
		{0, "b", 1, "b", 0, "", 1, "a", "Q0/ S0/"},
		{0, "b", 1, "b", 0, "c", 1, "a", "Q0/ S1/c R0/"},
		{2, "bcde", 2, "bcde", 2, "bc", 2, "a", "S2/bc Q0/bc"},
		{2, "bcde", 2, "bcde", 2, "bcdef", 1, "a", "Q4/bcdef S1/bcdef"},
		{1, "bcde", 3, "bcde", 2, "bc", 1, "a", "S3/bcd Q1/bc S1/bc"},
		{2, "bcd", 0, "", 0, "", 2, "c", "S1/abd Q2/abd"},
		{1, "bc", 0, "", 0, "", 2, "d", "S2/abc Q1/abc"},
		{0, "bc", 1, "bc", 1, "bc", 1, "a", "Q1/bc"},
		{1, "bc", 2, "bd", 1, "bd", 1, "a", "Q1/bd S1/bd"},
		// c and d may have acknowledged without b, which has not caught up yet.
		{1, "bcd", 2, "bc", 0, "b", 2, "a", "Q2/bc S1/b Q1/b"},
		// One of three, or two of four, have it all; they may be those that are gone.
		{2, "bcd", 1, "bcd", 0, "bc", 1, "a", "S1/bc Q2/bc"},
		{2, "bcde", 2, "bcde", 0, "bcd", 2, "a", "S2/bcd Q2/bcd"},
	} {
		q := QuorumState{Leader: "a", Quorum: c.quorum, Voters: letters(c.voters), NumSync: c.numSync, Sync: letters(c.sync),
			Confirmed: c.confirmed, Active: letters(c.active), Wanted: c.wanted, Me: c.me}
		steps, err := q.Steps()
		var got []string
		for _, s := range steps {
			got = append(got, s.String())
		}
		if text := strings.Join(got, " "); err != nil || text != c.want {
			t.Errorf("Q%d/%s S%d/%s c%d active %s wanted %d leader %s: got %s, %v, want %s",
				c.quorum, c.voters, c.numSync, c.sync, c.confirmed, c.active, c.wanted, c.me, text, err, c.want)
		}
	}
}

// meets is S5 by enumeration: every set of nodes that can acknowledge a commit
// shares a node with every set that can elect. The primary itself has every
// commit, so a set that elects with it is no danger.
func (q QuorumState) meets() bool {
	if len(q.Voters) == 0 {
		return true // nobody but the leader may be elected
	}
	elect := q.Voters.plus(newNameSet(q.Leader))
	all := elect.plus(q.Sync).plus(newNameSet(q.Me))
	for ack := range subsets(q.Sync) {
		if len(ack) != q.NumSync {
			continue
		}
		ack = ack.plus(newNameSet(q.Me))
		// The candidate and the voters that are not ahead of it, one more of
		// them if it is no voter itself.
		for _, candidate := range all {
			for group := range subsets(elect.minus(newNameSet(candidate))) {
				need := q.Quorum
				if !elect.has(candidate) {
					need++
				}
				if len(group) >= need && len(ack.and(group.plus(newNameSet(candidate)))) == 0 {
					return false
				}
			}
		}
	}
	return true
}

func subsets(s nameSet) func(yield func(nameSet) bool) {
	return func(yield func(nameSet) bool) {
		for mask := range 1 << len(s) {
			var sub nameSet
			for i, n := range s {
				if mask>>i&1 == 1 {
					sub = append(sub, n)
				}
			}
			if !yield(sub) {
				return
			}
		}
	}
}

// quorumKey is the part of a state that outlives a pass.
type quorumKey struct {
	leader, me      string
	quorum, numSync int
	voters, sync    uint8
}

func maskOf(s nameSet) (b uint8) {
	for _, n := range s {
		b |= 1 << (n[0] - 'a')
	}
	return b
}

// TestQuorumExhaustive walks over every state that passes reach when they are
// cut short after any step, standbys come and go between any two, the wanted
// number changes, and whoever may be elected is.
func TestQuorumExhaustive(t *testing.T) {
	all := letters("abcde"[:*quorumNodes])
	first := QuorumState{Leader: "a", Me: "a"}
	seen := map[quorumKey]bool{}
	queue := []QuorumState{first}
	visit := func(from, q QuorumState, how string) {
		key := quorumKey{q.Leader, q.Me, q.Quorum, q.NumSync, maskOf(q.Voters), maskOf(q.Sync)}
		if seen[key] {
			return
		}
		seen[key] = true
		if !q.meets() {
			t.Fatalf("from %+v by %s: the sets of %+v do not meet", from, how, q)
		}
		queue = append(queue, q)
	}
	passes := 0
	for len(queue) > 0 {
		q := queue[0]
		queue = queue[1:]
		for active := range subsets(all.minus(newNameSet(q.Me))) {
			for confirmed := range len(q.Sync.and(active)) + 1 {
				for wanted := 1; wanted < 4; wanted++ {
					q.Active, q.Confirmed, q.Wanted = active, confirmed, wanted
					steps, err := q.Steps()
					if err != nil {
						t.Fatalf("%+v: %v", q, err)
					}
					passes++
					at := q
					for _, s := range steps {
						switch s.Kind {
						case QuorumStepVoters:
							at.Leader, at.Quorum, at.Voters = at.Me, s.Count, s.Names
						case QuorumStepStandby:
							at.NumSync, at.Sync = s.Count, s.Names
						case QuorumStepRestart:
						}
						visit(q, at, s.String())
					}
				}
			}
		}
		for _, c := range all { // c is elected
			elect := q.Voters.plus(newNameSet(q.Leader))
			if len(q.Voters) == 0 || c == q.Me || q.Leader != q.Me {
				continue
			}
			others, need := elect.minus(newNameSet(c)), q.Quorum
			if !elect.has(c) {
				need++
			}
			if need > len(others) {
				continue // nobody can
			}
			q := q
			q.Me = c
			q.NumSync, q.Sync = q.atPromotion()
			visit(q, q, "the election of "+c+" by "+strings.Join(elect, ""))
		}
	}
	t.Logf("%d nodes: %d states, %d passes", len(all), len(seen), passes)
}

// TestQuorumSettles: a primary takes one step a turn and looks anew. From every
// state that can be come by it gets to where it wants to be.
func TestQuorumSettles(t *testing.T) {
	others := letters("bcd")
	for voters := range subsets(others) {
		for sync := range subsets(others) {
			for active := range subsets(others) {
				for wanted := 1; wanted < 4; wanted++ {
					for n := range len(sync) + 1 {
						q := QuorumState{Leader: "a", Me: "a", Voters: voters, NumSync: n, Sync: sync, Active: active, Wanted: wanted}
						if q.Quorum = max(len(voters.plus(sync))-n, 0); !voters.within(sync) && !sync.within(voters) {
							continue
						}
						settle(t, q)
					}
				}
			}
		}
	}
}

func settle(t *testing.T, q QuorumState) {
	t.Helper()
	from := q
	for range 20 {
		q.Confirmed = len(q.Sync.and(q.Active)) // by the next look they have caught up
		steps, err := q.Steps()
		if err != nil {
			t.Fatalf("from %+v at %+v: %v", from, q, err)
		}
		if len(steps) == 0 {
			n := min(q.Wanted, len(q.Active))
			if !q.Sync.equal(q.Active) || !q.Voters.equal(q.Active) || q.NumSync != n || q.Quorum != len(q.Active)-n {
				t.Fatalf("from %+v: settles at %+v", from, q)
			}
			return
		}
		switch s := steps[0]; s.Kind {
		case QuorumStepVoters:
			q.Quorum, q.Voters = s.Count, s.Names
		case QuorumStepStandby:
			q.NumSync, q.Sync = s.Count, s.Names
		case QuorumStepRestart:
		}
	}
	t.Fatalf("from %+v: does not settle, at last %+v", from, q)
}
