package config

// This file is the list of every key of wire contract §1.2-§1.11 and §3.2, and
// of our own section "pgha". max below min means "no upper bound".

const (
	maxInt31    = 1<<31 - 1
	onlyDynamic = "only the cluster-wide value counts: set it under bootstrap.dcs (new cluster) or with pghactl edit-config"
	onlyEtcd    = "etcd v3 is the only store: use a section etcd3"
)

func rootRows() []row {
	return []row{
		{path: "scope", kind: kStr},
		{path: "name", kind: kStr},
		{path: "namespace", kind: kStr},
		{path: "thread_pool_size", kind: kInt, min: 0, max: maxInt31, st: ignored, note: "Go needs no thread pool"},
		{path: "thread_stack_size", kind: kInt, unit: "B", min: 0, max: -1, st: ignored, note: "it has no meaning outside Python"},
		{path: "log", kind: kMap}, {path: "restapi", kind: kMap}, {path: "ctl", kind: kMap},
		{path: "etcd", kind: kMap}, {path: "etcd3", kind: kMap}, {path: "bootstrap", kind: kMap},
		{path: "postgresql", kind: kMap}, {path: "tags", kind: kMap}, {path: "watchdog", kind: kMap},
		{path: "pgha", kind: kMap},
		{path: "ttl", kind: kAny, st: ignored, sev: Warning, note: onlyDynamic},
		{path: "loop_wait", kind: kAny, st: ignored, sev: Warning, note: onlyDynamic},
		{path: "retry_timeout", kind: kAny, st: ignored, sev: Warning, note: onlyDynamic},
		{path: "standby_cluster", kind: kAny, st: ignored, sev: Warning, note: onlyDynamic},
		{path: "citus", kind: kAny, st: ignored, note: "Citus is not supported: remove the section", sev: Warning},
		{path: "kubernetes", kind: kAny, st: ignored, sev: Warning, note: onlyEtcd},
		{path: "consul", kind: kAny, st: ignored, sev: Warning, note: onlyEtcd},
		{path: "zookeeper", kind: kAny, st: ignored, sev: Warning, note: onlyEtcd},
		{path: "exhibitor", kind: kAny, st: ignored, sev: Warning, note: onlyEtcd},
		{path: "raft", kind: kAny, st: ignored, sev: Warning, note: onlyEtcd},
	}
}

func logRows() []row {
	return []row{
		{path: "type", kind: kEnum, enum: "plain json"},
		{path: "level", kind: kEnum, enum: "DEBUG INFO WARN WARNING ERROR FATAL CRITICAL"},
		{path: "traceback_level", kind: kEnum, enum: "DEBUG ERROR", fold: true, st: ignored, note: "the agent writes no stack traces"},
		{path: "format", kind: kAny},
		{path: "dateformat", kind: kStr},
		{path: "static_fields", kind: kFree},
		{path: "max_queue_size", kind: kInt, min: 0, max: maxInt31},
		{path: "dir", kind: kPath},
		{path: "file_size", kind: kInt, min: 0, max: -1},
		{path: "file_num", kind: kInt, min: 0, max: maxInt31},
		{path: "mode", kind: kInt, min: 0, max: 0o777},
		{path: "loggers", kind: kFree, st: ignored, note: "the logger names are Python's"},
		{path: "deduplicate_heartbeat_logs", kind: kBool},
	}
}

func authRows() []row {
	return []row{
		{path: "authentication", kind: kMap},
		{path: "authentication.username", kind: kStr},
		{path: "authentication.password", kind: kSecret},
		{path: "auth", kind: kSecret}, // "username:password", what counts without the section
	}
}

func restapiRows() []row {
	return append(authRows(), []row{
		{path: "listen", kind: kHostPort},
		{path: "connect_address", kind: kHostPort},
		{path: "certfile", kind: kPath},
		{path: "keyfile", kind: kPath},
		{path: "keyfile_password", kind: kSecret},
		{path: "cafile", kind: kPath},
		{path: "ciphers", kind: kStr},
		{path: "verify_client", kind: kEnum, enum: "none optional required", fold: true},
		{path: "allowlist", kind: kList},
		{path: "allowlist_include_members", kind: kBool},
		{path: "http_extra_headers", kind: kStrMap},
		{path: "https_extra_headers", kind: kStrMap},
		{path: "request_queue_size", kind: kInt, min: 0, max: 4096, st: ignored, note: "the listen backlog is the kernel's"},
		{path: "thread_pool_size", kind: kInt, min: 0, max: maxInt31, st: ignored, note: "Go needs no thread pool"},
		{path: "server_tokens", kind: kEnum, enum: "minimal productonly original", fold: true},
	}...)
}

