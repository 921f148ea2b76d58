package lab

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// RoleAnswer is one GET /primary, asked on the node itself.
type RoleAnswer struct {
	Node           string
	Invoke, Return time.Duration // CLOCK_BOOTTIME
	Primary        bool          // the answer was 200
}

// Roles watches which nodes call themselves primary.
type Roles struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	answers []RoleAnswer
}

// WatchRoles asks every node GET /primary each period, from the node itself so
// that a node without a network is seen too.
func (l *Lab) WatchRoles(ctx context.Context, period time.Duration) *Roles {
	ctx, cancel := context.WithCancel(ctx)
	r := &Roles{cancel: cancel}
	for _, n := range l.Nodes {
		r.wg.Go(func() { r.watch(ctx, n, newRESTClient(l.dialOn(n)), period) })
	}
	return r
}

func (r *Roles) watch(ctx context.Context, n *Node, client *http.Client, period time.Duration) {
	defer client.CloseIdleConnections()
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		answer := ask(ctx, n, client)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		r.answers = append(r.answers, answer)
		r.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func ask(ctx context.Context, n *Node, client *http.Client) RoleAnswer {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	answer := RoleAnswer{Node: n.Name, Invoke: Boottime()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.REST+"/primary", nil)
	if err == nil {
		var resp *http.Response
		if resp, err = client.Do(req); err == nil {
			answer.Primary = resp.StatusCode == http.StatusOK
			_ = resp.Body.Close()
		}
	}
	answer.Return = Boottime()
	return answer
}

// Stop ends the watch and gives what was seen.
func (r *Roles) Stop() []RoleAnswer {
	r.cancel()
	r.wg.Wait()
	return r.answers
}

// claim is a time in which a node certainly called itself primary: from the
// return of the first 200 to the invocation of the last one without any other
// answer in between.
type claim struct {
	node       string
	begin, end time.Duration
}

// RoleOverlap is a time in which two nodes called themselves primary.
type RoleOverlap struct {
	A, B string // nodes
	For  time.Duration
}

func (o RoleOverlap) String() string {
	return fmt.Sprintf("%s and %s both answered /primary with 200 for %s", o.A, o.B, o.For)
}

// DualRoles gives each time in which two nodes called themselves primary. Answers of
// one node must be in the order they were asked.
func DualRoles(answers []RoleAnswer) []RoleOverlap {
	claims := claimsOf(answers)
	var out []RoleOverlap
	for i, a := range claims {
		for _, b := range claims[i+1:] {
			if overlap := min(a.end, b.end) - max(a.begin, b.begin); a.node != b.node && overlap > 0 {
				out = append(out, RoleOverlap{A: a.node, B: b.node, For: overlap})
			}
		}
	}
	return out
}

func claimsOf(answers []RoleAnswer) []claim {
	open := map[string]*claim{}
	var done []claim
	for _, a := range answers {
		c := open[a.Node]
		switch {
		case a.Primary && c == nil:
			open[a.Node] = &claim{node: a.Node, begin: a.Return, end: a.Return}
		case a.Primary:
			c.end = a.Invoke
		case c != nil:
			done = append(done, *c)
			delete(open, a.Node)
		}
	}
	for _, c := range open {
		done = append(done, *c)
	}
	slices.SortFunc(done, func(a, b claim) int { return int(a.begin - b.begin) })
	return done
}
