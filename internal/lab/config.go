package lab

import (
	"fmt"
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"
)

// WriteConfig writes the node's patroni.yml: the tutorial's shape with its backup
// tool left out, then Options.Backup, Options.Config and more over it, later over
// earlier. A key whose value is nil is taken out. A running agent does not notice
// before its next reload (Signal with SIGHUP) or start.
func (l *Lab) WriteConfig(n *Node, more ...map[string]any) error {
	config := l.configOf(n)
	for _, layer := range append([]map[string]any{l.backupConfig(n), l.opts.Config}, more...) {
		merge(config, layer)
	}
	doc, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("render configuration of %s: %w", n.Name, err)
	}
	if err := os.WriteFile(n.Config, doc, 0o600); err != nil {
		return fmt.Errorf("write configuration of %s: %w", n.Name, err)
	}
	return l.give(n.Config)
}

// give makes the servers' account the owner of a file.
func (l *Lab) give(path string) error {
	if !l.account.change {
		return nil
	}
	if err := os.Chown(path, l.account.uid, l.account.gid); err != nil {
		return fmt.Errorf("give %s to %s: %w", path, l.opts.User, err)
	}
	return nil
}

// merge lays over on top of base: maps are merged, nil takes a key out, anything
// else replaces what is there.
func merge(base, over map[string]any) {
	for key, value := range over {
		below, isMap := base[key].(map[string]any)
		above, both := value.(map[string]any)
		switch {
		case value == nil:
			delete(base, key)
		case isMap && both:
			merge(below, above)
		case both:
			fresh := map[string]any{}
			merge(fresh, above) // a copy: later layers must not write into the caller's
			base[key] = fresh
		default:
			base[key] = value
		}
	}
}

func (l *Lab) configOf(n *Node) map[string]any {
	superuser := map[string]any{"username": "postgres", "password": l.password}
	replication := map[string]any{"username": "replicator", "password": l.password}
	config := map[string]any{
		"scope":     l.opts.Scope,
		"namespace": Namespace,
		"name":      n.Name,
		"restapi":   map[string]any{"listen": n.REST, "connect_address": n.REST},
		"etcd3":     map[string]any{"hosts": l.Endpoints()},
		"bootstrap": map[string]any{
			"dcs":    l.dynamicConfig(),
			"initdb": []any{map[string]any{"encoding": "UTF8"}, "data-checksums"},
		},
		"postgresql": map[string]any{
			"listen":          n.Addr,
			"connect_address": n.Addr,
			"data_dir":        n.DataDir,
			"bin_dir":         l.opts.PGBin,
			"pgpass":          filepath.Join(n.Dir, "pgpass"),
			"pg_hba":          l.hba(),
			"authentication":  map[string]any{"superuser": superuser, "replication": replication},
			"parameters":      l.parameters(n),
		},
		"pgha": map[string]any{"run_dir": filepath.Join(n.Dir, "run")},
	}
	if l.opts.Watchdog {
		config["watchdog"] = map[string]any{"mode": "automatic", "driver": "testing", "device": dogPath(n)}
	}
	return config
}

func (l *Lab) dynamicConfig() map[string]any {
	dcs := map[string]any{
		"ttl":                     seconds(l.opts.TTL),
		"loop_wait":               seconds(l.opts.LoopWait),
		"retry_timeout":           seconds(l.opts.RetryTimeout),
		"maximum_lag_on_failover": l.opts.MaximumLag,
		"postgresql": map[string]any{
			"use_pg_rewind": true,
			"use_slots":     true,
			"parameters":    map[string]any{"max_connections": 60, "max_wal_senders": 10, "max_replication_slots": 10},
		},
	}
	merge(dcs, l.opts.DCS)
	return dcs
}

func (l *Lab) hba() []string {
	from := "127.0.0.1/32"
	if l.opts.Network == Namespaces {
		from = "192.0.2.0/24"
	}
	return []string{
		"local all all scram-sha-256",
		"host replication replicator " + from + " scram-sha-256",
		"host all all " + from + " scram-sha-256",
	}
}

func (l *Lab) parameters(n *Node) map[string]any {
	p := map[string]any{
		"unix_socket_directories": n.Dir,
		"shared_buffers":          "16MB",
		"password_encryption":     "scram-sha-256",
		"logging_collector":       "on",
		"log_directory":           n.Dir,
		"log_filename":            "postgresql.log",
		"log_line_prefix":         "%m [%p] %q%a ",
	}
	if l.opts.NoFsync {
		p["fsync"] = "off"
	}
	for name, value := range l.opts.Parameters {
		p[name] = value
	}
	return p
}
