//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/internal/lab"
)

const backupDoc = "../../docs/backup.md"

// manual is docs/backup.md with the test's values for the names of its setup block.
type manual struct {
	*site
	blocks map[string][]string // by the word behind "sh"
	names  []string            // in the order of the setup block
	values map[string]string
	tools  string // directory with stand-ins for systemctl and etcdctl
}

var (
	fenced     = regexp.MustCompile("(?ms)^```sh ([a-z-]+)\n(.*?)^```$")
	assignment = regexp.MustCompile(`(?m)^(?:export )?([A-Z_]+)=`)
)

// openManual reads the document; every name of its setup block needs a value, and
// every value must be of a name in it.
func openManual(t *testing.T, s *site, values map[string]string) *manual {
	t.Helper()
	text, err := os.ReadFile(backupDoc)
	s.must(err)
	m := &manual{site: s, blocks: map[string][]string{}, values: values}
	for _, found := range fenced.FindAllStringSubmatch(string(text), -1) {
		m.blocks[found[1]] = append(m.blocks[found[1]], found[2])
	}
	for _, found := range assignment.FindAllStringSubmatch(strings.Join(m.blocks["setup"], ""), -1) {
		if _, ok := values[found[1]]; !ok {
			t.Fatalf("%s: the setup block has %s, which the test gives no value", backupDoc, found[1])
		}
		m.names = append(m.names, found[1])
	}
	if len(m.names) != len(values) {
		t.Fatalf("%s: the setup block has %v, the test has values for %d names", backupDoc, m.names, len(values))
	}
	m.makeTools()
	return m
}

// follow runs the n-th block with that word on a node, as it stands. Where a
// command asks, the answer is the cluster's name.
func (m *manual) follow(n *lab.Node, word string, i int) string {
	m.Helper()
	if i >= len(m.blocks[word]) {
		m.Fatalf("%s has no block %d with the word %q", backupDoc, i, word)
	}
	script := "set -eu -o pipefail\nexport PATH=" + m.tools + ":" + m.Bin() + ":$PATH\n"
	for _, name := range m.names {
		script += fmt.Sprintf("export %s='%s'\n", name, m.values[name])
	}
	script += m.blocks[word][i]
	path := filepath.Join(n.Dir, "block.sh")
	m.must(m.WriteOwnFile(path, []byte(script), 0o700))
	out, err := m.AsServer(m.ctx, n, "bash", "-c", "yes "+m.Options().Scope+" 2>/dev/null | bash "+path)
	m.Logf("%s, block %q %d on %s:\n%s%s", backupDoc, word, i, n.Name, m.blocks[word][i], out)
	if err != nil && !strings.Contains(err.Error(), "signal: broken pipe") {
		m.Fatal(err)
	}
	return out
}

// makeTools writes a systemctl that asks the rig to start the agent of the host it
// is called on, and an etcdctl: this program under another name.
func (m *manual) makeTools() {
	m.Helper()
	m.tools = filepath.Join(m.Options().Dir, "tools")
	m.must(os.Mkdir(m.tools, 0o755))
	const systemctl = "#!/bin/sh\nset -eu\ntest \"$1 $2\" = 'start pgha-agent'\nmkdir start-me\nwhile test -d start-me; do sleep 0.05; done\n"
	m.must(os.WriteFile(filepath.Join(m.tools, "systemctl"), []byte(systemctl), 0o755))
	self, err := os.Executable()
	m.must(err)
	program, err := os.ReadFile(self)
	m.must(err)
	m.must(os.WriteFile(filepath.Join(m.tools, "etcdctl"), program, 0o755))
	go m.startOnRequest()
}

// startOnRequest is the rig's side of that systemctl; it ends with the row.
func (m *manual) startOnRequest() {
	_ = lab.Poll(m.ctx, func() bool {
		for _, n := range m.Nodes {
			request := filepath.Join(n.Dir, "start-me")
			if _, err := os.Stat(request); err == nil && m.StartAgent(n) == nil {
				_ = os.Remove(request)
			}
		}
		return false
	})
}

