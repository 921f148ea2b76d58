package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

var testNow = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

// healthy is a cluster of three, seen from the host of n1, with nothing to find.
func healthy() *Facts {
	d := config.DefaultDynamic()
	local := &config.Local{Name: "n1", Scope: "demo",
		RestAPI:  config.RestAPI{Listen: "10.0.0.1:8008", Username: "ops", Password: "secret", CertFile: "/c.pem"},
		Etcd:     config.Etcd{Kind: "etcd3", Hosts: []string{"10.0.0.1:2379"}, Protocol: "https", Cert: "/c.pem"},
		Watchdog: config.Watchdog{Mode: "automatic", Present: true},
	}
	e := &config.Effective{Local: local, Dynamic: d}
	e.Postgres.UsePgRewind, e.Postgres.UseSlots = true, true
	e.Postgres.Rewind.Username = "rewinder"
	e.PGHA.VerifyPeers = true
	f := &Facts{
		Now: testNow, Config: e, Path: "/etc/patroni/patroni.yml",
		Cluster: &dcs.Cluster{Leader: &dcs.Leader{Name: "n1"}},
		Etcd: &etcd.Checkup{ShortestLease: 2 * time.Second, Reads: []time.Duration{time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond},
			Endpoints: []etcd.EndpointCheckup{{URL: "a", Version: "3.5.30"}, {URL: "b", Version: "3.6.11"}, {URL: "c", Version: "3.7.0"}}},
		Local: &Local{Member: "n1", Disks: []Disk{{Path: "/data", Total: 100, Free: 50}}, Server: &postgres.Checkup{ServerVersion: 150020, DataChecksums: true, MaxSlotWALKeepSize: 4096},
			Archive: &postgres.ArchiveState{On: true}, Replicate: map[string]string{}, Rewind: map[string]string{}},
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		f.Members = append(f.Members, Member{Member: dcs.Member{Name: name, State: "running"}, Why: restapi.WhyDocument{Leash: "on", PGHA: "1", Clock: testNow}, ClockError: time.Millisecond})
	}
	return f
}

func TestHealthyHasNoFinding(t *testing.T) {
	if r := Examine("demo", healthy()); len(r.Findings) != 0 {
		t.Errorf("found in a healthy cluster:\n%s", r)
	}
}

// TestNothingKnown: facts that could not be had are no findings, and no panic.
func TestNothingKnown(t *testing.T) {
	e := &config.Effective{Local: &config.Local{}, Dynamic: config.DefaultDynamic()}
	if r := Examine("demo", &Facts{Config: e}); r.Errors() != 0 {
		t.Errorf("errors out of nothing:\n%s", r)
	}
}

