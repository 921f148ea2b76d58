package loop

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// The log names what ended a quarantine.
func TestEndOfQuarantineIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		leader *dcs.Leader
		count  int64 // of the epochs, 1 before
		want   string
	}{
		"a word, given a ttl earlier": {nil, 2, "accepted by op"},
		"a primary":                   {&dcs.Leader{Name: "n2"}, 2, "n2 runs as the primary"},
		"an old answer":               {&dcs.Leader{Name: "n2"}, 1, "was an old answer"},
	} {
		var said bytes.Buffer
		l := Loop{Options: Options{Log: slog.New(slog.NewTextHandler(&said, nil))}}
		l.memory.Quarantine.Why, l.memory.Seen.Count, l.memory.AcceptSeen = "etcd went back", 1, 5
		var o ha.Observation
		o.Accepted = ha.Acceptance{Serial: 5, By: "op"} // taken in long before
		o.DCS.Cluster = &dcs.Cluster{Leader: c.leader}
		var d ha.Decision
		d.Memory.Seen.Count = c.count
		l.sayQuarantine(&o, &d)
		if !strings.Contains(said.String(), c.want) {
			t.Errorf("%s: %s", name, said.String())
		}
	}
}
