package agent

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/mem"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

// deskRig is the desk of n1, the leader, beside n2, whose REST API answers as
// api says.
type deskRig struct {
	*desk
	etcd  *mem.Server
	conf  *config.Effective
	seen  *ha.View
	op    ha.Operation
	state postgres.DataDir
	found *postgres.Repository
	fails error
	made  int // stanzas
	woken int
	api   http.HandlerFunc
}

func (r *deskRig) Poll() ha.Operation { return r.op }

func (r *deskRig) StanzaCreate(context.Context) error    { r.made, r.fails = r.made+1, nil; return nil }
func (r *deskRig) CheckRepository(context.Context) error { return nil }
func (r *deskRig) RunBackup(context.Context, string, bool, []postgres.BackupHost, func(done, total int64)) (postgres.BackupSet, error) {
	return postgres.BackupSet{}, nil
}

func newDeskRig(t *testing.T) *deskRig {
	t.Helper()
	r := &deskRig{etcd: mem.NewServer(mem.Options{}), found: planRepo(), state: postgres.DataDir{State: postgres.DirPresent}}
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.api(w, req) }))
	t.Cleanup(peer.Close)
	r.api = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"member": "n2"}`)) }
	store := r.etcd.Store(backupBase, "n1")
	client := restapi.NewClient(restapi.ClientOptions{})
	t.Cleanup(client.Close)
	r.conf = &config.Effective{}
	r.conf.Postgres.DataDir = "/data"
	r.conf.PGHA.Backup = config.Backup{Enabled: true, Stanza: "main", From: config.BackupFromLeader, Command: "/nowhere", Full: mustSchedule(t, "@daily")}
	log := slog.New(slog.DiscardHandler)
	view := func() *ha.View { return r.seen }
	repo := newRepository(func(context.Context, string) (*postgres.Repository, error) { return r.found, r.fails }, time.Now, func() {})
	t.Cleanup(repo.close)
	run := &backups{me: "n1", poke: make(chan struct{}, 1)}
	cfg := func() *config.Effective { return r.conf }
	r.desk = &desk{
		me: "n1", store: store, config: cfg, view: view, now: func() ha.Instant { return 1 }, ops: r,
		peers: &peers{client: client, log: log}, server: r, dir: func() postgres.DataDir { return r.state }, repo: repo,
		watch: &archiveWatch{}, run: run, wake: func() { r.woken++ }, log: log,
	}
	r.put(t, "leader", "n1")
	r.put(t, "initialize", "7")
	for name, url := range map[string]string{"n1": "http://127.0.0.1:1/patroni", "n2": peer.URL + "/patroni"} {
		m := dcs.Member{Name: name, ConnURL: "postgres://127.0.0.1:5432/postgres", APIURL: url, State: "running", Role: "replica", Timeline: 2}
		r.put(t, "members/"+name, string(m.Encode()))
	}
	r.look(t)
	return r
}

func (r *deskRig) put(t *testing.T, key, value string) {
	t.Helper()
	if _, err := r.etcd.Put(backupBase+"/"+key, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func (r *deskRig) cluster(t *testing.T) *dcs.Cluster {
	t.Helper()
	c, err := r.store.Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// look renews the view from etcd.
func (r *deskRig) look(t *testing.T) {
	t.Helper()
	c := r.cluster(t)
	r.seen = &ha.View{
		Name: "n1", Scope: "main", Cluster: c, SystemID: "7", State: "running", TTL: 30 * time.Second,
		Leading: c.LeaderName() == "n1", AnswerUntil: 10, Known: true, Row: ha.Row{Timeline: 2, Position: 0x6000},
	}
}

func TestRestoreIsOrdered(t *testing.T) {
	r := newDeskRig(t)
	ctx := context.Background()
	plan, no := r.Restore(ctx, restapi.RestoreRequest{Type: "latest", Dry: true}, "me")
	if no != nil {
		t.Fatal(no)
	}
	if plan.ID != "" || plan.Backup.Label != "D" || plan.Member != "n1" || plan.SystemID != "7" || plan.Timeline != 2 || plan.Position != "0/6000" || strings.Join(plan.Others, ",") != "n2" {
		t.Errorf("plan %+v", plan)
	}
	if r.cluster(t).Restore != nil {
		t.Fatal("a dry run wrote an order")
	}
	plan, no = r.Restore(ctx, restapi.RestoreRequest{Type: "lsn", Value: "0/2100", Exclusive: true, Force: true}, "me")
	if no != nil {
		t.Fatal(no)
	}
	o := r.cluster(t).Restore
	if !o.Open() || o.ID != plan.ID || o.Member != "n1" || o.Set != "B" || o.Stanza != "main" || o.SystemID != "7" || o.By != "me" || !o.Force ||
		o.Target != (dcs.RestoreTarget{Type: "lsn", Value: "0/2100", Exclusive: true}) || r.woken != 1 {
		t.Errorf("order %+v", o)
	}
	r.look(t)
	if st := r.RestoreState(); st.State != "requested" || st.Target != "lsn 0/2100" {
		t.Errorf("state %+v", st)
	}
	r.seen.Progress = &dcs.Progress{Operation: "restore", Method: "pgbackrest", Done: 1, Total: 4}
	if st := r.RestoreState(); st.State != "running" || st.Percent != 25 {
		t.Errorf("state %+v", st)
	}
	if _, no = r.Restore(ctx, restapi.RestoreRequest{Type: "latest"}, "me"); no == nil || no.Status != 409 {
		t.Errorf("a second order: %+v", no)
	}
	if no := r.CancelRestore(ctx, "you"); no != nil {
		t.Fatal(no)
	}
	if o = r.cluster(t).Restore; o.State != dcs.RestoreFailed || o.Error != "cancelled by you" || o.Ended.IsZero() {
		t.Errorf("order %+v", o)
	}
	if no := r.CancelRestore(ctx, "you"); no == nil || no.Status != 404 {
		t.Errorf("cancelled twice: %+v", no)
	}
}

func TestRestoreIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*testing.T, *deskRig)
		req    restapi.RestoreRequest
		status int
		text   string
	}{
		{"not configured", func(_ *testing.T, r *deskRig) { r.conf.PGHA.Backup.Enabled = false }, restapi.RestoreRequest{Type: "latest"}, 404, "pgha.backup"},
		{"bad target", nil, restapi.RestoreRequest{Type: "time", Value: "noon"}, 422, "noon"},
		{"unknown set", nil, restapi.RestoreRequest{Type: "latest", Set: "Z"}, 422, `"Z"`},
		{"another leads", func(t *testing.T, r *deskRig) { r.put(t, "leader", "n2"); r.look(t) }, restapi.RestoreRequest{Type: "latest"}, 412, "n2 is; ask there"},
		{"nobody leads", func(t *testing.T, r *deskRig) { r.etcd.Delete(backupBase + "/leader"); r.look(t) }, restapi.RestoreRequest{Type: "latest"}, 412, "no leader"},
		{"it does not run as primary", func(_ *testing.T, r *deskRig) { r.seen.Leading = false }, restapi.RestoreRequest{Type: "latest"}, 412, "does not run as primary"},
		{"paused", func(_ *testing.T, r *deskRig) { r.seen.Paused = true }, restapi.RestoreRequest{Type: "latest"}, 412, "paused"},
		{"repository of another cluster", func(_ *testing.T, r *deskRig) { r.found.SystemID = "8" }, restapi.RestoreRequest{Type: "latest"}, 412, "system identifier 8, ours is 7"},
		{"repository away", func(_ *testing.T, r *deskRig) { r.fails = postgres.ErrRepository }, restapi.RestoreRequest{Type: "latest"}, 503, "cannot be read"},
		{"a member of Patroni", func(_ *testing.T, r *deskRig) {
			r.api = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(503)
				_, _ = w.Write([]byte(`{"state": "running"}`))
			}
		}, restapi.RestoreRequest{Type: "latest"}, 412, "n2 (127.0.0.1:5432): not pgha"},
		{"a member that answers everything with 200", func(_ *testing.T, r *deskRig) {
			r.api = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"state": "running"}`)) }
		}, restapi.RestoreRequest{Type: "latest", Dry: true}, 412, "not pgha"},
		{"a silent member", func(t *testing.T, r *deskRig) {
			m := dcs.Member{Name: "n2", ConnURL: "postgres://127.0.0.1:5432/postgres", APIURL: "http://127.0.0.1:1/patroni"}
			r.put(t, "members/n2", string(m.Encode()))
		}, restapi.RestoreRequest{Type: "latest", Force: true}, 412, "no answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newDeskRig(t)
			if c.change != nil {
				c.change(t, r)
			}
			plan, no := r.Restore(context.Background(), c.req, "me")
			if no == nil || no.Status != c.status || !strings.Contains(no.Text, c.text) || strings.Contains(no.Text, "\n") {
				t.Errorf("%+v %+v, want %d with %q", plan, no, c.status, c.text)
			}
			if o := r.cluster(t).Restore; o != nil {
				t.Errorf("an order was written: %+v", o)
			}
		})
	}
}

