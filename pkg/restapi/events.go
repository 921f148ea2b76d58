package restapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/dcs"
)

// Events is the journal of this member.
type Events interface {
	// Events returns the newest events, oldest first, and how many could not be
	// kept in the local file. The caller must not change the list.
	Events() (list []dcs.Event, lost int64)
	// EventsChanged returns a channel that is closed with the next event. Take
	// it before Events, so that none is missed.
	EventsChanged() <-chan struct{}
	// Record adds an event; it gets its member, number and, if it has none,
	// its time. It never blocks.
	Record(e dcs.Event)
}

// EventsDocument is the answer to GET /events.
type EventsDocument struct {
	Member string      `json:"member"`
	Events []dcs.Event `json:"events"`
	// Cursor is what to pass as since for what comes next; "" before the first.
	Cursor string `json:"cursor"`
	// Lost is how many events the local file does not have.
	Lost int64 `json:"lost"`
}

// Limits of GET /events.
const (
	eventsUsual = 100
	eventsMost  = 1000
	eventsWait  = 30 * time.Second
	maxFollows  = 16 // requests that wait for an event at once
)

func (s *Server) eventRoutes(r chi.Router) {
	r.Get("/events", limited(s.follows, s.getEvents))
	r.Get("/why", limited(s.reads, s.getWhy))
	r.Get("/remote", limited(s.reads, s.getRemote))
}

// eventsQuery is what GET /events was asked for.
type eventsQuery struct {
	limit int
	wait  time.Duration
	// after tells whether an event is past "since"; nil without one.
	after func(*dcs.Event) bool
	since string // an id that was given, else ""
}

func readEventsQuery(q url.Values) (out eventsQuery, err error) {
	number := func(name string, usual, most int) int {
		text := q.Get(name)
		if text == "" {
			return usual
		}
		n, perr := strconv.Atoi(text)
		if perr != nil || n < 0 || n > most {
			err = errors.Join(err, fmt.Errorf("%s must be a whole number from 0 to %d", name, most))
		}
		return n
	}
	out.limit = number("limit", eventsUsual, eventsMost)
	out.wait = time.Duration(number("wait", 0, int(eventsWait/time.Second))) * time.Second
	if since := q.Get("since"); since != "" {
		at, terr := time.Parse(time.RFC3339, strings.ReplaceAll(since, " ", "+")) // "+" is a blank in a query
		run, seq, ierr := dcs.ParseEventID(since)
		switch {
		case terr == nil:
			out.after = func(e *dcs.Event) bool { return e.At.After(at) }
		case ierr == nil:
			out.since = since
			out.after = func(e *dcs.Event) bool { return e.Run > run || e.Run == run && e.Seq > seq }
		default:
			err = errors.Join(err, errors.New("since must be a time such as 2026-01-31T12:00:00Z, or the cursor of an earlier answer"))
		}
	}
	return out, err
}

// pick chooses from the events: without "since" the newest, with it the ones
// that follow, so that a reader can go on from the last.
func (q *eventsQuery) pick(list []dcs.Event) []dcs.Event {
	if q.after == nil {
		return append([]dcs.Event{}, list[max(len(list)-q.limit, 0):]...)
	}
	out := []dcs.Event{} // null would be no list
	for i := range list {
		if len(out) < q.limit && q.after(&list[i]) {
			out = append(out, list[i])
		}
	}
	return out
}

func (s *Server) getEvents(w http.ResponseWriter, req *http.Request) {
	q, err := readEventsQuery(req.URL.Query())
	if err != nil {
		s.text(w, http.StatusBadRequest, plain.OneLine(err.Error()))
		return
	}
	s.mayTake(w, q.wait)
	timer := time.NewTimer(q.wait)
	defer timer.Stop()
	for late := q.wait == 0; ; {
		changed := s.agent.EventsChanged()
		all, lost := s.agent.Events()
		list := q.pick(all)
		if len(list) > 0 || late {
			s.document(w, http.StatusOK, EventsDocument{Member: s.agent.View().Name, Events: list, Cursor: q.cursor(list), Lost: lost})
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			late = true
		case <-s.ending:
			late = true
		case <-req.Context().Done():
			return
		}
	}
}

func (q *eventsQuery) cursor(list []dcs.Event) string {
	if len(list) == 0 {
		return q.since
	}
	return list[len(list)-1].ID()
}

// shownFields are what the journal shows of the body of a request. Nothing else
// is: it might be a secret.
var shownFields = []string{
	"leader", "candidate", "member", "scheduled_at", "schedule", "role", "postgres_version", "restart_pending", "timeout",
	"force", "from-leader", "type", "target", "value", "set", "timeline", "dry",
}

// shownBody is how much of a body is looked at.
const shownBody = 64 << 10

// journalled records who asked for what, before it is done, and a refusal
// afterwards. What a leader asks in the failsafe mode, and a candidate in an
// election, is no order.
func (s *Server) journalled(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if path := segment(req); path == "/failsafe" || path == "/freeze" {
			h(w, req)
			return
		}
		e := dcs.Event{Kind: dcs.EventRequest, Text: req.Method + " " + segment(req) + shown(req), By: s.by(req)}
		s.agent.Record(e)
		answer := &answerNote{ResponseWriter: w}
		h(answer, req)
		if answer.status >= http.StatusBadRequest {
			e.State, e.Error = dcs.EventFailed, answer.String()
			s.agent.Record(e)
		}
	}
}

// shown describes the body of a request, which the handler still gets whole.
func shown(req *http.Request) string {
	if req.ContentLength <= 0 || req.ContentLength > shownBody {
		return ""
	}
	text, err := io.ReadAll(req.Body)
	rest := io.Reader(bytes.NewReader(text))
	if err != nil {
		rest = io.MultiReader(rest, req.Body) // which says so again
	}
	req.Body = readCloser{rest, req.Body}
	value, err := pyjson.Decode(text)
	fields, isObject := value.(pyjson.Object)
	if err != nil || !isObject {
		return ""
	}
	var b strings.Builder
	for _, f := range fields {
		switch {
		case segment(req) == "/config":
			b.WriteString(" " + f.Name)
		case slices.Contains(shownFields, f.Name) && f.Value != nil:
			fmt.Fprintf(&b, " %s=%v", f.Name, f.Value)
		}
	}
	return b.String()
}

type readCloser struct {
	io.Reader
	io.Closer
}

// answerNote notes what a handler answers.
type answerNote struct {
	http.ResponseWriter
	status int
	text   []byte
}

// Unwrap lets http.ResponseController through.
func (a *answerNote) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answerNote) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answerNote) Write(text []byte) (int, error) {
	if len(a.text) < 1<<10 {
		a.text = append(a.text, text...)
	}
	return a.ResponseWriter.Write(text)
}

// String is the answer in a few words: its text, unless that is a page.
func (a *answerNote) String() string {
	text := plain.OneLine(string(a.text))
	if text == "" || strings.HasPrefix(text, "<") || json.Valid(a.text) {
		text = http.StatusText(a.status)
	}
	return fmt.Sprintf("%s (status %d)", text, a.status)
}
