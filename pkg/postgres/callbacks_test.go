package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/pkg/config"
)

func read(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}

func TestCallbacks(t *testing.T) {
	t.Setenv("PATRONI_SUPERUSER_PASSWORD", "never")
	t.Setenv("PGPASSWORD", "never")
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	// on_start hangs with a child; on_role_change says what it got.
	hangs := script(t, `echo "$$" > `+dir+`/pid; sleep 300 & echo "$!" > `+dir+`/child; wait`)
	says := script(t, `echo "$*|$(env | grep -c -e PATRONI -e never)" >> `+out+`; echo "su per'pass\word:1"; exit 3`)
	n := newNode(t, "n1", func(c *config.Postgres) {
		c.Callbacks = map[string]string{"on_start": hangs, "on_role_change": says + " --first 'two words'", "on_reload": says, "on_stop": "/none/such", "on_restart": "'open"}
	})
	n.Callback("on_start", "replica")
	eventually(t, "the first to run", func() bool { return read(dir+"/child") != "" })
	n.Callback(OnReload, "replica") // in its own lane: kills nobody
	eventually(t, "the reload", func() bool {
		return strings.Contains(read(out), "on_reload replica "+n.scope+"|0")
	})
	pid := func(name string) (p int) { _, _ = fmt.Sscan(read(dir+"/"+name), &p); return p }
	if unix.Kill(pid("pid"), 0) != nil {
		t.Fatal("the reload's callback ended another one")
	}
	first, child := pid("pid"), pid("child")
	for range 5 { // of those that wait only the newest is run
		n.Callback("on_role_change", "replica")
	}
	n.Callback("on_role_change", "primary")
	n.WaitCallbacks(10 * time.Second)
	eventually(t, "the first and its child to be gone", func() bool { return gone(first) && gone(child) })
	want := "--first two words on_role_change primary " + n.scope + "|0\n"
	if got := read(out); !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want %q at its end", got, want)
	}
	n.Callback("on_stop", "primary")
	n.WaitCallbacks(10 * time.Second)
	n.Callback("on_restart", "primary")
	log := n.log.String()
	for _, want := range []string{"callback on_start: it was killed", "callback on_role_change: exit status 3", "callback on_stop:", "postgresql.callbacks.on_restart", "[REDACTED]"} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not in the log:\n%s", want, log)
		}
	}
	if strings.Contains(log, `pass\word`) {
		t.Error("a password is in the log")
	}
}

// gone tells whether a process is dead; a zombie that nobody reaps counts.
func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

// A callback that leaves something running has ended all the same.
func TestCallbackLeavesADaemon(t *testing.T) {
	n := newNode(t, "n1", func(c *config.Postgres) { c.Callbacks = map[string]string{"on_start": script(t, "sleep 60 &\nexit 0")} })
	n.Callback("on_start", "primary")
	begin := time.Now()
	n.WaitCallbacks(20 * time.Second)
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("waited %v for the daemon", took)
	}
}

func TestHooks(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "stopped")
	n := primaryNode(t, "n1", func(c *config.Postgres) {
		c.PrePromote = script(t, "echo not now; exit 4")
		c.BeforeStop = script(t, `psql --version >/dev/null; echo "$#" > `+mark+"; exit 1")
	})
	ctx := testContext(t)
	if err := n.PrePromote(ctx); err == nil || !strings.Contains(err.Error(), "exit status 4: not now") {
		t.Errorf("pre_promote: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := n.PrePromote(ended); err == nil {
		t.Error("pre_promote without time left says yes")
	}
	must(t, n.Stop(ctx, StopFast, false))
	if read(mark) != "0\n" || !strings.Contains(n.log.String(), "the server is stopped all the same") {
		t.Errorf("before_stop: %q, log\n%s", read(mark), n.log.String())
	}
}
