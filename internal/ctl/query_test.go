package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgha/pgha/pkg/dcs"
)

// fakePostgres speaks just enough of the protocol: a password, and canned
// answers. What a real server answers is tested end to end.
type fakePostgres struct {
	net.Listener
	password  string // "" asks for none
	recovery  bool
	answer    func(b *pgproto3.Backend, sql string)
	startup   map[string]string // of the last connection
	connected int
}

func newFakePostgres(t *testing.T, f *fakePostgres) *fakePostgres {
	t.Helper()
	for _, name := range []string{"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGAPPNAME", "PGSSLMODE", "PGSERVICE"} {
		t.Setenv(name, "")
	}
	t.Setenv("PGPASSFILE", filepath.Join(t.TempDir(), "none"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.Listener = l
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = f.serve(conn) // a client that hangs up is none of our business
			_ = conn.Close()
		}
	}()
	return f
}

func (f *fakePostgres) serve(conn net.Conn) error {
	b := pgproto3.NewBackend(conn, conn)
	first, err := b.ReceiveStartupMessage()
	if _, tls := first.(*pgproto3.SSLRequest); tls {
		if _, err := conn.Write([]byte("N")); err != nil {
			return err
		}
		first, err = b.ReceiveStartupMessage()
	}
	if err != nil {
		return err
	}
	startup, ok := first.(*pgproto3.StartupMessage)
	if !ok {
		return errors.New("no startup message")
	}
	f.startup = startup.Parameters
	f.connected++
	if f.password != "" {
		b.Send(&pgproto3.AuthenticationCleartextPassword{})
		if err := errors.Join(b.Flush(), b.SetAuthType(pgproto3.AuthTypeCleartextPassword)); err != nil {
			return err
		}
		m, err := b.Receive()
		if err != nil {
			return err
		}
		if p, ok := m.(*pgproto3.PasswordMessage); !ok || p.Password != f.password {
			b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "password authentication failed for user \"" + f.startup["user"] + "\""})
			return b.Flush()
		}
	}
	b.Send(&pgproto3.AuthenticationOk{})
	for {
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if err := b.Flush(); err != nil {
			return err
		}
		if err := f.statement(b); err != nil {
			return err
		}
	}
}

// statement answers one statement, in either protocol.
func (f *fakePostgres) statement(b *pgproto3.Backend) error {
	for {
		m, err := b.Receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.Query:
			f.answer(b, m.String)
			return nil
		case *pgproto3.Parse:
			if !strings.Contains(m.Query, "pg_is_in_recovery") {
				return fmt.Errorf("unexpected %s", m.Query)
			}
			b.Send(&pgproto3.ParseComplete{})
			b.Send(&pgproto3.BindComplete{})
			rows(b, []string{"pg_is_in_recovery"}, []uint32{pgtype.BoolOID}, []string{map[bool]string{true: "t", false: "f"}[f.recovery]})
		case *pgproto3.Sync:
			return nil
		case *pgproto3.Terminate:
			return io.EOF
		}
	}
}

// rows sends one result; "NULL" is none.
func rows(b *pgproto3.Backend, names []string, oids []uint32, lines ...[]string) {
	fields := make([]pgproto3.FieldDescription, len(names))
	for i := range names {
		fields[i] = pgproto3.FieldDescription{Name: []byte(names[i]), DataTypeOID: oids[i]}
	}
	b.Send(&pgproto3.RowDescription{Fields: fields})
	for _, line := range lines {
		row := &pgproto3.DataRow{}
		for _, cell := range line {
			if cell == "NULL" {
				row.Values = append(row.Values, nil)
			} else {
				row.Values = append(row.Values, []byte(cell))
			}
		}
		b.Send(row)
	}
	b.Send(&pgproto3.CommandComplete{CommandTag: fmt.Appendf(nil, "SELECT %d", len(lines))})
}

