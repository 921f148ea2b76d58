package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/etcdserver/etcdtest"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
)

func TestServesUntilTerminated(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	ports := etcdtest.Ports(t, 2)
	client := fmt.Sprintf("http://127.0.0.1:%d", ports[0])

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{
			"--name", "m1", "--data-dir", filepath.Join(dir, "data"), "--listen-client-urls", client,
			"--listen-peer-urls", fmt.Sprintf("http://127.0.0.1:%d", ports[1]), "--heartbeat-interval", "20", "--election-timeout", "200",
		}, &bytes.Buffer{}, &stderr)
	}()
	if err := socket.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := socket.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Fatalf("systemd was told %q, %v", buf[:n], err)
	}
	s, err := etcd.Open(ctx, etcd.Config{Endpoints: []string{client}, Base: dcs.Base("", "x")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	call, done := context.WithTimeout(ctx, 10*time.Second)
	defer done()
	if err := s.KeepAlive(call); err != nil {
		t.Fatal(err)
	}
	s.Close()
	cancel()
	select {
	case got := <-code:
		if got != 0 || stderr.Len() > 0 {
			t.Fatalf("exit code %d, stderr %s", got, stderr.String())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not stop")
	}
}

func TestBadSettings(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	for name, test := range map[string]struct {
		args []string
		code int
		text string
	}{
		"unknown flag":   {[]string{"--nonsense"}, 2, "nonsense"},
		"stray argument": {[]string{"start"}, 2, "start"},
		"bad URL":        {[]string{"--listen-client-urls", "localhost"}, 1, "listen-client-urls"},
		"timeouts":       {[]string{"--heartbeat-interval", "100", "--election-timeout", "200"}, 1, "election"},
		"port taken":     {[]string{"--data-dir", filepath.Join(dir, "d"), "--listen-client-urls", "http://" + taken.Addr().String(), "--listen-peer-urls", "http://127.0.0.1:0"}, 1, "in use"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), test.args, &stdout, &stderr)
		if code != test.code || !strings.Contains(stderr.String(), test.text) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: exit %d, stderr %q", name, code, stderr.String())
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"--version"}, &stdout, &stderr); code != 0 || !strings.Contains(stdout.String(), "etcd 3.") {
		t.Errorf("--version: %d %q", code, stdout.String())
	}
	stdout.Reset()
	if code := run(context.Background(), []string{"--help"}, &stdout, &stderr); code != 0 || !strings.Contains(stdout.String(), "-initial-cluster-state") {
		t.Errorf("--help: %d %q", code, stdout.String())
	}
}
