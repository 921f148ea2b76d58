package test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestLinks: a command line that is run all day starts fast because it does not
// link what only servers need.
func TestLinks(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/pgha/pgha/cmd/pghactl").CombinedOutput()
	if err != nil {
		t.Skipf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		for _, server := range []string{"github.com/prometheus/", "go.etcd.io/etcd/server/"} {
			if strings.HasPrefix(line, server) {
				t.Errorf("pghactl links %s", strings.TrimSpace(line))
			}
		}
	}
}
