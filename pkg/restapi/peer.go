package restapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// ErrNoPosition means that a member answers, and its server does not in the time
// that a health check has: it says nothing about its WAL.
var ErrNoPosition = errors.New("no WAL position in it")

// ParsePeer reads a status document (wire contract §5.4) as a peer in the
// leader race does (ha-behaviour 2.3). What the race cannot rely on, a missing
// or null position above all, is an error: such a peer is not reachable.
func ParsePeer(doc []byte) (ha.Peer, error) {
	var status struct {
		Role           string                     `json:"role"`
		Wal            map[string]json.RawMessage `json:"wal"`
		Xlog           map[string]json.RawMessage `json:"xlog"`
		Timeline       *wal.Timeline              `json:"timeline"`
		Tags           map[string]any             `json:"tags"`
		WatchdogFailed any                        `json:"watchdog_failed"`
		PGHA           struct {
			Fault   string `json:"fault"`
			Promise int64  `json:"promise"` // of a frozen voter
		} `json:"pgha"`
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	if err := dec.Decode(&status); err != nil {
		return ha.Peer{}, fmt.Errorf("read status document: %w", err)
	}
	xlog := status.Wal
	if xlog == nil {
		xlog = status.Xlog
	}
	if xlog == nil {
		return ha.Peer{}, fmt.Errorf("read status document: %w", ErrNoPosition)
	}
	p := ha.Peer{Reachable: true, WatchdogFailed: truthy(status.WatchdogFailed), Fault: status.PGHA.Fault, Promise: status.PGHA.Promise}
	if status.Timeline != nil {
		p.Timeline = *status.Timeline
	}
	p.NoFailover, p.Priority = limits(status.Tags)

	var location, received, replayed wal.LSN
	for name, into := range map[string]*wal.LSN{
		"location": &location, "received_location": &received, "replayed_location": &replayed,
	} {
		if err := position(xlog, name, into); err != nil {
			return ha.Peer{}, err
		}
	}
	p.InRecovery = location == 0 && status.Role != "primary" && status.Role != "master"
	if p.InRecovery {
		p.Position = max(received, replayed)
	}
	return p, nil
}

// position reads xlog[name] if it is there. Null and nonsense are errors: a
// peer whose position is not known must not look like one at position 0.
func position(xlog map[string]json.RawMessage, name string, into *wal.LSN) error {
	raw, ok := xlog[name]
	if !ok {
		return nil
	}
	var lsn *uint64
	if err := json.Unmarshal(raw, &lsn); err != nil || lsn == nil || *lsn > math.MaxInt64 {
		return fmt.Errorf("read status document: %s is no position", name)
	}
	*into = wal.LSN(*lsn)
	return nil
}

// limits reads the tags that keep a member from being elected.
func limits(tags map[string]any) (noFailover bool, priority int) {
	var t config.Tags
	for _, name := range []string{"nofailover", "failover_priority"} {
		if v, ok := tags[name]; ok {
			t = append(t, config.Tag{Name: name, Value: plainNumber(v)})
		}
	}
	return t.NoFailover(), t.FailoverPriority()
}

// plainNumber turns a json.Number into the int64 or float64 that config.Tag
// holds; other values stay as they are.
func plainNumber(v any) any {
	n, ok := v.(json.Number)
	if !ok {
		return v
	}
	if i, err := n.Int64(); err == nil {
		return i
	}
	f, _ := n.Float64()
	return f
}

// truthy is Python's idea of a true value, for JSON values.
func truthy(v any) bool {
	switch x := v.(type) {
	case nil:
		return false
	case bool:
		return x
	case string:
		return x != ""
	case json.Number:
		f, err := x.Float64()
		return err != nil || f != 0
	case []any:
		return len(x) > 0
	case map[string]any:
		return len(x) > 0
	}
	return true
}
