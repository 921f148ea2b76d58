package agent

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

// A server that tells its position late has no say in an election, and is no reason
// to refuse a switchover.
func TestAskPatiently(t *testing.T) {
	var asked atomic.Int32
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		doc := `{"state": "running", "role": "replica"}`
		if asked.Add(1) > 3 {
			doc = `{"state": "running", "role": "replica", "xlog": {"received_location": 7, "replayed_location": 7}}`
		}
		_, _ = w.Write([]byte(doc))
	}))
	defer api.Close()
	client := restapi.NewClient(restapi.ClientOptions{})
	defer client.Close()
	p := &peers{client: client, log: slog.New(slog.DiscardHandler)}
	members := []dcs.Member{{Name: "n2", APIURL: api.URL}, {Name: "gone", APIURL: "http://127.0.0.1:1"}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if got := p.Ask(ctx, members, nil); got["n2"].Reachable {
		t.Errorf("an election waited: %+v", got)
	}
	got := p.AskPatiently(ctx, members)
	if n2 := got["n2"]; !n2.Reachable || n2.Position != 7 || got["gone"].Reachable || asked.Load() != 4 {
		t.Errorf("asked %d times: %+v", asked.Load(), got)
	}
	asked.Store(-1 << 30)
	short, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if got := p.AskPatiently(short, members); got["n2"].Reachable {
		t.Errorf("who never tells: %+v", got)
	}
}
