package ha

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgha/pgha/pkg/dcs"
)

// clusterWide tells what every member sees. One of them says it: the leader, or
// without one the first in the list.
func (t *turn) clusterWide() {
	if !t.o.DCS.Fresh {
		return
	}
	was, is := t.cluster, t.o.DCS.Cluster
	t.cluster = is
	paused := t.paused
	t.paused = t.o.Settings.Pause
	if was == nil || was == is && paused == t.paused {
		return
	}
	t.backup(was.Backup, is.Backup)
	if !t.reporter() {
		return
	}
	switch {
	case t.paused && !paused:
		t.say(dcs.EventPause, dcs.EventBegan, "the cluster is paused: PostgreSQL is left alone")
	case paused && !t.paused:
		t.say(dcs.EventPause, dcs.EventDone, "the pause ended")
	}
	if names := changedSettings(was.Config, is.Config); len(names) > 0 {
		t.say(dcs.EventConfig, "", "the dynamic configuration changed: "+strings.Join(names, ", "))
	}
	if was.Leader != nil && is.Leader == nil && was.Leader.Name != t.o.Me.Name && !Released(is) {
		t.say(dcs.EventLeader, dcs.EventFailed, "the leader key of "+was.Leader.Name+" is gone")
	}
	if now := standbys(is.Sync); now != standbys(was.Sync) {
		t.say(dcs.EventSync, "", "synchronous standbys: "+now)
	}
	t.members(was, is)
	t.restore(was.Restore, is.Restore)
}

// standbys names those of /sync.
func standbys(s *dcs.Sync) string {
	if s == nil || len(s.Standbys) == 0 {
		return "none"
	}
	return strings.Join(s.Standbys, ", ")
}

func (t *turn) reporter() bool {
	c := t.o.DCS.Cluster
	if c.Leader != nil {
		return c.Leader.Name == t.o.Me.Name
	}
	return len(c.Members) > 0 && memberNames(c)[0] == t.o.Me.Name
}

func (t *turn) members(was, is *dcs.Cluster) {
	before, now := memberNames(was), memberNames(is)
	for _, name := range before {
		if _, still := slices.BinarySearch(now, name); !still {
			t.say(dcs.EventMember, dcs.EventDone, "the member "+name+" is gone from etcd")
		}
	}
	for _, name := range now {
		if _, known := slices.BinarySearch(before, name); !known {
			t.say(dcs.EventMember, dcs.EventBegan, "the member "+name+" is there")
		}
	}
}

func (t *turn) restore(was, is *dcs.Restore) {
	if is == nil || was != nil && was.ID == is.ID && was.State == is.State {
		return
	}
	by := func(e *dcs.Event) { e.By = is.By }
	switch is.State {
	case dcs.RestoreRequested:
		t.say(dcs.EventRestore, "", fmt.Sprintf("a restore of the cluster by %s was ordered: backup %s, to %s", is.Member, is.Set, strings.TrimSpace(is.Target.Type+" "+is.Target.Value)), by)
	case dcs.RestoreDone:
		t.say(dcs.EventRestore, dcs.EventDone, fmt.Sprintf("the cluster is restored, on timeline %d", is.Timeline), took(is.Ended.Sub(is.Requested)), by)
	case dcs.RestoreFailed:
		t.say(dcs.EventRestore, dcs.EventFailed, "the restore order ended", took(is.Ended.Sub(is.Requested)), by, func(e *dcs.Event) { e.Error = is.Error })
	}
}

// backup is told by the member that made it.
func (t *turn) backup(was, is *dcs.Backup) {
	if is == nil || is.Member != t.o.Me.Name || is.Ended.IsZero() || was != nil && was.Ended.Equal(is.Ended) && was.Member == is.Member {
		return
	}
	length := took(is.Ended.Sub(is.Started))
	if is.Error != "" {
		t.say(dcs.EventBackup, dcs.EventFailed, is.Type+" backup", length, func(e *dcs.Event) { e.Error = is.Error })
		return
	}
	t.say(dcs.EventBackup, dcs.EventDone, strings.TrimSpace(is.Type+" backup "+is.Label), length)
}

// maxChanged bounds the names of one event.
const maxChanged = 12

// changedSettings names what differs between two documents, but pause, which is
// an event of its own. Values are not shown: some are secrets.
func changedSettings(was, is *dcs.Config) []string {
	if was == nil || is == nil || was.ModRevision == is.ModRevision {
		return nil
	}
	var names []string
	differences("", was.Raw, is.Raw, &names)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "pause" })
	if len(names) > maxChanged {
		names = append(names[:maxChanged], fmt.Sprintf("and %d more", len(names)-maxChanged))
	}
	return names
}

// differences descends into objects on both sides.
func differences(path string, was, is json.RawMessage, names *[]string) {
	if bytes.Equal(was, is) {
		return
	}
	var a, b map[string]json.RawMessage
	if json.Unmarshal(was, &a) != nil || json.Unmarshal(is, &b) != nil || a == nil || b == nil {
		*names = append(*names, path)
		return
	}
	both := maps.Clone(a)
	maps.Copy(both, b)
	for _, k := range slices.Sorted(maps.Keys(both)) {
		name := k
		if path != "" {
			name = path + "." + k
		}
		differences(name, a[k], b[k], names)
	}
}
