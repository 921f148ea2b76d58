package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/doctor"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
)

func newDoctorCommand(a *App, opts *globals) *cobra.Command {
	f := formatPretty
	cmd := clusterCommand(a, opts, func(ctx context.Context, s *session, name string) error {
		if f != formatPretty && f != formatJSON {
			return usageError{"--format must be pretty or json"}
		}
		return a.doctor(ctx, s, name, f)
	})
	cmd.Use = "doctor [CLUSTER]"
	cmd.Short = "Look for what would make the next incident worse, and say how to mend it"
	cmd.Long = cmd.Short + `.

It asks etcd and every member, and, on a member's host with that member's file,
looks at the host and its PostgreSQL, too. It changes nothing. It ends with
status 1 if there is an error.`
	f.addDocumentTo(cmd)
	return cmd
}

// etcdExaminer is a store that can be asked for etcd's own health.
type etcdExaminer interface {
	Checkup(ctx context.Context) (etcd.Checkup, error)
}

// errFindings ends doctor after its report.
var errFindings = errors.New("there are errors to mend")

// doctorLimit bounds the whole examination.
const doctorLimit = time.Minute

func (a *App) doctor(ctx context.Context, s *session, name string, f format) error {
	within, cancel := context.WithTimeout(ctx, doctorLimit)
	defer cancel()
	api, err := s.memberAPI()
	if err != nil {
		return err
	}
	src := doctor.Source{
		Local: s.local, Now: a.Now, Get: api.Get, Post: api.Post,
		Cluster: func(ctx context.Context) (*dcs.Cluster, error) { return s.read(ctx, name) },
		Etcd: func(ctx context.Context) (etcd.Checkup, error) {
			store, err := s.store(ctx, name)
			if err != nil {
				return etcd.Checkup{}, err
			}
			if e, ok := store.(etcdExaminer); ok {
				return e.Checkup(ctx)
			}
			return etcd.Checkup{}, errors.New("this store cannot be examined")
		},
	}
	if s.file != "" {
		src.Path = s.file
		_, src.Problems, _ = config.Load(s.file, a.Environ) // it was loaded before; here its warnings count
	}
	report := doctor.Examine(name, doctor.Gather(within, src))
	if ctx.Err() != nil {
		return errAborted
	}
	if f == formatJSON {
		text, err := json.Marshal(report)
		if err != nil {
			return err
		}
		a.printf("%s\n", text)
	} else {
		a.printf("%s", report)
	}
	if n := report.Errors(); n > 0 {
		return fmt.Errorf("%d findings: %w", n, errFindings)
	}
	return nil
}
