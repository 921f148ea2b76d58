package postgres

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// An agent without a leash that was restarted finds its server again, can signal
// it, and hears of its end.
func TestExecLauncherAdopts(t *testing.T) {
	n := primaryNode(t, "n1")
	ctx := testContext(t)
	ended := make(chan struct{})
	second := &ExecLauncher{Ended: func() { close(ended) }}
	must(t, second.Adopt(n.cfg.DataDir))
	pid, ok := second.Running()
	if first, up := n.Running(); !ok || !up || pid != first {
		t.Fatalf("adopted %d %v, want %d", pid, ok, first)
	}
	must(t, second.Signal(ctx, unix.SIGINT))
	<-ended
	<-second.Exited()
	<-n.Exited()
	if _, ok := second.Running(); ok {
		t.Error("it still runs")
	}
	// A pid file that names somebody else, or nobody, is no server.
	for _, text := range []string{"1\n", "not a number", "-5\n"} {
		must(t, os.WriteFile(n.inData("postmaster.pid"), []byte(text), 0o600))
		must(t, second.Adopt(n.cfg.DataDir))
		if pid, ok := second.Running(); ok {
			t.Errorf("%q: adopted %d", text, pid)
		}
	}
	must(t, os.Remove(n.inData("postmaster.pid")))
}
