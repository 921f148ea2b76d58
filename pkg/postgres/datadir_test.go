package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/leash"
	"github.com/pgha/pgha/pkg/config"
)

// fakeData makes a directory that looks like a data directory.
func fakeData(t *testing.T, dir string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "global"), 0o700))
	must(t, os.Chmod(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "global", "pg_control"), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("15\n"), 0o600))
	must(t, os.MkdirAll(filepath.Join(dir, "pg_tblspc"), 0o700))
}

func TestState(t *testing.T) {
	n := newNode(t, "n")
	dir := n.cfg.DataDir
	expect := func(what string, want DirState, text string) {
		t.Helper()
		d := n.State()
		if d.State != want || text != "" && (d.Err == nil || !strings.Contains(d.Err.Error(), text)) {
			t.Errorf("%s: %v, %v; want %v, %q", what, d.State, d.Err, want, text)
		}
		if d.Err != nil && strings.Contains(d.Err.Error(), "\n") {
			t.Errorf("%s: the error has several lines: %v", what, d.Err)
		}
	}
	expect("absent", DirEmpty, "")
	must(t, os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, ".hidden"), nil, 0o600))
	expect("dot files", DirEmpty, "")
	must(t, os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600))
	expect("something else", DirUnreadable, "has no global/pg_control")
	if err := n.Wipe(); !errors.Is(err, ErrNotOurs) {
		t.Errorf("wipe of something else: %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "letter.txt")))
	fakeData(t, dir)
	expect("present", DirPresent, "")
	must(t, os.Chmod(dir, 0o755))
	expect("wrong mode", DirUnreadable, "has mode 0755: chmod 0700")
	must(t, os.Chmod(dir, 0o750))
	expect("group access", DirPresent, "")
	must(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("9.6\n"), 0o600))
	expect("too old", DirUnreadable, "9.6")
	must(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("15\n"), 0o600))

	// Every crash point of an operation: outer marker only, both, inner only.
	must(t, n.Begin(KindRewind, false))
	expect("outer marker", DirInProgress, "")
	must(t, n.Begin(KindRestore, true))
	expect("both markers", DirInProgress, "")
	must(t, os.Remove(n.markerPath()))
	if d := n.State(); d.State != DirInProgress || d.Kind != KindRestore {
		t.Errorf("inner marker: %v", d)
	}
	must(t, os.WriteFile(n.inData(markerName), []byte("{torn"), 0o600))
	expect("torn marker", DirInProgress, "")
	must(t, n.Finish())
	must(t, os.Mkdir(n.markerPath(), 0o700))
	expect("no marker could be read", DirUnreadable, "look for in-progress marker")
	if err := n.startable(StartOptions{}); !errors.Is(err, ErrNotStartable) {
		t.Errorf("startable while nothing is known of a marker: %v", err)
	}
	must(t, os.Remove(n.markerPath()))
	expect("finished", DirPresent, "")
	if err := n.startable(StartOptions{}); err != nil {
		t.Errorf("startable: %v", err)
	}

	if os.Geteuid() != 0 {
		foreign := openNode(t, config.Postgres{Name: "f", DataDir: "/usr/share", BinDir: n.cfg.BinDir})
		if d := foreign.State(); d.State != DirUnreadable || !strings.Contains(d.Err.Error(), "belongs to uid 0, not to") || !strings.Contains(d.Err.Error(), "chown") {
			t.Errorf("a directory of root: %v, %v", d.State, d.Err)
		}
		if err := foreign.Wipe(); !errors.Is(err, ErrNotOurs) {
			t.Errorf("wipe of a directory of root: %v", err)
		}
	}
}