func ctlRows() []row {
	return append(authRows(), []row{
		{path: "insecure", kind: kBool},
		{path: "cacert", kind: kPath},
		{path: "certfile", kind: kPath},
		{path: "keyfile", kind: kPath},
		{path: "keyfile_password", kind: kSecret},
	}...)
}

func etcdRows() []row {
	return []row{
		{path: "host", kind: kStr},
		{path: "port", kind: kInt, min: 1, max: 65535},
		{path: "hosts", kind: kStrOrList},
		{path: "url", kind: kSecret}, // may carry a password
		{path: "proxy", kind: kSecret},
		{path: "use_proxies", kind: kBool},
		{path: "srv", kind: kStr},
		{path: "discovery_srv", kind: kStr},
		{path: "srv_domain", kind: kStr},
		{path: "srv_suffix", kind: kStr},
		{path: "protocol", kind: kEnum, enum: "http https"},
		{path: "username", kind: kStr},
		{path: "password", kind: kSecret},
		{path: "cacert", kind: kPath},
		{path: "cert", kind: kPath},
		{path: "key", kind: kPath},
	}
}

func bootstrapRows() []row {
	return []row{
		{path: "dcs", kind: kMap},
		{path: "method", kind: kStr},
		{path: "initdb", kind: kOptions},
		{path: "pg_hba", kind: kList},
		{path: "post_bootstrap", kind: kStr},
		{path: "post_init", kind: kStr},
		{path: "users", kind: kAny, st: ignored, note: "as in Patroni 4 no user is created from here: create roles with SQL once the cluster runs, and remove the section"},
	}
}

// roleAuthRows are the keys of one postgresql.authentication section.
func roleAuthRows(role string) []row {
	rows := []row{{path: role, kind: kMap}}
	for _, k := range authKeys {
		r := row{path: role + "." + k, kind: kStr}
		if k == "password" || k == "sslpassword" {
			r.kind = kSecret
		}
		rows = append(rows, r)
	}
	return rows
}

// authKeys survive the authentication filter of wire contract §1.1.
var authKeys = []string{"username", "password", "sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert",
	"sslcrl", "sslcrldir", "gssencmode", "channel_binding", "sslnegotiation"}

// binTools are the programs postgresql.bin_name can rename.
var binTools = []string{"pg_ctl", "initdb", "pg_controldata", "pg_basebackup", "postgres", "pg_isready", "pg_rewind"}

// localOnlyPG are the postgresql keys ignored when found in /config (§1.1).
var localOnlyPG = []string{"connect_address", "proxy_address", "listen", "config_dir", "data_dir", "pgpass", "authentication"}

func postgresqlRows() []row {
	rows := []row{
		{path: "listen", kind: kHostPort},
		{path: "connect_address", kind: kHostPort},
		{path: "proxy_address", kind: kHostPort},
		{path: "data_dir", kind: kPath},
		{path: "config_dir", kind: kPath},
		{path: "config_base_name", kind: kStr},
		{path: "bin_dir", kind: kPath},
		{path: "bin_name", kind: kMap},
		{path: "database", kind: kStr},
		{path: "authentication", kind: kMap},
		{path: "parameters", kind: kGUCs},
		{path: "pg_hba", kind: kList},
		{path: "pg_ident", kind: kList},
		{path: "custom_conf", kind: kPath},
		{path: "recovery_conf", kind: kGUCs},
		{path: "create_replica_methods", kind: kList},
		{path: "create_replica_method", kind: kList},
		{path: "basebackup", kind: kOptions},
		{path: "rewind", kind: kOptions},
		{path: "pgpass", kind: kPath},
		{path: "callbacks", kind: kMap},
		{path: "pre_promote", kind: kStr},
		{path: "before_stop", kind: kStr},
		{path: "pg_ctl_timeout", kind: kInt, unit: "s", min: 0, max: -1},
		{path: "use_pg_rewind", kind: kBool},
		{path: "remove_data_directory_on_rewind_failure", kind: kBool},
		{path: "remove_data_directory_on_diverged_timelines", kind: kBool},
		{path: "use_unix_socket", kind: kBool},
		{path: "use_unix_socket_repl", kind: kBool},
		{path: "use_slots", kind: kBool},
		{path: "krbsrvname", kind: kStr},
	}
	for _, role := range roleWords {
		rows = append(rows, row{path: "parameters_" + role, kind: kGUCs},
			row{path: "pg_hba_" + role, kind: kList}, row{path: "pg_ident_" + role, kind: kList})
	}
	for _, cb := range callbackNames {
		rows = append(rows, row{path: "callbacks." + cb, kind: kStr})
	}
	for _, tool := range binTools {
		rows = append(rows, row{path: "bin_name." + tool, kind: kStr})
	}
	for _, role := range []string{"superuser", "replication", "rewind"} {
		rows = append(rows, mount("authentication", roleAuthRows(role))...)
	}
	return rows
}

