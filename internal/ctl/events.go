package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

type eventsOptions struct {
	follow   bool
	members  []string
	since    string
	limit    int
	extended bool
	format   format
}

func newEventsCommand(a *App, opts *globals) *cobra.Command {
	o := &eventsOptions{format: formatPretty}
	cmd := clusterCommand(a, opts, func(ctx context.Context, s *session, name string) error {
		return a.events(ctx, s, name, o)
	})
	cmd.Use = "events [CLUSTER]"
	cmd.Short = "Show what happened in a cluster: when, to whom, what, why, and how long it took"
	cmd.Long = cmd.Short + `.

The events come from the members' own journals, and from the ring of the newest
ones in etcd for members that do not answer.`
	flags := cmd.Flags()
	flags.BoolVarP(&o.follow, "follow", "f", false, "go on showing events as they happen")
	flags.StringSliceVar(&o.members, "member", nil, "only of this member (can be repeated)")
	flags.StringVar(&o.since, "since", "", "only what is newer: a duration such as 2h, or a time such as 2026-01-31T12:00:00Z")
	flags.IntVarP(&o.limit, "limit", "n", 50, "the newest so many, 1000 at most")
	flags.BoolVarP(&o.extended, "extended", "e", false, "show where the time went")
	flags.Var(&o.format, "format", "output format: pretty, tsv, json or yaml")
	return cmd
}

func (a *App) events(ctx context.Context, s *session, name string, o *eventsOptions) error {
	if o.limit < 1 || o.limit > 1000 {
		return usageError{"--limit must be from 1 to 1000"}
	}
	since, err := a.sinceTime(o.since)
	if err != nil {
		return err
	}
	f := &eventFollower{app: a, session: s, cluster: name, cursors: map[string]string{}, seen: map[string]bool{}}
	c, unread := s.read(ctx, name)
	if unread != nil {
		if c = s.onlyMe(name); c == nil || errors.Is(unread, errAborted) {
			return unread
		}
	}
	if c.Initialize == nil && len(c.Members) == 0 && len(c.Events.Events()) == 0 {
		hint := ""
		if new(format).Set(name) == nil {
			hint = "; -f follows the events, a format is given with --format " + name
		}
		return refuse("there is no cluster %s in etcd%s", name, hint)
	}
	for _, want := range o.members {
		if c.Member(want) == nil && !slices.ContainsFunc(c.Events.Events(), func(e dcs.Event) bool { return e.Member == want }) {
			return refuse("%s is no member of cluster %s, and there are no events of it", want, name)
		}
	}
	list := f.collect(ctx, c)
	switch {
	case ctx.Err() != nil:
		return errAborted
	case unread != nil && len(f.cursors) == 0 && !o.follow: // nobody answered, and that nothing happened is not known
		return unread
	case unread != nil:
		a.errorf("Warning: %s; asking the member of this host alone", plain.OneLine(unread.Error()))
	}
	list = slices.DeleteFunc(list, func(e dcs.Event) bool { return !o.shows(&e) || e.At.Before(since) })
	list = list[max(len(list)-o.limit, 0):]
	if err := a.writeEvents(list, o); err != nil || !o.follow {
		return err
	}
	return f.follow(ctx, c, o)
}

func (o *eventsOptions) shows(e *dcs.Event) bool {
	return len(o.members) == 0 || slices.Contains(o.members, e.Member)
}

// sinceTime reads --since.
func (a *App) sinceTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return a.Now().Add(-d), nil
	}
	if at, err := dcs.ParseTime(text); err == nil {
		return at, nil
	}
	return time.Time{}, usageError{fmt.Sprintf("--since %q is neither a duration such as 2h nor a time such as 2026-01-31T12:00:00Z", text)}
}

// onlyMe is the cluster as far as the configuration of this host knows it: for
// when etcd is away. nil: it knows no member.
func (s *session) onlyMe(name string) *dcs.Cluster {
	if s.local.Name == "" || s.local.Scope != name || s.local.RestAPI.ConnectAddress == "" {
		return nil
	}
	return &dcs.Cluster{Members: []dcs.Member{{Name: s.local.Name, APIURL: s.local.RestAPI.URL()}}}
}

// askEvents asks a member for its journal. A nil document and no error: it keeps
// none (Patroni, or a pgha of before).
func (s *session) askEvents(ctx context.Context, m *dcs.Member, query url.Values, limit time.Duration) (*restapi.EventsDocument, error) {
	api, err := s.memberAPI()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(m.APIURL)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawQuery = "/events", query.Encode()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	status, text, err := api.Get(ctx, u.String())
	if err != nil {
		return nil, shortURLError(err)
	}
	r := reply{m.Name, status, text}
	if r.isPatroni() {
		return nil, nil //nolint:nilnil // documented
	}
	if !r.ok() {
		return nil, r.refused()
	}
	var doc restapi.EventsDocument
	return &doc, r.decode(&doc)
}

