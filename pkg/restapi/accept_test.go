package restapi

import (
	"net/http"
	"strings"
	"testing"
)

// TestAcceptDCS: the word of an operator needs the cluster's name and a quarantine,
// which the status document shows.
func TestAcceptDCS(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		why  string
		code int
		text string
	}{
		"accepted":      {`{"cluster":"pg-ha-cluster"}`, "etcd went back", 200, "accepted; it was: etcd went back"},
		"not needed":    {`{"cluster":"pg-ha-cluster"}`, "", 409, "nothing to accept"},
		"other cluster": {`{"cluster":"prod"}`, "etcd went back", 400, "must be the name of the cluster, pg-ha-cluster"},
		"no name":       {`{}`, "etcd went back", 400, ""},
		"unknown field": {`{"cluster":"pg-ha-cluster","now":1}`, "etcd went back", 400, "now"},
		"junk":          {`x`, "etcd went back", 400, ""},
		"no body":       {"", "etcd went back", 411, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, "healthy-async", "pg-db-01")
			v := *a.view
			v.Quarantine = c.why
			a.view = &v
			h := newServer(t, a, Settings{}).Handler()
			if got := ask(h, http.MethodPost, "/accept_dcs", c.body); got.Code != c.code || !strings.Contains(got.Body.String(), c.text) {
				t.Errorf("%d %q", got.Code, got.Body)
			}
			if (len(a.accepts) == 1) != (c.code == 200) {
				t.Errorf("accepted %v", a.accepts)
			}
			if got := ask(h, http.MethodGet, "/patroni", "").Body.String(); strings.Contains(got, `"quarantine": "etcd went back"`) != (c.why != "") {
				t.Errorf("status %s", got)
			}
		})
	}
}
