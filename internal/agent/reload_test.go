package agent

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

// A reload changes what this member demands of its peers and what it shows them
// together, or neither: a leader with yesterday's password finds no promise of the
// failsafe mode.
func TestReconnect(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	effective := func(password config.Secret, cacert string) *config.Effective {
		return &config.Effective{Local: &config.Local{
			RestAPI: config.RestAPI{Listen: "127.0.0.1:0", Username: "u", Password: password},
			Ctl:     config.Ctl{Username: "u", Password: password, CACert: cacert},
		}}
	}
	before := effective("before", "")
	board := newBoard(&ha.View{})
	board.now, board.journal = now, newJournal("pg1", time.Now, log)
	api, err := restapi.New(restapi.Options{Agent: board, Settings: restapi.Settings{RestAPI: before.Local.RestAPI}, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- api.Serve(t.Context()) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	options, err := clientOptions(before)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{api: api, client: restapi.NewClient(options), log: log}
	t.Cleanup(a.client.Close)
	accepted := func(when string) {
		t.Helper()
		if status, text, err := a.client.Post(t.Context(), "http://"+api.Addr().String(), "/sigterm", nil); err != nil || status != http.StatusAccepted {
			t.Errorf("%s: %d %q, %v", when, status, text, err)
		}
	}
	accepted("at the start")
	if err := a.reconnect(effective("after", filepath.Join(t.TempDir(), "none.pem"))); err == nil {
		t.Error("a missing ctl.cacert was taken")
	}
	accepted("after a reload that was refused")
	if err := a.reconnect(effective("after", "")); err != nil {
		t.Fatal(err)
	}
	accepted("after the reload")
	stranger := restapi.NewClient(options)
	defer stranger.Close()
	if status, _, err := stranger.Post(t.Context(), "http://"+api.Addr().String(), "/sigterm", nil); err != nil || status != http.StatusUnauthorized {
		t.Errorf("with the old password: %d, %v", status, err)
	}
}

// A reload does not move the files that the running server reads.
func TestImmovable(t *testing.T) {
	at := func(change func(*config.Effective)) *config.Effective {
		e := &config.Effective{Local: &config.Local{Scope: "s", Name: "n", Namespace: "service"}}
		e.Postgres.DataDir, e.Postgres.ConfigDir, e.Postgres.ConfigBaseName, e.Postgres.BinDir = "/data", "/data", "postgresql", "/bin"
		change(e)
		return e
	}
	for want, change := range map[string]func(*config.Effective){
		"":                            func(e *config.Effective) { e.Postgres.BinDir, e.Postgres.PGPass = "/usr/bin", "/pass" },
		"scope":                       func(e *config.Effective) { e.Local.Scope = "x" },
		"name":                        func(e *config.Effective) { e.Local.Name = "x" },
		"namespace":                   func(e *config.Effective) { e.Local.Namespace = "x" },
		"postgresql.data_dir":         func(e *config.Effective) { e.Postgres.DataDir, e.Postgres.ConfigDir = "/x", "/x" },
		"postgresql.config_dir":       func(e *config.Effective) { e.Postgres.ConfigDir = "/etc/postgresql" },
		"postgresql.config_base_name": func(e *config.Effective) { e.Postgres.ConfigBaseName = "server" },
		"pgha.leash":                  func(e *config.Effective) { e.PGHA.Leash = "off" },
	} {
		if got := immovable(at(func(*config.Effective) {}), at(change)); got != want {
			t.Errorf("moved: %q, want %q", got, want)
		}
	}
}

// upKeeper has a server that runs.
type upKeeper struct{ guardian }

func (upKeeper) Running() (int, bool) { return 1, true }

// The data directory has a copy of /config from the start on, and again after it
// was replaced.
func TestDocumentIsKept(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	srv, err := postgres.New(postgres.Options{Name: "n", Scope: "s", Config: config.Postgres{DataDir: dir}, Process: &postgres.ExecLauncher{}})
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{log: log}
	a.node = newNode("n", srv, upKeeper{}, a.config.Load, now, func() {}, log)
	t.Cleanup(a.node.close)
	path := filepath.Join(dir, "patroni.dynamic.json")
	keep := func(state, doc, want string) {
		t.Helper()
		if d, err := config.ParseDynamic([]byte(doc)); err != nil {
			t.Fatal(err)
		} else if old := a.config.Load(); old == nil || !old.Dynamic.Equal(d) {
			a.config.Store(&config.Effective{Dynamic: d})
		}
		a.keepDocument(state)
		a.node.group.Wait()
		text, _ := os.ReadFile(path)
		if string(text) != want {
			t.Errorf("%s with %s: the copy is %q", state, doc, text)
		}
	}
	const first, second = `{"ttl":30}`, `{"ttl":40}`
	keep("creating replica", first, "")
	keep("running", first, first)
	keep("running", second, second)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	keep("running", second, "") // nothing has changed: the disk is not asked
	keep("starting", second, "")
	keep("running", second, second)
}
