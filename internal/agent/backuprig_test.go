package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/mem"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

const backupBase = "/service/main"

// backupRig is a cluster of runners around one etcd, in virtual time. The
// repository is a list in memory that every member sees.
type backupRig struct {
	t     *testing.T
	etcd  *mem.Server
	cfg   *config.Backup
	nodes map[string]*backupNode

	mu       sync.Mutex
	takes    time.Duration // of a backup
	fails    error
	sets     []postgres.BackupSet
	running  int
	most     int      // backups that ran at the same time
	began    []string // "n1 full"
	ended    []string // "n1 full: error"
	stanzas  int
	checks   int
	repoFail error
}

// backupNode is one member: its runner, and what it believes.
type backupNode struct {
	*backups
	rig    *backupRig
	name   string
	client *mem.Client
	quit   context.CancelFunc
	ended  chan struct{}

	vmu    sync.Mutex
	last   *dcs.Cluster
	seen   ha.Instant
	op     ha.Operation
	hung   bool // no view is published, no lease kept
	silent bool // its loop does not keep the lease alive
}

const rigTTL = 30 * time.Second

func rigNow() ha.Instant { return ha.Instant(time.Now().UnixNano()) }

// inRig runs do with three members of which n1 leads.
func inRig(t *testing.T, cfg config.Backup, do func(r *backupRig)) {
	synctest.Test(t, func(t *testing.T) {
		cfg.Enabled, cfg.Stanza = true, "main"
		if cfg.From == "" {
			cfg.From = config.BackupFromLeader
		}
		r := &backupRig{t: t, cfg: &cfg, takes: time.Minute, nodes: map[string]*backupNode{}}
		r.etcd = mem.NewServer(mem.Options{Now: func() int64 { return time.Now().UnixNano() }})
		for _, name := range []string{"n1", "n2", "n3"} {
			r.start(name)
		}
		r.lead("n1")
		do(r)
		for _, n := range r.nodes {
			n.stop()
		}
	})
}

func (r *backupRig) start(name string) *backupNode {
	n := &backupNode{rig: r, name: name, client: r.etcd.Store(backupBase, name), ended: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	n.backups = &backups{
		me: name, store: n.client, server: n, config: func() *config.Backup { return r.cfg }, view: n.view,
		hosts: func(context.Context, *dcs.Cluster) []postgres.BackupHost { return []postgres.BackupHost{{Name: "n1"}} },
		now:   rigNow, wall: time.Now, log: log, began: time.Now(), poke: make(chan struct{}, 1),
	}
	n.repo = newRepository(n.repository, time.Now, n.wake)
	r.nodes[name] = n
	ctx, cancel := context.WithCancel(context.Background())
	n.quit = cancel
	alive := make(chan struct{})
	go func() {
		defer close(alive)
		n.live(ctx)
	}()
	go func() {
		defer close(n.ended)
		n.run(ctx)
		<-alive
		n.repo.close()
	}()
	return n
}

// live is the loop's part: the lease, the member key, views.
func (n *backupNode) live(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		n.vmu.Lock()
		hung, silent := n.hung, n.silent
		n.vmu.Unlock()
		if !hung {
			if !silent {
				_ = n.client.KeepAlive(ctx)
				n.publishMember(ctx)
			}
			n.wake()
		}
		select {
		case <-ctx.Done():
			return
		case <-n.client.Changed():
		case <-tick.C:
		}
	}
}

func (n *backupNode) publishMember(ctx context.Context) {
	if n.client.MemberLeased(n.name) {
		return
	}
	m := dcs.Member{Name: n.name, ConnURL: "postgres://" + n.name + ":5432/postgres", State: "running", Role: "replica", ReplicationState: "streaming"}
	if n.name == "n1" {
		m.Role, m.ReplicationState = "primary", ""
	}
	_ = n.client.PutMember(ctx, n.name, m.Encode())
}

