package config

import (
	"fmt"
	"slices"
	"strings"
)

// Source says which layer of the configuration a value comes from.
type Source string

// The layers, strongest last; Forced values are nobody's to choose.
const (
	SourceDefault     Source = "default"
	SourceDynamic     Source = "dynamic"
	SourceFile        Source = "file"
	SourceEnvironment Source = "environment"
	SourceForced      Source = "forced"
)

// Explained is one setting in force and where it comes from.
type Explained struct {
	Key    string `json:"key"`
	Value  any    `json:"value"` // secrets are replaced
	Source Source `json:"source"`
	Origin string `json:"origin"` // "patroni.yml:12", "PATRONI_NAME", "/config", "" for a default
	// Notes name values that were set elsewhere and do not count, and why.
	Notes []string `json:"notes,omitempty"`
	// PendingRestart: the server goes on with the old value until it is restarted.
	PendingRestart *PendingValue `json:"pending_restart,omitempty"`
}

// PendingValue is a parameter's value of before and after the restart.
type PendingValue struct {
	Old string `json:"old_value"`
	New string `json:"new_value"`
}

// Explain lists every setting in force, sorted by key. pending are the
// parameters that wait for a restart, nil if not known.
func (e *Effective) Explain(pending map[string]PendingValue) []Explained {
	x := &explainer{e: e, known: checker{spec: localSpec()}, out: map[string]Explained{}}
	for key, value := range defaultValues() {
		x.out[key] = Explained{Key: key, Value: value, Source: SourceDefault}
	}
	x.local()
	x.dynamic()
	x.postgres()
	x.walk("pgha", e.pgha)
	for name, p := range pending {
		key := "postgresql.parameters." + name
		s := x.out[key]
		if s.Key == "" {
			s = Explained{Key: key, Value: p.New, Source: SourceForced, Origin: "the server"}
		}
		s.PendingRestart = &p
		x.out[key] = s
	}
	out := make([]Explained, 0, len(x.out))
	for _, s := range x.out {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Explained) int { return strings.Compare(a.Key, b.Key) })
	return out
}

type explainer struct {
	e     *Effective
	known checker // knows which keys are secret
	out   map[string]Explained
}

// ownSection: explained by its merged form, or by what the cluster says.
var ownSection = []string{"postgresql", "pgha", "ttl", "loop_wait", "retry_timeout", "standby_cluster"}

func (x *explainer) local() {
	if !x.e.Local.root.isMap() {
		return
	}
	for _, p := range x.e.Local.root.pairs {
		if !slices.Contains(ownSection, p.key) {
			x.walk(p.key, p.value)
		}
	}
}

// walk takes every value of a tree as it is.
func (x *explainer) walk(path string, n *node) {
	if n.isMap() && len(n.pairs) > 0 {
		for i := range n.pairs {
			p := &n.pairs[i]
			x.walk(joinPath(path, p.key), p.at())
		}
		return
	}
	if n.isNull() {
		return
	}
	s := x.out[path] // with the notes of before
	s.Key, s.Value = path, x.shown(path, n)
	s.Source, s.Origin = n.origin()
	x.out[path] = s
}

// origin tells where a value was written.
func (n *node) origin() (Source, string) {
	name, env := strings.CutPrefix(n.file, "environment ")
	switch {
	case env:
		return SourceEnvironment, name
	case n.file == dynamicName:
		return SourceDynamic, dynamicName
	case n.line == 0:
		return SourceFile, n.file
	}
	return SourceFile, fmt.Sprintf("%s:%d", n.file, n.line)
}

// shown is a value for a person: what may be secret is not.
func (x *explainer) shown(path string, n *node) any {
	s := x.known.specAt(path)
	if s != nil && s.kind == kSecret || secretWord.MatchString(strings.ToLower(lastPart(path))) || strings.HasSuffix(path, "primary_conninfo") {
		return redacted
	}
	return n.plain()
}

func (x *explainer) note(path, format string, args ...any) {
	s, ok := x.out[path]
	if !ok {
		return
	}
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
	x.out[path] = s
}

// dynamic takes the keys of /config but for the sections that are merged.
func (x *explainer) dynamic() {
	d := x.e.Dynamic
	for i := range d.root.pairs {
		if p := &d.root.pairs[i]; p.key != "postgresql" && p.key != "pgha" {
			x.walk(p.key, p.at())
		}
	}
	t := d.Timing()
	for key, v := range map[string]int64{"ttl": int64(t.TTL.Seconds()), "loop_wait": int64(t.LoopWait.Seconds()), "retry_timeout": int64(t.RetryTimeout.Seconds())} {
		s := x.out[key]
		if set, ok := hardInt(d.root.get(key)); ok && set != v {
			s.Value, s.Source = v, SourceForced
			s.Notes = append(s.Notes, fmt.Sprintf("/config says %d, which does not fit: loop_wait + 2*retry_timeout must not exceed ttl, and each has its minimum", set))
		} else if !ok && s.Value != v {
			s.Value, s.Source = v, SourceForced
			s.Notes = append(s.Notes, "adjusted to the values that are set: loop_wait + 2*retry_timeout must not exceed ttl")
		}
		x.out[key] = s
	}
	for _, key := range []string{"ttl", "loop_wait", "retry_timeout"} {
		x.ignoredLocal(key, x.e.Local.root.pair(key), "only the cluster-wide value counts")
	}
}

// ignoredLocal notes a value of this node that does not count.
func (x *explainer) ignoredLocal(path string, p *pair, why string) {
	if p != nil && !p.value.isNull() {
		_, at := p.at().origin()
		x.note(path, "%s sets %v, ignored: %s", at, x.shown(path, p.value), why)
	}
}

