package agent

import (
	"context"
	"net/http"
	"sync"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/restapi"
)

// reinits hands requests to make this member anew to the loop.
type reinits struct {
	mu    sync.Mutex
	last  ha.Reinit
	since int64 // serial of the newest operation when it came
}

// newest is the request for the next observation.
func (r *reinits) newest() ha.Reinit {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func (r *reinits) ask(next ha.Reinit, op ha.Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next.Serial = r.last.Serial + 1
	r.last, r.since = next, op.Serial
}

// runs tells whether the running operation op is for the newest request: the
// stop of the server, or the copy itself.
func (r *reinits) runs(op ha.Operation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last.Serial > 0 && !r.last.Cancel && op.Running && op.Serial > r.since && (op.Kind == ha.OpStop || op.Kind == ha.OpClone)
}

func refusal(status int, text string) *restapi.Refusal {
	return &restapi.Refusal{Status: status, Text: text}
}

// unreadable is the answer when etcd was needed and silent.
func unreadable() *restapi.Refusal {
	return refusal(http.StatusServiceUnavailable, "etcd does not answer, try again later")
}

// Reinitialize implements restapi.Backups (wire contract §5.7): the texts are
// those that patronictl knows.
func (d *desk) Reinitialize(ctx context.Context, force, fromLeader bool) *restapi.Refusal {
	c, err := d.readCluster(ctx)
	if err != nil {
		return unreadable()
	}
	switch leader := c.LeaderName(); {
	case leader == "":
		return refusal(http.StatusServiceUnavailable, "Cluster has no leader, can not reinitialize")
	case leader == d.me:
		return refusal(http.StatusServiceUnavailable, "I am the leader, can not reinitialize")
	}
	op := d.ops.Poll()
	switch {
	case force || !op.Running:
	case d.reinit.runs(op): // what Patroni calls it
		return refusal(http.StatusServiceUnavailable, "reinitialize already in progress")
	default:
		return refusal(http.StatusServiceUnavailable, op.Kind.String()+" already in progress")
	}
	d.reinit.ask(ha.Reinit{Force: force, FromLeader: fromLeader}, op)
	d.wake()
	return nil
}

// CancelReinitialize implements restapi.Backups.
func (d *desk) CancelReinitialize() *restapi.Refusal {
	op := d.ops.Poll()
	if !d.reinit.runs(op) && (!op.Running || op.Kind != ha.OpClone) {
		return refusal(http.StatusNotFound, "no copy is being made")
	}
	d.reinit.ask(ha.Reinit{Cancel: true}, op)
	d.wake()
	return nil
}
