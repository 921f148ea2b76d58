package doctor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// checks is the examination; its order is that of findings of equal weight.
var checks = []check{
	{"configuration", configuration},
	{"leader", leader},
	{"candidates", candidates},
	{"members", members},
	{"patroni", patroniMembers},
	{"leash", leashes},
	{"quarantine", quarantines},
	{"pause", pause},
	{"ttl", ttl},
	{"timing", timing},
	{"etcd", etcdHealth},
	{"etcd latency", etcdLatency},
	{"etcd lease", etcdLease},
	{"etcd access", etcdAccess},
	{"rest access", restAccess},
	{"rest credentials", restCredentials},
	{"tls", tlsInForce},
	{"certificates", certificates},
	{"clock", clocks},
	{"watchdog", watchdogs},
	{"programs", programs},
	{"permissions", permissions},
	{"disk", disks},
	{"slots", slots},
	{"rewind", rewind},
	{"replication access", replicationAccess},
	{"archiving", archiving},
}

const inCluster = "cluster"

func leader(f *Facts) []Finding {
	if f.Cluster == nil || f.Cluster.Leader != nil {
		return nil
	}
	return one(Error, inCluster, "pghactl why says what each member waits for", "there is no leader: nobody accepts writes")
}

// candidates: somebody must be able to take over.
func candidates(f *Facts) []Finding {
	if f.Cluster == nil || f.Cluster.Leader == nil {
		return nil
	}
	able, why := 0, []string{}
	for i := range f.Members {
		m := &f.Members[i]
		switch {
		case m.Name == f.Cluster.LeaderName():
		case m.NoFailover():
			why = append(why, m.Name+": nofailover")
		case m.Silence != "":
			why = append(why, m.Name+": does not answer")
		case len(m.Why.Obstacles) > 0 && m.Why.Obstacles[0].Code != "paused":
			why = append(why, m.Name+": "+m.Why.Obstacles[0].Text)
		default:
			able++
		}
	}
	switch {
	case len(f.Members) == 1:
		return one(Warning, inCluster, "add a second member, and better a third", "the leader is the only member: nobody can take over")
	case able == 0:
		return one(Error, inCluster, "pghactl why MEMBER says more; mend one of them before anything else", "nobody could take over from %s (%s)", f.Cluster.LeaderName(), strings.Join(why, "; "))
	}
	return nil
}

func members(f *Facts) (out []Finding) {
	for i := range f.Members {
		m := &f.Members[i]
		switch {
		case m.Silence != "":
			out = append(out, one(Error, m.Name, "see whether its agent runs, and whether restapi.connect_address can be reached from here", "it does not answer: %s", m.Silence)...)
		case m.State != "running":
			out = append(out, one(Warning, m.Name, "pghactl why "+m.Name+" and its log say why", "PostgreSQL is not running: %s", m.State)...)
		case m.Why.TurnedAgo > 60:
			out = append(out, one(Error, m.Name, "restart the agent; PostgreSQL goes on meanwhile", "its loop has not turned for %.0f s", m.Why.TurnedAgo)...)
		}
		if m.PendingRestart {
			out = append(out, one(Notice, m.Name, "pghactl restart at a quiet hour", "settings wait for a restart of PostgreSQL")...)
		}
	}
	return out
}

// patroniMembers keep Patroni's safety, not ours.
func patroniMembers(f *Facts) (out []Finding) {
	quorum := f.Config != nil && f.Config.Dynamic.SynchronousMode == config.SyncQuorum
	for i := range f.Members {
		m := &f.Members[i]
		if quorum && knowsNoQuorum(m.Version) {
			out = append(out, one(Error, m.Name, "set synchronous_mode to on until every member runs pgha or Patroni 4", "it runs Patroni %s, which takes synchronous_mode: quorum for none: it may be promoted without what was acknowledged", m.Version)...)
		}
		if m.Patroni {
			out = append(out, one(Warning, m.Name, "finish the migration: replace its agent by pgha-agent", "it runs Patroni or a pgha of before: as a leader nothing stops its PostgreSQL in time when its agent hangs, unless it has a watchdog")...)
		}
	}
	return out
}

// knowsNoQuorum: the mode came with Patroni 4.0 (wire contract §9).
func knowsNoQuorum(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n < 4
}

func leashes(f *Facts) (out []Finding) {
	for i := range f.Members {
		switch m := &f.Members[i]; m.Why.Leash {
		case "off":
			out = append(out, one(Warning, m.Name, "set pgha.leash to auto and restart agent and PostgreSQL", "pgha.leash is off: nothing stops PostgreSQL in time when the agent does not")...)
		case "absent":
			out = append(out, one(Error, m.Name, "see its log; a restart of the agent attaches to the leash again", "PostgreSQL runs and the leash does not answer")...)
		}
	}
	return out
}

func quarantines(f *Facts) (out []Finding) {
	for i := range f.Members {
		if m := &f.Members[i]; m.Why.Quarantine != "" {
			out = append(out, one(Error, m.Name, "start the member that was the primary; if what etcd holds is right all the same, pghactl accept-dcs", "it does not trust what etcd holds: %s", m.Why.Quarantine)...)
		}
	}
	return out
}

// longPause is from when on a pause has probably been forgotten.
const longPause = time.Hour

func pause(f *Facts) []Finding {
	if f.Config == nil || !f.Config.Dynamic.Pause {
		return nil
	}
	seen := "the cluster is paused: nobody replaces a leader that fails"
	var since time.Time
	if f.Cluster != nil {
		for _, e := range f.Cluster.Events.Events() {
			if e.Kind == dcs.EventPause && e.State == dcs.EventBegan {
				since = e.At
			}
		}
	}
	if age := f.Now.Sub(since); !since.IsZero() && age > longPause {
		seen += fmt.Sprintf(", for %s already", age.Round(time.Minute))
	}
	return one(Warning, inCluster, "pghactl resume", "%s", seen)
}

// longTTL is from when on a power cut of the leader costs more than anybody expects.
const longTTL = 60 * time.Second

func ttl(f *Facts) []Finding {
	if f.Config == nil || f.Config.Dynamic.TTL < longTTL {
		return nil
	}
	t := f.Config.Dynamic.TTL
	return one(Warning, inCluster, "pghactl edit-config -s ttl=30 (and loop_wait=10, retry_timeout=10)", "ttl is %s: after a power cut of the leader nobody can write for so long", t)
}

func timing(f *Facts) []Finding {
	if f.Config == nil {
		return nil
	}
	d := f.Config.Dynamic
	if _, err := ha.NewTiming(d.TTL, d.LoopWait, d.RetryTimeout); err != nil {
		return one(Warning, inCluster, "raise ttl or lower retry_timeout: ttl 30, loop_wait 10, retry_timeout 10 fit, and so do 10, 1, 2", "one renewal that fails may cost the leadership: %s", err)
	}
	return nil
}

func clocks(f *Facts) (out []Finding) {
	for i := range f.Members {
		m := &f.Members[i]
		if off := m.ClockOffset.Abs() - m.ClockError; !m.Why.Clock.IsZero() && off > time.Second {
			out = append(out, one(Warning, m.Name, "run chrony or ntpd on every host", "its clock differs from this host's by %s: logs, schedules and recovery to a time mean different moments", m.ClockOffset.Abs().Round(100*time.Millisecond))...)
		}
	}
	return out
}