// TestMarkerPlace: beside the directory where we may write, else in StateDir;
// a marker in either place counts, and Finish removes both.
func TestMarkerPlace(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	n := newNode(t, "n")
	n.stateDir = t.TempDir()
	beside := n.cfg.DataDir + "." + markerName
	must(t, n.Begin(KindClone, false))
	if _, err := os.Stat(beside); err != nil {
		t.Errorf("the marker is not beside the data directory: %v", err)
	}
	must(t, n.Finish())
	parent := filepath.Dir(n.cfg.DataDir)
	must(t, os.Chmod(parent, 0o500))
	t.Cleanup(func() { _ = os.Chmod(parent, 0o700) })
	must(t, n.Begin(KindClone, false))
	must(t, n.saveRepair(repair{Purpose: purposeReplica, Phase: phaseFiles}))
	if left, _ := filepath.Glob(n.stateDir + "/*"); len(left) != 2 {
		t.Errorf("in the state directory: %q", left)
	}
	must(t, os.Chmod(parent, 0o700))
	if d := n.State(); d.State != DirInProgress {
		t.Errorf("an old marker in the state directory: %v", d)
	}
	must(t, n.Begin(KindRewind, false))
	must(t, n.Finish())
	if left, _ := filepath.Glob(n.stateDir + "/*"); len(left) != 0 || n.State().State != DirEmpty {
		t.Errorf("after the end: %q, %v", left, n.State())
	}
}

// TestMarkerForTheLeash: the leash finds each marker, and takes that of a
// bootstrap, and no other, for one it may start over.
func TestMarkerForTheLeash(t *testing.T) {
	n := newNode(t, "n")
	fakeData(t, n.cfg.DataDir)
	for _, kind := range []Kind{KindBootstrap, KindClone, KindRewind, KindRestore, KindWipe} {
		must(t, n.Begin(kind, true))
		for _, path := range leash.MarkerPaths(n.cfg.DataDir) {
			text, err := os.ReadFile(path)
			if err != nil || strings.Contains(string(text), leash.MarkerBootstrap) != (kind == KindBootstrap) {
				t.Errorf("%s: %s, %v: %s", kind, path, err, text)
			}
		}
	}
}

func TestRepairState(t *testing.T) {
	n := newNode(t, "n")
	dir := n.cfg.DataDir
	fakeData(t, dir)
	path := dir + "." + repairName
	expect := func(what string, state DirState, kind Kind, resumable bool) {
		t.Helper()
		if d := n.State(); d.State != state || d.Kind != kind || d.Resumable != resumable {
			t.Errorf("%s: %+v", what, d)
		}
	}
	save := func(r repair) { t.Helper(); must(t, n.saveRepair(r)) }
	restore := repair{Purpose: purposeRestore, Order: "o1", Method: "pgbackrest", Phase: phaseFiles}
	save(restore)
	expect("a note without a marker: nothing was changed", DirPresent, "", false)
	must(t, n.Begin(KindRestore, false))
	expect("files of a restore", DirInProgress, KindRestore, true)
	if d := n.State(); d.Order != "o1" {
		t.Errorf("order %q", d.Order)
	}
	restore.Phase = phaseReplay
	save(restore)
	must(t, n.unmark())
	expect("replay, which has no marker", DirInProgress, KindRestore, true)
	if err := n.startable(StartOptions{Bootstrap: true}); !errors.Is(err, ErrNotStartable) {
		t.Errorf("startable while it replays: %v", err)
	}
	restore.Phase = phaseDone
	save(restore)
	expect("done", DirPresent, "", false)

	must(t, n.Begin(KindBootstrap, true))
	expect("initdb", DirInProgress, KindBootstrap, false)
	save(repair{Purpose: purposeBootstrap, Phase: phaseReplay})
	expect("custom bootstrap", DirInProgress, KindBootstrap, false)
	save(repair{Purpose: purposeBootstrap, Phase: phaseReplay, Method: "pgbackrest"})
	expect("native bootstrap", DirInProgress, KindBootstrap, true)
	for _, garbage := range []string{"", "{", `{"purpose":"x","phase":"files"}`, `{"purpose":"restore","phase":"files","rung":-1}`, "[]"} {
		must(t, os.WriteFile(path, []byte(garbage), 0o600))
		expect("garbage "+garbage, DirInProgress, KindBootstrap, false)
	}
	if said := strings.Count(n.log.String(), "cannot read the state of an earlier repair"); said != 1 {
		t.Errorf("garbage was reported %d times", said)
	}
	must(t, n.Finish())
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is still there")
	}
	expect("finished", DirPresent, "", false)
}

