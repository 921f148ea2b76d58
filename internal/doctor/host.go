package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/watchdog"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres"
)

// examineHost looks at this host, if a member lives here. It changes nothing
// and needs no rights beyond those of the owner of PostgreSQL.
func examineHost(ctx context.Context, e *config.Effective, c *dcs.Cluster) (*Local, []string) {
	dir := e.Postgres.DataDir
	if _, err := os.Stat(dir); e.Local.Name == "" || dir == "" || errors.Is(err, os.ErrNotExist) {
		return nil, []string{"what only a member's host can tell (programs, disks, slots, archiving, access): run it there, with the member's file"}
	}
	ctx, cancel := context.WithTimeout(ctx, hostTime)
	defer cancel()
	l := &Local{Member: e.Local.Name, Replicate: map[string]string{}, Rewind: map[string]string{}}
	l.programs(&e.Postgres)
	l.Disks = []Disk{diskOf(dir)}
	if wal := diskOf(filepath.Join(dir, "pg_wal")); wal.Total != l.Disks[0].Total || wal.Free != l.Disks[0].Free {
		l.Disks = append(l.Disks, wal)
	}
	if unix.Access(filepath.Dir(filepath.Clean(dir)), unix.W_OK) != nil {
		l.Parent = filepath.Dir(filepath.Clean(dir)) + " cannot be written by this user"
	}
	if w := &e.Local.Watchdog; w.Mode != "off" {
		if err := watchdog.Check(w.Driver, w.Device); err != nil {
			l.Watchdog = err.Error()
		}
	}
	return l, l.server(ctx, e, c)
}

func diskOf(path string) Disk {
	total, free, _ := postgres.Volume(path) // 0: unknown
	return Disk{Path: path, Total: total, Free: free}
}

// programs looks for the tools.
func (l *Local) programs(p *config.Postgres) {
	tools := []string{"postgres", "initdb", "pg_ctl", "pg_controldata", "pg_basebackup", "pg_isready"}
	if p.UsePgRewind {
		tools = append(tools, "pg_rewind")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(p.Bin(tool)); err != nil {
			l.Missing = append(l.Missing, p.Bin(tool))
		}
	}
}

// server asks PostgreSQL here, and logs in at the others as this member would.
func (l *Local) server(ctx context.Context, e *config.Effective, c *dcs.Cluster) (skipped []string) {
	srv, err := postgres.New(postgres.Options{
		Name: e.Local.Name, Scope: e.Local.Scope, Config: e.Postgres, Process: &postgres.ExecLauncher{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		l.Directory = errText(err)
		return nil
	}
	defer srv.Close()
	if d := srv.State(); d.State == postgres.DirUnreadable && os.Geteuid() != 0 {
		l.Directory = errText(d.Err)
	}
	if st, err := os.Stat(e.Postgres.DataDir); err == nil && st.Mode().Perm()&0o027 != 0 && l.Directory == "" {
		l.Directory = fmt.Sprintf("%s has mode %o; PostgreSQL refuses to start on it", e.Postgres.DataDir, st.Mode().Perm())
	}
	made, err1 := srv.MajorVersion()
	have, err2 := srv.BinaryVersion(ctx)
	if err1 == nil && err2 == nil && have/10000 != made {
		l.Versions = fmt.Sprintf("%s is of version %d, and the data directory of %d", e.Postgres.Bin("postgres"), have/10000, made)
	}
	if s, err := srv.Checkup(ctx); err == nil {
		l.Server = &s
	} else {
		skipped = append(skipped, "slots and pg_rewind: "+errText(err))
	}
	if a, err := srv.ArchiveState(ctx); err == nil {
		l.Archive = &a
	} else {
		skipped = append(skipped, "archiving: "+errText(err))
	}
	l.others(ctx, e, c, srv)
	return skipped
}

// others tries what a standby here would have to do after a failover to them.
func (l *Local) others(ctx context.Context, e *config.Effective, c *dcs.Cluster, srv *postgres.Server) {
	if c == nil {
		return
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range c.Members {
		m := &c.Members[i]
		u, err := url.Parse(m.ConnURL)
		if m.Name == l.Member || m.State != "running" || err != nil || u.Hostname() == "" {
			continue
		}
		up := postgres.Upstream{Name: m.Name, Host: u.Hostname(), Port: u.Port(), Database: strings.TrimPrefix(u.Path, "/")}
		group.Go(func() {
			_, replicate := srv.IdentifySystem(ctx, &up)
			var rewind error
			if e.Postgres.UsePgRewind {
				rewind = srv.CanConnectForRewind(ctx, up)
			}
			mu.Lock()
			defer mu.Unlock()
			if replicate != nil {
				l.Replicate[m.Name] = errText(replicate)
			}
			if rewind != nil {
				l.Rewind[m.Name] = errText(rewind)
			}
		})
	}
	group.Wait()
}
