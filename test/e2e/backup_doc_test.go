//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/internal/lab"
)

const backupDoc = "../../docs/backup.md"

// manual is docs/backup.md, for a site.
type manual struct {
	*site
	*lab.Manual
}

func openManual(s *site, values map[string]string) *manual {
	s.Helper()
	book, err := s.OpenManual(backupDoc, values)
	s.must(err)
	self, err := os.Executable()
	s.must(err)
	program, err := os.ReadFile(self)
	s.must(err)
	s.must(book.Tool("etcdctl", program)) // this program under another name
	s.must(book.ServeSystemctl(s.ctx, func(n *lab.Node, order string) error {
		if order != "start pgha-agent" {
			return fmt.Errorf("systemctl: not what the document may say: %s", order)
		}
		return s.StartAgent(n)
	}))
	return &manual{site: s, Manual: book}
}

// follow runs the i-th block with that word on a node.
func (m *manual) follow(n *lab.Node, word string, i int) string {
	m.Helper()
	out, err := m.Follow(m.ctx, n, word, i)
	m.Logf("%s, block %q %d on %s:\n%s", backupDoc, word, i, n.Name, out)
	m.must(err)
	return out
}

// etcdctl is the only command of it that the document uses: --endpoints URL del
// --prefix KEYS.
func etcdctl(args []string) error {
	if len(args) != 5 || args[0] != "--endpoints" || args[2] != "del" || args[3] != "--prefix" {
		return fmt.Errorf("etcdctl: not what the document may say: %v", args)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{args[1]}, DialTimeout: settle})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), settle)
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
	onlyLong(t)
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
	m := openManual(s, values)

	s.rows("kept", 1000)
	s.quiet()
	out := m.follow(s.leader, "routine", 0)
	if !strings.Contains(out, "F ") || strings.Contains(out, "NOT OK") {
		t.Errorf("after the routine there is no full backup, or something is not in order")
	}

	// A lost node.
	lost := s.standby()
	m.Set("MEMBER", lost.Name)
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
	m.Set("BEFORE", s.value(s.leader, "SELECT clock_timestamp()"))
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
		m.Set("DATA", n.DataDir)
		m.follow(n, "lost-cluster", 1)
	}
	s.whole()
	s.sameEverywhere(want)
	t.Logf("lost cluster: everything back after %.1f s", (lab.Boottime() - began).Seconds())
	if out := m.follow(s.leader, "lost-cluster-after", 0); !strings.Contains(out, "1000") {
		t.Errorf("the rows are not there:\n%s", out)
	}
}
