//go:build e2e

package chaos

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

var (
	longFor    = flag.Duration("chaos.long", 30*time.Minute, "begin no further life after this time")
	longFaults = flag.Int("chaos.long.faults", 10, "faults in a life")
	longSeed   = flag.Uint64("chaos.long.seed", 0, "choose the faults of the first life by this (0: by chance)")
)

// longLimit bounds one life.
const longLimit = 40 * time.Minute

// longFault is one kind of fault of a long life.
type longFault struct {
	name string
	do   func(*run)
}

func longFaultKinds() []longFault {
	return []longFault{
		{"kill -9 postmaster", killPostmaster},
		{"kill -9 one backend", killBackend},
		{"kill -9 agent", killAgent},
		{"kill -9 leash", killLeash},
		{"kill -9 agent and leash", killBoth},
		{"SIGSTOP postmaster", stopPostmaster},
		{"host of the primary frozen", freezeHost},
		{"power cut of the primary", powerCutLeader},
		{"power cut of a standby", powerCutStandby},
		{"power cut of the primary and a standby", killPair},
		{"power cut of all", powerCut},
		{"primary cut off from everything", cutOff(lab.FromAll)},
		{"primary cut off from etcd", cutOff(lab.FromEtcd)},
		{"standby cut off from the others", cutOffStandby},
		{"switchover", oneSwitchover},
	}
}

func powerCutLeader(x *run) {
	x.must(x.PowerOff(x.leader))
	x.whenHealed(func() error { return x.PowerOn(x.leader) })
	x.failsOver(x.c.failover())
}

func powerCutStandby(x *run) {
	standby := x.standbys()[0]
	x.must(x.PowerOff(standby))
	x.whenHealed(func() error { return x.PowerOn(standby) })
	x.acked(x.began + x.c.loopWait)
	x.gapWithin(slack(x.c.loopWait + x.c.retryTimeout))
}

func cutOffStandby(x *run) {
	standby := x.standbys()[0]
	x.must(x.Isolate(standby, lab.FromPeers))
	x.whenHealed(func() error { return x.Heal(standby, lab.FromPeers) })
	x.lasts(3 * time.Second) // commits may wait for it
}

func oneSwitchover(x *run) {
	x.must(x.Switchover(x.ctx, x.leader, x.standbys()[0]))
	x.newLeader(x.leader)
	x.acked(lab.Boottime())
}

// TestChaosLong lets clusters live through many faults each, one after the other, and
// demands that nothing acknowledged is ever lost.
func TestChaosLong(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("breaking hosts, disks and networks needs root")
	}
	path := ""
	if *docsFlag != "" {
		path = filepath.Join(*docsFlag, "chaos-long.json")
	}
	var lives []Life
	if err := readJSON(path, &lives); err != nil {
		t.Fatal(err)
	}
	seed := *longSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	kinds := strings.Split(*modesFlag, ",")
	began := time.Now()
	for i := 0; i == 0 || time.Since(began) < *longFor; i++ {
		mode := kinds[i%len(kinds)]
		if _, known := modes[mode]; !known || mode == "async" {
			t.Fatalf("mode %q is not for this test; it is sync or quorum", mode)
		}
		t.Run(fmt.Sprintf("%s seed %d", mode, seed), func(t *testing.T) {
			life := live(t, mode, seed)
			lives = append(lives, life)
			if err := writeJSON(path, lives); err != nil {
				t.Error(err)
			}
		})
		seed++
		if *docsFlag != "" {
			if err := publish(filepath.Join(*docsFlag, "safety.md"), "chaos-long", lifeTables(lives)); err != nil {
				t.Error(err)
			}
		}
	}
	t.Log("\n" + lifeTables(lives))
}

// live lets one cluster live.
func live(t *testing.T, mode string, seed uint64) Life {
	c := &campaign{peer: ours, mode: mode, profile: chaosProfile}
	defer func() {
		if err := c.tearDown(); err != nil {
			t.Error(err)
		}
	}()
	life := Life{Mode: mode, Profile: c.profile.name, Seed: seed}
	began := lab.Boottime()
	res := &Result{}
	x := &run{t: t, c: c, res: res}
	err := x.guard(func() {
		x.begin(row{}, longLimit)
		x.suffer(&life)
		x.check(row{})
	})
	if err != nil {
		life.GivenUp = true
		x.wrong("%v", err)
	}
	x.close()
	life.Acked, life.Lost, life.OverlapMS, life.RoleOverlapMS = res.Acked, res.Lost, res.OverlapMS, res.RoleOverlapMS
	life.Notes, life.TookMS = res.Notes, (lab.Boottime() - began).Milliseconds()
	t.Logf("%s, seed %d: %d faults, %d writes acknowledged, %d lost, overlap %d ms", mode, seed, len(life.Faults), life.Acked, life.Lost, max(life.OverlapMS, life.RoleOverlapMS))
	if len(life.Notes) > 0 {
		t.Error(strings.Join(life.Notes, "\n"))
		if c.lab != nil {
			var logs strings.Builder
			c.lab.DumpLogs(&logs, logLines)
			t.Log("\n" + withoutRoutine(logs.String()))
		}
	}
	return life
}

// suffer brings one fault after the other over a cluster.
func (x *run) suffer(life *Life) {
	chance := rand.New(rand.NewPCG(life.Seed, 0))
	for range *longFaults {
		kinds := longFaultKinds()
		fault := kinds[chance.IntN(len(kinds))]
		x.leader = x.currentLeader()
		x.covered()
		x.fault()
		notes := len(x.res.Notes)
		err := x.guard(func() { fault.do(x); x.heal() })
		for i := notes; i < len(x.res.Notes); i++ {
			x.res.Notes[i] = fault.name + ": " + x.res.Notes[i]
		}
		if err != nil {
			x.must(fmt.Errorf("%s: %w", fault.name, err))
		}
		x.must(x.settled(patience))
		ended := x.acked(lab.Boottime()).Return
		gap, _ := lab.LongestGap(x.writes(), x.began, ended)
		life.Faults = append(life.Faults, Fault{fault.name, gap.Milliseconds()})
		x.t.Logf("%s: clients waited %d ms", fault.name, gap.Milliseconds())
	}
}
