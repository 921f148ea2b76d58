package config

import (
	"fmt"
	"strings"
	"time"
)

// dynamicName is how findings cite the document.
const dynamicName = "/config"

// ParseDynamic reads a /config document the way a member applies it (wire
// contract §3): single values that do not parse mean their default, timings are
// adjusted. The error says that the whole document must be rejected and the
// last good one stays in force: no JSON object, timings that are no integers,
// or a postgresql section (or its parameters) that is no object.
func ParseDynamic(raw []byte) (*Dynamic, error) {
	root, err := parseJSONObject(raw, dynamicName)
	if err != nil {
		return nil, fmt.Errorf("parse /config: %w", err)
	}
	d, err := decodeDynamic(root)
	if err != nil {
		return nil, fmt.Errorf("parse /config: %w", err)
	}
	return d, nil
}

// DefaultDynamic is what an empty /config means.
func DefaultDynamic() *Dynamic {
	d, _ := decodeDynamic(newMap()) // an empty document cannot fail
	return d
}

func decodeDynamic(root *node) (*Dynamic, error) {
	secs, err := readTiming(root)
	if err != nil {
		return nil, err
	}
	for _, keys := range [][]string{{"postgresql"}, {"postgresql", "parameters"}} {
		if n := root.get(keys...); !n.isNull() && !n.isMap() {
			return nil, fmt.Errorf("%s needs an object but holds %s", strings.Join(keys, "."), n.describe())
		}
	}
	t := newTiming(secs)
	d := &Dynamic{
		TTL: t.TTL, LoopWait: t.LoopWait, RetryTimeout: t.RetryTimeout,
		MaximumLagOnFailover:  root.intAt(1<<20, "", "maximum_lag_on_failover"),
		MaximumLagOnSyncNode:  root.intAt(-1, "", "maximum_lag_on_syncnode"),
		CheckTimeline:         root.boolAt(false, "check_timeline"),
		MaxTimelinesHistory:   clampInt(root.intAt(0, "", "max_timelines_history")),
		PrimaryStartTimeout:   root.timeoutAt(300, "primary_start_timeout", "master_start_timeout"),
		PrimaryStopTimeout:    root.timeoutAt(0, "primary_stop_timeout", "master_stop_timeout"),
		PrimaryRaceBackoff:    seconds(root.intAt(0, "s", "primary_race_backoff")),
		SynchronousModeStrict: root.boolAt(false, "synchronous_mode_strict"),
		FailsafeMode:          root.boolAt(false, "failsafe_mode"),
		Pause:                 root.boolAt(false, "pause"),
		MemberSlotsTTL:        seconds(root.intAt(1800, "s", "member_slots_ttl")),
		UseSlots:              root.boolAt(true, "postgresql", "use_slots"),
		Slots:                 decodeSlots(root),
		IgnoreSlots:           decodeIgnoreSlots(root.get("ignore_slots")),
		StandbyCluster:        decodeStandby(root.get("standby_cluster")),
		PGHA:                  decodePGHA(root.get("pgha")),
		Raw:                   root.json(),
		root:                  root,
	}
	d.SynchronousMode = decodeSyncMode(root, d.StandbyCluster != nil)
	d.SynchronousNodeCount = max(clampInt(root.intAt(1, "", "synchronous_node_count")), 0)
	if d.SynchronousModeStrict {
		d.SynchronousNodeCount = max(d.SynchronousNodeCount, 1)
	}
	return d, nil
}

// Timing gives the adjusted triple.
func (d *Dynamic) Timing() Timing {
	return Timing{TTL: d.TTL, LoopWait: d.LoopWait, RetryTimeout: d.RetryTimeout}
}

// Equal tells whether two documents say the same, key order aside.
func (d *Dynamic) Equal(o *Dynamic) bool {
	if d == nil || o == nil {
		return d == o
	}
	return deepEqual(d.root, o.root)
}

func clampInt(v int64) int { return int(min(max(v, -maxInt31), maxInt31)) }

// timeoutAt reads a timeout in seconds; the legacy key counts only when the new
// one is absent.
func (n *node) timeoutAt(def int64, key, legacy string) time.Duration {
	if n.get(key) == nil {
		key = legacy
	}
	return seconds(n.intAt(def, "s", key))
}

// decodeSyncMode reads synchronous_mode; a standby cluster has none.
func decodeSyncMode(root *node, standby bool) SyncMode {
	text := root.strAt("", "synchronous_mode")
	on, _ := parseBoolText(text)
	switch {
	case standby:
		return SyncOff
	case strings.EqualFold(text, "quorum"):
		return SyncQuorum
	case on:
		return SyncOn
	}
	return SyncOff
}

// decodeStandby reads standby_cluster; nil unless host, port or restore_command
// is set.
func decodeStandby(n *node) *StandbyCluster {
	if !n.isMap() || !n.get("host").truthy() && !n.get("port").truthy() && !n.get("restore_command").truthy() {
		return nil
	}
	return &StandbyCluster{
		Host:                  n.strAt("", "host"),
		Port:                  clampInt(n.intAt(0, "", "port")),
		PrimarySlotName:       n.strAt("", "primary_slot_name"),
		CreateReplicaMethods:  n.get("create_replica_methods").strings(),
		RestoreCommand:        n.strAt("", "restore_command"),
		ArchiveCleanupCommand: n.strAt("", "archive_cleanup_command"),
		RecoveryMinApplyDelay: n.strAt("", "recovery_min_apply_delay"),
	}
}

// ValidateDynamic judges a whole /config document before it is written through
// REST or the CLI. Errors are what would break members (Patroni stores it all
// the same); warnings and notices do not forbid the write.
func ValidateDynamic(raw []byte) []Problem {
	root, err := parseJSONObject(raw, dynamicName)
	if err != nil {
		return []Problem{{File: dynamicName, Message: err.Error(), Cure: "send a JSON object", Severity: Error}}
	}
	return checkDynamic(root)
}

// PatchDynamic merges patch into doc as PATCH /config does (patch_config):
// null deletes, objects merge, the rest replaces when its printed form differs.
// The result is compact JSON in doc's key order; changed is false when nothing
// was to do. An empty doc counts as {}.
func PatchDynamic(doc, patch []byte) (out []byte, changed bool, err error) {
	if len(doc) == 0 {
		doc = []byte("{}")
	}
	dst, err := parseJSONObject(doc, dynamicName)
	if err != nil {
		return nil, false, fmt.Errorf("patch /config: current document is %w", err)
	}
	src, err := parseJSONObject(patch, dynamicName)
	if err != nil {
		return nil, false, fmt.Errorf("patch /config: patch is %w", err)
	}
	changed = patchNode(dst, src)
	return dst.json(), changed, nil
}
