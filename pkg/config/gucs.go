package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// controlledRow is one GUC of wire contract §3.4.
type controlledRow struct {
	name    string
	def     string
	min     int64  // lowest accepted integer
	max     int64  // highest one; the server does not start with more
	unit    string // base unit of the integer
	words   string // accepted words instead of an integer
	boolean bool
	onlyOn  bool
	inFile  bool // not passed on the command line
	minV    int
	maxV    int
}

var controlledRows = []controlledRow{
	{name: "max_connections", def: "100", min: 25, max: maxBackends},
	{name: "max_locks_per_transaction", def: "64", min: 32, max: maxInt31},
	{name: "max_worker_processes", def: "8", min: 2, max: maxBackends},
	{name: "max_prepared_transactions", def: "0", min: 0, max: maxBackends},
	{name: "max_wal_senders", def: "10", min: 3, max: maxBackends},
	{name: "max_replication_slots", def: "10", min: 4, max: maxBackends},
	{name: "wal_level", def: "replica", words: "hot_standby replica logical"},
	{name: "track_commit_timestamp", def: "off", boolean: true},
	{name: "wal_log_hints", def: "on", boolean: true},
	{name: "hot_standby", def: "on", boolean: true, onlyOn: true},
	{name: walKeepSegments, def: "8", min: 1, max: maxInt31, inFile: true, maxV: 130000},
	{name: walKeepSize, def: "128MB", min: 16, max: maxInt31, unit: "MB", inFile: true, minV: 130000},
}

const (
	walKeepSegments = "wal_keep_segments"
	walKeepSize     = "wal_keep_size"
	segmentMB       = 16
	maxBackends     = 1<<18 - 1 // of PostgreSQL
)

// derivedGUCs never come from parameters: listen and scope set them.
var derivedGUCs = map[string]string{
	"listen_addresses": "postgresql.listen",
	"port":             "postgresql.listen",
	"cluster_name":     "scope",
}

// isControlled tells whether a GUC belongs to the cluster (wire contract §3.4).
func isControlled(name string) bool {
	name = strings.ToLower(name)
	if derivedGUCs[name] != "" {
		return true
	}
	for _, r := range controlledRows {
		if r.name == name {
			return true
		}
	}
	return false
}

// gucValue is the text of a GUC as written to postgresql.conf: booleans as on
// and off, the rest as printed. ok is false for null, lists and maps.
func gucValue(n *node) (string, bool) {
	if !n.isScalar() {
		return "", false
	}
	if n.kind == boolNode {
		if n.b {
			return "on", true
		}
		return "off", true
	}
	return n.printed(), true
}

// accept judges a value for a controlled GUC and gives the form to use.
func (r controlledRow) accept(n *node) (string, bool) {
	text, ok := gucValue(n)
	if !ok {
		return "", false
	}
	switch {
	case r.boolean:
		v, ok := parseBoolText(text)
		if !ok || r.onlyOn && !v {
			return "", false
		}
		if v {
			return "on", true
		}
		return "off", true
	case r.words != "":
		for _, w := range strings.Fields(r.words) {
			if strings.EqualFold(w, text) {
				if w == "hot_standby" {
					w = "replica"
				}
				return w, true
			}
		}
		return "", false
	}
	v, ok := parseIntText(text, r.unit)
	if !ok || v < r.min || v > r.max {
		return "", false
	}
	if r.unit == "" {
		return strconv.FormatInt(v, 10), true
	}
	return text, true
}

// want words what a controlled GUC accepts.
func (r controlledRow) want() string {
	switch {
	case r.onlyOn:
		return "on"
	case r.boolean:
		return "on or off"
	case r.words != "":
		return "one of " + strings.Join(strings.Fields(r.words), ", ")
	}
	return fmt.Sprintf("a whole number from %d%s to %d%s", r.min, r.unit, r.max, r.unit)
}

// findGUC looks a parameter up by name in any case; the last spelling wins.
func findGUC(params *node, name string) *pair {
	if !params.isMap() {
		return nil
	}
	for i := len(params.pairs) - 1; i >= 0; i-- {
		if strings.EqualFold(params.pairs[i].key, name) && !params.pairs[i].value.isNull() {
			return &params.pairs[i]
		}
	}
	return nil
}

// controlledGUCs gives the cluster's GUCs from the dynamic parameters: a bad
// value is replaced by the default and reported.
func controlledGUCs(params *node, path string) ([]ControlledGUC, []Problem) {
	c := &checker{}
	out := make([]ControlledGUC, 0, len(controlledRows))
	for _, r := range controlledRows {
		g := ControlledGUC{Name: r.name, Value: r.def, CommandLine: !r.inFile, MinVersion: r.minV, MaxVersion: r.maxV}
		if p := findGUC(params, r.name); p != nil {
			if v, ok := r.accept(p.value); ok {
				g.Value = v
			} else {
				c.add(Warning, p.at(), joinPath(path, p.key),
					fmt.Sprintf("needs %s but holds %s", r.want(), p.value.describe()), "the default "+r.def+" is used until it is mended")
			}
		} else if v, ok := convertedWALKeep(params, r.name); ok {
			g.Value = v
		}
		out = append(out, g)
	}
	return out, c.problems
}

// convertedWALKeep derives wal_keep_size from wal_keep_segments and back, at
// 16 MB per segment.
func convertedWALKeep(params *node, name string) (string, bool) {
	switch name {
	case walKeepSize:
		if p := findGUC(params, walKeepSegments); p != nil {
			if v, ok := parseIntText(p.value.str(), ""); ok && v >= 1 && v < maxInt31/segmentMB {
				return strconv.FormatInt(v*segmentMB, 10) + "MB", true
			}
		}
	case walKeepSegments:
		if p := findGUC(params, walKeepSize); p != nil {
			if v, ok := parseIntText(p.value.str(), "MB"); ok && v >= segmentMB {
				return strconv.FormatInt((v+segmentMB-1)/segmentMB, 10), true
			}
		}
	}
	return "", false
}

// commandGUC matches settings that hold a shell command with %-placeholders.
var commandGUC = regexp.MustCompile(`^(?:archive|restore|archive_cleanup|recovery_end)_command$`)

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
