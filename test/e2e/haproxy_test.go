//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/internal/lab"
)

// haproxyConfig is the configuration that everybody copies: checks by OPTIONS as
// well as by GET, every second, sessions cut when a server goes down.
func haproxyConfig(r *row, port int) string {
	var b strings.Builder
	b.WriteString(`global
    maxconn 100
defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
`)
	for i, l := range haproxyListeners {
		fmt.Fprintf(&b, `listen %s
    bind %s:%d
    option httpchk %s
    http-check expect status 200
    default-server inter 1s fall 3 rise 2 on-marked-down shutdown-sessions
`, l.name, r.ClientAddr(), port+i, l.check)
		for _, n := range r.Nodes {
			_, rest, _ := net.SplitHostPort(n.REST)
			fmt.Fprintf(&b, "    server %s %s maxconn 100 check port %s\n", n.Name, n.Addr, rest)
		}
	}
	return b.String()
}

var haproxyListeners = []struct {
	name, check string
	primary     bool
}{
	{"primary_options", "OPTIONS /primary", true},
	{"primary_get", "GET /primary", true},
	{"master_default", "OPTIONS /master", true},
	{"read_write_http11", `GET /read-write HTTP/1.1\r\nHost:\ pgha`, true},
	{"replicas_options", "OPTIONS /replica", false},
	{"replicas_get", "GET /replica?lag=10MB", false},
	{"asynchronous", "OPTIONS /async", false},
}

const haproxyPort = 25900

// HAProxy itself, with the canonical configuration, sends writers to the leader
// and readers to the replicas, before and after a switchover.
func TestHAProxy(t *testing.T) {
	haproxy, err := exec.LookPath("haproxy")
	if err != nil {
		haproxy = "/usr/sbin/haproxy"
	}
	if _, err := os.Stat(haproxy); err != nil {
		t.Skip("haproxy is not installed; run scripts/deps.sh test")
	}
	r := begin(t)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	r.must(os.WriteFile(file, []byte(haproxyConfig(r, haproxyPort)), 0o600))
	if out, err := exec.Command(haproxy, "-c", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(haproxy, "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	r.must(r.StartClient(cmd))
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	check := func() {
		t.Helper()
		leader := r.soleLeader()
		for i, l := range haproxyListeners {
			r.eventually(fmt.Sprintf("%s (%s) sends clients to the right servers", l.name, l.check), func() bool {
				where, recovery, err := r.through(haproxyPort + i)
				return err == nil && recovery != l.primary && (where == leader.Addr) == l.primary
			})
		}
	}
	check()
	began := lab.Boottime()
	r.switchover(r.leader, nil)
	r.newLeader(r.leader)
	check()
	t.Logf("all listeners right %d ms after the switchover was asked for", (lab.Boottime() - began).Milliseconds())
	r.finish(none)
}

// through connects to a listener of the proxy, and tells which server answers
// and whether that is in recovery.
func (r *row) through(port int) (where string, recovery bool, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	cfg, err := pgx.ParseConfig(r.DSN(r.leader))
	if err != nil {
		return "", false, err
	}
	cfg.Host, cfg.Port = r.ClientAddr(), uint16(port)
	cfg.TLSConfig, cfg.Fallbacks = nil, nil
	cfg.DialFunc = r.dial
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", false, err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, "SELECT host(inet_server_addr()) || ':' || inet_server_port(), pg_is_in_recovery()").Scan(&where, &recovery)
	return where, recovery, err
}

// dial connects as a client of the cluster.
func (r *row) dial(ctx context.Context, _, address string) (net.Conn, error) {
	return r.Dial(ctx, address)
}

// A prober like a cloud provider's network load balancer: each second a new
// connection per member, the status and a regular expression on the body, three
// in a row to change its mind. It never has two members in service as primary.
func TestLoadBalancerProbes(t *testing.T) {
	r := begin(t)
	body := regexp.MustCompile(`"state": ?"running".*"role": ?"(primary|master)"`)
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: r.dial, DisableKeepAlives: true}}
	probe := func(n *lab.Node) bool {
		req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, "http://"+n.REST+"/primary", nil)
		if err != nil {
			return false
		}
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		text := make([]byte, 1024) // such a prober reads the beginning alone
		n2, _ := resp.Body.Read(text)
		return resp.StatusCode == http.StatusOK && body.Match(text[:n2])
	}
	streak, inService := map[string]int{}, map[string]bool{}
	round := func() {
		both := 0
		for _, n := range r.Nodes {
			if ok := probe(n); ok == inService[n.Name] {
				streak[n.Name] = 0
			} else if streak[n.Name]++; streak[n.Name] >= 3 {
				inService[n.Name], streak[n.Name] = ok, 0
			}
			if inService[n.Name] && probe(n) {
				both++
			}
		}
		if both > 1 {
			t.Errorf("two members in service as primary: %v", inService)
		}
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	until := func(n *lab.Node) {
		t.Helper()
		for {
			round()
			if inService[n.Name] && !inService[r.leader.Name] || n == r.leader && inService[n.Name] {
				return
			}
			select {
			case <-tick.C:
			case <-r.ctx.Done():
				t.Fatalf("%s does not come into service: %v", n.Name, inService)
			}
		}
	}
	until(r.leader)
	began := lab.Boottime()
	r.switchover(r.leader, nil)
	next := r.newLeader(r.leader)
	until(next)
	t.Logf("the target moved to %s after %d ms", next.Name, (lab.Boottime() - began).Milliseconds())
	r.finish(none)
}
