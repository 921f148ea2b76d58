//go:build e2e

package interop

import (
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

var patroniMajor = regexp.MustCompile(`(\d+)\.\d+`)

// Quorum commit with members of both kinds: each kind leads, hands over to the other
// and is lost, and the successor, who is of the other kind, has every row that was
// acknowledged.
func TestMixedQuorum(t *testing.T) {
	program := patroniProgram(t)
	out, err := exec.Command(program, "--version").CombinedOutput()
	m := patroniMajor.FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("%s --version: %v: %s", program, err, out)
	}
	if major, _ := strconv.Atoi(string(m[1])); major < 4 {
		t.Skipf("%s knows no quorum commit: make interop-trixie", out)
	}
	c := start(t, program, func(o *lab.Options) { o.DCS = map[string]any{"synchronous_mode": "quorum"} })
	first, ours, third := c.leader(), c.replicas()[0], c.replicas()[1]
	c.change(ours, false)
	c.voters(2)

	began := lab.Boottime()
	c.switchover(c.patronictl, ours, first, ours)
	c.leads(ours)
	t.Logf("switchover from Patroni to pgha: gap %d ms", c.gap(began).Milliseconds())
	c.streaming()
	c.voters(2)

	// Both standbys are Patroni's.
	began = lab.Boottime()
	c.must(c.PowerOff(ours))
	theirs := c.successor(ours)
	t.Logf("power off of a pgha leader: %s (Patroni) leads, gap %d ms (ttl %s)", theirs.Name, c.gap(began).Milliseconds(), ttl)
	c.must(c.PowerOn(ours))
	c.streaming()

	// Both are ours.
	if theirs == third {
		third = first
	}
	c.change(third, false)
	c.voters(2)
	began = lab.Boottime()
	c.must(c.PowerOff(theirs))
	next := c.successor(theirs)
	t.Logf("power off of a Patroni leader: %s (pgha) leads, gap %d ms (ttl %s)", next.Name, c.gap(began).Milliseconds(), ttl)
	c.must(c.PowerOn(theirs))
	c.streaming()
	c.voters(2)

	began = lab.Boottime()
	c.switchover(c.pghactl, next, next, theirs)
	c.leads(theirs)
	t.Logf("switchover from pgha to Patroni: gap %d ms", c.gap(began).Milliseconds())
	c.streaming()
	c.voters(2)
	c.nothingLost()
}

// voters waits until the leader shows so many quorum standbys.
func (c *cluster) voters(want int) {
	c.Helper()
	leader := c.leader()
	var last lab.Cluster
	err := lab.Poll(c.ctx, func() bool {
		have := 0
		if code, err := c.Get(c.ctx, leader, "/cluster", &last); err != nil || code != http.StatusOK {
			return false
		}
		for _, m := range last.Members {
			if m.Role == "quorum_standby" {
				have++
			}
		}
		return have == want
	})
	if err != nil {
		c.Fatalf("wait for %d quorum standbys: %v, last seen %s", want, err, last)
	}
}
