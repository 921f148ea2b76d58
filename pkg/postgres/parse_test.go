package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/pkg/config"
)

const controlSample = `pg_control version number:            1300
Database system identifier:           7710903353966102417
Database cluster state:               shut down in recovery
Latest checkpoint location:           1/3000028
Latest checkpoint's REDO location:    1/3000010
Latest checkpoint's REDO WAL file:    000000020000000100000003
Latest checkpoint's TimeLineID:       2
Minimum recovery ending location:     1/30000A0
Min recovery ending loc's timeline:   2
wal_level setting:                    replica
wal_log_hints setting:                on
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           3
max_locks_per_xact setting:           64
track_commit_timestamp setting:       off
WAL block size:                       8192
Bytes per WAL segment:                16777216
Data page checksum version:           1
`

func TestParseControlData(t *testing.T) {
	got, err := parseControlData(controlSample)
	must(t, err)
	want := ControlData{
		SystemID: "7710903353966102417", State: StateShutDownInRecovery, CheckpointLSN: 0x103000028, RedoLSN: 0x103000010,
		RedoWALFile: "000000020000000100000003", CheckpointTLI: 2, MinRecoveryEnd: 0x1030000A0, MinRecoveryTLI: 2,
		WalLevel: "replica", WalLogHints: true, Checksums: true, MaxConnections: 100, MaxWorkers: 8, MaxWalSenders: 10,
		MaxPreparedXacts: 3, MaxLocksPerXact: 64, WalSegmentSize: 16 << 20, WalBlockSize: 8192,
	}
	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if _, err := parseControlData("WARNING: something else\n"); err == nil {
		t.Error("an output without identifier was accepted")
	}
}

func TestEndPoint(t *testing.T) {
	standby, _ := parseControlData(controlSample)
	p, err := standby.endPoint()
	if err != nil || p != (localPoint{tl: 2, at: 0x1030000A0, inRecovery: true}) {
		t.Errorf("standby: %+v, %v", p, err)
	}
	standby.MinRecoveryEnd = 0
	if p, err := standby.endPoint(); err != nil || p != (localPoint{tl: 2, at: 0x103000028}) {
		t.Errorf("0/0 was a primary: %+v, %v", p, err)
	}
	standby.State = StateInProduction
	if _, err := standby.endPoint(); err == nil {
		t.Error("a crashed primary has no known end")
	}
}

func TestParseWalRecord(t *testing.T) {
	const line = "rmgr: XLOG        len (rec/tot):    114/  8114, tx:          0, lsn: 0/03000028, prev 0/02000100, desc: CHECKPOINT_SHUTDOWN redo 0/3000028; tli 1\n"
	want := walRecord{rmgr: "XLOG", desc: "CHECKPOINT_SHUTDOWN redo 0/3000028; tli 1", lsn: 0x3000028, prev: 0x2000100, length: 8114}
	if got, ok := parseWalRecord(line); !ok || got != want {
		t.Errorf("%+v, %t; want %+v", got, ok, want)
	}
	for _, bad := range []string{"", "pg_waldump: error: could not find a valid record after 0/3000028", line[:60], strings.Replace(line, "8114", "99999999999", 1)} {
		if got, ok := parseWalRecord(bad); ok {
			t.Errorf("%q is taken for %+v", bad, got)
		}
	}
}

func TestParseSmall(t *testing.T) {
	p, err := parsePidFile("123\n/data\n1700000000\n5432\n/tmp\nlocalhost\n  123 456\nready   \n")
	if err != nil || p != (pidFile{PID: 123, DataDir: "/data", Start: 1700000000, Port: 5432, Status: "ready"}) || !p.accepting() {
		t.Errorf("pid file: %+v, %v", p, err)
	}
	if p, err := parsePidFile("-42\n"); err != nil || p.PID != -42 || p.accepting() {
		t.Errorf("single-user pid file: %+v, %v", p, err)
	}
	for in, want := range map[string]int{"postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n": 150020, "17devel": 170000, "18beta1": 180000, "12.0": 120000} {
		if got, err := parseVersion(in); err != nil || got != want {
			t.Errorf("version %q: %d, %v", in, got, err)
		}
	}
	if d, n, ok := parseProgress("  1024/2048 kB (50%), 0/1 tablespace (/data/x)"); !ok || d != 1<<20 || n != 2<<20 {
		t.Errorf("progress: %d/%d %v", d, n, ok)
	}
	opts := parseOpts("/usr/bin/postgres \"-D\" \"/my data\" \"--archive_mode=on\" \"--port=1\"\n")
	if !reflect.DeepEqual(opts, []string{"-D", "/my data", "--port=1"}) {
		t.Errorf("options: %q", opts)
	}
	for listen, want := range map[string]string{"*": "localhost", "10.0.0.1": "10.0.0.1", "10.0.0.1, 127.0.0.1": "localhost", "": "localhost", "10.0.0.1,10.0.0.2": "10.0.0.1"} {
		if got := localHost(listen); got != want {
			t.Errorf("localHost(%q) = %q, want %q", listen, got, want)
		}
	}
}