// etcdctl is the only command of it that the document uses: --endpoints URL del
// --prefix KEYS.
func etcdctl(args []string) error {
	if len(args) != 5 || args[0] != "--endpoints" || args[2] != "del" || args[3] != "--prefix" {
		return fmt.Errorf("etcdctl: not what the document may say: %v", args)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{args[1]}, DialTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	gone, err := client.Delete(ctx, args[4], clientv3.WithPrefix())
	if err == nil {
		fmt.Println(gone.Deleted)
	}
	return err
}

// docs/backup.md, word for word: the day it is switched on, and the first bad
// night.
func TestBackupManual(t *testing.T) {
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	var hosts, ports []string
	for _, n := range s.Nodes {
		host, port, err := net.SplitHostPort(n.Addr)
		s.must(err)
		hosts, ports = append(hosts, host), append(ports, port)
	}
	home := s.Nodes[0].Dir
	s.must(s.WriteOwnFile(filepath.Join(home, "doc.pgpass"), []byte("*:*:*:postgres:"+s.Password()+"\n"), 0o600))
	values := map[string]string{
		"PATRONICTL_CONFIG_FILE": s.Nodes[0].Config,
		"PGPASSFILE":             filepath.Join(home, "doc.pgpass"),
		"CLUSTER":                s.Options().Scope,
		"MEMBER":                 "",
		"PRIMARY": "host=" + strings.Join(hosts, ",") + " port=" + strings.Join(ports, ",") +
			" user=postgres dbname=postgres target_session_attrs=read-write sslmode=disable",
		"BEFORE": "",
		"DATA":   "",
		"KEYS":   "/opt/pgsql/patroni/" + s.Options().Scope + "/",
		"ETCD":   "http://" + s.Endpoints()[0],
	}
	m := openManual(t, s, values)

	s.rows("kept", 1000)
	s.quiet()
	out := m.follow(s.leader, "routine", 0)
	if !strings.Contains(out, "F ") || strings.Contains(out, "NOT OK") {
		t.Errorf("after the routine there is no full backup, or something is not in order")
	}

	// A lost node.
	lost := s.standby()
	m.values["MEMBER"] = lost.Name
	s.must(s.PowerOff(lost))
	s.must(os.RemoveAll(lost.DataDir))
	s.must(os.RemoveAll(filepath.Join(lost.Dir, "run")))
	s.must(s.PlugIn(lost)) // the cable of the new machine
	began := lab.Boottime()
	m.follow(lost, "lost-node", 0)
	s.whole()
	s.restoredBy(lost, began)
	t.Logf("lost node: back after %.1f s", (lab.Boottime() - began).Seconds())
	began = lab.Boottime()
	m.follow(s.leader, "lost-node-again", 0)
	s.whole()
	t.Logf("its copy made anew: %.1f s", (lab.Boottime() - began).Seconds())

	// A wrong DELETE.
	want := s.content(s.leader)
	m.values["BEFORE"] = s.value(s.leader, "SELECT clock_timestamp()")
	s.value(s.leader, "DELETE FROM rows")
	began = lab.Boottime()
	m.follow(s.leader, "wrong-delete", 0)
	m.follow(s.leader, "wrong-delete", 1)
	s.whole()
	s.sameEverywhere(want)
	t.Logf("wrong DELETE: undone everywhere after %.1f s", (lab.Boottime() - began).Seconds())
	if out := m.follow(s.leader, "wrong-delete", 2); !strings.Contains(out, "1000") {
		t.Errorf("the rows are not back:\n%s", out)
	}
	s.whole()

	// A lost cluster: etcd has survived.
	want = s.content(s.leader)
	s.archived()
	for _, n := range s.Nodes {
		s.must(s.Supervise(n, false))
		s.must(s.PowerOff(n))
		s.must(os.RemoveAll(n.DataDir))
		s.must(os.RemoveAll(filepath.Join(n.Dir, "run")))
		s.must(s.WriteConfig(n, map[string]any{"bootstrap": map[string]any{"method": "pgbackrest"}}))
		s.must(s.PlugIn(n))
	}
	began = lab.Boottime()
	m.follow(s.Nodes[0], "lost-cluster", 0)
	for _, n := range s.Nodes {
		m.values["DATA"] = n.DataDir
		m.follow(n, "lost-cluster", 1)
	}
	s.whole()
	s.sameEverywhere(want)
	t.Logf("lost cluster: everything back after %.1f s", (lab.Boottime() - began).Seconds())
	if out := m.follow(s.leader, "lost-cluster-after", 0); !strings.Contains(out, "1000") {
		t.Errorf("the rows are not there:\n%s", out)
	}
}
