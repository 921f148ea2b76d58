package postgres

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

// What is configured for a role is in force in it: after a promotion with the
// next Apply, and not before.
func TestRoleSettings(t *testing.T) {
	ctx := testContext(t)
	a := primaryNode(t, "a", func(c *config.Postgres) {
		c.ByRole = map[string]config.RoleSettings{"primary": {Parameters: map[string]string{"work_mem": "5MB"}}}
	})
	if got := a.ask("SHOW work_mem"); got != "5MB" {
		t.Errorf("work_mem of the primary is %s", got)
	}
	b := standbyOf(t, a, "b", func(c *config.Postgres) {
		c.ByRole = map[string]config.RoleSettings{
			"primary": {Parameters: map[string]string{"work_mem": "6MB"}, PGHBA: append([]string{"# of a primary"}, c.PGHBA...)},
			"replica": {Parameters: map[string]string{"work_mem": "7MB"}},
		}
	})
	hba := func() string {
		text, err := os.ReadFile(filepath.Join(b.config().ConfigDir, "pg_hba.conf"))
		must(t, err)
		return string(text)
	}
	if got := b.ask("SHOW work_mem"); got != "7MB" || strings.Contains(hba(), "# of a primary") {
		t.Errorf("the standby: work_mem %s, pg_hba.conf %s", got, hba())
	}
	must(t, b.Promote(ctx, 0, 0))
	told, pending, err := b.Apply(ctx, false)
	if got := b.ask("SHOW work_mem"); got != "6MB" || !told || len(pending) > 0 || err != nil || !strings.Contains(hba(), "# of a primary") {
		t.Errorf("after the promotion: work_mem %s, told %v, pending %v, %v, pg_hba.conf %s", got, told, pending, err, hba())
	}
}

func TestRoleOfAStandbyLeader(t *testing.T) {
	s := &Server{cfg: config.Postgres{ByRole: map[string]config.RoleSettings{
		"primary": {PGHBA: []string{"primary"}}, "replica": {PGHBA: []string{"replica"}}, "standby_leader": {PGHBA: []string{"standby leader"}}}}}
	for want, got := range map[string]config.Postgres{
		"primary": s.configFor(RolePrimary, nil), "replica": s.configFor(RoleStandby, &Upstream{Name: "n2"}), "standby leader": s.configFor(RoleStandby, &Upstream{Remote: true}),
	} {
		if len(got.PGHBA) != 1 || got.PGHBA[0] != want {
			t.Errorf("%s: %q", want, got.PGHBA)
		}
	}
}

func TestRewindOptions(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler), cfg: config.Postgres{RewindOptions: []config.Option{
		{Name: "debug", Flag: true}, {Name: "source-server", Value: "host=evil"}, {Name: "--sync-method", Value: "fsync"}}}}
	if got := s.rewindOptions(); !slices.Equal(got, []string{"--debug", "--sync-method=fsync"}) {
		t.Errorf("%q", got)
	}
}