// callbackNames are the events of wire contract §8.1.
var callbackNames = []string{"on_start", "on_stop", "on_restart", "on_reload", "on_role_change"}

// localOnlyPGHA are our own keys ignored when found in /config: what guards a
// node, and where, is not switched from afar.
var localOnlyPGHA = []string{"leash", "run_dir"}

// legacyPGRows is the layout before postgresql.authentication (§1.1).
func legacyPGRows() []row {
	rows := []row{{path: "name", kind: kStr}}
	for _, role := range []string{"superuser", "replication", "pg_rewind"} {
		rows = append(rows, roleAuthRows(role)...)
	}
	return rows
}

func tagRows() []row {
	return []row{
		{path: "nofailover", kind: kBool},
		{path: "failover_priority", kind: kInt, min: 0, max: maxInt31},
		{path: "nosync", kind: kBool},
		{path: "sync_priority", kind: kInt, min: 0, max: maxInt31},
		{path: "clonefrom", kind: kBool},
		{path: "noloadbalance", kind: kBool},
		{path: "replicatefrom", kind: kStr},
		{path: "nostream", kind: kBool},
	}
}

func watchdogRows() []row {
	return []row{
		{path: "mode", kind: kBoolOrEnum, enum: "off disable disabled automatic auto required require"},
		{path: "device", kind: kPath},
		{path: "safety_margin", kind: kInt, unit: "s", min: -1, max: maxInt31},
		{path: "driver", kind: kStr},
	}
}

// pghaRows are the keys Patroni does not know.
func pghaRows() []row {
	return append([]row{
		{path: "leash", kind: kBoolOrEnum, enum: "auto on off"},
		{path: "restapi_strict", kind: kBool},
		{path: "verify_peers", kind: kBool},
		{path: "dcs_commands", kind: kBoolOrEnum, enum: "allow deny"},
		{path: "run_dir", kind: kPath},
		{path: "postgresql_log_keep", kind: kInt, unit: "s", min: 0, max: -1},
		{path: "slot_wal_budget", kind: kInt, unit: "B", min: 0, max: -1},
		{path: "slot_wal_budgets", kind: kSizes},
	}, mount("backup", backupRows())...)
}

// backupRows are the keys of pgha.backup.
func backupRows() []row {
	return []row{
		{path: "stanza", kind: kName},
		{path: "command", kind: kLine},
		{path: "config", kind: kFile},
		{path: "repo", kind: kMap},
		{path: "repo.type", kind: kEnum, enum: "posix s3"},
		{path: "repo.path", kind: kFile},
		{path: "repo.s3_bucket", kind: kLine},
		{path: "repo.s3_endpoint", kind: kLine},
		{path: "repo.s3_region", kind: kLine},
		{path: "repo.s3_uri_style", kind: kEnum, enum: "host path"},
		{path: "repo.s3_key_file", kind: kFile},
		{path: "repo.s3_port", kind: kInt, min: 1, max: 65535},
		{path: "repo.s3_verify_tls", kind: kBool},
		{path: "repo.s3_ca_file", kind: kFile},
		{path: "repo.cipher_pass_file", kind: kFile},
		{path: "options", kind: kLines},
		{path: "archive", kind: kBool},
		{path: "restore", kind: kBool},
		{path: "process_max", kind: kInt, min: 1, max: 999},
		{path: "schedule", kind: kMap},
		{path: "schedule.full", kind: kCron},
		{path: "schedule.diff", kind: kCron},
		{path: "schedule.incr", kind: kCron},
		{path: "retention", kind: kMap},
		{path: "retention.full", kind: kInt, min: 0, max: 9999999},
		{path: "retention.diff", kind: kInt, min: 0, max: 9999999},
		{path: "from", kind: kEnum, enum: "leader standby"},
		{path: "max_age", kind: kInt, unit: "s", min: 0, max: -1},
		{path: "archive_max_lag", kind: kInt, unit: "s", min: 0, max: -1},
	}
}