// TestRestoreOfALostNode: without a leader only the member may be ordered whose
// directory a restore left half-made.
func TestRestoreOfALostNode(t *testing.T) {
	r := newDeskRig(t)
	r.etcd.Delete(backupBase + "/leader")
	r.look(t)
	r.seen.SystemID, r.seen.Known = "", false
	r.state = postgres.DataDir{State: postgres.DirInProgress, Kind: postgres.KindRestore}
	if _, no := r.Restore(context.Background(), restapi.RestoreRequest{Type: "latest"}, "me"); no != nil {
		t.Fatal(no)
	}
	if o := r.cluster(t).Restore; !o.Open() || o.Member != "n1" || o.SystemID != "7" {
		t.Errorf("order %+v", o)
	}
}

// TestMemberWithoutBackups is one of ours all the same.
func TestMemberWithoutBackups(t *testing.T) {
	r := newDeskRig(t)
	r.api = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("backups are not configured: there is no section pgha.backup"))
	}
	if _, no := r.Restore(context.Background(), restapi.RestoreRequest{Type: "latest", Dry: true}, "me"); no != nil {
		t.Error(no)
	}
}

func TestReinitialize(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		change func(*testing.T, *deskRig)
		force  bool
		want   string
	}{
		{"the leader", func(*testing.T, *deskRig) {}, true, "I am the leader, can not reinitialize"},
		{"no leader", func(_ *testing.T, r *deskRig) { r.etcd.Delete(backupBase + "/leader") }, true, "Cluster has no leader, can not reinitialize"},
		{"busy", func(t *testing.T, r *deskRig) {
			r.put(t, "leader", "n2")
			r.op = ha.Operation{Running: true, Kind: ha.OpRewind}
		}, false, "running pg_rewind already in progress"},
		{"busy, by force", func(t *testing.T, r *deskRig) {
			r.put(t, "leader", "n2")
			r.op = ha.Operation{Running: true, Kind: ha.OpRewind}
		}, true, ""},
		{"a replica", func(t *testing.T, r *deskRig) { r.put(t, "leader", "n2") }, false, ""},
	} {
		r := newDeskRig(t)
		c.change(t, r)
		no := r.Reinitialize(ctx, c.force, true)
		if c.want != "" {
			if no == nil || no.Status != 503 || no.Text != c.want || r.reinit.newest().Serial != 0 {
				t.Errorf("%s: %+v %+v", c.name, no, r.reinit.newest())
			}
			continue
		}
		if got := r.reinit.newest(); no != nil || got != (ha.Reinit{Serial: 1, Force: c.force, FromLeader: true}) || r.woken != 1 {
			t.Errorf("%s: %+v %+v", c.name, no, got)
		}
		for _, kind := range []ha.OpKind{ha.OpStop, ha.OpClone} {
			r.op = ha.Operation{Running: true, Kind: kind, Serial: 5}
			if no := r.Reinitialize(ctx, false, false); no == nil || no.Text != "reinitialize already in progress" {
				t.Errorf("%s, once more: %+v", c.name, no)
			}
		}
		if no := r.Reinitialize(ctx, false, false); no == nil || no.Text != "reinitialize already in progress" {
			t.Errorf("%s, once more: %+v", c.name, no)
		}
		if no := r.CancelReinitialize(); no != nil || r.reinit.newest() != (ha.Reinit{Serial: 2, Cancel: true}) {
			t.Errorf("%s, cancelled: %+v %+v", c.name, no, r.reinit.newest())
		}
		r.op.Running = false
		if no := r.CancelReinitialize(); no == nil || no.Status != 404 || r.reinit.newest().Serial != 2 {
			t.Errorf("%s, cancelled without a copy: %+v", c.name, no)
		}
	}
}

