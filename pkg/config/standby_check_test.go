package config

import "testing"

func TestCheckStandby(t *testing.T) {
	for _, c := range []struct {
		doc, path string
		sev       Severity
	}{
		{`{"standby_cluster":{"host":"h","port":5433,"primary_slot_name":"a_1","recovery_min_apply_delay":"5min","restore_command":"x %f %p"}}`, "", 0},
		{`{"standby_cluster":{"host":"h","recovery_min_apply_delay":300000}}`, "", 0},
		{`{"standby_cluster":null}`, "", 0},
		{`{"standby_cluster":{"primary_slot_name":"a"}}`, "standby_cluster", Warning},
		{`{"standby_cluster":{"host":"h","primary_slot_name":"A-b"}}`, "standby_cluster.primary_slot_name", Error},
		{`{"standby_cluster":{"host":"h","recovery_min_apply_delay":"soon"}}`, "standby_cluster.recovery_min_apply_delay", Error},
		{`{"standby_cluster":{"host":"h","port":70000}}`, "standby_cluster.port", Warning},
		{`{"standby_cluster":"h"}`, "standby_cluster", Error},
	} {
		ps := ValidateDynamic([]byte(c.doc))
		switch {
		case c.path == "" && len(ps) != 0, c.path != "" && len(ps) != 1:
			t.Errorf("%s: %v", c.doc, ps)
		case c.path != "" && (ps[0].Path != c.path || ps[0].Severity != c.sev):
			t.Errorf("%s: %s at %s: %v", c.doc, ps[0].Severity, ps[0].Path, ps[0])
		}
	}
}

// A method that only standby_cluster names is described where the others are.
func TestStandbyMethods(t *testing.T) {
	l, _ := mustParse(t, localForMerge)
	d, err := ParseDynamic([]byte(`{"standby_cluster":{"host":"h","create_replica_methods":["far","pgbackrest"]},
		"postgresql":{"far":{"command":"fetch","no_leader":true}},"pgha":{"backup":{"repo":{"path":"/r"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	p := EffectiveOf(l, d).Postgres
	if m := p.Methods["far"]; m == nil || m.Command != "fetch" || !m.NoLeader {
		t.Errorf("far: %+v", m)
	}
	if m := p.Methods["pgbackrest"]; m == nil || !m.Native {
		t.Errorf("pgbackrest: %+v", m)
	}
}