// dynamicRows are the keys of /config and of bootstrap.dcs (§3.2).
func dynamicRows() []row {
	rows := []row{
		{path: "ttl", kind: kHard, min: 5, max: maxInt31},
		{path: "loop_wait", kind: kHard, min: 1, max: maxInt31},
		{path: "retry_timeout", kind: kHard, min: 1, max: maxInt31},
		{path: "maximum_lag_on_failover", kind: kInt, min: 0, max: -1},
		{path: "maximum_lag_on_syncnode", kind: kInt, min: -1, max: -2},
		{path: "check_timeline", kind: kBool},
		{path: "max_timelines_history", kind: kInt, min: 0, max: maxInt31},
		{path: "primary_start_timeout", kind: kInt, unit: "s", min: 0, max: maxInt31},
		{path: "master_start_timeout", kind: kInt, unit: "s", min: 0, max: maxInt31},
		{path: "primary_stop_timeout", kind: kInt, unit: "s", min: 0, max: maxInt31},
		{path: "master_stop_timeout", kind: kInt, unit: "s", min: 0, max: maxInt31},
		{path: "primary_race_backoff", kind: kInt, unit: "s", min: 0, max: maxInt31},
		{path: "synchronous_mode", kind: kBoolOrEnum, enum: "off on quorum"},
		{path: "synchronous_mode_strict", kind: kBool},
		{path: "synchronous_node_count", kind: kInt, min: 1, max: maxInt31},
		{path: "failsafe_mode", kind: kBool},
		{path: "pause", kind: kBool},
		{path: "member_slots_ttl", kind: kInt, unit: "s", min: 0, max: maxInt31},
		{path: "slots", kind: kSlots},
		{path: "permanent_slots", kind: kSlots},
		{path: "permanent_replication_slots", kind: kSlots},
		{path: "ignore_slots", kind: kSlotFilters},
		{path: "standby_cluster", kind: kMap},
		{path: "standby_cluster.host", kind: kStr},
		{path: "standby_cluster.port", kind: kInt, min: 1, max: 65535},
		{path: "standby_cluster.primary_slot_name", kind: kStr},
		{path: "standby_cluster.create_replica_methods", kind: kList},
		{path: "standby_cluster.restore_command", kind: kStr},
		{path: "standby_cluster.archive_cleanup_command", kind: kStr},
		{path: "standby_cluster.recovery_min_apply_delay", kind: kStr},
		{path: "postgresql", kind: kMap},
		{path: "pgha", kind: kMap},
	}
	pg := without(postgresqlRows(), localOnlyPG...)
	for _, k := range localOnlyPG {
		pg = append(pg, row{path: k, kind: kAny, st: ignored, sev: Warning, note: "it counts only in the node's own file: move it to the top-level section postgresql"})
	}
	rows = append(rows, mount("postgresql", pg)...)
	own := without(pghaRows(), localOnlyPGHA...)
	for _, k := range localOnlyPGHA {
		own = append(own, row{path: k, kind: kAny, st: ignored, sev: Warning, note: "it counts only in the node's own file: move it to the top-level section pgha"})
	}
	return append(rows, mount("pgha", own)...)
}

// dynamicSpec is the schema of /config.
func dynamicSpec() *spec { return buildSpec(dynamicRows()) }

// localSpec is the schema of patroni.yml, with extra rows after its own.
func localSpec(extra ...[]row) *spec {
	s := buildSpec(append([][]row{rootRows(), mount("log", logRows()), mount("restapi", restapiRows()), mount("ctl", ctlRows()),
		mount("etcd", etcdRows()), mount("etcd3", etcdRows()), mount("bootstrap", bootstrapRows()),
		mount("bootstrap.dcs", dynamicRows()), mount("postgresql", postgresqlRows()), mount("tags", tagRows()),
		mount("watchdog", watchdogRows()), mount("pgha", pghaRows())}, extra...)...)
	s.kids["tags"].open = true
	slots := s.kids["postgresql"].kids["use_slots"]
	slots.st, slots.sev, slots.note = ignored, Warning, onlyDynamic
	return s
}