// postgres takes the merged section, and the parameters as they are used.
func (x *explainer) postgres() {
	x.walk("postgresql", x.e.postgres)
	local, dyn := x.e.Local.root.get("postgresql"), x.e.Dynamic.root.get("postgresql")
	x.e.explainControlled(x, local.get("parameters"), dyn.get("parameters"))
	s := x.out["postgresql.use_slots"]
	s.Value = x.e.Postgres.UseSlots
	if n := dyn.get("use_slots"); n != nil {
		s.Source, s.Origin = SourceDynamic, dynamicName
	}
	x.out["postgresql.use_slots"] = s
	x.ignoredLocal("postgresql.use_slots", local.pair("use_slots"), "only the cluster-wide value counts")
	if !dyn.isMap() {
		return
	}
	for _, p := range dyn.pairs {
		path := "postgresql." + p.key
		if slices.Contains(localOnlyPG, p.key) {
			x.note(path, "/config sets it, too, ignored: it counts only in the node's own file")
		} else if l := local.get(p.key); !slices.Contains(parameterKeys, p.key) && p.key != "use_slots" && l != nil {
			for key := range x.out {
				if key == path || strings.HasPrefix(key, path+".") {
					x.note(key, "/config sets %s, too: this node's own value replaces it as a whole", path)
				}
			}
		}
	}
	for _, section := range parameterKeys {
		if params := dyn.get(section); params.isMap() {
			for _, p := range params.pairs {
				if name := strings.ToLower(p.key); local.get(section, p.key) != nil && !isControlled(name) {
					x.note("postgresql."+section+"."+name, "/config sets %v, too: this node's own value wins", p.value.plain())
				}
			}
		}
	}
}

// explainControlled takes the parameters that this node's file cannot set.
func (e *Effective) explainControlled(x *explainer, local, dyn *node) {
	set := func(name string, s Explained, why string) {
		s.Key = "postgresql.parameters." + name
		x.out[s.Key] = s
		x.ignoredLocal(s.Key, findGUC(local, name), why)
	}
	for _, g := range e.Postgres.Controlled {
		s := Explained{Value: g.Value, Source: SourceDefault}
		if p := findGUC(dyn, g.Name); p != nil {
			s.Source, s.Origin = SourceDynamic, dynamicName
			if text, _ := gucValue(p.value); text != g.Value && !strings.EqualFold(text, g.Value) {
				s.Source = SourceForced
				s.Notes = []string{fmt.Sprintf("/config says %v, which is not accepted", p.value.plain())}
			}
		}
		set(g.Name, s, "all members must agree on it: set it with pghactl edit-config")
	}
	for name, from := range derivedGUCs {
		value, _ := e.Postgres.GUC(name)
		_, origin := e.Local.root.pairOrigin(from)
		set(name, Explained{Value: value, Source: SourceForced, Origin: origin, Notes: []string{"taken from " + from}}, "its value comes from "+from)
	}
}

// pairOrigin is where the key at a dotted path was written.
func (n *node) pairOrigin(path string) (Source, string) {
	parts := strings.Split(path, ".")
	p := n.get(parts[:len(parts)-1]...).pair(parts[len(parts)-1])
	if p == nil {
		return SourceDefault, ""
	}
	return p.at().origin()
}

// Nearest is the key of list that is spelled most like the word key, "" if none is.
func Nearest(key string, list []Explained) string {
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.Key
		if lastPart(s.Key) == key {
			return s.Key
		}
	}
	return nearest(key, names)
}

// defaultValues are what is in force where nothing is set (wire contract §1, §3).
func defaultValues() map[string]any {
	return map[string]any{
		"namespace": "service", "log.type": "plain", "log.level": "INFO", "log.format": "%(asctime)s %(levelname)s: %(message)s",
		"log.max_queue_size": int64(1000), "log.file_size": int64(25000000), "log.file_num": int64(4), "log.deduplicate_heartbeat_logs": false,
		"restapi.allowlist_include_members": false, "restapi.server_tokens": "original", "ctl.insecure": false,
		"bootstrap.method": "initdb", "etcd3.protocol": "http",
		"postgresql.config_base_name": "postgresql", "postgresql.database": "postgres", "postgresql.pg_ctl_timeout": int64(60),
		"postgresql.use_pg_rewind": false, "postgresql.use_slots": true, "postgresql.use_unix_socket": false, "postgresql.use_unix_socket_repl": false,
		"postgresql.remove_data_directory_on_rewind_failure": false, "postgresql.remove_data_directory_on_diverged_timelines": false,
		"postgresql.pgpass": "~/pgpass", "postgresql.create_replica_methods": []any{"basebackup"},
		"tags.nofailover": false, "tags.failover_priority": int64(1), "tags.nosync": false, "tags.sync_priority": int64(1),
		"tags.clonefrom": false, "tags.noloadbalance": false, "tags.nostream": false,
		"watchdog.mode": "automatic", "watchdog.device": "/dev/watchdog", "watchdog.safety_margin": int64(5), "watchdog.driver": "default",
		"ttl": int64(30), "loop_wait": int64(10), "retry_timeout": int64(10), "maximum_lag_on_failover": int64(1 << 20), "maximum_lag_on_syncnode": int64(-1),
		"check_timeline": false, "max_timelines_history": int64(0), "primary_start_timeout": int64(300), "primary_stop_timeout": int64(0),
		"synchronous_mode": "off", "synchronous_mode_strict": false, "synchronous_node_count": int64(1), "failsafe_mode": false, "member_slots_ttl": int64(1800),
		"pgha.leash": "auto", "pgha.restapi_strict": false, "pgha.verify_peers": false, "pgha.dcs_commands": "allow",
	}
}
