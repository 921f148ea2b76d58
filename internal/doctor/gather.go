package doctor

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
)

// Source is where the facts come from.
type Source struct {
	Local    *config.Local
	Problems []config.Problem
	Path     string // of the file, "" for the environment
	Cluster  func(ctx context.Context) (*dcs.Cluster, error)
	Etcd     func(ctx context.Context) (etcd.Checkup, error)
	// Get fetches a URL of a member's REST API; any HTTP answer is no error.
	Get func(ctx context.Context, url string) (status int, body string, err error)
	// Post sends a body to a path of the member with this api_url.
	Post func(ctx context.Context, apiURL, path string, body any) (status int, text string, err error)
	Now  func() time.Time
}

// How long each question may take.
const (
	clusterTime = 5 * time.Second
	memberTime  = 5 * time.Second
	etcdTime    = 10 * time.Second
	hostTime    = 15 * time.Second
)

// Gather asks everybody, all at once and each with a deadline. What cannot be
// found out is left out, and said.
func Gather(ctx context.Context, src Source) *Facts {
	f := &Facts{Now: src.Now(), Path: src.Path, Problems: src.Problems}
	if st, err := os.Stat(src.Path); src.Path != "" && err == nil && st.Mode().IsRegular() {
		f.Public = st.Mode().Perm()&0o004 != 0
	}
	if err := f.askCluster(ctx, src); err != nil {
		f.EtcdErr = plain.Reason(err)
	}
	f.Config = config.EffectiveOf(src.Local, f.dynamic())
	f.Problems = append(f.Problems, f.Config.Problems...)
	var group sync.WaitGroup
	if f.Cluster != nil {
		f.Members = make([]Member, len(f.Cluster.Members))
		for i := range f.Cluster.Members {
			group.Go(func() { f.Members[i] = askMember(ctx, src, f.Cluster.Members[i]) })
		}
		group.Go(func() { f.askEtcd(ctx, src) })
	} else {
		f.Skipped = append(f.Skipped, "everything about the cluster: etcd could not be read")
	}
	var local *Local
	var skipped []string
	group.Go(func() { local, skipped = examineHost(ctx, f.Config, f.Cluster) })
	group.Wait()
	f.Local = local
	f.askCertificates(ctx)
	f.Skipped = append(f.Skipped, skipped...)
	return f
}

func (f *Facts) askCluster(ctx context.Context, src Source) error {
	ctx, cancel := context.WithTimeout(ctx, clusterTime)
	defer cancel()
	c, err := src.Cluster(ctx)
	f.Cluster = c
	return err
}

// dynamic is the configuration of the cluster, else what the file would begin
// one with.
func (f *Facts) dynamic() *config.Dynamic {
	if f.Cluster == nil || f.Cluster.Config == nil {
		return config.DefaultDynamic()
	}
	d, err := config.ParseDynamic(f.Cluster.Config.Raw)
	if err != nil || d == nil {
		f.Problems = append(f.Problems, config.Problem{Severity: config.Error, File: "/config", Message: "it cannot be used: " + errText(err)})
		return config.DefaultDynamic()
	}
	return d
}

func errText(err error) string {
	if err == nil {
		return "it is empty"
	}
	return plain.Reason(err)
}

func (f *Facts) askEtcd(ctx context.Context, src Source) {
	if src.Etcd == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, etcdTime)
	defer cancel()
	c, err := src.Etcd(ctx)
	if err != nil {
		f.EtcdErr = errText(err)
		return
	}
	f.Etcd = &c
}

// askMember asks a member about itself, and compares clocks on the way.
func askMember(ctx context.Context, src Source, m dcs.Member) Member {
	out := Member{Member: m}
	if m.APIURL == "" {
		out.Silence = "it publishes no REST API"
		return out
	}
	u, err := url.Parse(m.APIURL)
	if err != nil {
		out.Silence = "its api_url cannot be read"
		return out
	}
	u.Path = "/why"
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	sent := src.Now()
	_, body, err := src.Get(ctx, u.String())
	if err != nil {
		out.Silence = errText(err)
		return out
	}
	turn := src.Now().Sub(sent)
	out.askAccess(ctx, src)
	if json.Unmarshal([]byte(body), &out.Why) != nil || out.Why.PGHA == "" {
		out.Patroni = true
		return out
	}
	out.ClockError = turn / 2
	out.ClockOffset = out.Why.Clock.Sub(sent.Add(turn / 2))
	return out
}

// askAccess finds out whether the member lets us change something, by a request
// that changes nothing: a leader's question without its name. It meets the access
// rules like any other, is turned down behind them (400, or 502 without
// failsafe_mode), by Patroni as well, and leaves no event.
func (m *Member) askAccess(ctx context.Context, src Source) {
	status, text, err := src.Post(ctx, m.APIURL, "/failsafe", struct{}{})
	if err == nil && (status == http.StatusUnauthorized || status == http.StatusForbidden) {
		m.Refused, m.RefusedWhy = status, plain.OneLine(text)
	}
}
