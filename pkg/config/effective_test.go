package config

import (
	"maps"
	"strings"
	"testing"
	"time"
)

const localForMerge = `scope: s
name: n
restapi: {listen: 192.0.2.1:8008}
etcd3: {host: 192.0.2.4}
ttl: 99
postgresql:
  listen: 192.0.2.1,127.0.0.1:5433
  connect_address: "[2001:db8::1]:6432"
  proxy_address: 192.0.2.9:5000
  data_dir: /data/
  bin_dir: /usr/lib/pg/bin
  bin_name: {postgres: postgres-wrapped}
  use_slots: false
  pg_hba: [local]
  authentication:
    superuser: {username: postgres, password: a}
    replication: {username: r, password: b, sslmode: require, nonsense: x}
  parameters: {Work_Mem: 5MB, max_connections: 999, jit: off, deadlock_timeout: 1s, x.y: 3, gone: null}
  recovery_conf: {restore_command: local}
tags: {nofailover: false, clonefrom: true, failover_priority: 3, zone: a, nosync: false}
pgha: {leash: on}
`

const dynamicForMerge = `{"ttl":30,"postgresql":{"data_dir":"/wrong","listen":"wrong","pg_hba":["dyn"],"pg_ident":["i"],"use_pg_rewind":true,"pg_ctl_timeout":"2min",
 "recovery_conf":{"restore_command":"dyn","recovery_target_timeline":"latest"},"authentication":{"superuser":{"username":"evil"}},
 "create_replica_methods":["pgbackrest","basebackup"],"pgbackrest":{"command":"x","keep_data":true},"basebackup":["verbose",{"max-rate":"100M"}],
 "parameters":{"work_mem":"1MB","Archive_Mode":true,"MAX_CONNECTIONS":200,"wal_level":"hot_standby","wal_keep_segments":10,"hot_standby":"off","max_wal_senders":"x","track_commit_timestamp":true}},
 "pgha":{"leash":false,"verify_peers":true}}`

func TestEffective(t *testing.T) {
	l, _ := mustParse(t, localForMerge)
	d, err := ParseDynamic([]byte(dynamicForMerge))
	if err != nil {
		t.Fatal(err)
	}
	e := EffectiveOf(l, d)
	p := e.Postgres
	if p.ListenAddresses != "192.0.2.1,127.0.0.1" || p.Port != 5433 || p.LocalHost != "localhost" || p.ConnURL() != "postgres://[2001:db8::1]:6432/postgres" ||
		p.ProxyURL() != "postgres://192.0.2.9:5000/postgres" || p.DataDir != "/data" || p.ConfigDir != "/data" || p.Scope != "s" || p.Name != "n" {
		t.Errorf("%+v", p)
	}
	if p.Superuser.Username != "postgres" || p.Rewind != p.Superuser || p.RewindSet || p.Replication.SSLMode != "require" || p.Replication.Password.Reveal() != "b" {
		t.Errorf("%+v", p)
	}
	want := map[string]string{"work_mem": "5MB", "archive_mode": "on", "jit": "off", "deadlock_timeout": "1s", "x.y": "3"}
	if !maps.Equal(p.Parameters, want) {
		t.Errorf("%v", p.Parameters)
	}
	if strings.Join(p.PGHBA, "") != "local" || strings.Join(p.PGIdent, "") != "i" || len(p.RecoveryConf) != 1 || p.RecoveryConf["restore_command"] != "local" {
		t.Errorf("%v %v %v", p.PGHBA, p.PGIdent, p.RecoveryConf)
	}
	if !p.UseSlots || !p.UsePgRewind || p.PgCtlTimeout != 2*time.Minute || p.Bin("postgres") != "/usr/lib/pg/bin/postgres-wrapped" || p.Bin("initdb") != "/usr/lib/pg/bin/initdb" {
		t.Errorf("%+v", p)
	}
	if len(p.CreateReplicaMethods) != 2 || !p.Methods["pgbackrest"].KeepData || len(p.BaseBackup) != 2 || !p.BaseBackup[0].Flag || p.BaseBackup[1].Value != "100M" {
		t.Errorf("%+v", p)
	}
	if e.PGHA.Leash != "on" || !e.PGHA.VerifyPeers {
		t.Errorf("%+v", e.PGHA)
	}
	if got := string(d.Raw); strings.Contains(got, "999") || !strings.Contains(got, `"data_dir":"/wrong"`) {
		t.Errorf("the dynamic document was changed: %s", got)
	}
}

