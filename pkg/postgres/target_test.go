package postgres

import (
	"strings"
	"testing"
	"time"
)

func TestRecoveryTarget(t *testing.T) {
	for _, c := range []struct {
		in  RecoveryTarget
		set string // name=value expected among the settings
		err string
	}{
		{RecoveryTarget{}, "recovery_target_timeline=latest", ""},
		{RecoveryTarget{Type: "latest", Timeline: "current"}, "recovery_target_timeline=current", ""},
		{RecoveryTarget{Type: "latest", Timeline: "7"}, "recovery_target_timeline=7", ""},
		{RecoveryTarget{Type: "latest"}, "recovery_target_action=promote", ""},
		{RecoveryTarget{Type: "immediate"}, "recovery_target=immediate", ""},
		{RecoveryTarget{Type: "time", Value: "2026-11-22 13:00:00.25+01"}, "recovery_target_time=2026-11-22 12:00:00.25+00", ""},
		{RecoveryTarget{Type: "time", Value: "2026-11-22T12:00:00Z", Exclusive: true}, "recovery_target_inclusive=false", ""},
		{RecoveryTarget{Type: "time", Value: "2026-11-22 12:00 UTC"}, "recovery_target_time=2026-11-22 12:00:00+00", ""},
		{RecoveryTarget{Type: "lsn", Value: "0/3000148"}, "recovery_target_lsn=0/3000148", ""},
		{RecoveryTarget{Type: "lsn", Value: "0/3000148"}, "recovery_target_inclusive=true", ""},
		{RecoveryTarget{Type: "name", Value: "before the release"}, "recovery_target_name=before the release", ""},
		{RecoveryTarget{Type: "xid", Value: "731"}, "recovery_target_xid=731", ""},

		{RecoveryTarget{Type: "time", Value: "2026-11-22 12:00:00"}, "", `has no zone: add one, as in "2026-11-22 12:00:00+00"`},
		{RecoveryTarget{Type: "time", Value: "2026-11-22 12:00:00 CET"}, "", "with a zone"},
		{RecoveryTarget{Type: "time", Value: "yesterday\n"}, "", "with a zone"},
		{RecoveryTarget{Type: "time"}, "", "with a zone"},
		{RecoveryTarget{Type: "lsn", Value: "3000148"}, "", "such as 0/3000148"},
		{RecoveryTarget{Type: "lsn", Value: "0/0"}, "", "such as 0/3000148"},
		{RecoveryTarget{Type: "name"}, "", "name of a restore point"},
		{RecoveryTarget{Type: "name", Value: "a\nb"}, "", "name of a restore point"},
		{RecoveryTarget{Type: "name", Value: strings.Repeat("x", 64)}, "", "1 to 63 bytes"},
		{RecoveryTarget{Type: "xid", Value: "-1"}, "", "transaction id"},
		{RecoveryTarget{Type: "latest", Value: "x"}, "", "takes no value"},
		{RecoveryTarget{Type: "immediate", Exclusive: true}, "", "exclusive does not go with immediate"},
		{RecoveryTarget{Type: "name", Value: "a", Exclusive: true}, "", "exclusive does not go with name"},
		{RecoveryTarget{Type: "soon"}, "", `type "soon": give latest`},
		{RecoveryTarget{Timeline: "0"}, "", "give latest, current or a number"},
		{RecoveryTarget{Timeline: "newest"}, "", "give latest, current or a number"},
	} {
		got, err := c.in.settings()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%+v: error %v, want %q", c.in, err, c.err)
			}
			continue
		}
		name, value, _ := strings.Cut(c.set, "=")
		if err != nil || got[name] != value {
			t.Errorf("%+v: %s is %q, %v, want %q", c.in, name, got[name], err, value)
			continue
		}
		// Exactly one target is left, and none of those in included files.
		targets := 0
		for _, n := range []string{"", "_name", "_time", "_xid", "_lsn"} {
			v, ok := got["recovery_target"+n]
			if !ok {
				t.Errorf("%+v: recovery_target%s is not defeated", c.in, n)
			}
			if v != "" {
				targets++
			}
		}
		if want := c.in.kind() != "latest"; (targets == 1) != want || targets > 1 {
			t.Errorf("%+v: %d targets", c.in, targets)
		}
	}
}

func FuzzParseTargetTime(f *testing.F) {
	f.Add("2026-11-22 13:00:00.25+01")
	f.Add("2026-11-22 12:00:00 UTC")
	f.Fuzz(func(t *testing.T, text string) {
		at, err := ParseTargetTime(text)
		if err != nil {
			return
		}
		again, err := ParseTargetTime(at.UTC().Format(time.RFC3339Nano))
		if err != nil || !again.Equal(at) {
			t.Fatalf("%q: %v, then %v, %v", text, at, again, err)
		}
	})
}
