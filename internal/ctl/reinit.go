package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

// reinitOptions are those of `reinit` (wire contract §6.2), and --cancel.
type reinitOptions struct {
	force      bool
	fromLeader bool
	wait       bool
	cancel     bool
}

const actionReinit = "reinitialize"

func newReinitCommand(a *App, opts *globals) *cobra.Command {
	var o reinitOptions
	cmd := membersCommand(a, opts, func(ctx context.Context, s *session, name string, members []string) error {
		return a.reinit(ctx, s, name, members, o)
	})
	cmd.Use = "reinit CLUSTER [MEMBER...]"
	cmd.Short = "Make the copy of a replica anew"
	flags := cmd.Flags()
	flags.BoolVar(&o.force, "force", false, "ask nothing, and end what the member does at present")
	flags.BoolVar(&o.fromLeader, "from-leader", false, "copy from the leader (pg_basebackup), not from another replica or a backup")
	flags.BoolVar(&o.wait, "wait", false, "follow it until it has ended")
	flags.BoolVar(&o.cancel, "cancel", false, "end a copy under way instead")
	return cmd
}

// reinit is the flow of patronictl: show, choose, ask, order member by member,
// wait. A member that refuses is a line of the output; one that cannot be
// reached ends the command.
func (a *App) reinit(ctx context.Context, s *session, name string, names []string, o reinitOptions) error {
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	sel := selection{action: actionReinit, role: replicaMember, names: names, force: o.force, choose: true}
	if o.cancel {
		sel.action = "cancel " + actionReinit
	}
	members, err := a.chooseMembers(ctx, c, name, sel)
	if err != nil {
		return err
	}
	if o.cancel {
		return a.cancelReinit(ctx, s, members)
	}
	if err := a.confirmReinit(ctx, members, o); err != nil {
		return err
	}
	var started []*reinitWatch
	for _, m := range members {
		w, err := a.orderReinit(ctx, s, m, o)
		if err != nil {
			return err
		}
		if w != nil {
			started = append(started, w)
		}
	}
	if !o.wait || len(started) == 0 {
		return nil
	}
	return a.seeReinit(ctx, s, name, started)
}

// confirmReinit says what will be lost before it asks.
func (a *App) confirmReinit(ctx context.Context, members []*dcs.Member, o reinitOptions) error {
	for _, m := range members {
		host, _ := hostPort(m.ConnURL)
		a.printf("All data of member %s on host %s will be replaced by a new copy\n", m.Name, host)
	}
	return a.confirmMembers(ctx, members, actionReinit, o.force)
}

// reinitBody is the body of POST /reinitialize (wire contract §5.7).
type reinitBody struct {
	Force      bool `json:"force"`
	FromLeader bool `json:"from_leader"`
}

// orderReinit gives the order, twice if the member is busy and the user wants
// that ended. The watch is nil when the member refused.
func (a *App) orderReinit(ctx context.Context, s *session, m *dcs.Member, o reinitOptions) (*reinitWatch, error) {
	w := &reinitWatch{member: m}
	if o.wait {
		if before, err := a.memberLife(ctx, s, m); err == nil {
			w.started = before.Started
		}
	}
	for body := (reinitBody{o.force, o.fromLeader}); ; body.Force = true {
		r, err := a.askOne(ctx, s, m, request{method: http.MethodPost, path: "/reinitialize", body: body})
		if err != nil {
			return nil, err
		}
		if a.report(r, actionReinit) {
			return w, nil
		}
		if body.Force || !strings.HasSuffix(r.text, " already in progress") {
			return nil, nil
		}
		yes, err := a.confirm(ctx, "Do you want to cancel it and reinitialize anyway?")
		if err != nil || !yes {
			return nil, err
		}
	}
}

func (a *App) cancelReinit(ctx context.Context, s *session, members []*dcs.Member) error {
	for _, m := range members {
		r, err := a.askOne(ctx, s, m, request{method: http.MethodDelete, path: "/reinitialize"})
		switch {
		case err != nil:
			return err
		case r.isPatroni():
			return r.refused()
		}
		a.report(r, "cancel "+actionReinit)
	}
	return nil
}

