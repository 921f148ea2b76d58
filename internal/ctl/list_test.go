package ctl

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// cluster decodes a cluster from its keys, given relative to the base.
func cluster(keys map[string]string) *dcs.Cluster {
	var kvs []dcs.KV
	for k, v := range keys {
		kvs = append(kvs, dcs.KV{Key: goldenBase + "/" + k, Value: []byte(v), CreateRevision: 1, ModRevision: 1})
	}
	return dcs.Decode(goldenBase, kvs)
}

const member = `{"conn_url":"postgres://10.0.0.1:5432/postgres","api_url":"http://10.0.0.1:8008/patroni","state":"running"`

// TestListDetails covers what no recorded state shows. The tables are written
// by hand from the rules of wire contract §6.3.
func TestListDetails(t *testing.T) {
	for _, tc := range []struct {
		name string
		keys map[string]string
		args string
		want string
	}{{
		name: "ports, standby leader, old member, lag, long titles",
		keys: map[string]string{
			"config":     `{"standby_cluster":{"host":"x"}}`,
			"initialize": "",
			"leader":     "a",
			"status":     `{"optime":104857600}`,
			"members/a":  member + `,"role":"standby_leader","replication_state":"streaming","timeline":7}`,
			"members/b": `{"conn_url":"postgres://10.0.0.1:5433/postgres","state":"running","role":"replica",` +
				`"xlog_location":102760448,"replication_state":"streaming"}`,
			"members/c": `{"conn_url":"postgres://10.0.0.2:5432/postgres","state":"starting","role":"replica","xlog_location":1}`,
			"members/d": `{"state":"creating replica","role":"uninitialized","tags":{"x":"shown by nobody"}}`,
		},
		want: `
+ Cluster: pg-ha-cluster (initializing) --+------------------+----+-------------+-----+------------+-----+
| Member | Host          | Role           | State            | TL | Receive LSN | Lag | Replay LSN | Lag |
+--------+---------------+----------------+------------------+----+-------------+-----+------------+-----+
| a      | 10.0.0.1:5432 | Standby Leader | streaming        |  7 |             |     |            |     |
| b      | 10.0.0.1:5433 | Replica        | streaming        |    |   0/6200000 |   2 |    unknown |     |
| c      | 10.0.0.2:5432 | Replica        | starting         |    |     unknown |     |        0/1 | 100 |
| d      |               | Replica        | creating replica |    |     unknown |     |    unknown |     |
+--------+---------------+----------------+------------------+----+-------------+-----+------------+-----+
`,
	}, {
		name: "several reasons, a hidden one, a version filter",
		keys: map[string]string{
			"members/a": member + `,"role":"replica","pending_restart":true,"pending_restart_reason":{` +
				`"max_connections":{"old_value":"100","new_value":"200"},` +
				`"shared_preload_libraries":{"old_value":"pg_stat_statements","new_value":"pg_stat_statements,auto_explain"}},` +
				`"scheduled_restart":{"schedule":"2026-01-01T00:00:00+00:00","postgres_version":"15.3"}}`,
		},
		want: `
+ Cluster: pg-ha-cluster (uninitialized) ----+-------------+-----+------------+-----+-----------------+-----------------------------------------------+---------------------------------------------+
| Member | Host     | Role    | State   | TL | Receive LSN | Lag | Replay LSN | Lag | Pending restart | Pending restart reason                        | Scheduled restart                           |
+--------+----------+---------+---------+----+-------------+-----+------------+-----+-----------------+-----------------------------------------------+---------------------------------------------+
| a      | 10.0.0.1 | Replica | running |    |     unknown |     |    unknown |     | *               | max_connections: 100->200                     | 2026-01-01T00:00:00+00:00 if version < 15.3 |
|        |          |         |         |    |             |     |            |     |                 | shared_preload_libraries: [hidden - too long] |                                             |
+--------+----------+---------+---------+----+-------------+-----+------------+-----+-----------------+-----------------------------------------------+---------------------------------------------+
`,
	}, {
		name: "reasons in full outside tables", args: "-f tsv",
		keys: map[string]string{
			"members/a": member + `,"role":"replica","pending_restart":true,"pending_restart_reason":{` +
				`"shared_preload_libraries":{"old_value":"pg_stat_statements","new_value":"pg_stat_statements,auto_explain"}}}`,
		},
		want: "\nCluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\tReplay LSN\tReplay Lag\tPending restart\tPending restart reason\n" +
			"pg-ha-cluster\ta\t10.0.0.1\tReplica\trunning\t\tunknown\t\tunknown\t\t*\tshared_preload_libraries: pg_stat_statements->pg_stat_statements,auto_explain\n",
	}, {
		name: "JSON escapes what is not ASCII", args: "-f json",
		keys: map[string]string{"members/a": member + `,"role":"replica","tags":{"büro":"\"😀\n","n":1.50,"l":[null,{"b":false,"a":{}}]}}`},
		want: "\n" + `[{"Cluster": "pg-ha-cluster", "Member": "a", "Host": "10.0.0.1", "Role": "Replica", "State": "running", ` +
			`"Receive LSN": "unknown", "Replay LSN": "unknown", ` +
			`"Tags": {"b\u00fcro": "\"\ud83d\ude00\n", "n": 1.5, "l": [null, {"a": {}, "b": false}]}}]` + "\n",
	}, {
		name: "nobody", args: "-f json", want: "\n[]\n",
	}, {
		name: "nobody in YAML", args: "-f yml", want: "\n[]\n\n",
	}, {
		name: "an unreadable config hides nobody", args: "-f tsv",
		keys: map[string]string{"config": `[]`, "leader": "a", "members/a": member + `,"role":"master","replication_state":"streaming"}`},
		want: "\nCluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\tReplay LSN\tReplay Lag\n" +
			"pg-ha-cluster\ta\t10.0.0.1\tLeader\trunning\t\t\t\t\t\n",
	}, {
		name: "a leader that cannot follow the remote stays a primary", args: "-f tsv",
		keys: map[string]string{"config": `{"standby_cluster":{"host":"x"}}`, "leader": "a", "members/a": member + `,"role":"primary"}`},
		want: "\nCluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\tReplay LSN\tReplay Lag\n" +
			"pg-ha-cluster\ta\t10.0.0.1\tLeader\trunning\t\t\t\t\t\n",
	}, {
		name: "one unusual port", args: "-f tsv",
		keys: map[string]string{"leader": "a", "members/a": `{"conn_url":"postgres://[::1]:6432/postgres","state":"running"}`},
		want: "\nCluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\tReplay LSN\tReplay Lag\n" +
			"pg-ha-cluster\ta\t::1:6432\tLeader\trunning\t\t\t\t\t\n",
	}, {
		name: "footer with everything",
		keys: map[string]string{
			"config":   `{"pause":true}`,
			"failover": `{"member":"b","scheduled_at":"2026-01-02T10:36:00.5+02:00"}`,
		},
		want: `
+ Cluster: pg-ha-cluster (uninitialized) ---------+-----+------------+-----+
| Member | Host | Role | State | TL | Receive LSN | Lag | Replay LSN | Lag |
+--------+------+------+-------+----+-------------+-----+------------+-----+
+--------+------+------+-------+----+-------------+-----+------------+-----+
 Maintenance mode: on
 Switchover scheduled at: 2026-01-02T10:36:00.500000+02:00
                      to: b
`,
	}} {
		t.Run(tc.name, func(t *testing.T) {
			app := newTestApp(t, &fakeCluster{cluster: cluster(tc.keys)})
			if code := app.run(append([]string{"list"}, strings.Fields(tc.args)...)...); code != 0 {
				t.Fatalf("exit %d: %s", code, app.err.String())
			}
			if got := "\n" + app.out.String(); got != tc.want {
				t.Errorf("got%s\nwant%s", got, tc.want)
			}
		})
	}
}

