package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	BeInit()
	os.Exit(m.Run())
}

func startHost(t *testing.T, ns *namespace) *host {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{name: "test", dir: t.TempDir(), ns: ns}
	if err := h.start([]string{self, InitArg}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func shell(h *host, script string) order {
	return order{Do: "start", Program: &program{
		Argv: []string{"/bin/sh", "-c", script},
		Env:  []string{"PATH=/usr/bin:/bin"},
		Dir:  h.dir,
		Log:  filepath.Join(h.dir, "log"),
	}}
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func commands(h *host) string {
	var names []string
	for _, p := range h.tree() {
		names = append(names, p.comm)
	}
	return strings.Join(names, " ")
}

// orphan leaves a process behind whose parent and session are gone.
const orphan = "setsid sh -c 'sleep 600 & exit 0'; exec sleep 600"

func TestInitKillsOrphansToo(t *testing.T) {
	h := startHost(t, nil)
	if err := h.order(shell(h, orphan)); err != nil {
		t.Fatal(err)
	}
	ctx := deadline(t)
	if err := Poll(ctx, func() bool { return commands(h) == "sleep sleep" }); err != nil {
		t.Fatalf("processes of the host: %q", commands(h))
	}
	if err := h.order(order{Do: "killall"}); err != nil {
		t.Fatal(err)
	}
	if left := commands(h); left != "" {
		t.Fatalf("left after killall: %q", left)
	}
	if pid, status, _ := h.running(); pid != 0 || status != "killed by killed" {
		t.Fatalf("program reported as pid %d, ended %q", pid, status)
	}
}

func TestInitKillsItsHostWhenTheRigGoes(t *testing.T) {
	h := startHost(t, nil)
	if err := h.order(shell(h, orphan)); err != nil {
		t.Fatal(err)
	}
	ctx := deadline(t)
	if err := Poll(ctx, func() bool { return commands(h) == "sleep sleep" }); err != nil {
		t.Fatalf("processes of the host: %q", commands(h))
	}
	victims := h.tree()
	if err := h.stdin.Close(); err != nil { // as the kernel does for a dead rig
		t.Fatal(err)
	}
	select {
	case <-h.gone:
	case <-ctx.Done():
		t.Fatal("init did not end with its rig")
	}
	for _, p := range victims {
		if err := syscall.Kill(p.pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d (%s) outlived its host: %v", p.pid, p.comm, err)
		}
	}
}

func TestInitSupervises(t *testing.T) {
	h := startHost(t, nil)
	ctx := deadline(t)
	if err := h.order(shell(h, "exec sleep 600")); err != nil {
		t.Fatal(err)
	}
	if err := h.order(order{Do: "supervise", On: true}); err != nil {
		t.Fatal(err)
	}
	first, _, _ := h.running()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := Poll(ctx, func() bool { pid, _, _ := h.running(); return pid != 0 && pid != first })
	if err != nil {
		t.Fatal("supervised program was not started again")
	}
	if err := h.order(order{Do: "supervise", On: false}); err != nil {
		t.Fatal(err)
	}
	second, _, _ := h.running()
	if err := syscall.Kill(second, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := h.waitEnded(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestInitReportsWhatCannotStart(t *testing.T) {
	h := startHost(t, nil)
	o := shell(h, "")
	o.Program.Argv = []string{"/nonexistent/program"}
	if err := h.order(o); err == nil || !strings.Contains(err.Error(), "/nonexistent/program") {
		t.Fatalf("error %v does not name the program", err)
	}
}

func TestParseStat(t *testing.T) {
	p, ok := parseStat(7, []byte("7 (a) b (c)) Z 42 1 1"))
	if !ok || p.comm != "a) b (c)" || p.ppid != 42 || !p.zombie {
		t.Fatalf("parsed %+v, %v", p, ok)
	}
	for _, bad := range []string{"", "7", "7 (a", "7 (a)", "7 (a) S x"} {
		if _, ok := parseStat(7, []byte(bad)); ok {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestNetworkFaults(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	w, err := newWires(map[string]string{"a": "192.0.2.1", "b": "192.0.2.2"})
	if err != nil {
		t.Skipf("no network namespaces here: %v", err)
	}
	t.Cleanup(w.close)
	for name, addr := range w.addrs {
		serveEcho(t, w.hosts[name], addr+":7000")
	}
	reach := func(from *namespace, addr string, want bool) {
		t.Helper()
		var err error
		if want { // a busy machine may need more than one attempt
			_ = Poll(deadline(t), func() bool { err = echo(from, addr+":7000"); return err == nil })
		} else {
			err = echo(from, addr+":7000")
		}
		if (err == nil) != want {
			t.Errorf("reach %s from %s: %v, want %v", addr, from.name, err, want)
		}
	}
	a, b := w.hosts["a"], w.hosts["b"]
	reach(a, "192.0.2.2", true)
	reach(w.hub, "192.0.2.1", true)

	must(t, w.cut("a", "b"))
	reach(a, "192.0.2.2", false)
	reach(b, "192.0.2.1", false)
	reach(w.hub, "192.0.2.1", true)
	must(t, w.mend("a", "b"))
	reach(a, "192.0.2.2", true)
	reach(b, "192.0.2.1", true)

	must(t, w.unplug("a"))
	reach(w.hub, "192.0.2.1", false)
	reach(a, "192.0.2.1", true) // to itself
	must(t, w.plug("a"))
	reach(w.hub, "192.0.2.1", true)
	reach(b, "192.0.2.1", true)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func serveEcho(t *testing.T, ns *namespace, addr string) {
	t.Helper()
	var ln net.Listener
	must(t, ns.do(func() (err error) {
		ln, err = net.Listen("tcp", addr)
		return err
	}))
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
}

func echo(ns *namespace, addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	conn, err := ns.dial(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

func TestNamespaceOwner(t *testing.T) {
	for name, want := range map[string]int{
		"pgha-a1b2c3-417-pg-db-01": 417,
		"pgha-a1b2c3-x-hub":        0,
		"other-a1b2c3-417-hub":     0,
		"pgha-lab":                 0,
	} {
		if pid, ok := ownerOf(name); pid != want || ok != (want != 0) {
			t.Errorf("owner of %s: %d, %v", name, pid, ok)
		}
	}
}
