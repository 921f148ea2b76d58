package agent

import (
	"slices"

	"github.com/pgha/pgha/internal/version"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// settings picks out of the configuration what decisions depend on.
func settings(e *config.Effective) ha.Settings {
	d, p, tags := e.Dynamic, &e.Postgres, e.Local.Tags
	s := ha.Settings{
		TTL: d.TTL, LoopWait: d.LoopWait, RetryTimeout: d.RetryTimeout,
		MaximumLagOnFailover: d.MaximumLagOnFailover, CheckTimeline: d.CheckTimeline,
		MaxTimelinesHistory: d.MaxTimelinesHistory, PrimaryStartTimeout: d.PrimaryStartTimeout,
		PrimaryStopTimeout: d.PrimaryStopTimeout, RaceBackoff: d.PrimaryRaceBackoff, Pause: d.Pause,
		WipeOnRewindFailure: p.RemoveDataDirOnRewindFailure, WipeOnDivergence: p.RemoveDataDirOnDivergedTimeline,
		UseSlots: d.UseSlots, MemberSlotsTTL: d.MemberSlotsTTL, Failsafe: d.FailsafeMode, Slots: d.Slots, IgnoreSlots: d.IgnoreSlots, SlotBudgets: e.PGHA.SlotBudgets,
		NoFailover: tags.NoFailover(), FailoverPriority: tags.FailoverPriority(),
		LeashOff: e.PGHA.Leash == "off", Document: d.Raw, CloneWithoutLeader: cloneWithoutLeader(p),
		WatchdogRequired: e.Local.Watchdog.Mode == watchdogRequired,
	}
	s.Standby = standbyCluster(d.StandbyCluster)
	s.Sync = ha.SyncSettings{
		Mode: d.SynchronousMode, Strict: d.SynchronousModeStrict, Count: d.SynchronousNodeCount, MaxLag: d.MaximumLagOnSyncNode,
	}
	for _, t := range tags {
		s.Tags = append(s.Tags, dcs.Tag{Name: t.Name, Value: t.Value})
	}
	s.ReplicateFrom = s.Tags.String("replicatefrom")
	return s
}

// cloneWithoutLeader: a replica creation method works without anybody to copy from.
func cloneWithoutLeader(p *config.Postgres) bool {
	names := p.CreateReplicaMethods
	if p.Standby != nil {
		names = p.Standby.CreateReplicaMethods
	}
	return slices.ContainsFunc(names, func(name string) bool {
		m := p.Methods[name]
		return m != nil && m.NoLeader && !m.Native
	})
}

// identity is what this node says about itself.
func identity(e *config.Effective, holder string) ha.Identity {
	l := e.Local
	return ha.Identity{
		Name: l.Name, Scope: l.Scope, Version: version.Patroni, Holder: holder,
		ConnURL: e.Postgres.ConnURL(), APIURL: l.RestAPI.URL(), ProxyURL: e.Postgres.ProxyURL(),
		CanBootstrap: l.Bootstrap.Present,
	}
}