func TestWipe(t *testing.T) {
	n := newNode(t, "n")
	dir := n.cfg.DataDir
	top := filepath.Dir(dir)
	fakeData(t, dir)
	walDir, tblspc, outside := top+"/wal", top+"/space", top+"/outside"
	for _, d := range []string{walDir + "/archive_status", tblspc + "/PG_15_202209061/5", tblspc + "/other", outside} {
		must(t, os.MkdirAll(d, 0o700))
	}
	must(t, os.WriteFile(outside+"/precious", nil, 0o600))
	must(t, os.WriteFile(walDir+"/000000010000000000000001", nil, 0o600))
	must(t, os.WriteFile(walDir+"/thesis.doc", nil, 0o600))
	must(t, os.Symlink(walDir, dir+"/pg_wal"))
	must(t, os.Symlink(tblspc, dir+"/pg_tblspc/16384"))
	must(t, os.Symlink(outside, dir+"/base"))
	if err := n.Wipe(); !errors.Is(err, ErrNotOurs) || !strings.Contains(err.Error(), "thesis.doc") {
		t.Errorf("wipe with a strange WAL directory: %v", err)
	}
	if n.State().State != DirPresent {
		t.Error("a refused wipe changed something")
	}
	must(t, os.Remove(walDir+"/thesis.doc"))
	must(t, n.Wipe())
	if d := n.State(); d.State != DirEmpty {
		t.Errorf("after the wipe: %v", d)
	}
	for path, want := range map[string]bool{
		walDir: true, walDir + "/000000010000000000000001": false, tblspc + "/PG_15_202209061": false,
		tblspc + "/other": true, outside + "/precious": true, dir: true,
	} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: exists %v, want %v", path, err == nil, want)
		}
	}
	must(t, n.Wipe()) // of an empty directory
	must(t, os.Remove(dir))
	must(t, n.Wipe()) // of none

	// A wipe that was interrupted is recognised and can be finished.
	must(t, os.MkdirAll(dir+"/base/1", 0o700))
	must(t, n.Begin(KindWipe, true))
	if d := n.State(); d.State != DirInProgress || d.Kind != KindWipe {
		t.Errorf("interrupted wipe: %v", d)
	}
	must(t, n.Wipe())
	must(t, n.Finish())
	if d := n.State(); d.State != DirEmpty {
		t.Errorf("finished wipe: %v", d)
	}
}

func TestMoveAside(t *testing.T) {
	n := newNode(t, "n")
	dir := n.cfg.DataDir
	walDir := filepath.Dir(dir) + "/wal"
	for round := range 2 {
		fakeData(t, dir)
		must(t, os.MkdirAll(walDir, 0o700))
		must(t, os.Symlink(walDir, dir+"/pg_wal"))
		must(t, os.WriteFile(dir+"/round", []byte{byte('0' + round)}, 0o600))
		must(t, n.MoveAside())
		if d := n.State(); d.State != DirEmpty {
			t.Errorf("after moving aside: %v", d)
		}
		if b, err := os.ReadFile(dir + ".failed/round"); err != nil || string(b) != string(rune('0'+round)) {
			t.Errorf("round %d: %q, %v", round, b, err)
		}
		if to, err := os.Readlink(dir + ".failed/pg_wal"); err != nil || to != walDir+".failed" {
			t.Errorf("pg_wal of the moved directory: %s, %v", to, err)
		}
	}
}

func TestConfBackups(t *testing.T) {
	n := newNode(t, "n", func(c *config.Postgres) { c.ConfigDir = filepath.Join(filepath.Dir(c.DataDir), "etc") })
	fakeData(t, n.cfg.DataDir)
	must(t, os.MkdirAll(n.config().ConfigDir, 0o700))
	for _, name := range []string{"postgresql.conf", "postgresql.base.conf", "pg_hba.conf"} {
		must(t, os.WriteFile(filepath.Join(n.config().ConfigDir, name), []byte(name), 0o600))
	}
	n.SaveConfBackups()
	must(t, os.RemoveAll(n.config().ConfigDir))
	must(t, os.MkdirAll(n.config().ConfigDir, 0o700))
	must(t, n.restoreConfBackups())
	for name, want := range map[string]string{"postgresql.conf": "postgresql.conf", "pg_hba.conf": "pg_hba.conf", "pg_ident.conf": ""} {
		if b, err := os.ReadFile(filepath.Join(n.config().ConfigDir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}
