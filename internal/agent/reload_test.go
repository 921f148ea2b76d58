package agent

import (
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
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
