package config

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestRoleSettings(t *testing.T) {
	l, _ := mustParse(t, `scope: s
postgresql:
  parameters: {work_mem: 4MB, jit: off}
  parameters_primary: {Work_Mem: 5MB, max_connections: 7}
  pg_hba: [all]
  pg_hba_replica: [replicas]
  rewind: [debug, {sync-method: fsync}]
`)
	d, err := ParseDynamic([]byte(`{"postgresql":{"pg_ident":["i"],"parameters_primary":{"work_mem":"1MB","random_page_cost":2},"parameters_replica":{"hot_standby_feedback":true},"pg_ident_primary":[]},
		"primary_race_backoff":"1min"}`))
	if err != nil {
		t.Fatal(err)
	}
	p := EffectiveOf(l, d).Postgres
	for role, want := range map[string]RoleSettings{
		"primary":        {map[string]string{"work_mem": "5MB", "jit": "off", "random_page_cost": "2"}, []string{"all"}, []string{}},
		"replica":        {map[string]string{"work_mem": "4MB", "jit": "off", "hot_standby_feedback": "on"}, []string{"replicas"}, []string{"i"}},
		"standby_leader": {map[string]string{"work_mem": "4MB", "jit": "off"}, []string{"all"}, []string{"i"}},
	} {
		got := p.For(role)
		if !maps.Equal(got.Parameters, want.Parameters) || !slices.Equal(got.PGHBA, want.PGHBA) || !slices.Equal(got.PGIdent, want.PGIdent) || got.PGIdent == nil {
			t.Errorf("%s: %v %q %q", role, got.Parameters, got.PGHBA, got.PGIdent)
		}
	}
	if p.Parameters["work_mem"] != "4MB" {
		t.Errorf("the settings of every role were changed: %v", p.Parameters)
	}
	if len(p.RewindOptions) != 2 || !p.RewindOptions[0].Flag || p.RewindOptions[1].Value != "fsync" || d.PrimaryRaceBackoff.Seconds() != 60 {
		t.Errorf("%v %v", p.RewindOptions, d.PrimaryRaceBackoff)
	}
}

func TestRoleSettingsOfTheCluster(t *testing.T) {
	_, problems := mustParse(t, "postgresql: {parameters_primary: {max_connections: 7}}")
	said := lines(append(problems, ValidateDynamic([]byte(`{"postgresql":{"parameters_replica":{"wal_level":"logical"}}}`))...))
	for _, want := range []string{"postgresql.parameters_primary.max_connections", "postgresql.parameters_replica.wal_level"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing is said about %s: %s", want, said)
		}
	}
}
