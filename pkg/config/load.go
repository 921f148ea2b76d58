package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// ErrUnusable is wrapped by Load and Parse when no configuration can be made
// of the text at all; the problems say why.
var ErrUnusable = errors.New("configuration is unusable")

// source is one YAML text and the name findings cite.
type source struct {
	name string
	data []byte
}

// Load reads the local configuration (wire contract §1.1): a YAML file, or a
// directory whose *.yml and *.yaml files are merged in name order, with the
// PATRONI_* variables of environ ("NAME=value") merged over it. When path is
// empty or does not exist, PATRONI_CONFIGURATION alone counts, else the other
// variables alone.
//
// Problems hold everything found, sorted by line. A Local is returned whenever
// the text is readable YAML; the agent must refuse it when HasErrors. The error
// is for what cannot be read at all (the Local is nil then, and the problems
// say how to mend the text).
func Load(path string, environ []string) (*Local, []Problem, error) {
	sources, err := readSources(path)
	if err != nil {
		return nil, nil, err
	}
	if sources == nil {
		return loadEnviron(path, environ)
	}
	return build(sources, environ)
}

// Parse is Load for a YAML text in memory.
func Parse(data []byte, environ []string) (*Local, []Problem, error) {
	return build([]source{{name: "configuration", data: data}}, environ)
}

// loadEnviron serves a missing file.
func loadEnviron(path string, environ []string) (*Local, []Problem, error) {
	env := environMap(environ)
	if text := env[envPrefix+"CONFIGURATION"]; text != "" {
		return build([]source{{name: envPrefix + "CONFIGURATION", data: []byte(text)}}, nil)
	}
	tree, _ := environTree(environ)
	if len(tree.pairs) == 0 {
		if path == "" {
			return nil, nil, errors.New("read configuration: no file was named and no PATRONI_* variable is set; name a patroni.yml")
		}
		return nil, nil, fmt.Errorf("read configuration: %s does not exist; check the path, or set PATRONI_* variables", path)
	}
	return build(nil, environ)
}

// readSources reads the file, or the directory's files in name order; nil when
// path does not exist.
func readSources(path string) ([]source, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	names := []string{path}
	if info.IsDir() {
		if names, err = yamlFiles(path); err != nil {
			return nil, err
		}
	}
	out := make([]source, 0, len(names))
	for _, name := range names {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("read configuration: %w; make it readable for the user that runs this", err)
		}
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		out = append(out, source{name: name, data: data})
	}
	return out, nil
}

func yamlFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		ext := filepath.Ext(name)
		if ext != ".yml" && ext != ".yaml" {
			continue
		}
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("read configuration: directory %s holds no *.yml or *.yaml file; put one there, or name a file", dir)
	}
	sort.Strings(names)
	return names, nil
}

// build merges the sources and the environment, checks and decodes them.
func build(sources []source, environ []string) (*Local, []Problem, error) {
	root := newMap()
	var problems []Problem
	broken := ""
	for _, src := range sources {
		tree, ps, ok := readTree(src)
		problems = append(problems, ps...)
		if !ok {
			broken = src.name
			continue
		}
		if len(sources) == 1 {
			root = tree // with its empty sections: the checks look at them
			continue
		}
		patchNode(root, tree)
	}
	if broken != "" {
		return nil, sortProblems(problems), fmt.Errorf("%w: %s needs mending first", ErrUnusable, broken)
	}
	env, ps := environTree(environ)
	problems = append(problems, ps...)
	problems = append(problems, unknownEnv(environ)...)
	patchNode(root, env)
	if len(root.pairs) == 0 {
		return nil, problems, fmt.Errorf("%w: it is empty; start from the sample configuration", ErrUnusable)
	}
	problems = append(problems, checkLocal(root)...)
	normalizeLegacy(root)
	return decodeLocal(root), sortProblems(dedupe(problems)), nil
}

