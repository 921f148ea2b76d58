package config

import (
	"fmt"
	"regexp"
	"strings"
)

// checkEtcd looks at the sections that name the store.
func (c *checker) checkEtcd(root *node) {
	v2, v3 := root.pair("etcd"), root.pair("etcd3")
	if v2 != nil && v2.value.truthy() {
		c.add(Notice, v2.at(), "etcd", "taken as etcd v3 (Patroni would speak protocol v2 here, whose data is separate)", "call the section etcd3 when Patroni reads this file too")
		if v3 != nil && v3.value.truthy() {
			c.add(Warning, v3.at(), "etcd3", "both etcd and etcd3 are configured, etcd wins", "remove one of the sections")
		}
	}
	for _, p := range []*pair{v2, v3} {
		if p == nil || !p.value.isMap() || !p.value.truthy() {
			continue
		}
		if _, err := decodeEtcd(p.key, p.value); err != nil {
			c.add(Error, p.at(), p.key, err.Error(), "write for example hosts: 192.0.2.1:2379,192.0.2.2:2379")
		}
	}
}

// checkBootstrap looks at the methods of cluster creation.
func (c *checker) checkBootstrap(root *node) {
	b := root.get("bootstrap")
	if !b.isMap() {
		return
	}
	if !b.truthy() {
		return
	}
	if b.get("dcs").isNull() {
		c.add(Warning, b, "bootstrap", "has no section dcs", "add dcs: with the cluster's first settings (ttl, loop_wait, ...)")
	}
	c.checkBootstrapMethod(root, b)
	for _, o := range decodeOptions(b.get("initdb")) {
		switch o.Name {
		case "pgdata", "nosync", "pwfile", "sync-only", "version":
			p := b.pair("initdb")
			c.add(Error, p.at(), "bootstrap.initdb", "option "+o.Name+" is not allowed, the agent sets it", "remove it")
		}
	}
}

// checkBootstrapMethod says what a method without a command means: the agent's
// own restore, or initdb as in Patroni.
func (c *checker) checkBootstrapMethod(root, b *node) {
	m := b.pair("method")
	if m == nil || !m.value.truthy() || m.value.str() == "initdb" || b.get(m.value.str(), "command").truthy() {
		return
	}
	name := m.value.str()
	if name == NativeMethod {
		c.checkRepositoryBootstrap(b.get(name))
		if backupSection(root) {
			return
		}
		c.add(Notice, m.at(), "bootstrap.method", "there is neither a section pgha.backup nor bootstrap.pgbackrest with a command, so initdb is used", "add one of them, or remove method")
		return
	}
	c.add(Notice, m.at(), "bootstrap.method", fmt.Sprintf("there is no section bootstrap.%s with a command, so initdb is used", name), "add it, or remove method")
}

// backupSection tells whether a file configures backups, by itself or for the
// first /config.
func backupSection(root *node) bool {
	return root.get("pgha", "backup").truthy() || root.get("bootstrap", "dcs", "pgha", "backup").truthy()
}

// checkTags reports pairs of tags that contradict each other; Patroni's own
// generated files hold both, in agreement.
func (c *checker) checkTags(tags *node) {
	for _, t := range [][2]string{{"nofailover", "failover_priority"}, {"nosync", "sync_priority"}} {
		p, q := tags.pair(t[0]), tags.pair(t[1])
		if p == nil || q == nil || p.value.isNull() || q.value.isNull() {
			continue
		}
		no, isBool := parseBoolText(p.value.str())
		priority, isInt := parseIntText(q.value.str(), "")
		if !isBool || !isInt || no != (priority <= 0) {
			c.add(Warning, q.at(), "tags."+t[1], fmt.Sprintf("%s is set as well and wins", t[0]), "keep one of the two")
		}
	}
}

// checkCredentials reports a section authentication that does not say who may
// come in: its author believes that not everybody may.
func (c *checker) checkCredentials(root *node) {
	for _, section := range []string{"restapi", "ctl"} {
		if p := root.get(section).pair("auth"); p != nil && p.value.isScalar() && !strings.Contains(p.value.str(), ":") {
			c.add(Error, p.at(), section+".auth", "is not of the form username:password", "write a section authentication with both instead")
		}
		p := root.get(section).pair("authentication")
		if p == nil || !p.value.isNull() && !p.value.isMap() { // another type is reported by the schema
			continue
		}
		for _, key := range []string{"username", "password"} {
			if p.value.get(key).isNull() {
				c.add(Error, p.at(), section+".authentication", "has no "+key, "add it, or remove the section")
			}
		}
	}
}

// checkClientCert reports a cluster whose members shut each other out: who demands
// a certificate of every caller has to show one as well (wire contract §1.5).
func (c *checker) checkClientCert(root *node) {
	rest := root.get("restapi")
	demand, cert := rest.pair("verify_client"), rest.pair("certfile")
	if demand == nil || cert == nil || cert.value.isNull() || !strings.EqualFold(demand.value.str(), "required") {
		return
	}
	if own := root.get("ctl").pair("certfile"); own == nil || own.value.isNull() {
		c.add(Warning, demand.at(), "restapi.verify_client", "demands a certificate of the other members, and this one has none for them if they demand the same: they count as not reachable, nobody takes over",
			"set ctl.certfile and ctl.keyfile")
	}
}

