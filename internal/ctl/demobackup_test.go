package ctl

import (
	"slices"
	"strings"
	"testing"
)

// TestDemoWithoutPgBackRest: one line that names the package, before anything
// is started.
func TestDemoWithoutPgBackRest(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	app := newTestApp(t, nil)
	code := app.run("demo", "--backup", "--dir", t.TempDir())
	if code != 1 || app.err.String() != "Error: the demo of backups needs pgBackRest: install the package pgbackrest (apt-get install pgbackrest)\n" || app.out.Len() > 0 {
		t.Errorf("exit %d, stderr %q, output %q", code, app.err.String(), app.out.String())
	}
}

func TestScenes(t *testing.T) {
	for _, tc := range []struct {
		tour, backup bool
		want         []string
	}{
		{true, false, []string{"Bootstrap", "Switchover", "Crash", "Loss of a node", "Return of the lost node"}},
		{false, true, []string{"Bootstrap", "Backup"}},
		{true, true, []string{"Bootstrap", "Backup", "Switchover", "Crash", "Loss of a node", "Return of the lost node"}},
	} {
		var names []string
		for _, s := range (&demo{}).scenes(tc.tour, tc.backup) {
			name, _, _ := strings.Cut(s.title, ":")
			names = append(names, name)
			if s.play == nil || s.limit < actLimit {
				t.Errorf("%s cannot be played", name)
			}
		}
		if !slices.Equal(names, tc.want) {
			t.Errorf("tour %v, backup %v: %q", tc.tour, tc.backup, names)
		}
	}
}