// reinitWatch follows one member until its new copy serves.
type reinitWatch struct {
	member  *dcs.Member
	started string // of the server before the order; "" when it did not run
	idle    int    // looks in a row that showed no sign of a copy
}

// idleReinit is after how many looks without a sign of it the copy is taken for
// ended: before and after it the member is idle for a moment.
const idleReinit = 60

// memberLife is the part of a member's status that tells a new copy from the
// old one.
type memberLife struct {
	State   string `json:"state"`
	Started string `json:"postmaster_start_time"`
}

func (a *App) memberLife(ctx context.Context, s *session, m *dcs.Member) (memberLife, error) {
	var life memberLife
	r, err := a.askOne(ctx, s, m, request{method: http.MethodGet, path: "/patroni"})
	if err != nil {
		return life, err
	}
	return life, r.decode(&life)
}

// look tells whether the copy has ended; a failed one is the error's reason.
func (w *reinitWatch) look(life memberLife, progress *dcs.Progress) (over bool, err error) {
	switch {
	case life.State == "running" && life.Started != w.started:
		return true, nil
	case progress != nil, life.State == "creating replica", life.State == "starting", life.State == "stopping":
		w.idle = 0
	default:
		if w.idle++; w.idle >= idleReinit {
			return false, errors.New(life.State)
		}
	}
	return false, nil
}

// seeReinit follows the members until each serves again.
func (a *App) seeReinit(ctx context.Context, s *session, name string, open []*reinitWatch) error {
	f := &follower{app: a}
	announced := 0
	var failed []string
	err := a.follow(ctx, f, func() (bool, error) {
		if len(open) != announced {
			f.clear()
			a.printf("Waiting for reinitialize to complete on: %s\n", joined(watched(open)))
			announced = len(open)
		}
		c, err := s.look(ctx, name)
		if err != nil {
			return false, err
		}
		var texts []string
		var silent error
		open = slices.DeleteFunc(open, func(w *reinitWatch) bool {
			life, err := a.memberLife(ctx, s, w.member)
			if err != nil {
				silent = unseenError{err}
				return false
			}
			progress := progressOf(c, w.member.Name)
			over, err := w.look(life, progress)
			switch {
			case err != nil:
				f.clear()
				a.printf("Reinitialize ended without a copy on: %s (%v)\n", w.member.Name, err)
				failed = append(failed, w.member.Name)
			case over:
				f.clear()
				a.printf("Reinitialize is completed on: %s\n", w.member.Name)
			default:
				texts = append(texts, w.member.Name+": "+copyText(life, progress))
			}
			return over || err != nil
		})
		if silent == nil && len(texts) > 0 {
			f.show(joined(watched(open)), strings.Join(texts, "; "))
		}
		return len(open) == 0, silent
	})
	switch {
	case ctx.Err() != nil:
		return left(fmt.Sprintf("The copy goes on: \"pghactl list %s -e\" shows it, \"pghactl reinit %s %s --cancel\" ends it",
			name, name, strings.Join(watched(open), " ")))
	case err == nil && len(failed) > 0:
		return fmt.Errorf("no new copy on %s: it was cancelled or it failed, see the member's log", joined(failed))
	}
	return err
}

func progressOf(c *dcs.Cluster, name string) *dcs.Progress {
	if m := c.Member(name); m != nil {
		return m.Progress
	}
	return nil
}

func copyText(life memberLife, p *dcs.Progress) string {
	if p == nil {
		return life.State
	}
	if p.Total == 0 {
		return publishedText(p)
	}
	return fmt.Sprintf("%s (%s) %s", p.Operation, p.Method, barText(restapi.ProgressOf(p)))
}

func watched(open []*reinitWatch) []string {
	names := make([]string, 0, len(open))
	for _, w := range open {
		names = append(names, w.member.Name)
	}
	return names
}