func TestRunCommand(t *testing.T) {
	n := newNode(t, "n")
	// Cancelling ends grandchildren too, and promptly.
	ctx, cancel := context.WithCancel(context.Background())
	pidFile := filepath.Join(t.TempDir(), "pid")
	started := func(line string) {
		if line == "ready" {
			cancel()
		}
	}
	begin := time.Now()
	_, err := n.run(ctx, command{path: "/bin/sh", args: []string{"-c", "sleep 60 & echo $! > " + pidFile + "; echo ready >&2; wait"}, line: started})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled command: %v", err)
	}
	if d := time.Since(begin); d > waitDelay+2*time.Second {
		t.Errorf("cancelling took %v", d)
	}
	b, err := os.ReadFile(pidFile)
	must(t, err)
	eventually(t, "the grandchild ends", func() bool {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(b)) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	_, err = n.run(context.Background(), command{path: "/bin/sh", args: []string{"-c", "echo 'FATAL: password is " + strings.ReplaceAll(replPassword, `\`, `\\`) + "' >&2; exit 3"}})
	var failed *CommandError
	if !errors.As(err, &failed) || failed.Code != 3 || strings.Contains(err.Error(), "cator") || !strings.Contains(err.Error(), "[REDACTED]") {
		t.Errorf("failed command: %v", err)
	}
	if _, err := n.run(context.Background(), command{path: "/no/such/tool"}); err == nil || !strings.Contains(err.Error(), "tool") {
		t.Errorf("missing command: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(verb, n.cfg.Superuser); strings.Contains(out, "pass") && strings.Contains(out, "su per") {
			t.Errorf("%s prints the password", verb)
		}
	}
}

func FuzzControlData(f *testing.F) {
	f.Add(controlSample)
	f.Add("Database system identifier: 1\nDatabase cluster state: x\nBytes per WAL segment: -1")
	f.Fuzz(func(t *testing.T, out string) {
		c, err := parseControlData(out)
		if err == nil && (c.SystemID == "" || c.State == "") {
			t.Fatalf("accepted without identity: %+v", c)
		}
		_, _ = c.endPoint()
	})
}

// FuzzConninfo checks both renderings against our reading of libpq's rules, and
// the quoted one against pgx's.
func FuzzConninfo(f *testing.F) {
	f.Add("postgres", `it's a \ thing`, "h")
	f.Add("", "\t\n ' = x", `\`)
	f.Fuzz(func(t *testing.T, db, user, host string) {
		if strings.ContainsRune(db+user+host, 0) {
			return
		}
		in := conninfo{"dbname": db, "user": user, "host": host, "port": "5432", "sslmode": "disable"}
		want := conninfo{}
		for k, v := range in {
			if v != "" {
				want[k] = v
			}
		}
		for _, text := range []string{in.String(), in.quoted()} {
			got, err := parseConninfo(text)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%q reads as %q, %v; want %q", text, got, err, want)
			}
		}
		if host == "" || strings.ContainsAny(host, ",/:@") || user == "" {
			return
		}
		cfg, err := pgx.ParseConfig(in.quoted())
		if err != nil || cfg.User != user || cfg.Host != host {
			t.Fatalf("pgx reads %q as user %q, host %q: %v", in.quoted(), cfg.User, cfg.Host, err)
		}
	})
}

func FuzzParseConninfo(f *testing.F) {
	for _, s := range []string{"a=b c='d e'", "a = 'b\\'c'", "a='", "=x", "a=\\", "host=x port"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { _, _ = parseConninfo(s) })
}

// unquoteConf reads a value as the server's configuration scanner does.
func unquoteConf(s string) string {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "'"), "'")
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if (s[i] == '\\' || s[i] == '\'') && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func FuzzConfValue(f *testing.F) {
	f.Add("a", `it's a \ thing''\\`)
	f.Add("x.y", "# no comment = 'x'")
	f.Fuzz(func(t *testing.T, name, value string) {
		out, err := renderSettings(settings{name: value})
		if err != nil {
			return
		}
		if strings.Count(out, "\n") != 1 {
			t.Fatalf("%q is not one line", out)
		}
		if confLineName(out) != strings.ToLower(name) {
			t.Fatalf("%q sets %q, want %q", out, confLineName(out), name)
		}
		_, quoted, _ := strings.Cut(strings.TrimSuffix(out, "\n"), " = ")
		if got := unquoteConf(quoted); got != value {
			t.Fatalf("%q reads as %q, want %q", out, got, value)
		}
	})
}

func FuzzStripRecovery(f *testing.F) {
	f.Add("a = 'b'\nprimary_conninfo = 'x'\n# restore_command\n restore_command='y'")
	f.Fuzz(func(t *testing.T, in string) {
		out := stripRecovery(in)
		for _, line := range strings.Split(out, "\n") {
			if recoveryGUCs[confLineName(line)] {
				t.Fatalf("%q is left in %q", line, out)
			}
		}
		if again := stripRecovery(out); again != out {
			t.Fatalf("not stable: %q, then %q", out, again)
		}
	})
}

func FuzzToolOutput(f *testing.F) {
	f.Add("rmgr: XLOG len (rec/tot): 114/ 114, tx: 0, lsn: 0/03000028, prev 0/02000100, desc: CHECKPOINT_SHUTDOWN", "24/200771 kB (0%) copied")
	f.Fuzz(func(t *testing.T, out, errOut string) {
		_, _ = parseWalRecord(out)
		_, _ = parsePidFile(out)
		_, _ = parseVersion(out)
		_ = parseOpts(out)
		if d, n, ok := parseProgress(errOut); ok && (d < 0 || n < 0) {
			t.Fatalf("negative progress %d/%d", d, n)
		}
		_, _ = decodeReplicas(out)
		_, _ = decodeSlots(out)
		_, _ = initdbArgs([]config.Option{{Name: out, Value: errOut}})
	})
}
