package doctor

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
)

func configuration(f *Facts) (out []Finding) {
	for _, p := range f.Problems {
		if p.Severity == config.Error {
			out = append(out, one(Error, "this host", "correct it and reload", "%s", p.String())...)
		} else if p.Severity == config.Warning {
			out = append(out, one(Warning, "this host", "correct it and reload", "%s", p.String())...)
		}
	}
	return out
}

const inEtcd = "etcd"

func etcdHealth(f *Facts) []Finding {
	if f.Etcd == nil {
		if f.EtcdErr == "" {
			return nil
		}
		return one(Error, inEtcd, "see whether etcd runs, and check address, user and certificates", "%s", f.EtcdErr)
	}
	var out []Finding
	for _, ep := range f.Etcd.Endpoints {
		switch {
		case ep.Error != "":
			out = append(out, one(Error, inEtcd, "start it, or mend its network: the next failure may take the majority", "the member at %s does not answer: %s", ep.URL, ep.Error)...)
		case len(ep.Alarms) > 0:
			out = append(out, one(Error, inEtcd, "see etcdctl alarm list; NOSPACE wants compaction, defragmentation and alarm disarm", "the member at %s raises an alarm: %s", ep.URL, strings.Join(ep.Alarms, ", "))...)
		case oldEtcd(ep.Version):
			out = append(out, one(Warning, inEtcd, "upgrade to 3.5.30, 3.6.11 or later", "the member at %s is etcd %s, which has known faults in leases and linearizable reads", ep.URL, ep.Version)...)
		}
	}
	switch n := len(f.Etcd.Endpoints); {
	case n == 1:
		out = append(out, one(Warning, inEtcd, "run three members on three hosts", "there is one member: when it goes, the leader steps down")...)
	case n%2 == 0 && n > 0:
		out = append(out, one(Notice, inEtcd, "run three or five", "there are %d members, which stand no more failures than %d do", n, n-1)...)
	}
	return out
}

// oldEtcd tells whether a release lacks repairs that matter here.
func oldEtcd(version string) bool {
	var v [3]int
	for i, part := range strings.SplitN(version, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return false // a release of somebody else's making
		}
		v[i] = n
	}
	switch {
	case v[0] != 3 || v[1] > 6:
		return false
	case v[1] == 6:
		return v[2] < 11
	case v[1] == 5:
		return v[2] < 30
	}
	return v[1] < 4 || v[2] < 44
}

// slowEtcd is a read that is slow for a network of one site.
const slowEtcd = 100 * time.Millisecond

func etcdLatency(f *Facts) []Finding {
	if f.Etcd == nil || len(f.Etcd.Reads) == 0 || f.Config == nil {
		return nil
	}
	median, worst := f.Etcd.Reads[len(f.Etcd.Reads)/2], f.Etcd.Reads[len(f.Etcd.Reads)-1]
	const cure = "give etcd a disk of its own (its writes wait for fsync), and keep it near the database hosts"
	switch retry := f.Config.Dynamic.RetryTimeout; {
	case worst > retry/2:
		return one(Error, inEtcd, cure, "a read took %s, and a renewal has to fit into retry_timeout (%s)", worst.Round(time.Millisecond), retry)
	case median > slowEtcd:
		return one(Warning, inEtcd, cure, "reads take %s, at worst %s", median.Round(time.Millisecond), worst.Round(time.Millisecond))
	}
	return nil
}

// etcdLease: E1 of the safety design. The lease that etcd grants is what counts,
// and after the loss of its leader etcd is silent for up to two election timeouts,
// which that lease tells of: it is one and a half, rounded up.
func etcdLease(f *Facts) []Finding {
	if f.Etcd == nil || f.Etcd.ShortestLease == 0 || f.Config == nil {
		return nil
	}
	short, dyn := f.Etcd.ShortestLease, f.Config.Dynamic
	silence := short * 4 / 3
	if short > dyn.TTL {
		return one(Warning, inEtcd, fmt.Sprintf("raise ttl to %s at least, or lower etcd's election timeout", short), "etcd grants no lease below %s (1.5 times its election timeout), and ttl is %s: a failover takes longer than ttl promises", short, dyn.TTL)
	}
	if have := silenceBorne(dyn.TTL, dyn.LoopWait, dyn.RetryTimeout); have < silence {
		enough := dyn.TTL
		for enough < time.Hour && silenceBorne(enough, dyn.LoopWait, dyn.RetryTimeout) < silence {
			enough += time.Second
		}
		return one(Warning, inEtcd, fmt.Sprintf("raise ttl to %s at least, or lower etcd's election timeout to %s", enough, (have/2).Truncate(100*time.Millisecond)),
			"an election among etcd's servers may take %s (their election timeout is up to %s), and with a ttl of %s the leader gives up after %s without etcd", silence.Round(100*time.Millisecond), (silence / 2).Round(100*time.Millisecond), dyn.TTL, have.Round(100*time.Millisecond))
	}
	return nil
}

