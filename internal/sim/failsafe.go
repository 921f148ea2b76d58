package sim

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// failsafe asks the other agents beside the loop of n: questions and answers
// are events of their own, and die with the agent.
type failsafe struct {
	n      *node
	serial int
	round  ha.FailsafeRound
}

func (f *failsafe) Poll() ha.FailsafeRound { return f.round }

func (f *failsafe) Cancel() {
	f.serial++
	f.round = ha.FailsafeRound{}
}

func (f *failsafe) Begin(a ha.AskFailsafe) {
	f.serial++
	n, serial, timing := f.n, f.serial, a.Timing
	if f.round.Running {
		n.w.fail("C.1", "%s begins a failsafe round while one runs", n.name)
	}
	f.round = ha.FailsafeRound{Running: true, Epoch: a.Epoch, Timing: timing}
	w := n.w
	w.after(int64(a.After), func() {
		if f.serial != serial || n.failsafe != f {
			return
		}
		f.round.Sent = n.clock()
		yes, answers := map[string]bool{}, 0
		end := func(complete bool) {
			if f.serial != serial || n.failsafe != f {
				return
			}
			f.serial++
			f.round.Running, f.round.Complete = false, complete
			if complete {
				w.res.Agreed++
			}
			w.trace(n, "FAILSAFE: complete %v, yes from %d of %d", complete, len(yes), len(a.Members))
			n.wake()
		}
		verdict := func() bool {
			enough := len(yes) == len(a.Members)
			w.ghost.agreed(n, f.round.Sent, timing.TTL, yes)
			switch w.Mutant {
			case "M19": // with this node
				enough = 2*(len(yes)+1) > len(a.Members)+1
			case "M28":
				enough = len(yes) > 0 || len(a.Members) == 0
			}
			return enough
		}
		w.at(n.truly(a.Until), func() { end(verdict()) })
		if len(a.Members) == 0 {
			end(verdict())
		}
		for _, mem := range a.Members {
			w.after(between(w.net, ms/2, 10*ms), func() {
				ok, answered := n.post(w.node(mem.Name), timing.TTL)
				if !answered {
					return
				}
				w.after(between(w.net, ms/2, 10*ms), func() {
					if f.serial != serial || n.failsafe != f {
						return
					}
					if answers++; ok {
						yes[mem.Name] = true
					}
					if answers == len(a.Members) {
						end(verdict())
					}
				})
			})
		}
	})
}

// post is POST /failsafe from n to other.
func (n *node) post(other *node, ttl time.Duration) (ok, answered bool) {
	if other == nil || other.off || other.loop == nil || n.cutPeers || other.cutPeers || n.cutFrom[questions][other.index] || other.hung > n.w.now {
		return false, false
	}
	if !other.settings.Failsafe || other.server.writable() {
		return false, true
	}
	ttl = max(ttl, time.Duration(other.settings.TTL)*time.Second)
	if n.w.Mutant == "M29" {
		return true, true
	}
	return other.promises.Accept(n.name, other.clock().Add(ttl)), true
}

// listed is /failsafe; until etcd, which went back, has the keys of the present, as it
// was before: whoever lives by it may not see the other one.
func (g *ghost) listed() []byte {
	kv, ok := g.w.srv.Get(base + "/failsafe")
	if !g.back.settled() && (!ok || g.back.stale(kv.ModRevision)) {
		return g.back.listed
	}
	return kv.Value
}

// agreed: the members in yes promised, in answer to a round of n. Whether they
// are enough is worked out from the keys themselves. An operator's word does not get
// to a leader that is cut off from etcd: members that only the older /failsafe names
// may race beside it.
func (g *ghost) agreed(n *node, sent ha.Instant, ttl time.Duration, yes map[string]bool) {
	if !complete(g.listed(), n, yes) && (g.back.id == 0 || !complete(g.back.listed, n, yes)) {
		return
	}
	if g.back.id != 0 {
		kv, _ := g.w.srv.Get(base + "/failsafe")
		n.astray = !complete(kv.Value, n, yes)
	}
	r := g.rounds[n.name]
	r.agreed = max(r.agreed, sent.Add(budgetOf(ttl)))
	r.law = max(r.law, r.agreed)
	if r.ttl < ttl { // K counts by the larger one
		r.ttl = ttl
	}
	g.rounds[n.name] = r
}

// complete tells whether everybody in a /failsafe that names n is n or in yes.
func complete(failsafe []byte, n *node, yes map[string]bool) bool {
	f, err := dcs.DecodeFailsafe(failsafe)
	if err != nil {
		return false
	}
	for name := range f.Members {
		if name != n.name && !yes[name] {
			return false
		}
	}
	_, listed := f.Members[n.name]
	return listed
}