func TestTimestampAndSeveralClusters(t *testing.T) {
	app := newTestApp(t, &fakeCluster{cluster: &dcs.Cluster{}})
	if code := app.run("list", "-t", "one", "two", "--group", "0"); code != 0 {
		t.Fatalf("exit %d: %s", code, app.err.String())
	}
	out := app.out.String()
	if !strings.HasPrefix(out, "2026-11-22 08:03:57\n+ Cluster: one ") || strings.Count(out, "\n+ Cluster: two ") != 1 {
		t.Errorf("output\n%s", out)
	}
}

// TestTitleLongerThanTable: the corners of the rule stay.
func TestTitleLongerThanTable(t *testing.T) {
	tbl := table{title: " a long title ", columns: []string{"x"}}
	if got, want := tbl.pretty(), "+ a +\n| x |\n+---+\n+---+\n"; got != want {
		t.Errorf("got\n%s", got)
	}
}

// TestWatch repeats until Ctrl-C, clears a terminal each time, and survives an
// outage that begins after the first success.
func TestWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fake := &fakeCluster{cluster: &dcs.Cluster{}}
	fake.onRead = func(n int) {
		fake.err = nil
		if n == 2 {
			fake.err = dcs.ErrUnavailable
		}
		if n == 4 {
			cancel()
		}
	}
	app := newTestApp(t, fake)
	app.ctx, app.Terminal = ctx, true
	if code := app.run("list", "-w", "0.001"); code != 0 {
		t.Errorf("exit %d", code)
	}
	if fake.reads != 4 {
		t.Errorf("%d reads, want 4", fake.reads)
	}
	if got := strings.Count(app.out.String(), clearScreen+"+ Cluster"); got != 3 {
		t.Errorf("%d tables on a clear screen, want 3", got)
	}
	if got := strings.Count(app.err.String(), "Error: "); got != 1 {
		t.Errorf("stderr %q", app.err.String())
	}
}

