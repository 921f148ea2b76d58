package ha

import (
	"fmt"

	"github.com/pgha/pgha/pkg/dcs"
)

// Obstacle is one thing that keeps this node from being promoted, now or if
// the leader went.
type Obstacle struct {
	Code string // for programs: "nofailover", "lag", ...
	Text string
	// Until is when it ends by itself, 0: it does not, or nobody knows when.
	Until Instant
}

// obstacles lists what stands between this node and the leadership, the
// gravest first. A leader has none. It repeats the conditions of the policy
// without its order: an operator wants to see all of them at once.
func obstacles(o *Observation) []Obstacle {
	if o.mayLead() {
		return nil
	}
	var out []Obstacle
	add := func(code, text string, until ...Instant) {
		ob := Obstacle{Code: code, Text: text}
		if len(until) > 0 {
			ob.Until = until[0]
		}
		out = append(out, ob)
	}
	if o.Stopping {
		add("stopping", "the agent was asked to end")
	}
	if !o.DCS.Fresh {
		text := "etcd cannot be reached"
		if o.DCS.Error != "" {
			text += ": " + o.DCS.Error
		}
		add("etcd", text)
	}
	if why := o.Memory.Quarantine.Why; why != "" {
		add("quarantine", "it does not trust what etcd holds: "+why+"; a running primary that publishes itself ends this, and so does pghactl accept-dcs")
	}
	if o.Settings.Pause {
		add("paused", "the cluster is paused: only a failover that names this member promotes it")
	}
	if o.Settings.NoFailover {
		add("nofailover", "the tag nofailover is set")
	}
	serverObstacles(o, add)
	if fault := o.watchdogFault(); fault != "" && !o.Settings.Standby.On {
		add("watchdog", "the watchdog is required and cannot be used: "+fault)
	}
	if !o.Settings.LeashOff && !o.Leash.Attached && o.PG.Process != ProcessDown {
		add("leash", "the leash does not answer: it could not be armed")
	}
	if o.DCS.Cluster != nil {
		clusterObstacles(o, add)
	}
	return out
}

// serverObstacles are about PostgreSQL and its directory.
func serverObstacles(o *Observation, add func(code, text string, until ...Instant)) {
	switch {
	case o.Op.Running && o.Op.Total > 0:
		add("operation", fmt.Sprintf("in progress: %s, %d %%", o.Op.Kind, 100*o.Op.Done/o.Op.Total))
	case o.Op.Running && o.Op.Kind != OpCheckDivergence && o.Op.Kind != OpCheckRemote:
		add("operation", "in progress: "+o.Op.Kind.String())
	}
	switch o.PG.DataDir {
	case DataDirEmpty:
		add("data_directory", "the data directory is empty")
	case DataDirHalfMade:
		add("data_directory", "the data directory is half made: "+o.PG.Problem)
	case DataDirUnreadable:
		add("data_directory", "the data directory cannot be used: "+o.PG.Problem)
	case DataDirPresent:
	}
	switch {
	case o.PG.Process == ProcessStarting:
		add("server", "PostgreSQL is starting up")
	case o.PG.Process == ProcessDown && o.PG.DataDir == DataDirPresent && o.Memory.FailedTries > 0:
		add("server", fmt.Sprintf("PostgreSQL does not start (%d attempts): %s", o.Memory.FailedTries, o.Op.Error))
	case o.PG.Process == ProcessDown && o.PG.DataDir == DataDirPresent:
		add("server", "PostgreSQL does not run")
	case o.PG.Process != ProcessDown && !o.PG.Known:
		add("server", "PostgreSQL does not answer")
	}
	if o.PG.Known && o.PG.Row.ReplayPaused {
		add("replay_paused", "the replay of WAL is paused (pg_wal_replay_pause)")
	}
	switch o.Memory.Rewind {
	case RewindNeed:
		add("rewind", "its WAL went another way than the leader's: it has to be rewound or copied anew")
	case RewindFailed:
		add("rewind", "pg_rewind failed: it has to be copied anew (pghactl reinit)")
	case RewindIdle, RewindCheck, RewindDone:
	}
	if o.Memory.Reinit.Held {
		add("reinit", "an operator cancelled its copy; pghactl reinit makes a new one")
	}
}

// clusterObstacles are about the other members, as far as etcd tells.
func clusterObstacles(o *Observation, add func(code, text string, until ...Instant)) {
	c, m := o.DCS.Cluster, &o.Memory
	if o.foreign() {
		add("foreign", "its system identifier "+o.PG.SystemID+" is not the cluster's "+c.Initialize.SystemID)
	}
	if c.Initialize == nil || !dcs.InitializeValid(c.Initialize.SystemID) {
		add("initialize", "the cluster has no system identifier yet")
	}
	if r := o.order(); r != nil && r.Member != o.Me.Name {
		add("restore", r.Member+" is to restore the cluster first")
	}
	if o.unlisted(o.Me.Name) {
		add("failsafe", "failsafe_mode is on and it is not in /failsafe")
	}
	if o.promised() {
		add("promise", "it promised "+o.Promise.Leader+", which leads by the failsafe mode, not to race", o.Promise.Until)
	}
	if o.PG.Known && o.PG.Row.InRecovery {
		walObstacles(o, add)
		if why := o.syncUnfit(); why != "" {
			add("sync", why)
		}
	}
	if f := c.Failover; !f.Empty() && f.Candidate != "" && f.Candidate != o.Me.Name {
		add("request", "a request names "+f.Candidate+" as the next leader")
	}
	if c.Leader != nil || o.mayLead() {
		return
	}
	if o.Now < m.YieldUntil && o.others() {
		add("yield", "it gave the leadership away and lets others go first", m.YieldUntil)
	}
	if hold := m.holdOff(o); hold > 0 {
		add("hold_off", "the last leader may still act: its lease has not run out", o.Now.Add(hold))
	}
	if left := o.awaitMoreWAL(); left > 0 && o.PG.Known {
		add("more_wal", fmt.Sprintf("another member must have the WAL up to %s, where the last leader ended", c.Status.Optime), o.Now.Add(left))
	}
	if o.Peers.AskedAt >= m.Leaderless && o.Peers.AskedAt != 0 && o.PG.Known {
		if why := o.lostRace(); why != "" {
			add("race", why)
		}
	}
}

func walObstacles(o *Observation, add func(code, text string, until ...Instant)) {
	c, row := o.DCS.Cluster, &o.PG.Row
	if tl := o.reached(); row.Timeline < tl {
		add("timeline", fmt.Sprintf("its timeline %d is older than the cluster's %d", row.Timeline, tl))
	}
	if c.Status == nil {
		return
	}
	if behind := c.Status.Optime.Sub(row.Position); o.lags(row.Position, row.Timeline) {
		add("lag", fmt.Sprintf("it is %d bytes behind the leader's %s, and maximum_lag_on_failover is %d", behind, c.Status.Optime, o.maxLag()))
	}
	if c.Leader != nil && row.ReplicationState != "streaming" {
		add("not_streaming", "it does not stream from "+orUnknown(o.PG.Upstream)+": it falls behind")
	}
}

// leashState is how the server stands to the leash, in a word.
func (o *Observation) leashState() string {
	switch {
	case o.Settings.LeashOff:
		return "off"
	case o.Leash.Suspended:
		return "suspended"
	case !o.Leash.Attached && o.PG.Process != ProcessDown:
		return "absent"
	}
	return "on"
}