// readTree parses one source. When YAML refuses it, or it is no mapping, the
// diagnosis of repair.go says what a person would see; ok is false then.
func readTree(src source) (tree *node, problems []Problem, ok bool) {
	tree, problems, err := parseYAML(src.data, src.name)
	if err == nil && tree.isMap() {
		return tree, problems, true
	}
	if err == nil && tree.isNull() {
		return newMap(), problems, true
	}
	if err == nil {
		err = fmt.Errorf("line %d: %w", tree.line, errNoMapping)
	}
	return nil, diagnose(src, err), false
}

// dedupe drops findings that say the same about the same line.
func dedupe(ps []Problem) []Problem {
	seen := map[Problem]bool{}
	var out []Problem
	for _, p := range ps {
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// legacyLayout tells whether the file is of the layout before
// postgresql.authentication, or has parts of it.
func legacyLayout(root *node) bool {
	pg := root.get("postgresql")
	if !pg.isMap() {
		return false
	}
	if auth := pg.get("authentication"); !auth.isNull() {
		return auth.isMap() && auth.get("superuser") == nil && pg.get("pg_rewind").isMap()
	}
	return pg.get("replication").isMap() || pg.get("superuser").isMap()
}

// normalizeLegacy moves the layout before postgresql.authentication to today's
// place (wire contract §1.1).
func normalizeLegacy(root *node) {
	if !legacyLayout(root) {
		return
	}
	pg := root.get("postgresql")
	auth, rewind := pg.get("authentication"), pg.get("pg_rewind")
	if auth.isNull() {
		auth = newMap()
		for _, role := range []string{"replication", "superuser"} {
			if n := pg.get(role); n.isMap() {
				auth.set(role, n)
			}
		}
		pg.set("authentication", auth)
		pg.set("use_pg_rewind", newBool(rewind.isMap()))
	}
	if auth.get("superuser") == nil && rewind.isMap() {
		auth.set("superuser", rewind)
	}
}

// Missing lists what a running agent needs and the file does not give. A CLI
// needs less, so Load does not report it.
func (l *Local) Missing() []Problem {
	c := &checker{}
	need := func(ok bool, path, cure string) {
		if ok {
			return
		}
		at := &node{file: l.file()}
		if p := l.root.pair(strings.Split(path, ".")[0]); p != nil {
			at = p.at()
		}
		c.add(Error, at, path, "is required and not set", cure)
	}
	need(l.Scope != "", "scope", "add scope: and the name of the cluster, the same on every member")
	need(l.Name != "", "name", "add name: and the name of this member, different on every member")
	need(l.RestAPI.Listen != "", "restapi.listen", "add for example listen: 192.0.2.1:8008")
	need(l.Etcd.Kind != "", "etcd3", "add a section etcd3 with hosts: 192.0.2.1:2379,...")
	need(l.root.get("postgresql", "listen").truthy(), "postgresql.listen", "add for example listen: 192.0.2.1:5432")
	need(l.root.get("postgresql", "data_dir").truthy(), "postgresql.data_dir", "add the path of the data directory")
	need(l.root.get("postgresql", "authentication", "replication", "username").truthy(), "postgresql.authentication.replication.username",
		"add the name (and password) of the role used for streaming")
	if l.Name == reservedName {
		c.add(Error, l.root.get("name"), "name", "this name is reserved", "choose another one")
	}
	return sortProblems(c.problems)
}

// reservedName stands for "nobody" in synchronous_standby_names (§1.2).
const reservedName = "__patroni_strict_sync_replica_placeholder__"

// file is the name findings without a place of their own cite.
func (l *Local) file() string {
	for _, p := range l.root.pairs {
		if p.line > 0 {
			return p.value.file
		}
	}
	return ""
}

// Equal tells whether two local configurations say the same, so that a reload
// has nothing to apply.
func (l *Local) Equal(o *Local) bool {
	if l == nil || o == nil {
		return l == o
	}
	return deepEqual(l.root, o.root)
}

// Origin tells where the value under a dotted path was set: "file:line",
// "environment NAME", or "" when it is not set here.
func (l *Local) Origin(path string) string {
	n := l.root.get(strings.Split(path, ".")...)
	switch {
	case n == nil:
		return ""
	case n.line == 0:
		return n.file
	}
	return fmt.Sprintf("%s:%d", n.file, n.line)
}