// at puts the leader's PostgreSQL of c behind the fake's address.
func (f *fakePostgres) at(c *dcs.Cluster, names ...string) *dcs.Cluster {
	for _, name := range names {
		c.Member(name).ConnURL = "postgres://" + f.Addr().String() + "/postgres"
	}
	return c
}

// TestQueryMatchesPatronictl: the recorded query had no password.
func TestQueryMatchesPatronictl(t *testing.T) {
	compared := 0
	for _, dir := range goldenStates(t) {
		for _, rec := range recordings(t, filepath.Join(dir, "cli.txt")) {
			args := words(rec.args)
			if args[0] != "query" {
				continue
			}
			compared++
			server := newFakePostgres(t, &fakePostgres{password: "needed"})
			c := recordedCluster(t, dir)
			leader := c.LeaderName()
			host, _ := hostPort(c.Member(leader).ConnURL)
			app := newTestApp(t, &fakeCluster{cluster: server.at(c, leader)})
			if code := app.run(args...); code != 0 || app.err.Len() > 0 {
				t.Errorf("exit %d, stderr %q", code, app.err.String())
			}
			_, port, _ := net.SplitHostPort(server.Addr().String())
			got := strings.Replace(app.out.String(), `"127.0.0.1", port `+port, `"`+host+`", port 5432`, 1)
			_, got, _ = strings.Cut(got, "\t")
			_, want, _ := strings.Cut(rec.stdout, "\t")
			if trim(got) != trim(want) {
				t.Errorf("%s: got %q, want %q", dir, got, want)
			}
		}
	}
	if compared != 7 {
		t.Errorf("compared %d recordings, want one per state", compared)
	}
}

