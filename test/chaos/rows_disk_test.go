//go:build e2e

package chaos

import (
	"time"

	"github.com/pgha/pgha/internal/lab"
)

func diskRows() []row {
	return []row{
		{id: "17", title: "disk of the primary full", expect: "another node leads", run: diskFull},
		{id: "17b", title: "file system of the primary's logs and run directory full, 20 s", expect: "N", run: homeFull},
		{id: "18", title: "disk of the primary hangs 20 s", expect: "F", run: diskHangs},
		{id: "19", title: "every write to the primary's disk fails", expect: "F", run: diskBreaks},
	}
}

// diskLimit bounds the time until a node whose disk is useless gives up.
const diskLimit = 30 * time.Second

func diskFull(x *run) {
	x.must(x.FillDisk(x.leader))
	x.whenHealed(func() error { return x.DrainDisk(x.leader) })
	// WAL segments that exist are used up first.
	x.must(x.switchWAL(x.leader))
	x.failsOver(slack(diskLimit))
}

// homeFull: neither the logs nor the files of an agent are needed to lead.
func homeFull(x *run) {
	x.must(x.FillHome(x.leader))
	x.whenHealed(func() error { return x.DrainHome(x.leader) })
	x.lasts(x.c.ttl + 12*time.Second)
	x.gapWithin(slack(time.Second))
}

func diskHangs(x *run) {
	x.must(x.HangDisk(x.leader))
	x.whenHealed(func() error { return x.ThawDisk(x.leader) })
	// A hang is believed after half the ttl, and nothing can end a server that waits
	// for a disk: the lease has to run out.
	x.failsOver(x.c.ttl/2 + x.c.failover())
	x.lasts(20 * time.Second)
	x.heal()
	x.must(x.settled(patience))
	x.deadInTime()
}

func diskBreaks(x *run) {
	x.must(x.BreakDisk(x.leader))
	x.whenHealed(func() error {
		if err := x.PowerOff(x.leader); err != nil {
			return err
		}
		if err := x.ReplaceDisk(x.leader); err != nil {
			return err
		}
		return x.PowerOn(x.leader)
	})
	x.failsOver(slack(diskLimit))
}

// switchWAL makes a primary begin new WAL segments until it cannot.
func (x *run) switchWAL(n *lab.Node) error {
	conn, err := x.ConnectLocal(x.ctx, n)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(x.ctx) }()
	for range 40 {
		if _, err := conn.Exec(x.ctx, "SELECT pg_switch_wal(); INSERT INTO pgha_lab.writes SELECT -1, 'x' WHERE false; SELECT txid_current()"); err != nil {
			return nil // it has no room any more
		}
	}
	return nil
}
