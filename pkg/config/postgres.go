package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// EffectiveOf joins defaults, dynamic and local configuration by the rules of
// wire contract §1.1. dyn may be nil: the defaults then. It changes neither.
func EffectiveOf(local *Local, dyn *Dynamic) *Effective {
	if dyn == nil {
		dyn = DefaultDynamic()
	}
	pg := mergePostgres(local.root.get("postgresql"), dyn.root.get("postgresql"))
	e := &Effective{Local: local, Dynamic: dyn, Bootstrap: local.Bootstrap}
	pgha, problems := mergePGHA(local.root.get("pgha"), dyn.root.get("pgha"))
	e.postgres, e.pgha = pg, pgha
	e.PGHA = decodePGHA(pgha)
	if b := &e.PGHA.Backup; b.Enabled && b.Stanza == "" {
		b.Stanza = local.Scope
	}
	e.Bootstrap.Native = e.Bootstrap.Method == NativeMethod && e.Bootstrap.Custom == nil && e.PGHA.Backup.Enabled
	e.Postgres = decodePostgres(pg, e.PGHA.Backup)
	e.Postgres.Scope, e.Postgres.Name = local.Scope, local.Name
	e.Postgres.UseSlots = dyn.UseSlots
	if e.Postgres.Standby = dyn.StandbyCluster; e.Postgres.Standby != nil {
		e.Postgres.addMethods(pg, e.Postgres.Standby.CreateReplicaMethods)
	}
	e.Postgres.SynchronousMode, e.Postgres.SynchronousStrict = dyn.SynchronousMode, dyn.SynchronousModeStrict
	e.Postgres.Controlled, e.Problems = controlledGUCs(dyn.root.get("postgresql", "parameters"), "postgresql.parameters")
	e.Problems = append(e.Problems, problems...)
	return e
}

// mergePostgres lays the local section over the dynamic one: local-only keys
// are dropped from the latter, parameters merge key by key, every other key
// replaces as a whole.
func mergePostgres(local, dyn *node) *node {
	out := newMap()
	if dyn.isMap() {
		out = dyn.clone()
	}
	for _, k := range localOnlyPG {
		out.remove(k)
	}
	params := map[string]*node{}
	for _, k := range parameterKeys {
		params[k] = mergeParameters(local.get(k), out.get(k))
	}
	if local.isMap() {
		for _, p := range local.pairs {
			if p.key != "use_slots" && params[p.key] == nil {
				out.set(p.key, p.value)
			}
		}
	}
	for _, k := range parameterKeys {
		if k == "parameters" || len(params[k].pairs) > 0 {
			out.set(k, params[k])
		}
	}
	return out
}

// mergeParameters drops the cluster's GUCs and lower-cases the names.
func mergeParameters(local, dyn *node) *node {
	out := newMap()
	for _, src := range []*node{dyn, local} {
		if !src.isMap() {
			continue
		}
		for _, p := range src.pairs {
			if name := strings.ToLower(p.key); !isControlled(name) {
				out.set(name, p.value)
			}
		}
	}
	return out
}

// mergePGHA lays the file's section over that of /config. What makes a value of
// pgha.backup unusable was refused in the file, but may have got into /config
// by another tool: such values are dropped and reported.
func mergePGHA(local, dyn *node) (*node, []Problem) {
	out := newMap()
	if dyn.isMap() {
		out = dyn.clone()
	}
	for _, k := range localOnlyPGHA {
		out.remove(k)
	}
	if local.isMap() {
		patchNode(out, local)
	}
	return out, cleanBackup(out)
}

func decodePostgres(n *node, backup Backup) Postgres {
	p := Postgres{
		ProxyAddress:   n.strAt("", "proxy_address"),
		DataDir:        cleanDir(n.strAt("", "data_dir")),
		ConfigBaseName: n.strAt("postgresql", "config_base_name"),
		BinDir:         n.strAt("", "bin_dir"),
		BinNames:       scalarMap(n.get("bin_name")),
		Database:       n.strAt("postgres", "database"),
		Superuser:      decodeAuth(n.get("authentication", "superuser")),
		Replication:    decodeAuth(n.get("authentication", "replication")),
		RewindSet:      n.get("authentication", "rewind").truthy(),
		Parameters:     scalarMap(n.get("parameters")),
		PGHBA:          managedLines(n.get("pg_hba")),
		PGIdent:        managedLines(n.get("pg_ident")),
		CustomConf:     n.strAt("", "custom_conf"),
		RecoveryConf:   scalarMap(n.get("recovery_conf")),
		BaseBackup:     decodeOptions(n.get("basebackup")),
		RewindOptions:  decodeOptions(n.get("rewind")),
		ByRole:         decodeRoles(n),
		PGPass:         n.strAt("", "pgpass"),
		PgCtlTimeout:   seconds(n.intAt(60, "s", "pg_ctl_timeout")),
		UsePgRewind:    n.boolAt(false, "use_pg_rewind"),
		KrbSrvName:     n.strAt("", "krbsrvname"),
		PrePromote:     n.strAt("", "pre_promote"),
		BeforeStop:     n.strAt("", "before_stop"),
		Callbacks:      scalarMap(n.get("callbacks")),

		RemoveDataDirOnRewindFailure:    n.boolAt(false, "remove_data_directory_on_rewind_failure"),
		RemoveDataDirOnDivergedTimeline: n.boolAt(false, "remove_data_directory_on_diverged_timelines"),
		UseUnixSocket:                   n.boolAt(false, "use_unix_socket"),
		UseUnixSocketRepl:               n.boolAt(false, "use_unix_socket_repl"),
	}
	p.ConfigDir = cleanDir(n.strAt(p.DataDir, "config_dir"))
	p.Rewind = p.Superuser
	if p.RewindSet {
		p.Rewind = decodeAuth(n.get("authentication", "rewind"))
	}
	p.decodeAddresses(n)
	p.Backup = backup
	p.decodeMethods(n)
	return p
}