func TestQueryResults(t *testing.T) {
	typed := func(b *pgproto3.Backend, _ string) {
		rows(b, []string{"i", "b", "f", "n", "t", "s", "j", "i"},
			[]uint32{pgtype.Int8OID, pgtype.BoolOID, pgtype.Float8OID, pgtype.NumericOID, pgtype.TimestamptzOID, pgtype.TextOID, pgtype.JSONBOID, pgtype.Int4OID},
			[]string{"1", "t", "1", "1.50", "2026-01-01 10:00:00.5+00", "a\"b", `{"k":[1,null]}`, "2"},
			[]string{"NULL", "f", "Infinity", "NaN", "infinity", "", "null", "3"})
	}
	for _, tc := range []struct{ name, args, want string }{
		{"tsv", "", "i\tb\tf\tn\tt\ts\tj\ti\n" +
			"1\tTrue\t1.0\t1.50\t2026-01-01 10:00:00.500000+00:00\ta\"b\t{\"k\":[1,null]}\t2\n" +
			"None\tFalse\tinf\tNaN\tinfinity\t\tnull\t3\n"},
		{"delimiter", "--delimiter ;", "i;b;f;n;t;s;j;i\n1;True;1.0;1.50;2026-01-01 10:00:00.500000+00:00;a\"b;{\"k\":[1,null]};2\nNone;False;inf;NaN;infinity;;null;3\n"},
		{"json", "--format json", `[{"i": 2, "b": true, "f": 1, "n": 1.5, "t": "2026-01-01 10:00:00.500000+00:00", "s": "a\"b", "j": {"k": [1, null]}}, ` +
			`{"i": 3, "b": false, "f": "inf", "n": "NaN", "t": "infinity", "s": "", "j": null}]` + "\n"},
		{"yaml", "--format yml", "- b: true\n  f: 1\n  i: 2\n  j:\n    k:\n    - 1\n    - null\n  n: 1.5\n  s: a\"b\n  t: '2026-01-01 10:00:00.500000+00:00'\n" +
			"- b: false\n  f: inf\n  i: 3\n  j: null\n  n: NaN\n  s: ''\n  t: infinity\n\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newFakePostgres(t, &fakePostgres{answer: typed})
			app := newTestApp(t, &fakeCluster{cluster: server.at(clusterAt(t, healthy, 1), "pg-db-02")})
			if code := app.run(append([]string{"query", "-c", "select 1", "-U", "me"}, strings.Fields(tc.args)...)...); code != 0 {
				t.Fatalf("exit %d: %s", code, app.err.String())
			}
			if got := app.out.String(); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

// TestQueryFlow: whom the SQL goes to, and what is said when there is nobody or
// PostgreSQL refuses.
func TestQueryFlow(t *testing.T) {
	one := func(b *pgproto3.Backend, sql string) {
		switch {
		case strings.Contains(sql, "broken"):
			b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42P01", Message: `relation "broken" does not exist`})
		case strings.Contains(sql, "insert"):
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")})
		default:
			rows(b, []string{"sql"}, []uint32{pgtype.TextOID}, []string{"first"})
			rows(b, []string{"sql"}, []uint32{pgtype.TextOID}, []string{sql})
		}
	}
	const stamp = "2026-11-22 08:03:57\t"
	file := writeFile(t, t.TempDir(), "x.sql", "select 2")
	for _, tc := range []struct {
		name, args, typed string
		recovery          bool
		code              int
		out, err          string
	}{
		{name: "leader", args: "-c s", out: "sql\ns\n"},
		{name: "leader that recovers", args: "-c s -r leader", recovery: true, out: "sql\ns\n"},
		{name: "primary", args: "-c s -r primary", out: "sql\ns\n"},
		{name: "no primary after all", args: "-c s -r primary", recovery: true, out: stamp + "No connection to role primary is available\n"},
		{name: "replica", args: "-c s -r replica", recovery: true, out: "sql\ns\n"},
		{name: "no replica after all", args: "-c s -r standby", out: stamp + "No connection to role standby is available\n"},
		{name: "nobody in the role", args: "-c s -r standby-leader", recovery: true, out: stamp + "No connection to role standby-leader is available\n"},
		{name: "member", args: "-c s -m pg-db-01", out: "sql\ns\n"},
		{name: "unknown member", args: "-c s -m nobody", out: stamp + "No connection to member nobody is available\n"},
		{name: "file", args: "-f " + file, out: "sql\nselect 2\n"},
		{name: "standard input", args: "-f -", typed: "select 3", out: "sql\nselect 3\n"},
		{name: "no rows", args: "-c insert", out: stamp + "INSERT 0 1\n"},
		{name: "refused", args: "-c broken", out: stamp + "ERROR, SQLSTATE: 42P01\n",
			err: "2026-11-22 08:03:57,478 - WARNING - ERROR: relation \"broken\" does not exist (SQLSTATE 42P01)\n"},
		{name: "refused, as JSON", args: "-c broken --format json", out: `[{"Field 1": "2026-11-22 08:03:57", "Field 2": "ERROR, SQLSTATE: 42P01"}]` + "\n",
			err: "2026-11-22 08:03:57,478 - WARNING - ERROR: relation \"broken\" does not exist (SQLSTATE 42P01)\n"},
		{name: "both", args: "-c s -r replica -m pg-db-01", code: 1, err: "Error: --role and --member are mutually exclusive options\n"},
		{name: "two sources", args: "-c s -f " + file, code: 1, err: "Error: --file and --command are mutually exclusive options\n"},
		{name: "no source", code: 1, err: "Error: You need to specify either --command or --file\n"},
		{name: "no file", args: "-f /gone.sql", code: 2, err: "Error: read the SQL: open /gone.sql: no such file or directory; name an existing file with -f\n"},
		{name: "unknown format", args: "-c s --format xml", code: 2,
			err: "Error: invalid argument \"xml\" for \"--format\" flag: choose from pretty, tsv, json, yaml, yml; see \"pghactl query --help\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newFakePostgres(t, &fakePostgres{answer: one, recovery: tc.recovery})
			app := newTestApp(t, &fakeCluster{cluster: server.at(clusterAt(t, healthy, 1), "pg-db-01", "pg-db-02")})
			app.answer(tc.typed)
			code := app.run(append([]string{"query", "-U", "me"}, strings.Fields(tc.args)...)...)
			if code != tc.code || app.out.String() != tc.out || app.err.String() != tc.err {
				t.Errorf("exit %d\n got %q, %q\nwant %q, %q", code, app.out.String(), app.err.String(), tc.out, tc.err)
			}
		})
	}
}

// TestQueryConnection: user, database, password and the name of the program
// arrive; a wrong password is a row, and shows nowhere.
func TestQueryConnection(t *testing.T) {
	answer := func(b *pgproto3.Backend, _ string) { rows(b, []string{"x"}, []uint32{pgtype.TextOID}) }
	server := newFakePostgres(t, &fakePostgres{answer: answer, password: "geheim"})
	run := func(typed string, args ...string) *testApp {
		app := newTestApp(t, &fakeCluster{cluster: server.at(clusterAt(t, healthy, 1), "pg-db-02")})
		app.answer(typed)
		if code := app.run(append([]string{"query", "-c", "x", "-U", "me", "--password"}, args...)...); code != 0 {
			t.Errorf("exit %d: %s", code, app.err.String())
		}
		return app
	}
	if got := run("geheim\n", "-d", "app").out.String(); got != "Password: x\n" {
		t.Errorf("got %q", got)
	}
	if server.startup["user"] != "me" || server.startup["database"] != "app" || server.startup["application_name"] != "Patroni ctl" {
		t.Errorf("startup %v", server.startup)
	}
	app := run("falsch\n")
	if want := `failed: FATAL:  password authentication failed for user "me" ` + "\n"; !strings.HasSuffix(app.out.String(), want) || strings.Contains(app.out.String(), "falsch") {
		t.Errorf("got %q", app.out.String())
	}
	if _, given := server.startup["database"]; given {
		t.Errorf("a database was sent: %v", server.startup)
	}
}

// TestQueryUnreachable: a dead server is a row of the output.
func TestQueryUnreachable(t *testing.T) {
	server := newFakePostgres(t, &fakePostgres{})
	c := server.at(clusterAt(t, healthy, 1), "pg-db-02")
	_ = server.Close()
	app := newTestApp(t, &fakeCluster{cluster: c})
	code := app.run("query", "-c", "x", "-U", "me")
	if _, port, _ := net.SplitHostPort(server.Addr().String()); code != 0 ||
		!strings.HasSuffix(app.out.String(), "\tERROR, SQLSTATE: connection to server at \"127.0.0.1\", port "+port+" failed: connect: connection refused \n") {
		t.Errorf("exit %d, %q", code, app.out.String())
	}
}

// TestQueryWatch: a connection each time, the cluster read once, no cleared
// screen.
func TestQueryWatch(t *testing.T) {
	answer := func(b *pgproto3.Backend, _ string) { rows(b, []string{"x"}, []uint32{pgtype.TextOID}) }
	server := newFakePostgres(t, &fakePostgres{answer: answer})
	fake := &fakeCluster{cluster: server.at(clusterAt(t, healthy, 1), "pg-db-02")}
	app := newTestApp(t, fake)
	ctx, cancel := context.WithCancel(t.Context())
	app.ctx, app.Terminal = ctx, true
	lines := 0
	app.Out = writerFunc(func(p []byte) (int, error) {
		if lines += strings.Count(string(p), "\n"); lines == 3 {
			cancel()
		}
		return app.out.Write(p)
	})
	if code := app.run("query", "-c", "x", "-U", "me", "-w", "0.001"); code != 0 || app.out.String() != "x\nx\nx\n" {
		t.Errorf("exit %d, %q, %q", code, app.out.String(), app.err.String())
	}
	if fake.reads != 1 || server.connected != 3 {
		t.Errorf("%d reads, %d connections", fake.reads, server.connected)
	}
}
