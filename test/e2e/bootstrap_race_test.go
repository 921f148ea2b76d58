//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// Chaos row 50 (S15): three empty nodes start together, again and again, and the
// host of the one that makes the cluster dies at some moment between initdb and
// the first writes. Whoever goes on, there is one cluster in the end, and the dead
// one joins it.
func TestBootstrapRaces(t *testing.T) {
	onlyLong(t)
	const races = 20
	s := newSite(t, func(o *lab.Options) { o.Nodes, o.Backup = 3, lab.BackupNone })
	again := 0
	for race := range races {
		ctx, cancel := context.WithTimeout(s.ctx, workLimit)
		s.must(s.StartEtcd(ctx))
		for _, n := range s.Nodes {
			s.must(s.PowerOn(n))
		}
		var winner *lab.Node
		s.must(lab.Poll(ctx, func() bool {
			for _, n := range s.Nodes {
				if _, err := s.Pid(n, lab.InitDB); err == nil {
					winner = n
				}
			}
			return winner != nil
		}))
		after := rand.N(2500 * time.Millisecond)
		timer := time.NewTimer(after)
		<-timer.C
		s.must(s.PowerOff(winner))
		killed := lab.Boottime()
		wait, stop := context.WithTimeout(ctx, 3*time.Second)
		next, err := s.WaitLeader(wait, lab.Except(winner))
		stop()
		if err == nil { // otherwise only it has the cluster, or the word that it makes it
			again++
		}
		s.must(s.PowerOn(winner))
		s.must(s.Supervise(winner, true)) // an agent whose bootstrap failed ends
		took := s.whole()
		ids := map[string]bool{}
		for _, n := range s.Nodes {
			ids[s.value(n, "SELECT system_identifier FROM pg_control_system()")] = true
		}
		if len(ids) != 1 {
			t.Errorf("race %d: system identifiers %v", race, ids)
		}
		s.value(s.leader, fmt.Sprintf("CREATE TABLE race AS SELECT %d", race))
		name := "nobody"
		if next != nil {
			name = next.Name
		}
		t.Logf("race %d: %s killed %.1f s after its initdb began, then %s led; all streaming %.1f s later (%.1f s after it was back)",
			race, winner.Name, after.Seconds(), name, (lab.Boottime() - killed).Seconds(), took.Seconds())
		cancel()
		for _, n := range s.Nodes {
			s.must(s.PowerOff(n))
			s.must(errors.Join(os.RemoveAll(n.DataDir), os.RemoveAll(filepath.Join(n.Dir, "run")), os.RemoveAll(n.DataDir+".pgha.seen")))
		}
		s.must(s.LoseEtcd())
	}
	t.Logf("%d races, in %d of them another node made the cluster or took over", races, again)
}
