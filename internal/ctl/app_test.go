package ctl

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// fakeCluster is a cluster's keys in memory: what Read returns and what Put
// was given.
type fakeCluster struct {
	cluster   *dcs.Cluster
	all       map[string]*dcs.Cluster
	err       error
	onRead    func(n int) // called with the number of the read
	reads     int
	putErr    error
	writes    []dcs.Write
	removed   []int64 // epochs
	removeErr error
	closed    bool
}

func (f *fakeCluster) Read(context.Context) (*dcs.Cluster, error) {
	f.reads++
	if f.onRead != nil {
		f.onRead(f.reads)
	}
	return f.cluster, f.err
}

func (f *fakeCluster) ReadClusters(ctx context.Context) (map[string]*dcs.Cluster, error) {
	_, err := f.Read(ctx)
	return f.all, err
}

func (f *fakeCluster) Put(_ context.Context, w dcs.Write) error {
	f.writes = append(f.writes, w)
	return f.putErr
}

func (f *fakeCluster) RemoveCluster(_ context.Context, epoch int64) error {
	f.removed = append(f.removed, epoch)
	return f.removeErr
}

func (f *fakeCluster) Close() error { f.closed = true; return nil }

// testApp is pghactl over buffers, with a clock that stands still.
type testApp struct {
	*App
	ctx context.Context
	out bytes.Buffer
	err bytes.Buffer
}

var testNow = time.Date(2026, 11, 22, 8, 3, 57, 478_561_000, time.UTC)

// newTestApp configures pghactl for pg-ha-cluster by the environment; fake
// stands in for etcd.
func newTestApp(t *testing.T, fake *fakeCluster) *testApp {
	t.Helper()
	ta := &testApp{ctx: t.Context()}
	ta.App = &App{
		In:      strings.NewReader(""),
		Out:     &ta.out,
		Err:     &ta.err,
		Now:     func() time.Time { return testNow },
		Environ: []string{"PATRONI_SCOPE=pg-ha-cluster", "PATRONI_ETCD3_HOST=127.0.0.1:24500"},
	}
	if fake != nil {
		ta.openCluster = func(context.Context, *config.Local, string) (clusterStore, error) { return fake, nil }
	}
	return ta
}

// TestLostOutput: what could not be printed is no success.
func TestLostOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = full.Close() }()
	for _, command := range []string{"version", "list", "--help"} {
		app := newTestApp(t, &fakeCluster{cluster: asking(t, nil)})
		app.Out = full
		if code := app.run(command); code != 1 || strings.Count(app.err.String(), "no space left on device") != 1 {
			t.Errorf("%s: exit %d, %s", command, code, app.err.String())
		}
	}
}

func (ta *testApp) run(args ...string) int { return ta.Main(ta.ctx, args) }

func (ta *testApp) answer(lines ...string) { ta.In = strings.NewReader(strings.Join(lines, "")) }
