//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// A site that did everything by hand with pgBackRest and Patroni puts this agent
// in Patroni's place: the same file, the same scripts, the same commands.
func TestBackupTutorial(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := newSite(t, func(o *lab.Options) {
		o.Nodes, o.Etcd, o.Backup = 3, 3, lab.BackupNone
		o.Password = "password"
	})
	repo := filepath.Join(s.Options().Dir, "repo")
	s.must(s.OwnDir(repo))
	for _, n := range s.Nodes {
		s.must(s.OwnDir(filepath.Join(n.Dir, "sockets")))
		// Each node has its own file; the cluster's configuration is shared, so it
		// cannot name it, and on one machine it cannot be /etc/pgbackrest.conf.
		n.Env = []string{"PGBACKREST_CONFIG=" + filepath.Join(n.Dir, "pgbackrest.conf")}
		s.fromTemplate(n, "tutorial.yml", n.Config, 0o600, repo)
		s.fromTemplate(n, "pgbackrest.conf", filepath.Join(n.Dir, "pgbackrest.conf"), 0o640, repo)
		s.fromTemplate(n, "boot_pgbackrest.sh", filepath.Join(n.Dir, "boot_pgbackrest.sh"), 0o755, repo)
	}
	ctx, cancel := context.WithTimeout(s.ctx, workLimit)
	defer cancel()
	s.must(s.StartEtcd(ctx))

	// The first node, stanza and full backup, then the others out of it.
	began := lab.Boottime()
	first := s.Nodes[0]
	s.must(s.StartAgent(first))
	s.whole(first)
	t.Logf("first node bootstrapped by the script: %.1f s", (lab.Boottime() - began).Seconds())
	s.watched = s.Watch(s.ctx, watchPeriod)
	s.rows("before the backup", 500)
	s.pgbackrest(first, "stanza-create")
	s.pgbackrest(first, "--type=full", "backup")
	s.rows("after the backup", 500)
	began = lab.Boottime()
	for _, n := range s.Nodes[1:] {
		s.must(s.StartAgent(n))
	}
	s.whole()
	t.Logf("two replicas by the custom method: streaming after %.1f s", (lab.Boottime() - began).Seconds())
	for _, n := range s.Nodes[1:] {
		s.restoredBy(n, began)
	}
	s.sameEverywhere(s.content(s.leader))

	list := s.ctl("list")
	for _, n := range s.Nodes {
		if !strings.Contains(list, n.Name) {
			t.Errorf("pghactl list does not show %s", n.Name)
		}
	}
	if strings.Count(list, "streaming") != 2 {
		t.Errorf("pghactl list does not show two streaming replicas")
	}
	t.Logf("pghactl list:\n%s", list)
	var info []struct {
		Backup []struct{ Type string } `json:"backup"`
	}
	s.must(json.Unmarshal([]byte(s.pgbackrest(first, "--output=json", "info")), &info))
	if len(info) != 1 || len(info[0].Backup) != 1 || info[0].Backup[0].Type != "full" {
		t.Errorf("pgbackrest info does not show one full backup: %+v", info)
	}

	// All nodes lost: the script finds a backup, and the cluster begins with it.
	want := s.content(s.leader)
	s.archived()
	for _, n := range s.Nodes {
		s.must(s.PowerOff(n))
		// What a new machine does not have either.
		s.must(errors.Join(os.RemoveAll(n.DataDir), os.RemoveAll(filepath.Join(n.Dir, "run")), os.RemoveAll(n.DataDir+".pgha.seen")))
	}
	s.must(s.LoseEtcd())
	ctx, cancel = context.WithTimeout(s.ctx, workLimit)
	defer cancel()
	s.must(s.StartEtcd(ctx))
	began = lab.Boottime()
	for _, n := range s.Nodes {
		s.must(s.PowerOn(n))
	}
	s.whole()
	s.sameEverywhere(want)
	t.Logf("all nodes and etcd lost: made anew by the script, all streaming after %.1f s", (lab.Boottime() - began).Seconds())
}

func (s *site) pgbackrest(n *lab.Node, args ...string) string {
	s.Helper()
	args = append([]string{"--config=" + filepath.Join(n.Dir, "pgbackrest.conf"), "--stanza=pg-ha-cluster"}, args...)
	out, err := s.AsServer(s.ctx, n, "pgbackrest", args...)
	s.must(err)
	return out
}

// fromTemplate writes a file of a node.
func (s *site) fromTemplate(n *lab.Node, name, path string, mode os.FileMode, repo string) {
	s.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	s.must(err)
	host, port, err := net.SplitHostPort(n.Addr)
	s.must(err)
	network := "192.0.2.0/24"
	if host == "127.0.0.1" {
		network = "127.0.0.1/32"
	}
	values := map[string]string{
		"name": n.Name, "rest": n.REST, "postgres": n.Addr, "port": port, "dir": n.Dir, "repo": repo,
		"network": network, "etcd": strings.Join(s.Endpoints(), ", "), "bin": s.Options().PGBin,
	}
	for key, value := range values {
		text = []byte(strings.ReplaceAll(string(text), "${"+key+"}", value))
	}
	s.must(s.WriteOwnFile(path, text, mode))
}