func TestBackupRequests(t *testing.T) {
	r := newDeskRig(t)
	ctx := context.Background()
	ask := func(kind string, status int) {
		t.Helper()
		no := r.RequestBackup(ctx, kind, "me")
		if got := statusOf(no); got != status {
			t.Errorf("%s: %+v, want %d", kind, no, status)
		}
	}
	ask("diff", 0)
	ask("incr", 409) // the diff covers it
	ask("full", 0)   // stronger
	if b := r.cluster(t).Backup; b.Requested != "full" || b.RequestedBy != "me" {
		t.Errorf("asked for %+v", b)
	}
	if no := r.CancelBackup(ctx, "me"); no != nil || r.cluster(t).Backup.Requested != "" {
		t.Errorf("taken back: %+v", no)
	}
	if no := r.CancelBackup(ctx, "me"); statusOf(no) != 404 {
		t.Errorf("taken back twice: %+v", no)
	}
	r.put(t, "pgha/backup_lock", string((&dcs.BackupLock{Member: "n2", Type: "full"}).Encode()))
	if no := r.CancelBackup(ctx, "me"); statusOf(no) != 409 || !strings.Contains(no.Text, "n2") {
		t.Errorf("another's: %+v", no)
	}
	<-r.repo.look()
	r.fails = postgres.ErrRepository
	<-r.repo.look()
	ask("full", 503)
	r.conf.PGHA.Backup.Enabled = false
	ask("full", 404)
	for _, no := range []*restapi.Refusal{r.CancelBackup(ctx, "me"), second(r.Backup(ctx)), second(r.CheckBackup(ctx))} {
		if statusOf(no) != 404 {
			t.Errorf("not configured: %+v", no)
		}
	}
}

