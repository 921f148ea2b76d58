package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
	"github.com/pgha/pgha/pkg/restapi"
)

func source(c *dcs.Cluster, err error) Source {
	return Source{
		Local: &config.Local{}, Now: func() time.Time { return testNow },
		Cluster: func(context.Context) (*dcs.Cluster, error) { return c, err },
		Etcd:    func(context.Context) (etcd.Checkup, error) { return etcd.Checkup{ShortestLease: time.Second}, nil },
		Post: func(_ context.Context, apiURL, path string, body any) (int, string, error) {
			text, err := json.Marshal(body)
			switch {
			case err != nil || path != "/failsafe" || string(text) != "{}":
				return 0, "", errors.New("not asked for that")
			case strings.Contains(apiURL, "n2"):
				return 401, "not\nauthenticated", nil
			}
			return 400, "name is missing or empty", nil
		},
		Get: func(_ context.Context, url string) (int, string, error) {
			switch {
			case strings.Contains(url, "n1"):
				text, _ := json.Marshal(restapi.WhyDocument{Member: "n1", PGHA: "1.0", Clock: testNow.Add(5 * time.Second)})
				return 200, string(text), nil
			case strings.Contains(url, "n2"):
				return 503, `{"state": "running", "patroni": {"version": "4.1.4"}}`, nil
			}
			return 0, "", errors.New("connection refused")
		},
	}
}

func TestGather(t *testing.T) {
	c := &dcs.Cluster{Config: &dcs.Config{Raw: []byte(`{"ttl":120,"pause":true}`)}}
	for _, name := range []string{"n1", "n2", "n3", "n4"} {
		c.Members = append(c.Members, dcs.Member{Name: name, APIURL: "http://" + name + ":8008/patroni"})
	}
	c.Members[3].APIURL = ""
	f := Gather(t.Context(), source(c, nil))
	m := f.Members
	if m[0].Why.PGHA != "1.0" || m[0].ClockOffset != 5*time.Second || m[0].Patroni || !m[1].Patroni || m[2].Silence != "connection refused" || m[3].Silence == "" {
		t.Errorf("members: %+v", m)
	}
	if m[0].Refused != 0 || m[1].Refused != 401 || m[1].RefusedWhy != "not authenticated" {
		t.Errorf("access: %+v", m)
	}
	if r := Examine("demo", f); !slices.ContainsFunc(r.Findings, func(g Finding) bool {
		return g.Check == "rest credentials" && g.Severity == Warning && g.Where == "n2" && strings.Contains(g.Cure, "ctl.authentication")
	}) {
		t.Errorf("not found on the host of no member:\n%s", r)
	}
	if f.Config.Dynamic.TTL != 120*time.Second || !f.Config.Dynamic.Pause || f.Etcd == nil || f.Local != nil || len(f.Skipped) != 1 {
		t.Errorf("facts: %+v", f)
	}
}

func TestGatherWithoutEtcd(t *testing.T) {
	r := Examine("demo", Gather(t.Context(), source(nil, errors.New("nobody answers"))))
	if r.Errors() != 1 || r.Findings[0].Check != "etcd" || !strings.Contains(r.Findings[0].Seen, "nobody answers") || len(r.Skipped) != 2 {
		t.Errorf("%s", r)
	}
}

func TestGatherBadConfig(t *testing.T) {
	r := Examine("demo", Gather(t.Context(), source(&dcs.Cluster{Leader: &dcs.Leader{}, Config: &dcs.Config{Raw: []byte(`{"ttl":"often"}`)}}, nil)))
	if r.Errors() == 0 || r.Findings[0].Check != "configuration" {
		t.Errorf("%s", r)
	}
}