func TestChecks(t *testing.T) {
	server := func(f *Facts) *postgres.Checkup { return f.Local.Server }
	for _, tc := range []struct {
		check    string
		severity Severity
		spoil    func(f *Facts)
		seen     string // in the text
	}{
		{"configuration", Error, func(f *Facts) {
			f.Problems = []config.Problem{{Severity: config.Error, Path: "postgresql.listen", Message: "is no address"}}
		}, "is no address"},
		{"configuration", Warning, func(f *Facts) {
			f.Problems = []config.Problem{{Severity: config.Warning, Path: "x", Message: "is unknown"}}
		}, "is unknown"},
		{"leader", Error, func(f *Facts) { f.Cluster.Leader = nil }, "no leader"},
		{"candidates", Warning, func(f *Facts) { f.Members = f.Members[:1] }, "only member"},
		{"candidates", Error, func(f *Facts) {
			for i := range f.Members {
				f.Members[i].Tags = dcs.Tags{{Name: "nofailover", Value: true}}
			}
		}, "n2: nofailover; n3: nofailover"},
		{"candidates", Error, func(f *Facts) {
			for i := range f.Members {
				f.Members[i].Why.Obstacles = []restapi.WhyObstacle{{Code: "lag", Text: "it is behind"}}
			}
		}, "n2: it is behind"},
		{"members", Error, func(f *Facts) { f.Members[1].Silence = "connection refused" }, "connection refused"},
		{"members", Warning, func(f *Facts) { f.Members[1].State = "start failed" }, "start failed"},
		{"members", Error, func(f *Facts) { f.Members[1].Why.TurnedAgo = 100 }, "100 s"},
		{"members", Notice, func(f *Facts) { f.Members[1].PendingRestart = true }, "restart"},
		{"patroni", Warning, func(f *Facts) { f.Members[1].Patroni = true }, "Patroni"},
		{"patroni", Error, func(f *Facts) {
			f.Config.Dynamic.SynchronousMode = config.SyncQuorum
			f.Members[0].Version, f.Members[1].Version = "4.1.4", "3.0.2"
		}, "runs Patroni 3.0.2, which takes synchronous_mode: quorum for none"},
		{"leash", Warning, func(f *Facts) { f.Members[1].Why.Leash = "off" }, "pgha.leash is off"},
		{"leash", Error, func(f *Facts) { f.Members[1].Why.Leash = "absent" }, "leash does not answer"},
		{"quarantine", Error, func(f *Facts) { f.Members[1].Why.Quarantine = "its revision was 9 and is 5" }, "revision was 9"},
		{"pause", Warning, func(f *Facts) { f.Config.Dynamic.Pause = true }, "paused"},
		{"pause", Warning, func(f *Facts) {
			f.Config.Dynamic.Pause = true
			ring := (*dcs.EventRing)(nil).With([]dcs.Event{{Member: "n1", Kind: dcs.EventPause, State: dcs.EventBegan, At: testNow.Add(-3 * time.Hour)}})
			f.Cluster.Events = &dcs.EventRing{Raw: ring}
		}, "for 3h0m0s already"},
		{"ttl", Warning, func(f *Facts) { f.Config.Dynamic.TTL = 120 * time.Second }, "ttl is 2m0s"},
		{"timing", Warning, func(f *Facts) { f.Config.Dynamic.RetryTimeout = 29 * time.Second }, "retry_timeout 29s"},
		{"etcd", Error, func(f *Facts) { f.Etcd, f.EtcdErr = nil, "no quorum" }, "no quorum"},
		{"etcd", Error, func(f *Facts) { f.Etcd.Endpoints[0].Error = "refused" }, "refused"},
		{"etcd", Error, func(f *Facts) { f.Etcd.Endpoints[0].Alarms = []string{"alarm:NOSPACE"} }, "NOSPACE"},
		{"etcd", Warning, func(f *Facts) { f.Etcd.Endpoints[0].Version = "3.5.13" }, "3.5.13"},
		{"etcd", Warning, func(f *Facts) { f.Etcd.Endpoints = f.Etcd.Endpoints[:1] }, "one member"},
		{"etcd", Notice, func(f *Facts) { f.Etcd.Endpoints = f.Etcd.Endpoints[:2] }, "2 members"},
		{"etcd latency", Warning, func(f *Facts) { f.Etcd.Reads[1], f.Etcd.Reads[2] = 150*time.Millisecond, 160*time.Millisecond }, "150ms"},
		{"etcd latency", Error, func(f *Facts) { f.Etcd.Reads[2] = 6 * time.Second }, "6s"},
		{"etcd lease", Warning, func(f *Facts) { f.Etcd.ShortestLease = 40 * time.Second }, "below 40s"},
		{"etcd lease", Warning, func(f *Facts) {
			f.Config.Dynamic.TTL, f.Config.Dynamic.LoopWait, f.Config.Dynamic.RetryTimeout = 5*time.Second, time.Second, time.Second
		}, "gives up after 1.8s"},
		{"etcd access", Warning, func(f *Facts) { f.Config.Local.Etcd.Protocol = "http" }, "plain http"},
		{"etcd access", Warning, func(f *Facts) { f.Config.Local.Etcd.Cert = "" }, "nobody has to authenticate"},
		{"rest access", Warning, func(f *Facts) { f.Config.Local.RestAPI.Username, f.Config.Local.RestAPI.Password = "", "" }, "everybody"},
		{"rest credentials", Error, func(f *Facts) { f.Members[1].Refused, f.Members[1].RefusedWhy = 401, "not authenticated" }, "may change nothing there: not authenticated"},
		{"rest credentials", Error, func(f *Facts) { f.Members[1].Refused, f.Members[1].RefusedWhy = 403, "client certificate required" }, "client certificate required"},
		{"rest credentials", Error, func(f *Facts) { f.Members[1].Silence = "remote error: tls: certificate required" }, "tls: certificate required"},
		{"tls", Warning, func(f *Facts) { f.Config.Local.RestAPI.CertFile = "" }, "in clear"},
		{"tls", Notice, func(f *Facts) { f.Config.PGHA.VerifyPeers = false }, "does not verify"},
		{"clock", Warning, func(f *Facts) { f.Members[2].ClockOffset = -3 * time.Second }, "3s"},
		{"watchdog", Error, func(f *Facts) { f.Config.Local.Watchdog.Mode, f.Local.Watchdog = "required", "no device" }, "never promoted"},
		{"watchdog", Warning, func(f *Facts) { f.Local.Watchdog = "no device" }, "no device"},
		{"watchdog", Notice, func(f *Facts) { f.Config.Local.Watchdog.Mode = "off" }, "no kernel watchdog"},
		{"programs", Error, func(f *Facts) { f.Local.Missing = []string{"/x/pg_rewind"} }, "/x/pg_rewind"},
		{"programs", Error, func(f *Facts) { f.Local.Versions = "of version 14" }, "of version 14"},
		{"permissions", Warning, func(f *Facts) { f.Public = true }, "everybody may read"},
		{"permissions", Error, func(f *Facts) { f.Local.Directory = "mode 777" }, "mode 777"},
		{"permissions", Warning, func(f *Facts) { f.Local.Parent = "/data cannot be written" }, "cannot be written"},
		{"disk", Warning, func(f *Facts) { f.Local.Disks[0].Free = 20 }, "80 % full"},
		{"disk", Error, func(f *Facts) { f.Local.Disks[0].Free = 5 }, "95 % full"},
		{"slots", Warning, func(f *Facts) { server(f).MaxSlotWALKeepSize = -1 }, "without limit"},
		{"slots", Warning, func(f *Facts) { server(f).Slots = []postgres.SlotCheckup{{Name: "n9", Retained: 5 << 30}} }, "n9 keeps 5.0 GiB of WAL of its budget of 4.0 GiB, and nobody uses it"},
		{"slots", Warning, func(f *Facts) { server(f).Slots = []postgres.SlotCheckup{{Name: "n9", Lost: true}} }, "n9 lost"},
		{"rewind", Error, func(f *Facts) { server(f).DataChecksums = false }, "neither data checksums"},
		{"rewind", Error, func(f *Facts) { server(f).RewindUserMissing = []string{"pg_read_binary_file(text)"} }, "rewinder, may not call pg_read_binary_file(text)"},
		{"rewind", Error, func(f *Facts) { server(f).RewindUserUnchecked = "the role x does not exist" }, "does not exist"},
		{"rewind", Notice, func(f *Facts) { f.Config.Postgres.UsePgRewind = false }, "use_pg_rewind is off"},
		{"replication access", Error, func(f *Facts) { f.Local.Replicate["n2"] = "no pg_hba.conf entry" }, "no pg_hba.conf entry"},
		{"replication access", Warning, func(f *Facts) { f.Local.Rewind["n2"] = "password" }, "pg_rewind could not log in at n2"},
		{"archiving", Error, func(f *Facts) { f.Local.Archive.Failing, f.Local.Archive.LastFailed = true, "0000001" }, "fails at 0000001"},
		{"archiving", Warning, func(f *Facts) { f.Local.Archive.ReadyFiles = 500 }, "500 segments"},
		{"archiving", Error, func(f *Facts) {
			f.Local.Archive.On = false
			f.Config.Postgres.Parameters = map[string]string{"archive_mode": "on"}
		}, "no archive_command"},
	} {
		f := healthy()
		tc.spoil(f)
		r := Examine("demo", f)
		found := slices.ContainsFunc(r.Findings, func(g Finding) bool {
			return g.Check == tc.check && g.Severity == tc.severity && strings.Contains(g.Seen, tc.seen) && g.Cure != "" && g.Where != ""
		})
		if !found {
			t.Errorf("%s (%s): not found in\n%s", tc.check, tc.seen, r)
		}
		for _, g := range r.Findings { // what belongs together may be told together
			if g.Check != tc.check && !slices.Contains([]string{"candidates", "members"}, g.Check) {
				t.Errorf("%s (%s) fires %s, too", tc.check, tc.seen, g.Check)
			}
		}
	}
}

// TestReportOrder: the worst comes first, and what was not looked at is said.
func TestReportOrder(t *testing.T) {
	f := healthy()
	f.Config.Local.Watchdog.Mode = "off"
	f.Config.Dynamic.TTL = 120 * time.Second
	f.Local.Directory = "mode 777"
	f.Skipped = []string{"x: y"}
	r := Examine("demo", f)
	if len(r.Findings) != 3 || r.Findings[0].Severity != Error || r.Findings[1].Severity != Warning || r.Findings[2].Severity != Notice || r.Errors() != 1 {
		t.Errorf("order: %+v", r.Findings)
	}
	text := r.String()
	for _, want := range []string{"ERROR    n1, permissions: the data directory: mode 777\n         cure: ", "SKIPPED  x: y\n", "27 checks of cluster demo: 1 errors, 1 warnings, 1 notices\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

func TestOldEtcd(t *testing.T) {
	for version, old := range map[string]bool{"3.3.25": true, "3.4.43": true, "3.4.44": false, "3.5.29": true, "3.5.30": false, "3.6.10": true, "3.6.11": false, "3.7.0": false, "4.0.0": false, "odd": false} {
		if oldEtcd(version) != old {
			t.Errorf("%s: %v", version, !old)
		}
	}
}
