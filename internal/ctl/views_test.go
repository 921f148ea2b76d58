package ctl

import (
	"strings"
	"testing"
	"time"
)

// TestTopology covers cascades, which no recorded state has.
func TestTopology(t *testing.T) {
	m := func(tags string) string {
		return `{"conn_url":"postgres://10.0.0.1:5432/postgres","state":"running","role":"replica","tags":{` + tags + `}}`
	}
	from := func(name string) string { return m(`"replicatefrom":"` + name + `"`) }
	for _, tc := range []struct {
		name string
		keys map[string]string
		want string
	}{{
		name: "a cascade, a wrong name, the leader's, the own",
		keys: map[string]string{
			"leader": "b", "members/a": from("c"), "members/b": m(""), "members/c": from("d"), "members/d": m(""),
			"members/e": from("nobody"), "members/f": from("b"), "members/g": from("g"), "members/h": from("c"),
		},
		want: "b|+ d|  + c|    + a|    + h|+ e|+ f|+ g",
	}, {
		name: "no leader",
		keys: map[string]string{"members/a": m(""), "members/b": from("a")},
		want: "+ a|  + b",
	}, {
		name: "a circle is shown",
		keys: map[string]string{"leader": "x", "members/a": from("b"), "members/b": from("a"), "members/x": m("")},
		want: "x|+ a|  + b",
	}} {
		t.Run(tc.name, func(t *testing.T) {
			app := newTestApp(t, &fakeCluster{cluster: cluster(tc.keys)})
			if code := app.run("topology"); code != 0 {
				t.Fatalf("exit %d: %s", code, app.err.String())
			}
			var names []string
			for _, line := range strings.Split(app.out.String(), "\n")[3:] {
				if strings.HasPrefix(line, "| ") {
					names = append(names, strings.TrimRight(strings.SplitN(line, "|", 3)[1][1:], " "))
				}
			}
			if got := strings.Join(names, "|"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestHistoryRows: old lines have fewer columns; every format keeps the empty
// cells.
func TestHistoryRows(t *testing.T) {
	keys := map[string]string{"history": `[[1,100,"no recovery target specified"],[2,200,"x","2026-01-01T10:00:00+00:00"],[3,300,"y","2026-01-01T11:00:00+00:00","b"]]`}
	for format, want := range map[string]string{
		"pretty": `+----+-----+------------------------------+---------------------------+------------+
| TL | LSN | Reason                       | Timestamp                 | New Leader |
+----+-----+------------------------------+---------------------------+------------+
|  1 | 100 | no recovery target specified |                           |            |
|  2 | 200 | x                            | 2026-01-01T10:00:00+00:00 |            |
|  3 | 300 | y                            | 2026-01-01T11:00:00+00:00 | b          |
+----+-----+------------------------------+---------------------------+------------+
`,
		"tsv": "TL\tLSN\tReason\tTimestamp\tNew Leader\n1\t100\tno recovery target specified\t\t\n2\t200\tx\t2026-01-01T10:00:00+00:00\t\n3\t300\ty\t2026-01-01T11:00:00+00:00\tb\n",
		"json": `[{"TL": 1, "LSN": 100, "Reason": "no recovery target specified", "Timestamp": "", "New Leader": ""}, ` +
			`{"TL": 2, "LSN": 200, "Reason": "x", "Timestamp": "2026-01-01T10:00:00+00:00", "New Leader": ""}, ` +
			`{"TL": 3, "LSN": 300, "Reason": "y", "Timestamp": "2026-01-01T11:00:00+00:00", "New Leader": "b"}]` + "\n",
		"yml": "- LSN: 100\n  New Leader: ''\n  Reason: no recovery target specified\n  TL: 1\n  Timestamp: ''\n" +
			"- LSN: 200\n  New Leader: ''\n  Reason: x\n  TL: 2\n  Timestamp: '2026-01-01T10:00:00+00:00'\n" +
			"- LSN: 300\n  New Leader: b\n  Reason: y\n  TL: 3\n  Timestamp: '2026-01-01T11:00:00+00:00'\n\n",
	} {
		app := newTestApp(t, &fakeCluster{cluster: cluster(keys)})
		if code := app.run("history", "-f", format); code != 0 || app.out.String() != want {
			t.Errorf("%s: exit %d, got\n%s", format, code, app.out.String())
		}
	}
}

func TestDSN(t *testing.T) {
	keys := map[string]string{
		"leader": "a", "members/a": `{"conn_url":"postgres://10.0.0.1:6432/postgres","state":"running","role":"primary"}`,
		"members/b": `{"conn_url":"postgres://[::1]/postgres","role":"replica"}`, "members/c": `{"state":"stopped"}`,
	}
	for _, tc := range []struct {
		args, out, err string
		code           int
	}{
		{"", "host=10.0.0.1 port=6432\n", "", 0},
		{"-r any", "host=10.0.0.1 port=6432\n", "", 0},
		{"-r standby", "host=::1 port=5432\n", "", 0},
		{"-m b", "host=::1 port=5432\n", "", 0},
		{"-m c", "", "Error: Member c publishes no address of its PostgreSQL\n", 1},
		{"-m d", "", "Error: Can not find a suitable member\n", 1},
		{"-r standby-leader", "", "Error: Can not find a suitable member\n", 1},
		{"-r leader -m a", "", "Error: --role and --member are mutually exclusive options\n", 1},
	} {
		app := newTestApp(t, &fakeCluster{cluster: cluster(keys)})
		code := app.run(append([]string{"dsn"}, strings.Fields(tc.args)...)...)
		if code != tc.code || app.out.String() != tc.out || app.err.String() != tc.err {
			t.Errorf("dsn %s: exit %d, %q, %q", tc.args, code, app.out.String(), app.err.String())
		}
	}
}

func TestShowConfigWithoutOne(t *testing.T) {
	for _, tc := range []struct {
		keys map[string]string
		code int
		err  string
	}{
		{nil, 0, ""},
		{map[string]string{"config": "[1]"}, 1, "the config key of cluster pg-ha-cluster cannot be read: "},
	} {
		app := newTestApp(t, &fakeCluster{cluster: cluster(tc.keys)})
		if code := app.run("show-config"); code != tc.code || app.out.Len() > 0 || !strings.Contains(app.err.String(), tc.err) {
			t.Errorf("%v: exit %d, %q, %q", tc.keys, code, app.out.String(), app.err.String())
		}
	}
}

func TestParseSchedule(t *testing.T) {
	app := newTestApp(t, nil)
	app.Now = func() time.Time { return testNow.In(berlin) }
	for text, want := range map[string]string{
		"2030-01-31T04:05":              "2030-01-31T04:05:00+01:00",
		"2030-07-31 04:05:06":           "2030-07-31T04:05:06+01:00",
		"2030-07-31T04:05:06.5Z":        "2030-07-31T04:05:06.5Z",
		"2030-07-31T04:05:06+05:30":     "2030-07-31T04:05:06+05:30",
		"2030-07-31T04:05:06-03":        "2030-07-31T04:05:06-03:00",
		"2030-07-31T04:05 +0200":        "2030-07-31T04:05:00+02:00",
		"2030-07-31 04:05 UTC":          "2030-07-31T04:05:00Z",
		"20300731T0405":                 "2030-07-31T04:05:00+01:00",
		"2030-07-31":                    "2030-07-31T00:00:00+01:00",
		"2030/07/31 4:05":               "2030-07-31T04:05:00+01:00",
		" 23:15 ":                       "2026-11-22T23:15:00+01:00",
		"2030-07-31T04:05:06.123456789": "2030-07-31T04:05:06.123456789+01:00",
	} {
		at, err := app.parseSchedule(text)
		if got := at.Format(time.RFC3339Nano); err != nil || got != want {
			t.Errorf("%q: got %s, want %s (%v)", text, got, want, err)
		}
	}
	for _, text := range []string{"tomorrow", "2030", "31.07.2030 04:05", "2030-13-01T00:00", "2030-01-01T25:00", "12", "2030-01-01T00:00 XYZ9"} {
		if at, err := app.parseSchedule(text); err == nil {
			t.Errorf("%q was read as %v", text, at)
		}
	}
}
