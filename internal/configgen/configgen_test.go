package configgen

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

// filled replaces what the operator has to fill in, and reads the result.
func filled(t *testing.T, text []byte, value string) *config.Local {
	t.Helper()
	if _, problems, err := config.Parse(text, nil); err == nil && !config.HasErrors(problems) {
		t.Errorf("a template is accepted with its placeholders:\n%s", text)
	}
	l, problems, err := config.Parse([]byte(strings.ReplaceAll(string(text), "'#FIXME'", value)), nil)
	if err != nil || config.HasErrors(problems) || config.HasErrors(l.Missing()) {
		t.Fatalf("%v %v\n%s", err, problems, text)
	}
	return l
}

// binDir is where PostgreSQL's programs are; the test is skipped without them.
func binDir(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		t.Skip("PostgreSQL is not installed")
	}
	return filepath.Dir(found[0])
}

func TestSample(t *testing.T) {
	environ := []string{"PATRONI_POSTGRESQL_BIN_DIR=" + binDir(t), "PATRONI_NAME=n7", "PATRONI_REPLICATION_USERNAME=streamer", "PATRONI_ETCD3_HOSTS=192.0.2.4:2379,192.0.2.5:2379"}
	text, err := Sample(t.Context(), environ)
	if err != nil {
		t.Fatal(err)
	}
	l := filled(t, text, "/some/value")
	e := config.EffectiveOf(l, nil)
	if l.Name != "n7" || e.Postgres.Replication.Username != "streamer" || len(l.Etcd.Hosts) != 2 || !strings.Contains(string(text), "host replication streamer all scram-sha-256") {
		t.Errorf("the environment is not in it:\n%s", text)
	}
	if _, err := Sample(t.Context(), []string{"PATRONI_POSTGRESQL_BIN_DIR=/none"}); err == nil || !strings.Contains(err.Error(), "PATRONI_POSTGRESQL_BIN_DIR") {
		t.Errorf("without programs: %v", err)
	}
}

func TestFromServer(t *testing.T) {
	bin, port := binDir(t), freePort(t)
	data := server(t, bin, port)
	dsn := fmt.Sprintf("host=127.0.0.1 port=%d user=boss password=s3cret99 dbname=postgres", port)
	text, err := FromServer(t.Context(), dsn, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := filled(t, text, "fixed")
	e := config.EffectiveOf(l, nil)
	p := &e.Postgres
	d, err := config.ParseDynamic(l.Bootstrap.DCS)
	if err != nil {
		t.Fatal(err)
	}
	with := config.EffectiveOf(l, d)
	conns, _ := with.Postgres.GUC("max_connections")
	if l.Scope != "shop" || p.DataDir != data || p.Port != port || p.ListenAddresses != "127.0.0.1" || p.BinDir != bin || conns != "33" ||
		p.Superuser.Username != "boss" || p.Superuser.Password.Reveal() != "s3cret99" || with.Postgres.Parameters["work_mem"] != "7MB" ||
		p.Parameters["archive_command"] != "true %p" || p.Parameters["work_mem"] != "" {
		t.Errorf("not what the server says:\n%s", text)
	}
	if want := []string{"local all all trust", "host all all 127.0.0.1/32 md5"}; fmt.Sprint(p.PGHBA) != fmt.Sprint(want) {
		t.Errorf("pg_hba: %q", p.PGHBA)
	}
	for _, bad := range []string{"host=127.0.0.1 port=1", "nonsense", fmt.Sprintf("host=127.0.0.1 port=%d user=boss password=wrong00 dbname=postgres", port)} {
		if _, err := FromServer(t.Context(), bad, nil, nil); err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "wrong00") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	asked := strings.Replace(dsn, " password=s3cret99", "", 1)
	if _, err := FromServer(t.Context(), asked, nil, func() (string, error) { return "s3cret99", nil }); err != nil {
		t.Errorf("with a password that was asked for: %v", err)
	}
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// server runs PostgreSQL, as the user postgres when the tests run as root.
func server(t *testing.T, bin string, port int) (data string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgha-gen")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	attr := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip("there is no user postgres")
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.SysProcAttr, cmd.Dir = attr, dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	data = filepath.Join(dir, "data")
	pw := filepath.Join(dir, "pw")
	if err := os.WriteFile(pw, []byte("s3cret99\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run("initdb", "-D", data, "-U", "boss", "--pwfile", pw, "-A", "md5", "-N")
	write := func(name, text string, flag int) {
		f, err := os.OpenFile(filepath.Join(data, name), flag|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("postgresql.conf", fmt.Sprintf("listen_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = '%s'\nmax_connections = 33\nwork_mem = '7MB'\ncluster_name = 'shop'\narchive_mode = on\narchive_command = 'true %%p'\n", port, dir), os.O_APPEND)
	write("pg_hba.conf", "# who\nlocal all all trust\nhost all all 127.0.0.1/32 md5\n", os.O_TRUNC)
	run("pg_ctl", "start", "-D", data, "-w", "-l", filepath.Join(dir, "log"))
	t.Cleanup(func() {
		cmd := exec.Command(filepath.Join(bin, "pg_ctl"), "stop", "-D", data, "-m", "immediate")
		cmd.SysProcAttr, cmd.Dir = attr, dir
		_ = cmd.Run()
	})
	return data
}