func second[T any](_ T, no *restapi.Refusal) *restapi.Refusal { return no }

func statusOf(no *restapi.Refusal) int {
	if no == nil {
		return 0
	}
	return no.Status
}

func TestBackupDocument(t *testing.T) {
	r := newDeskRig(t)
	doc, no := r.Backup(context.Background())
	if no != nil || doc.Stanza != "main" || doc.Member != "n1" || len(doc.Backups) != 5 || doc.Backups[1].Reference != "A" || doc.ReadAt.IsZero() ||
		len(doc.Schedule) != 1 || doc.Schedule[0].Next.Before(time.Now()) || doc.Alarms == nil || doc.Last != nil {
		t.Errorf("%+v %+v", doc, no)
	}
	at := time.Now().Truncate(time.Second)
	b := dcs.Backup{Requested: "full", RequestedAt: at, Type: "incr", Member: "n2", Started: at, Ended: at, Error: "no"}
	r.put(t, "pgha/backup", string(b.Encode()))
	r.look(t)
	if doc = r.BackupKnown(); doc.Pending != "full" || doc.Last.Error != "no" || doc.Running != nil {
		t.Errorf("%+v", doc)
	}
	l := dcs.BackupLock{Member: "n2", Type: "full", Started: at, Progress: &dcs.Progress{Operation: "backup", Done: 1, Total: 2}}
	r.put(t, "pgha/backup_lock", string(l.Encode()))
	r.look(t)
	if doc = r.BackupKnown(); doc.Pending != "" || doc.Running.Member != "n2" || doc.Running.Percent != 50 || doc.Runner != "n2" {
		t.Errorf("%+v", doc)
	}
	r.fails = postgres.ErrRepository
	<-r.repo.look()
	if l := r.repo.last(); l.known() {
		t.Errorf("still known: %+v", l)
	}
	if doc = r.BackupKnown(); doc.Error == "" || len(doc.Backups) != 5 {
		t.Errorf("what was known is forgotten: %+v", doc)
	}
	r.conf.PGHA.Backup.Enabled = false
	if doc = r.BackupKnown(); doc.Stanza != "" || len(doc.Backups) != 0 || doc.Member != "n1" {
		t.Errorf("not configured: %+v", doc)
	}
}

func TestBackupCheck(t *testing.T) {
	r := newDeskRig(t)
	got, no := r.CheckBackup(context.Background())
	if no != nil || got.OK || len(got.Items) != 4 || got.Items[0].OK || !strings.Contains(got.Items[0].Text, "/nowhere") || !got.Items[1].OK || !got.Items[3].OK {
		t.Errorf("%+v %+v", got, no)
	}
	r.found.SystemID = "8"
	if got, _ = r.CheckBackup(context.Background()); got.Items[2].OK {
		t.Errorf("a foreign repository passes: %+v", got)
	}
	r.found.SystemID, r.fails = "7", postgres.ErrNoStanza
	if got, _ = r.CheckBackup(context.Background()); r.made != 1 || !got.Items[1].OK {
		t.Errorf("a lost stanza is not made: %+v", got)
	}
}

// TestBackupHosts: the leader says itself where its files are.
func TestBackupHosts(t *testing.T) {
	r := newDeskRig(t)
	r.me = "n1"
	r.put(t, "leader", "n2")
	r.api = func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"member": "n2", "data_dir": "/other/data/", "socket_dir": "/run/two"}`))
	}
	got := r.hosts(context.Background(), r.cluster(t))
	if len(got) != 1 || got[0].Name != "n2" || got[0].Path != "/other/data" || got[0].Socket != "/run/two" || got[0].Port != 5432 {
		t.Errorf("%+v", got)
	}
	r.api = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
	if got = r.hosts(context.Background(), r.cluster(t)); len(got) != 1 || got[0].Path != "/data" {
		t.Errorf("%+v", got)
	}
}

// TestNodeSettings: what of the configuration decides about copies.
func TestCloneWithoutLeader(t *testing.T) {
	p := &config.Postgres{CreateReplicaMethods: []string{"pgbackrest", "basebackup"}, Methods: map[string]*config.CustomMethod{"pgbackrest": {Native: true, NoLeader: true}}}
	if cloneWithoutLeader(p) {
		t.Error("our own restore needs a leader")
	}
	p.Methods["pgbackrest"] = &config.CustomMethod{NoLeader: true, Command: "x"}
	if !cloneWithoutLeader(p) {
		t.Error("a method with no_leader does not")
	}
}
