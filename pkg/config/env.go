package config

import (
	"fmt"
	"slices"
	"strings"
)

const envPrefix = "PATRONI_"

// envKind says how the text of an environment variable is read.
type envKind int

const (
	envString envKind = iota
	envInt
	envBool
	envList   // YAML list, brackets optional
	envMap    // YAML flow map, braces optional
	envFormat // a list when it holds no %(name), else text
)

// envVar is one line of wire contract §2.
type envVar struct {
	name string // without PATRONI_
	path string
	kind envKind
	// instead of name when that is unset
	legacy string
}

// envTable lists every variable of wire contract §2 that has a meaning here.
func envTable() []envVar {
	out := []envVar{
		{name: "NAME", path: "name"}, {name: "NAMESPACE", path: "namespace"}, {name: "SCOPE", path: "scope"},
		{name: "THREAD_POOL_SIZE", path: "thread_pool_size"}, {name: "THREAD_STACK_SIZE", path: "thread_stack_size"},
		{name: "LOG_TYPE", path: "log.type"},
		{name: "LOG_LEVEL", path: "log.level", legacy: "LOGLEVEL"},
		{name: "LOG_TRACEBACK_LEVEL", path: "log.traceback_level"},
		{name: "LOG_FORMAT", path: "log.format", kind: envFormat, legacy: "LOGFORMAT"},
		{name: "LOG_DATEFORMAT", path: "log.dateformat", legacy: "LOG_DATEFMT"},
		{name: "LOG_DIR", path: "log.dir"},
		{name: "LOG_MAX_QUEUE_SIZE", path: "log.max_queue_size", kind: envInt},
		{name: "LOG_FILE_SIZE", path: "log.file_size", kind: envInt},
		{name: "LOG_FILE_NUM", path: "log.file_num", kind: envInt},
		{name: "LOG_MODE", path: "log.mode", kind: envInt},
		{name: "LOG_STATIC_FIELDS", path: "log.static_fields", kind: envMap},
		{name: "LOG_LOGGERS", path: "log.loggers", kind: envMap},
		{name: "LOG_DEDUPLICATE_HEARTBEAT_LOGS", path: "log.deduplicate_heartbeat_logs", kind: envBool},
		{name: "RESTAPI_ALLOWLIST", path: "restapi.allowlist", kind: envList},
		{name: "RESTAPI_ALLOWLIST_INCLUDE_MEMBERS", path: "restapi.allowlist_include_members", kind: envBool},
		{name: "RESTAPI_HTTP_EXTRA_HEADERS", path: "restapi.http_extra_headers", kind: envMap},
		{name: "RESTAPI_HTTPS_EXTRA_HEADERS", path: "restapi.https_extra_headers", kind: envMap},
		{name: "RESTAPI_REQUEST_QUEUE_SIZE", path: "restapi.request_queue_size", kind: envInt},
		{name: "RESTAPI_USERNAME", path: "restapi.authentication.username"},
		{name: "RESTAPI_PASSWORD", path: "restapi.authentication.password"},
		{name: "CTL_USERNAME", path: "ctl.authentication.username"},
		{name: "CTL_PASSWORD", path: "ctl.authentication.password"},
		{name: "CTL_INSECURE", path: "ctl.insecure", kind: envBool},
	}
	out = append(out, envSection("RESTAPI", "restapi", "LISTEN CONNECT_ADDRESS CERTFILE KEYFILE KEYFILE_PASSWORD CAFILE CIPHERS VERIFY_CLIENT SERVER_TOKENS")...)
	out = append(out, envSection("CTL", "ctl", "CACERT CERTFILE KEYFILE KEYFILE_PASSWORD")...)
	out = append(out, envSection("POSTGRESQL", "postgresql", "LISTEN CONNECT_ADDRESS PROXY_ADDRESS DATA_DIR CONFIG_DIR PGPASS BIN_DIR")...)
	out = append(out, envSection("POSTGRESQL_BIN", "postgresql.bin_name", "PG_CTL INITDB PG_CONTROLDATA PG_BASEBACKUP POSTGRES PG_REWIND")...)
	// The documentation has the one name, the program reads the other.
	out = append(out, envVar{name: "POSTGRESQL_BIN_PG_ISREADY", path: "postgresql.bin_name.pg_isready", legacy: "POSTGRESQL_BIN_IS_READY"})
	for _, role := range []string{"SUPERUSER", "REPLICATION", "REWIND"} {
		out = append(out, envSection(role, "postgresql.authentication."+strings.ToLower(role), strings.ToUpper(strings.Join(authKeys, " ")))...)
	}
	for _, kind := range []string{"ETCD", "ETCD3"} {
		low := strings.ToLower(kind)
		out = append(out, envSection(kind, low, "HOST PROTOCOL SRV SRV_SUFFIX URL PROXY CACERT CERT KEY")...)
		out = append(out,
			envVar{name: kind + "_PORT", path: low + ".port", kind: envInt},
			envVar{name: kind + "_HOSTS", path: low + ".hosts", kind: envList},
			envVar{name: kind + "_USE_PROXIES", path: low + ".use_proxies", kind: envBool},
			// These two must stay last: they count only beside another one.
			envVar{name: kind + "_USERNAME", path: low + ".username"},
			envVar{name: kind + "_PASSWORD", path: low + ".password"})
	}
	return out
}