func TestControlledGUCs(t *testing.T) {
	l, _ := mustParse(t, localForMerge)
	d, err := ParseDynamic([]byte(dynamicForMerge))
	if err != nil {
		t.Fatal(err)
	}
	e := EffectiveOf(l, d)
	for name, want := range map[string]string{
		"max_connections": "200", "wal_level": "replica", "wal_keep_segments": "10", "wal_keep_size": "160MB", "hot_standby": "on", "max_wal_senders": "10",
		"track_commit_timestamp": "on", "wal_log_hints": "on", "max_prepared_transactions": "0", "max_locks_per_transaction": "64", "max_worker_processes": "8",
		"max_replication_slots": "10", "port": "5433", "cluster_name": "s", "listen_addresses": "192.0.2.1,127.0.0.1", "Work_Mem": "5MB",
	} {
		if got, ok := e.Postgres.GUC(name); !ok || got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if len(e.Problems) != 2 {
		t.Error(lines(e.Problems))
	}
	for _, g := range e.Postgres.Controlled {
		if g.Name == "wal_keep_size" && (g.CommandLine || g.For(120010) || !g.For(150000)) || g.Name == "wal_keep_segments" && g.For(130000) {
			t.Errorf("%+v", g)
		}
		if g.Name == "wal_level" && !g.CommandLine {
			t.Errorf("%+v", g)
		}
	}
}

func TestLegacyAuthentication(t *testing.T) {
	l, problems := mustParse(t, `postgresql:
  name: old
  replication: {username: r, password: p}
  pg_rewind: {username: w}
`)
	for _, p := range problems {
		if strings.HasPrefix(p.Path, "postgresql") {
			t.Errorf("found fault with what Patroni accepts: %s", p)
		}
	}
	p := EffectiveOf(l, nil).Postgres
	if l.Name != "old" || p.Replication.Username != "r" || p.Superuser.Username != "w" || !p.UsePgRewind {
		t.Errorf("%+v", p)
	}
}

// Beside today's section, the role of pg_rewind only stands in for the superuser.
func TestLegacyRewindRole(t *testing.T) {
	l, problems := mustParse(t, "postgresql:\n  authentication: {replication: {username: r, password: p}}\n  pg_rewind: {username: w}\n")
	for _, p := range problems {
		t.Errorf("found fault with what Patroni accepts: %s", p)
	}
	if p := EffectiveOf(l, nil).Postgres; p.Replication.Username != "r" || p.Superuser.Username != "w" || p.UsePgRewind {
		t.Errorf("%+v", p)
	}
}

func TestTags(t *testing.T) {
	l, _ := mustParse(t, localForMerge)
	if j, err := l.Tags.MarshalJSON(); err != nil || string(j) != `{"nofailover":false,"clonefrom":true,"failover_priority":3,"zone":"a"}` {
		t.Errorf("%s %v", j, err)
	}
	for _, c := range []struct {
		yaml               string
		nofailover, nosync bool
		prio, sync         int
	}{
		{"{}", false, false, 1, 1}, {"{nofailover: true, failover_priority: 5}", true, false, 0, 1}, {"{failover_priority: 0}", true, false, 0, 1},
		{"{failover_priority: 7, sync_priority: 2}", false, false, 7, 2}, {"{nosync: true}", false, true, 1, 0}, {"{nofailover: false, failover_priority: 0}", false, false, 1, 1},
	} {
		l, _ := mustParse(t, "tags: "+c.yaml)
		if g := l.Tags; g.NoFailover() != c.nofailover || g.NoSync() != c.nosync || g.FailoverPriority() != c.prio || g.SyncPriority() != c.sync {
			t.Errorf("%s: %v %v %d %d", c.yaml, g.NoFailover(), g.NoSync(), g.FailoverPriority(), g.SyncPriority())
		}
	}
}

func TestEtcdEndpoints(t *testing.T) {
	for in, want := range map[string]string{
		"{host: a}": "http://a:2379", "{host: 'a:1', port: 2}": "http://a:2", "{hosts: 'a, b:1', port: 9, protocol: https}": "https://a:9 https://b:1",
		"{hosts: [a, '[::1]:5'], host: z}": "http://a:2379 http://[::1]:5", "{url: 'https://u:p@h'}": "https://h:2379", "{proxy: 'http://x:1', url: 'http://y'}": "http://x:1", "{srv: example.org}": "",
	} {
		l, ps := mustParse(t, "etcd3: "+in)
		if got := strings.Join(l.Etcd.Endpoints(), " "); got != want || HasErrors(ps) {
			t.Errorf("%s: %q %s", in, got, lines(ps))
		}
	}
	l, _ := mustParse(t, "etcd3: {url: 'https://u:p@h', username: x, password: y}")
	if l.Etcd.Username != "u" || l.Etcd.Password.Reveal() != "p" {
		t.Errorf("%+v", l.Etcd)
	}
}

func TestBootstrapDocumentIsWhatPatroniStores(t *testing.T) {
	l, _ := mustParse(t, "bootstrap:\n  dcs:\n    zz: ~\n    ttl: 20\n    postgresql:\n      parameters: {archive_mode: on, log_file_mode: 0640, wal_level: replica, a: 'off', b: 1.5, name: é}\n")
	want := `{"zz":null,"ttl":20,"postgresql":{"parameters":{"archive_mode":true,"log_file_mode":416,"wal_level":"replica","a":"off","b":1.5,"name":"\u00e9"}},"loop_wait":1,"retry_timeout":9}`
	if got := string(l.Bootstrap.DCS); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReloadComparison(t *testing.T) {
	a, _ := mustParse(t, localForMerge)
	b, _ := mustParse(t, localForMerge+"# comment\n")
	c, _ := mustParse(t, localForMerge+"log: {level: DEBUG}\n")
	if !a.Equal(b) || a.Equal(c) {
		t.Error("Equal is wrong")
	}
}