func (n *backupNode) view() *ha.View {
	n.vmu.Lock()
	defer n.vmu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if c, err := n.client.Snapshot(ctx); err == nil && !n.hung {
		n.last, n.seen = c, rigNow()
	}
	v := &ha.View{Name: n.name, Cluster: n.last, ClusterAt: n.seen, TTL: rigTTL, State: "running", SystemID: "7", Operation: n.op}
	if n.last != nil && n.last.LeaderName() == n.name {
		v.Leading, v.AnswerUntil = true, n.seen.Add(rigTTL)
	}
	return v
}

func (n *backupNode) stop() {
	n.quit()
	<-n.ended
}

// lead makes a member the leader, as seen by everybody.
func (r *backupRig) lead(name string) {
	for _, n := range r.nodes {
		m := dcs.Member{Name: n.name, ConnURL: "postgres://" + n.name + ":5432/postgres", State: "running", Role: "replica", ReplicationState: "streaming"}
		if n.name == name {
			m.Role, m.ReplicationState = "primary", ""
		}
		synctest.Wait()
		if err := n.client.PutMember(context.Background(), n.name, m.Encode()); err != nil {
			r.t.Fatal(err)
		}
	}
	r.etcd.Delete(backupBase + "/leader")
	if _, err := r.etcd.Put(backupBase+"/leader", []byte(name), 0); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// request asks for a backup as the REST API does.
func (r *backupRig) request(kind string) {
	err := changeBackup(context.Background(), r.nodes["n2"].client, func(b *dcs.Backup) bool {
		b.Requested, b.RequestedAt, b.RequestedBy = kind, time.Now().Truncate(time.Second), "tester"
		return true
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *backupRig) cluster() *dcs.Cluster {
	c, err := r.nodes["n3"].client.Read(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// result is /pgha/backup, never nil.
func (r *backupRig) result() dcs.Backup {
	if b := r.cluster().Backup; b != nil {
		return *b
	}
	return dcs.Backup{}
}

// after lets virtual time pass.
func (r *backupRig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// set changes how the rig behaves.
func (r *backupRig) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *backupRig) begun() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.began)
}

func (r *backupRig) over() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ended)
}

func counted(r *backupRig, n *int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *n
}

func (r *backupRig) expect(what string, got, want any) {
	r.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func (n *backupNode) StanzaCreate(context.Context) error {
	n.rig.mu.Lock()
	defer n.rig.mu.Unlock()
	n.rig.stanzas++
	return nil
}

func (n *backupNode) CheckRepository(context.Context) error {
	n.rig.mu.Lock()
	defer n.rig.mu.Unlock()
	n.rig.checks++
	return nil
}

func (n *backupNode) repository(context.Context, string) (*postgres.Repository, error) {
	n.rig.mu.Lock()
	defer n.rig.mu.Unlock()
	if n.rig.repoFail != nil {
		return nil, n.rig.repoFail
	}
	return &postgres.Repository{Stanza: "main", SystemID: "7", Backups: append([]postgres.BackupSet(nil), n.rig.sets...)}, nil
}

// RunBackup takes its time, and notes when another one runs as well.
func (n *backupNode) RunBackup(ctx context.Context, kind string, standby bool, hosts []postgres.BackupHost, progress func(done, total int64)) (postgres.BackupSet, error) {
	r := n.rig
	r.mu.Lock()
	r.running++
	r.most = max(r.most, r.running)
	r.began = append(r.began, n.name+" "+kind)
	takes, fails, start := r.takes, r.fails, time.Now()
	r.mu.Unlock()
	if standby != (len(hosts) == 1) {
		r.t.Errorf("standby %v with hosts %v", standby, hosts)
	}
	var err error
	for i := int64(1); i <= 10 && err == nil; i++ {
		select {
		case <-ctx.Done():
			err = fmt.Errorf("run pgbackrest: %w", ctx.Err())
		case <-time.After(takes / 10):
			progress(i*100, 1000)
		}
	}
	if err == nil {
		err = fails
	}
	set := postgres.BackupSet{Label: start.UTC().Format("20060102-150405F"), Type: kind, Start: start, Stop: time.Now(), Size: 1000}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	r.ended = append(r.ended, fmt.Sprintf("%s %s: %v", n.name, kind, err))
	if err != nil {
		return postgres.BackupSet{}, err
	}
	r.sets = append(r.sets, set)
	return set, nil
}