// TestWatchFailsAtFirst: a watch that cannot begin is a failure.
func TestWatchFailsAtFirst(t *testing.T) {
	fake := &fakeCluster{err: errors.New("broken")}
	app := newTestApp(t, fake)
	if code := app.run("list", "-W"); code != 1 || fake.reads != 1 || app.out.Len() != 0 {
		t.Errorf("exit %d after %d reads, output %q", code, fake.reads, app.out.String())
	}
}

// TestLagRounding: halves go to the even neighbour, as Python rounds.
func TestLagRounding(t *testing.T) {
	const mb = 1 << 20
	for bytes, want := range map[wal.LSN]any{0: int64(0), mb / 2: int64(0), mb * 3 / 2: int64(2), mb * 5 / 2: int64(2), mb*5/2 + 1: int64(3)} {
		if got := positionOf(10*mb+bytes, 10*mb).lag; got != want {
			t.Errorf("%d bytes: %v, want %v", bytes, got, want)
		}
	}
}

// TestListAll: every cluster of the namespace, in one document where the format
// has documents.
func TestListAll(t *testing.T) {
	plain := `{"conn_url":"postgres://10.0.0.1:5432/postgres","state":"running","role":"primary"}`
	all := map[string]*dcs.Cluster{
		"b": cluster(map[string]string{"leader": "x", "members/x": plain}),
		"a": cluster(map[string]string{"leader": "y", "members/y": strings.Replace(plain, "{", `{"pending_restart":true,"tags":{"k":1},`, 1)}),
		"c": cluster(map[string]string{"leader": "z", "members/z": strings.Replace(plain, "{", `{"scheduled_restart":{"schedule":"2030"},`, 1)}),
	}
	for args, want := range map[string]string{
		"list --all -f tsv": "Cluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\tReplay LSN\tReplay Lag\tPending restart\tPending restart reason\tScheduled restart\tTags\n" +
			"a\ty\t10.0.0.1\tLeader\trunning\t\t\t\t\t\t*\t\t\t{k: 1}\n" +
			"b\tx\t10.0.0.1\tLeader\trunning\t\t\t\t\t\t\t\t\t\n" +
			"c\tz\t10.0.0.1\tLeader\trunning\t\t\t\t\t\t\t\t2030\t\n",
		"list --all -f json": `[{"Cluster": "a", "Member": "y", "Host": "10.0.0.1", "Role": "Leader", "State": "running", "Pending restart": "*", "Tags": {"k": 1}}, ` +
			`{"Cluster": "b", "Member": "x", "Host": "10.0.0.1", "Role": "Leader", "State": "running"}, ` +
			`{"Cluster": "c", "Member": "z", "Host": "10.0.0.1", "Role": "Leader", "State": "running", "Scheduled restart": "2030"}]` + "\n",
	} {
		app := newTestApp(t, &fakeCluster{all: all})
		if code := app.run(strings.Fields(args)...); code != 0 || app.out.String() != want {
			t.Errorf("%s: exit %d, got\n%s%s\nwant\n%s", args, code, app.out.String(), app.err.String(), want)
		}
	}
	for _, command := range []string{"list", "topology"} {
		app := newTestApp(t, &fakeCluster{all: all})
		if code := app.run(command, "--all"); code != 0 || strings.Count(app.out.String(), "+ Cluster: ") != 3 {
			t.Errorf("%s: exit %d, got\n%s", command, code, app.out.String())
		}
	}
	app := newTestApp(t, &fakeCluster{all: all})
	if code := app.run("list", "--all", "x"); code != 2 || app.err.String() != "Error: name clusters, or give --all, not both\n" {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}