// eventFollower gathers the events of a cluster.
type eventFollower struct {
	app     *App
	session *session
	cluster string
	cursors map[string]string // member: where its journal was read to
	seen    map[string]bool
}

// news leaves out what was there before.
func (f *eventFollower) news(list []dcs.Event) []dcs.Event {
	return slices.DeleteFunc(list, func(e dcs.Event) bool {
		key := e.Member + " " + e.ID()
		known := f.seen[key]
		f.seen[key] = true
		return known
	})
}

// collect merges the ring in etcd with what the members know themselves.
func (f *eventFollower) collect(ctx context.Context, c *dcs.Cluster) []dcs.Event {
	list := c.Events.Events()
	docs := make([]*restapi.EventsDocument, len(c.Members))
	errs := make([]error, len(c.Members))
	var group sync.WaitGroup
	for i := range c.Members {
		if m := &c.Members[i]; m.APIURL != "" {
			group.Go(func() {
				docs[i], errs[i] = f.session.askEvents(ctx, m, url.Values{"limit": {"1000"}}, memberTimeout)
			})
		}
	}
	group.Wait()
	for i, doc := range docs {
		name := c.Members[i].Name
		switch {
		case errs[i] != nil && ctx.Err() == nil:
			f.app.errorf("Warning: %s does not answer, of its events only those in etcd are shown: %s", name, plain.OneLine(errs[i].Error()))
		case doc != nil:
			list = append(list, doc.Events...)
			f.cursors[name] = doc.Cursor
			if doc.Lost > 0 {
				f.app.errorf("Warning: %d events of %s did not get into its local file", doc.Lost, name)
			}
		}
	}
	return f.news(dcs.SortEvents(list))
}

// writeEvents prints a list.
func (a *App) writeEvents(list []dcs.Event, o *eventsOptions) error {
	if o.format == formatJSON && o.follow {
		return a.writeEventLines(list)
	}
	if o.format == formatJSON {
		text, err := json.Marshal(append([]dcs.Event{}, list...))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.Out, "%s\n", text)
		return err
	}
	if o.format == formatPretty && o.follow {
		for i := range list {
			a.printf("%s\n", a.eventLine(&list[i]))
		}
		return nil
	}
	return a.eventTable(list, o.extended).write(a.Out, o.format)
}

func (a *App) writeEventLines(list []dcs.Event) error {
	enc := json.NewEncoder(a.Out)
	for i := range list {
		if err := enc.Encode(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

const eventTime = "2006-01-02 15:04:05.000"

func (a *App) eventTable(list []dcs.Event, extended bool) *table {
	t := &table{columns: []string{"Time", "Member", "What", "Why", "Seconds"}, right: map[string]bool{"Seconds": true}}
	if extended {
		t.columns = append(t.columns, "Where the time went")
	}
	for i := range list {
		e := &list[i]
		row := []any{e.At.In(a.Now().Location()).Format(eventTime), e.Member, eventWhat(e), eventWhy(e), eventSeconds(e)}
		if extended {
			row = append(row, eventPhases(e))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// eventLine is an event for a person who follows.
func (a *App) eventLine(e *dcs.Event) string {
	s := fmt.Sprintf("%s  %-12s %s", e.At.In(a.Now().Location()).Format(eventTime), e.Member, eventWhat(e))
	if took := eventSeconds(e); took != "" {
		s += " in " + took + " s"
		if phases := eventPhases(e); phases != "" {
			s += " (" + phases + ")"
		}
	}
	if why := eventWhy(e); why != "" {
		s += "  <- " + why
	}
	return s
}

func eventWhat(e *dcs.Event) string {
	if e.Error != "" {
		return e.Text + ": " + e.Error
	}
	return e.Text
}

func eventWhy(e *dcs.Event) string {
	if e.By != "" {
		return "asked for by " + e.By
	}
	return e.Cause
}

func eventSeconds(e *dcs.Event) string {
	if e.Seconds == 0 {
		return ""
	}
	return strconv.FormatFloat(e.Seconds, 'f', 3, 64)
}

func eventPhases(e *dcs.Event) string {
	var out []string
	for _, p := range e.Phases {
		out = append(out, fmt.Sprintf("%s %.3f", p.Name, p.Seconds))
	}
	return strings.Join(out, ", ")
}