// checkLocalGUCs reports parameters that only the cluster may set.
func (c *checker) checkLocalGUCs(pg *node) {
	for _, section := range parameterKeys {
		params := pg.get(section)
		if !params.isMap() {
			continue
		}
		for i := range params.pairs {
			p := &params.pairs[i]
			path := joinPath("postgresql."+section, p.key)
			if c.derived(p, path) || !isControlled(p.key) {
				continue
			}
			c.add(Warning, p.at(), path, "ignored here, because all members must agree on it", "set it with pghactl edit-config (new cluster: bootstrap.dcs.postgresql.parameters)")
		}
	}
}

func (c *checker) derived(p *pair, path string) bool {
	from := derivedGUCs[strings.ToLower(p.key)]
	if from != "" {
		c.add(Warning, p.at(), path, "ignored, its value comes from "+from, "remove it")
	}
	return from != ""
}

// checkDynamicValues looks at what the schema cannot express in a /config
// document or in bootstrap.dcs; native as for checkMethods.
func (c *checker) checkDynamicValues(doc *node, path string, native bool) {
	if !doc.isMap() {
		return
	}
	c.checkTiming(doc, path)
	at := joinPath(path, "postgresql")
	params := doc.get("postgresql", "parameters")
	_, ps := controlledGUCs(params, joinPath(at, "parameters"))
	for _, p := range ps {
		if c.strict {
			p.Severity, p.Cure = Error, "write such a value, or null for the default"
		}
		c.problems = append(c.problems, p)
	}
	if params.isMap() {
		for i := range params.pairs {
			c.derived(&params.pairs[i], joinPath(at, "parameters."+params.pairs[i].key))
		}
	}
	for _, section := range parameterKeys[1:] {
		params := doc.get("postgresql", section)
		if !params.isMap() {
			continue
		}
		for i := range params.pairs {
			if p := &params.pairs[i]; isControlled(p.key) {
				c.add(Warning, p.at(), joinPath(at, section+"."+p.key), "ignored here, because all members must agree on it", "set it in "+joinPath(at, "parameters"))
			}
		}
	}
	c.checkMethods(doc.get("postgresql"), at, native)
	c.checkStandby(doc, path)
}

// checkMethods names the replica creation methods without a command: their name
// itself is the program then (wire contract §8.3). With native, pgha.backup may
// be configured, and its method needs no command.
func (c *checker) checkMethods(pg *node, path string, native bool) {
	for _, k := range []string{"create_replica_methods", "create_replica_method"} {
		p := pg.pair(k)
		if p == nil {
			continue
		}
		for _, m := range p.value.strings() {
			if m == "basebackup" || m == NativeMethod && native || pg.get(m, "command").truthy() {
				continue
			}
			c.add(Notice, p.at(), joinPath(path, k), fmt.Sprintf("method %q has no section with a command, so the program %q is run", m, m), "add a section "+joinPath(path, m)+" with a command, if that is not meant")
		}
	}
}

var (
	angleWord  = regexp.MustCompile(`<[A-Za-z][A-Za-z0-9]*(?:[-_ ][A-Za-z0-9]+)*>`)
	xAddress   = regexp.MustCompile(`(?:^|[^A-Za-z0-9.])((?:[0-9]{1,3}|[xX]+)(?:\.(?:[0-9]{1,3}|[xX]+)){3}(?:/[0-9]+)?)`)
	badPercent = regexp.MustCompile(`%([PF])`)
)

// checkPlaceholders finds text of a template that was never filled in.
func (c *checker) checkPlaceholders(n *node, path string) {
	if n == nil {
		return
	}
	for i := range n.pairs {
		p := &n.pairs[i]
		sub := joinPath(path, p.key)
		if p.value.kind == stringNode {
			c.placeholder(p.at(), p.value.s, p.key, sub)
		} else {
			c.checkPlaceholders(p.value, sub)
		}
	}
	for i, it := range n.items {
		sub := fmt.Sprintf("%s[%d]", path, i)
		if it.isScalar() && it.kind == stringNode {
			c.placeholder(it, it.s, lastPart(path), sub)
		} else {
			c.checkPlaceholders(it, sub)
		}
	}
}

func (c *checker) placeholder(at *node, text, key, path string) {
	if text == "#FIXME" { // of --generate-sample-config, ours and Patroni's
		c.add(Error, at, path, "the placeholder #FIXME was left in", "write your own value")
		return
	}
	if strings.Contains(key, "password") {
		return
	}
	if m := angleWord.FindString(text); m != "" {
		c.add(Warning, at, path, fmt.Sprintf("the placeholder %s was left in", m), "replace it, with its brackets, by your own value")
	}
	if m := xAddress.FindStringSubmatch(text); m != nil && strings.ContainsAny(m[1], "xX") {
		c.add(Error, at, path, fmt.Sprintf("the placeholder %s was left in", m[1]), "write an address, for example 192.0.2.0/24")
	}
	if commandGUC.MatchString(key) {
		if m := badPercent.FindString(text); m != "" {
			c.add(Warning, at, path, fmt.Sprintf("PostgreSQL does not know %s", m), fmt.Sprintf("write %s", strings.ToLower(m)))
		}
	}
}