func envSection(prefix, path, names string) []envVar {
	var out []envVar
	for _, n := range strings.Fields(names) {
		out = append(out, envVar{name: prefix + "_" + n, path: path + "." + strings.ToLower(n)})
	}
	return out
}

// environMap reads "NAME=value" entries; an empty value means unset.
func environMap(environ []string) map[string]string {
	out := map[string]string{}
	for _, e := range environ {
		if k, v, ok := strings.Cut(e, "="); ok && v != "" && strings.HasPrefix(k, envPrefix) {
			out[k] = v
		}
	}
	return out
}

// environTree builds the configuration given by PATRONI_* variables.
func environTree(environ []string) (*node, []Problem) {
	env := environMap(environ)
	root := newMap()
	var problems []Problem
	for _, v := range envTable() {
		name := envPrefix + v.name
		text := env[name]
		if text == "" && v.legacy != "" {
			name = envPrefix + v.legacy
			text = env[name]
		}
		if text == "" || envDangling(v, root) {
			continue
		}
		n, err := readEnv(v.kind, text)
		if err != nil {
			problems = append(problems, Problem{File: "environment", Path: name, Severity: Warning,
				Message: "ignored: " + err.Error(), Cure: "correct the variable or unset it"})
			continue
		}
		setOrigin(n, "environment "+name)
		root.setPath(n, strings.Split(v.path, ".")...)
	}
	return root, problems
}

// envDangling applies the rule of §2: etcd credentials count only when another
// variable of the section is set.
func envDangling(v envVar, root *node) bool {
	sec, key, _ := strings.Cut(v.path, ".")
	return (sec == "etcd" || sec == "etcd3") && (key == "username" || key == "password") && root.get(sec) == nil
}

// setPath stores v below nested maps, creating them.
func (n *node) setPath(v *node, keys ...string) {
	for _, k := range keys[:len(keys)-1] {
		if !n.get(k).isMap() {
			n.set(k, &node{kind: mapNode, file: v.file})
		}
		n = n.get(k)
	}
	n.set(keys[len(keys)-1], v)
}

func setOrigin(n *node, file string) {
	n.file, n.line, n.col = file, 0, 0
	for i := range n.pairs {
		n.pairs[i].line, n.pairs[i].col = 0, 0
		setOrigin(n.pairs[i].value, file)
	}
	for _, it := range n.items {
		setOrigin(it, file)
	}
}

func readEnv(kind envKind, text string) (*node, error) {
	switch kind {
	case envInt:
		v, ok := parseIntText(text, "")
		if !ok {
			return nil, fmt.Errorf("needs a whole number")
		}
		return newInt(v), nil
	case envBool:
		v, ok := parseBoolText(text)
		if !ok {
			return nil, fmt.Errorf("needs true or false")
		}
		return newBool(v), nil
	case envList:
		t := strings.TrimSpace(text)
		if !strings.HasPrefix(t, "-") && !strings.Contains(t, "[") {
			t = "[" + t + "]"
		}
		return readEnvYAML(t, listNode, "a list")
	case envMap:
		t := strings.TrimSpace(text)
		if !strings.HasPrefix(t, "{") {
			t = "{" + t + "}"
		}
		return readEnvYAML(t, mapNode, "a map")
	case envFormat:
		if !strings.Contains(text, "%(") {
			return readEnv(envList, text)
		}
	}
	return newString(text), nil
}

func readEnvYAML(text string, want nodeKind, name string) (*node, error) {
	n, _, err := parseYAML([]byte(text), "")
	if err != nil || n.kind != want {
		return nil, fmt.Errorf("needs %s in YAML form", name)
	}
	return n, nil
}

// otherStores start the variables of DCS types this agent does not speak.
var otherStores = []string{"CONSUL_", "ZOOKEEPER_", "EXHIBITOR_", "KUBERNETES_", "RAFT_", "CITUS_"}

// unknownEnv reports PATRONI_* variables that mean nothing.
func unknownEnv(environ []string) []Problem {
	var known []string
	for _, v := range envTable() {
		known = append(known, strings.ToLower(v.name))
		if v.legacy != "" {
			known = append(known, strings.ToLower(v.legacy))
		}
	}
	var out []Problem
	for name := range environMap(environ) {
		short := strings.TrimPrefix(name, envPrefix)
		if short == "CONFIGURATION" || slices.Contains(known, strings.ToLower(short)) {
			continue
		}
		p := Problem{File: "environment", Path: name, Severity: Warning, Message: "unknown variable, ignored", Cure: "unset it, or check its spelling"}
		for _, s := range otherStores {
			if strings.HasPrefix(short, s) {
				p.Message, p.Cure = "ignored: etcd v3 is the only store", "unset it"
			}
		}
		if short == "RESTAPI_THREAD_POOL_SIZE" {
			p.Severity, p.Message, p.Cure = Notice, "ignored: Patroni never reads it either", ""
		}
		if near := nearest(short, known); near != "" {
			p.Cure = fmt.Sprintf("did you mean %s?", envPrefix+strings.ToUpper(near))
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return out
}
