package restapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// Restarts is what the server needs of the process around it for restarts of
// PostgreSQL.
type Restarts interface {
	// Restart restarts the server at once, if the conditions of r hold, and waits
	// until that ended or ctx does. Nil: it accepts connections again.
	Restart(ctx context.Context, r ha.RestartRequest) *Refusal
	// ScheduleRestart keeps r until its time; there can be one.
	ScheduleRestart(r ha.RestartRequest) *Refusal
	// CancelScheduledRestart tells whether there was one to drop.
	CancelScheduledRestart() bool
}

// restartTimeout is how long a client may wait for the end of a restart, beyond
// the timeout of the start: a checkpoint and the archiving of WAL come first.
const restartTimeout = 30 * time.Minute

// restart answers POST /restart (wire contract §5.7). Without a body there are no
// conditions.
func (s *Server) restart(w http.ResponseWriter, req *http.Request) {
	var fields pyjson.Object
	if req.ContentLength != 0 {
		var ok bool
		if _, fields, ok = object(w, req); !ok {
			return
		}
	}
	c, err := s.readCluster(req.Context())
	if err != nil {
		s.unreadable(w, err)
		return
	}
	paused := false
	if c.Config != nil {
		_, _, paused, _ = parseDynamic(c.Config.Raw)
	}
	scheduled := slices.ContainsFunc(fields, func(f pyjson.Field) bool { return f.Name == "schedule" })
	if paused && scheduled {
		s.text(w, http.StatusInternalServerError, "Can't schedule restart in the paused state")
		return
	}
	r, no := readRestart(fields, time.Now())
	if no != nil {
		s.text(w, no.code, no.text)
		return
	}
	by := s.by(req)
	if scheduled {
		if no := s.agent.ScheduleRestart(r); no != nil {
			s.refuse(w, no)
			return
		}
		s.log.Info("restart scheduled", "at", dcs.FormatTime(r.At), "by", by)
		s.text(w, http.StatusAccepted, "Restart scheduled")
		return
	}
	s.log.Info("restart requested", "by", by)
	s.mayTake(w, restartTimeout+r.Timeout)
	ctx, cancel := context.WithTimeout(req.Context(), restartTimeout+r.Timeout)
	defer cancel()
	if no := s.agent.Restart(ctx, r); no != nil {
		s.refuse(w, no)
		return
	}
	s.text(w, http.StatusOK, "restarted successfully")
}

// deleteRestart answers DELETE /restart.
func (s *Server) deleteRestart(w http.ResponseWriter, req *http.Request) {
	if !s.agent.CancelScheduledRestart() {
		s.text(w, http.StatusNotFound, "no restarts are scheduled")
		return
	}
	s.log.Info("scheduled restart deleted", "by", s.by(req))
	s.text(w, http.StatusOK, "scheduled restart deleted")
}

// readRestart takes the conditions of a restart, in the order they came in: the
// first that is wrong is the one the answer names.
func readRestart(fields pyjson.Object, now time.Time) (r ha.RestartRequest, no *refusal) {
	bad := func(text string) (ha.RestartRequest, *refusal) {
		return ha.RestartRequest{}, &refusal{http.StatusBadRequest, plain.OneLine(text)}
	}
	doc := slices.Clone(fields)
	for i, f := range fields {
		switch f.Name {
		case "schedule":
			if r.At, no = readSchedule(f.Value, "restart", now); no != nil {
				return ha.RestartRequest{}, no
			}
			doc[i].Value = dcs.FormatTime(r.At)
		case "role":
			r.Role, _ = f.Value.(string)
			if !slices.Contains([]string{rolePrimary, roleStandbyLd, roleReplica}, r.Role) {
				return bad("PostgreSQL role should be either primary, standby_leader, or replica")
			}
		case "postgres_version":
			var err error
			if r.Version, err = olderThan(pyjson.Text(f.Value)); err != nil {
				return bad(err.Error())
			}
		case "timeout":
			n, ok := seconds(f.Value)
			if !ok || n <= 0 || n > int64(maxStartTimeout/time.Second) {
				return bad("Timeout should be a positive number of seconds")
			}
			r.Timeout = time.Duration(n) * time.Second
			doc[i].Value = json.Number(strconv.FormatInt(n, 10))
		case "restart_pending": // its presence counts
			r.Pending = true
		default:
			return bad("Unknown filter for the scheduled restart: " + f.Name)
		}
	}
	r.Document = pyjson.Append(nil, doc, pyjson.Compact)
	return r, nil
}

// maxStartTimeout bounds what may be asked for.
const maxStartTimeout = 365 * 24 * time.Hour

// seconds reads a number, or a text with a unit, as seconds.
func seconds(v any) (int64, bool) {
	switch v := v.(type) {
	case json.Number:
		return config.ParseInt(v.String(), "s")
	case string:
		return config.ParseInt(v, "s")
	}
	return 0, false
}

// olderThan reads X.Y (from version 10 on) or X.Y.Z, as server_version_num.
func olderThan(text string) (int, error) {
	parts := strings.Split(text, ".")
	var n []int
	for _, p := range parts {
		v, err := strconv.Atoi(strings.TrimSpace(p))
		if err != nil || v < 0 || v > 999 {
			return 0, fmt.Errorf("Invalid PostgreSQL version: %s", text) //nolint:staticcheck // the sentence that patronictl's users know
		}
		n = append(n, v)
	}
	switch {
	case len(n) == 2 && n[0] >= 10:
		return n[0]*10000 + n[1], nil
	case len(n) == 3:
		return n[0]*10000 + n[1]*100 + n[2], nil
	}
	return 0, fmt.Errorf("Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: %s", text) //nolint:staticcheck // likewise
}

// readSchedule judges the time of a scheduled action.
func readSchedule(value any, what string, now time.Time) (time.Time, *refusal) {
	text, _ := value.(string)
	at, zone, ok := parseISO(text)
	switch {
	case !ok:
		return at, &refusal{http.StatusUnprocessableEntity,
			"Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601"}
	case !zone:
		return at, &refusal{http.StatusBadRequest, "Timezone information is mandatory for the scheduled " + what}
	case at.Before(now):
		return at, &refusal{http.StatusUnprocessableEntity, "Cannot schedule " + what + " in the past"}
	}
	return at, nil
}