// silenceBorne is how long etcd may be silent before a leader that renewed in good
// time steps down.
func silenceBorne(ttl, loopWait, retry time.Duration) time.Duration {
	t, _ := ha.NewTiming(ttl, loopWait, retry) // its error is a finding of its own
	return t.Budget - t.Stop - t.Period
}

func etcdAccess(f *Facts) []Finding {
	if f.Config == nil {
		return nil
	}
	e := &f.Config.Local.Etcd
	for _, url := range e.Endpoints() {
		if strings.HasPrefix(url, "http://") && !loopback(strings.TrimPrefix(url, "http://")) {
			return one(Warning, inEtcd, "use https and client certificates, or a user and password over https", "%s is plain http: whoever reaches it can run commands as the owner of PostgreSQL (archive_command)", url)
		}
	}
	if e.Username == "" && e.Cert == "" && len(e.Endpoints()) > 0 && !loopback(e.Hosts[0]) {
		return one(Warning, inEtcd, "set etcd3.username and password, or cert and key", "nobody has to authenticate")
	}
	return nil
}

func loopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = hostPort
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func restAccess(f *Facts) []Finding {
	if f.Local == nil {
		return nil
	}
	r := &f.Config.Local.RestAPI
	open := !r.AuthConfigured() && (r.VerifyClient == "" || r.VerifyClient == "none") && len(r.Allowlist) == 0 && !r.AllowlistIncludeMembers
	if !open || loopback(r.Listen) {
		return nil
	}
	return one(Warning, f.Local.Member, "set restapi.authentication, verify_client or allowlist", "everybody who reaches %s may switch over, restart or reinitialize", r.Listen)
}

// restCredentials: whoever reads this host's file, pghactl and its agent, has to be
// let in by every member. Orders are refused otherwise, and a leader is promised
// nothing in the failsafe mode.
func restCredentials(f *Facts) (out []Finding) {
	severity, who := Warning, "pghactl with this file"
	if f.Local != nil {
		severity, who = Error, "this host's agent, and pghactl here,"
	}
	for i := range f.Members {
		m := &f.Members[i]
		cure, why := "", m.RefusedWhy
		switch {
		case strings.Contains(m.Silence, "remote error: tls:"): // about what we showed it, or did not
			cure, why = "let ctl.certfile and ctl.keyfile name a certificate that is signed by an authority in "+m.Name+"'s restapi.cafile", m.Silence
		case m.Refused == http.StatusUnauthorized:
			cure = "give ctl.authentication (without it: restapi.authentication) in this host's file the user and password of " + m.Name + "'s restapi.authentication, and reload"
		case m.Refused != 0 && strings.Contains(why, "certificate"):
			cure = "set ctl.certfile and ctl.keyfile in this host's file"
		case m.Refused != 0:
			cure = "add this host to " + m.Name + "'s restapi.allowlist"
		default:
			continue
		}
		out = append(out, one(severity, m.Name, cure, "%s may change nothing there: %s", who, why)...)
	}
	return out
}

// tlsInForce says what is verified, and what is not.
func tlsInForce(f *Facts) []Finding {
	if f.Local == nil {
		return nil
	}
	var out []Finding
	r := &f.Config.Local.RestAPI
	switch {
	case !r.TLS() && r.AuthConfigured() && !loopback(r.Listen):
		out = append(out, one(Warning, f.Local.Member, "set restapi.certfile and keyfile", "the password of the REST API travels in clear")...)
	case r.TLS() && !f.Config.PGHA.VerifyPeers:
		out = append(out, one(Notice, f.Local.Member, "set pgha.verify_peers to true once every certificate is good", "this member does not verify the other members' certificates (as Patroni)")...)
	}
	return out
}

func replicationAccess(f *Facts) (out []Finding) {
	if f.Local == nil {
		return nil
	}
	for _, m := range f.Members {
		if why := f.Local.Replicate[m.Name]; why != "" {
			out = append(out, one(Error, f.Local.Member, "allow the user of postgresql.authentication.replication in "+m.Name+"'s pg_hba, for this host", "it could not stream from %s: %s", m.Name, why)...)
		}
		if why := f.Local.Rewind[m.Name]; why != "" && f.Local.Replicate[m.Name] == "" {
			out = append(out, one(Warning, f.Local.Member, "allow the user of postgresql.authentication.rewind in "+m.Name+"'s pg_hba, for this host", "pg_rewind could not log in at %s: %s", m.Name, why)...)
		}
	}
	return out
}
