package agent

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// TestConfigOfOthers (safety B.2): what somebody wrote straight into /config is
// adjusted as Patroni does, refused with its numbers where that does not help, and
// the rest of the document is in force all the same.
func TestConfigOfOthers(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		doc  string
		want config.Timing
		said []string // parts of the one line; none: nothing is said
	}{
		{`{"ttl":20,"loop_wait":1,"retry_timeout":3}`, config.Timing{TTL: 20 * s, LoopWait: s, RetryTimeout: 3 * s}, nil},
		{`{"ttl":20,"loop_wait":10,"retry_timeout":8}`, config.Timing{TTL: 20 * s, LoopWait: 4 * s, RetryTimeout: 8 * s}, nil},
		{`{"ttl":5,"loop_wait":1,"retry_timeout":2}`, config.Timing{TTL: 30 * s, LoopWait: 10 * s, RetryTimeout: 10 * s},
			[]string{"30s, 10s and 10s are in force", "ttl 5s leaves 2.8s", "need 3.0s", "edit-config"}},
		{`{"ttl":1,"loop_wait":-7,"retry_timeout":600}`, config.Timing{TTL: 30 * s, LoopWait: 10 * s, RetryTimeout: 10 * s}, []string{"ttl 5s"}},
		{`{"ttl":"soon"}`, config.Timing{TTL: 30 * s, LoopWait: 10 * s, RetryTimeout: 10 * s}, []string{"not applied, the last good one stays in force", "ttl needs a whole number"}},
	} {
		var out bytes.Buffer
		a := &agent{log: slog.New(slog.NewTextHandler(&out, nil)), said: said{lines: map[string]bool{}}}
		a.use(withWatchdog(t, "").Local, config.DefaultDynamic())
		out.Reset()
		doc := strings.TrimSuffix(test.doc, "}") + `,"maximum_lag_on_failover":7}`
		a.takeDocument(context.Background(), []byte(doc))
		d := a.config.Load().Dynamic
		if d.Timing() != test.want {
			t.Errorf("%s: %+v is in force, want %+v", doc, d.Timing(), test.want)
		}
		if whole := !strings.Contains(doc, "soon"); whole != (d.MaximumLagOnFailover == 7) {
			t.Errorf("%s: maximum_lag_on_failover is %d", doc, d.MaximumLagOnFailover)
		}
		if lines := strings.Count(out.String(), "\n"); lines != min(len(test.said), 1) {
			t.Errorf("%s: said %q", doc, out.String())
		}
		for _, part := range test.said {
			if !strings.Contains(out.String(), part) {
				t.Errorf("%s: said %q, without %q", doc, out.String(), part)
			}
		}
	}
}
