//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// A second cluster begins with the first one's data, out of its repository, and
// from then on has a stanza of its own.
func TestBackupSecondCluster(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	first := startSite(t, func(o *lab.Options) { o.Nodes = 1 })
	first.fill(10)
	first.rows("of both", 500)
	first.backup("full")
	first.rows("of both, after the backup", 500)
	want := first.content(first.leader)
	first.archived()

	began := lab.Boottime()
	second := startSite(t, func(o *lab.Options) {
		o.Scope = "pg-ha-copy"
		o.Repository = first.Options().Repository
		o.Config = map[string]any{"bootstrap": map[string]any{
			"method":     "pgbackrest",
			"pgbackrest": map[string]any{"stanza": first.Options().Scope},
		}}
	})
	t.Logf("second cluster out of the first one's stanza: two nodes stream after %.1f s", (lab.Boottime() - began).Seconds())
	second.sameEverywhere(want)
	second.rows("of the second one only", 10)
	second.backup("full")
	first.rows("of the first one only", 10)
	first.sameEverywhere(first.content(first.leader))
	if got := first.content(first.leader); strings.Contains(got, "second one only") {
		t.Errorf("the first cluster has rows of the second: %s", got)
	}
	if n := len(first.backups()); n != 1 {
		t.Errorf("the first cluster's stanza holds %d backups, want its one", n)
	}
	second.sound(second.leader)
}

// All nodes and etcd are lost. What is left is the repository, and the file that
// says where it is.
func TestBackupLostCluster(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	s.fill(10)
	s.rows("kept", 500)
	s.backup("full")
	s.rows("kept, after the backup", 500)
	want := s.content(s.leader)
	s.archived()
	for _, n := range s.Nodes {
		s.must(s.PowerOff(n))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.watched.Stop()

	began := lab.Boottime()
	again := startSite(t, func(o *lab.Options) {
		o.Repository = s.Options().Repository
		o.Config = map[string]any{"bootstrap": map[string]any{"method": "pgbackrest"}}
	})
	again.sameEverywhere(want)
	t.Logf("lost cluster made anew from its own stanza: all of it after %.1f s", (lab.Boottime() - began).Seconds())
	again.rows("writable again", 10)
	again.archived()
	again.backup("full")
	for _, n := range again.Nodes {
		again.sound(n)
	}
}