// cleanDir drops a trailing slash, which breaks renames (ha-behaviour 11.104).
func cleanDir(dir string) string {
	if dir == "" {
		return ""
	}
	return filepath.Clean(dir)
}

// managedLines gives nil when a list is not configured: the file is left alone.
func managedLines(n *node) []string {
	if n.isNull() {
		return nil
	}
	return n.strings()
}

// decodeAddresses splits listen and connect_address. A bad address was reported
// as an error by Load.
func (p *Postgres) decodeAddresses(n *node) {
	p.ListenAddresses, p.Port, _ = SplitHostPort(n.strAt("", "listen"), 5432)
	p.LocalHost = localHost(p.ListenAddresses)
	p.ConnectHost, p.ConnectPort = p.LocalHost, p.Port
	if c := n.strAt("", "connect_address"); c != "" {
		if host, port, err := SplitHostPort(c, 5432); err == nil {
			p.ConnectHost, p.ConnectPort = host, port
		}
	}
}

// localHost is the local TCP address of wire contract §1.8.
func localHost(listen string) string {
	addrs := strings.Split(listen, ",")
	for i, a := range addrs {
		addrs[i] = strings.TrimSpace(a)
		switch addrs[i] {
		case "*", "localhost", "0.0.0.0", "127.0.0.1":
			return "localhost"
		}
	}
	return addrs[0]
}

func (p *Postgres) decodeMethods(n *node) {
	p.CreateReplicaMethods = n.get("create_replica_methods").strings()
	if len(p.CreateReplicaMethods) == 0 {
		p.CreateReplicaMethods = n.get("create_replica_method").strings()
	}
	if len(p.CreateReplicaMethods) == 0 {
		if p.Backup.Enabled && p.Backup.Restore {
			p.CreateReplicaMethods = append(p.CreateReplicaMethods, NativeMethod)
		}
		p.CreateReplicaMethods = append(p.CreateReplicaMethods, "basebackup")
	}
	p.Methods = map[string]*CustomMethod{}
	p.addMethods(n, p.CreateReplicaMethods)
}

// addMethods reads the sections of the methods called names.
func (p *Postgres) addMethods(n *node, names []string) {
	for _, name := range names {
		if name == "basebackup" {
			continue
		}
		m := decodeMethod(name, n.get(name))
		if name == NativeMethod && !n.get(name, "command").truthy() && p.Backup.Enabled {
			m.Native, m.Command = true, ""
		}
		p.Methods[name] = m
	}
}

func decodeAuth(n *node) Auth {
	return Auth{
		Username:       n.strAt("", "username"),
		Password:       Secret(n.strAt("", "password")),
		SSLMode:        n.strAt("", "sslmode"),
		SSLCert:        n.strAt("", "sslcert"),
		SSLKey:         n.strAt("", "sslkey"),
		SSLPassword:    Secret(n.strAt("", "sslpassword")),
		SSLRootCert:    n.strAt("", "sslrootcert"),
		SSLCRL:         n.strAt("", "sslcrl"),
		SSLCRLDir:      n.strAt("", "sslcrldir"),
		GSSEncMode:     n.strAt("", "gssencmode"),
		ChannelBinding: n.strAt("", "channel_binding"),
		SSLNegotiation: n.strAt("", "sslnegotiation"),
	}
}

// Bin is the path (or, without bin_dir, the name to look up in PATH) of a
// PostgreSQL program such as "pg_ctl", after bin_name.
func (p *Postgres) Bin(tool string) string {
	name := tool
	if v := p.BinNames[tool]; v != "" {
		name = v
	}
	if p.BinDir == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(p.BinDir, name)
}

// GUC gives the configured value of a parameter, controlled ones included.
func (p *Postgres) GUC(name string) (string, bool) {
	name = strings.ToLower(name)
	switch name {
	case "listen_addresses":
		return p.ListenAddresses, true
	case "port":
		return fmt.Sprint(p.Port), true
	case "cluster_name":
		return p.Scope, true
	}
	if i := slices.IndexFunc(p.Controlled, func(g ControlledGUC) bool { return g.Name == name }); i >= 0 {
		return p.Controlled[i].Value, true
	}
	v, ok := p.Parameters[name]
	return v, ok
}

// For tells whether a server version (server_version_num, for example 150020)
// knows the GUC.
func (g ControlledGUC) For(version int) bool {
	return version >= g.MinVersion && (g.MaxVersion == 0 || version < g.MaxVersion)
}

// ConnURL is the published conn_url: no credentials (wire contract §4.2).
func (p *Postgres) ConnURL() string {
	return "postgres://" + JoinHostPort(p.ConnectHost, p.ConnectPort) + "/" + p.Database
}

// ProxyURL is the published proxy_url, empty without proxy_address.
func (p *Postgres) ProxyURL() string {
	if p.ProxyAddress == "" {
		return ""
	}
	return "postgres://" + p.ProxyAddress + "/" + p.Database
}
