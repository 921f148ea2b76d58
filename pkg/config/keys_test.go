package config

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// contractKeys lists every key of wire contract §1.2-§1.10 and what this release
// does with it: "+" in effect, "-" accepted without meaning here (ignored, and
// said so).
var contractKeys = map[string]string{
	"":    "+scope +name +namespace -thread_pool_size -thread_stack_size -ttl -loop_wait -retry_timeout -standby_cluster -citus -kubernetes -consul -zookeeper -exhibitor -raft",
	"log": "+type +level -traceback_level +format +dateformat +static_fields +max_queue_size +dir +file_size +file_num +mode -loggers +deduplicate_heartbeat_logs",
	"restapi": "+listen +connect_address +authentication.username +authentication.password +auth +certfile +keyfile +keyfile_password +cafile +ciphers +verify_client " +
		"+allowlist +allowlist_include_members +http_extra_headers +https_extra_headers -request_queue_size -thread_pool_size +server_tokens",
	"ctl":       "+authentication.username +authentication.password +auth +insecure +cacert +certfile +keyfile +keyfile_password",
	"etcd3":     "+host +port +hosts +url +proxy +use_proxies +srv +discovery_srv +srv_domain +srv_suffix +protocol +username +password +cacert +cert +key",
	"etcd":      "+host +port +hosts +url +proxy +use_proxies +srv +discovery_srv +srv_domain +srv_suffix +protocol +username +password +cacert +cert +key",
	"bootstrap": "+dcs +method +initdb +pg_hba +post_bootstrap +post_init -users",
	"postgresql": "+listen +connect_address +proxy_address +data_dir +config_dir +config_base_name +bin_dir +database +parameters " +
		"+parameters_primary +parameters_replica +parameters_standby_leader +pg_hba +pg_ident " +
		"+pg_hba_primary +pg_hba_replica +pg_hba_standby_leader +pg_ident_primary +pg_ident_replica +pg_ident_standby_leader " +
		"+custom_conf +recovery_conf +create_replica_methods +create_replica_method +basebackup +rewind +pgpass " +
		"+callbacks.on_start +callbacks.on_stop +callbacks.on_restart +callbacks.on_reload +callbacks.on_role_change +pre_promote +before_stop " +
		"+pg_ctl_timeout +use_pg_rewind +remove_data_directory_on_rewind_failure +remove_data_directory_on_diverged_timelines " +
		"+use_unix_socket +use_unix_socket_repl -use_slots +krbsrvname",
	"postgresql.bin_name":       "+pg_ctl +initdb +pg_controldata +pg_basebackup +postgres +pg_isready +pg_rewind",
	"postgresql.authentication": authKeysOf("superuser") + authKeysOf("replication") + authKeysOf("rewind"),
	"tags":                      "+nofailover +failover_priority +nosync +sync_priority +clonefrom +noloadbalance +replicatefrom +nostream",
	"watchdog":                  "+mode +device +safety_margin +driver",
	"pgha":                      "+leash +restapi_strict +verify_peers +dcs_commands +run_dir +postgresql_log_keep +slot_wal_budget +slot_wal_budgets",
}

func authKeysOf(role string) string {
	out := ""
	for _, k := range strings.Fields("username password sslmode sslcert sslkey sslpassword sslrootcert sslcrl sslcrldir gssencmode channel_binding sslnegotiation") {
		out += "+" + role + "." + k + " "
	}
	return out
}

// contractDynamic is the same for /config and bootstrap.dcs (§3.2).
const contractDynamic = "+ttl +loop_wait +retry_timeout +maximum_lag_on_failover +maximum_lag_on_syncnode +check_timeline +max_timelines_history " +
	"+primary_start_timeout +master_start_timeout +primary_stop_timeout +master_stop_timeout +primary_race_backoff +synchronous_mode +synchronous_mode_strict " +
	"+synchronous_node_count +failsafe_mode +pause +member_slots_ttl +slots +permanent_slots +permanent_replication_slots +ignore_slots " +
	"+standby_cluster.host +standby_cluster.port +standby_cluster.primary_slot_name +standby_cluster.create_replica_methods " +
	"+standby_cluster.restore_command +standby_cluster.archive_cleanup_command +standby_cluster.recovery_min_apply_delay"

// contractStatus maps every path of the tables to its mark.
func contractStatus() map[string]byte {
	out := map[string]byte{}
	for section, keys := range contractKeys {
		for _, k := range strings.Fields(keys) {
			out[joinPath(section, k[1:])] = k[0]
		}
	}
	return out
}

func marked(st status) byte { return "+-"[st] }

func TestEveryKeyOfTheContractIsKnown(t *testing.T) {
	want := contractStatus()
	c := &checker{spec: localSpec()}
	for path, mark := range want {
		s := c.specAt(path)
		if s == nil {
			t.Errorf("%s is not in the table", path)
		} else if marked(s.st) != mark {
			t.Errorf("%s: %c, want %c", path, marked(s.st), mark)
		}
	}
	dyn := &checker{spec: dynamicSpec()}
	for _, k := range strings.Fields(contractDynamic) {
		for _, at := range []*spec{dyn.specAt(k[1:]), c.specAt("bootstrap.dcs." + k[1:])} {
			if at == nil || marked(at.st) != k[0] {
				t.Errorf("/config %s: %v, want %c", k[1:], at, k[0])
			}
		}
	}
	for _, k := range localOnlyPG {
		if s := dyn.specAt("postgresql." + k); s == nil || s.st != ignored {
			t.Errorf("/config postgresql.%s counts only in the file", k)
		}
	}
}

// sample gives a value for a key that differs from its default.
func sample(path string, s *spec) string {
	special := map[string]string{
		"log.format": `"%(message)s"`, "log.deduplicate_heartbeat_logs": "true", "postgresql.use_slots": "false",
		"restapi.server_tokens": "minimal", "log.type": "json", "log.level": "DEBUG", "log.mode": "0600",
		"etcd3.url": "http://192.0.2.9:2379", "etcd3.proxy": "http://192.0.2.9:2379", "etcd.url": "http://192.0.2.9:2379", "etcd.proxy": "http://192.0.2.9:2379",
		"etcd3.protocol": "https", "etcd.protocol": "https", "watchdog.mode": "required", "bootstrap.method": "mine\n mine: {command: /bin/true}",
		"postgresql.create_replica_methods": "[mine]", "postgresql.create_replica_method": "[mine]", "bootstrap.dcs": "{ttl: 33}",
		"pgha.dcs_commands": "deny", "pgha.leash": "off", "retry_timeout": "5", "loop_wait": "6", "postgresql.use_pg_rewind": "true",
	}
	if v := special[path]; v != "" {
		return v
	}
	switch s.kind {
	case kBool:
		return "true"
	case kInt, kHard:
		return "7"
	case kEnum, kBoolOrEnum:
		return strings.Fields(s.enum)[len(strings.Fields(s.enum))-1]
	case kHostPort:
		return "192.0.2.77:7777"
	case kList, kStrOrList:
		return "[192.0.2.77]"
	case kFree, kStrMap, kGUCs, kOptions:
		return "{work_mem: 9MB}"
	case kSlots:
		return "{a: {type: physical}}"
	case kSlotFilters:
		return "[{name: a}]"
	case kSizes:
		return "{a: 9GB}"
	}
	return "/some/thing"
}

// decoded is everything the agent reads, without the trees it was made from.
func decoded(t *testing.T, text string) string {
	t.Helper()
	l, _, err := Parse([]byte(text), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	e := EffectiveOf(l, nil)
	local := *l
	local.root, local.Etcd.Line = nil, 0
	e.Local, e.Dynamic, e.Problems = &local, nil, nil
	return dump(reflect.ValueOf(*e))
}

// dump prints a value with what its pointers point to, and secrets revealed.
func dump(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "nil"
		}
		return dump(v.Elem())
	case reflect.Struct:
		var b strings.Builder
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				b.WriteString(v.Type().Field(i).Name + ":" + dump(v.Field(i)) + " ")
			}
		}
		return "{" + b.String() + "}"
	case reflect.Slice:
		var b strings.Builder
		for i := range v.Len() {
			b.WriteString(dump(v.Index(i)) + ",")
		}
		return "[" + b.String() + "]"
	case reflect.Map:
		var keys []string
		for _, k := range v.MapKeys() {
			keys = append(keys, k.String()+"="+dump(v.MapIndex(k)))
		}
		sort.Strings(keys)
		return fmt.Sprint(keys)
	case reflect.String: // of a Secret, too
		return strconv.Quote(v.String())
	}
	return fmt.Sprintf("%#v", v)
}

// nest writes a dotted path as YAML.
func nest(path, value string) string {
	var b strings.Builder
	parts := strings.Split(path, ".")
	for i, p := range parts {
		b.WriteString(strings.Repeat(" ", i) + p + ":")
		if i < len(parts)-1 {
			b.WriteString("\n")
		}
	}
	return b.String() + " " + value + "\n"
}

// Each key that the table calls "in effect" changes what the agent reads.
func TestEveryKeyInEffectIsRead(t *testing.T) {
	c := &checker{spec: localSpec()}
	for path, mark := range contractStatus() {
		s := c.specAt(path)
		if s == nil || mark != '+' {
			continue
		}
		base := "scope: s\nname: n\n"
		if kind, key, _ := strings.Cut(path, "."); (kind == "etcd" || kind == "etcd3") && key != "host" {
			base += kind + ":\n host: 192.0.2.4\n"
			with := base + " " + key + ": " + sample(path, s) + "\n"
			if decoded(t, base) == decoded(t, with) {
				t.Errorf("%s changes nothing", path)
			}
			continue
		}
		with := nest(path, sample(path, s))
		if top, _, _ := strings.Cut(path, "."); top == "scope" || top == "name" {
			base = ""
		}
		if decoded(t, base+"x-none: 1\n") == decoded(t, base+with) {
			t.Errorf("%s changes nothing:\n%s", path, with)
		}
	}
}

// Each key of /config that is in effect changes what the agent reads of it.
func TestEveryDynamicKeyInEffectIsRead(t *testing.T) {
	read := func(text string) string {
		n, _, err := parseYAML([]byte(text), "")
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseDynamic(n.json())
		if err != nil {
			t.Fatal(err)
		}
		c := *d
		c.Raw, c.root = nil, nil
		return dump(reflect.ValueOf(c))
	}
	c := &checker{spec: dynamicSpec()}
	for _, k := range strings.Fields(contractDynamic + " +postgresql.use_slots") {
		path := k[1:]
		if k[0] != '+' {
			continue
		}
		base := "{}"
		with := nest(path, sample(path, c.specAt(path)))
		if top, key, _ := strings.Cut(path, "."); top == "standby_cluster" && key != "host" {
			base = "standby_cluster:\n host: h\n" // the rest counts beside where the WAL comes from
			with = base + " " + key + ": " + sample(path, c.specAt(path)) + "\n"
		}
		if read(base) == read(with) {
			t.Errorf("%s changes nothing", path)
		}
	}
}

// contractEnv lists the variables of wire contract §2 that count here.
const contractEnv = "NAME NAMESPACE SCOPE THREAD_POOL_SIZE THREAD_STACK_SIZE LOG_TYPE LOG_LEVEL LOG_TRACEBACK_LEVEL LOG_FORMAT LOG_DATEFORMAT LOG_DIR " +
	"LOG_MAX_QUEUE_SIZE LOG_FILE_SIZE LOG_FILE_NUM LOG_MODE LOG_STATIC_FIELDS LOG_LOGGERS LOG_DEDUPLICATE_HEARTBEAT_LOGS LOGLEVEL LOGFORMAT LOG_DATEFMT " +
	"RESTAPI_LISTEN RESTAPI_CONNECT_ADDRESS RESTAPI_CERTFILE RESTAPI_KEYFILE RESTAPI_KEYFILE_PASSWORD RESTAPI_CAFILE RESTAPI_CIPHERS RESTAPI_VERIFY_CLIENT " +
	"RESTAPI_SERVER_TOKENS RESTAPI_ALLOWLIST RESTAPI_ALLOWLIST_INCLUDE_MEMBERS RESTAPI_HTTP_EXTRA_HEADERS RESTAPI_HTTPS_EXTRA_HEADERS RESTAPI_REQUEST_QUEUE_SIZE " +
	"RESTAPI_USERNAME RESTAPI_PASSWORD CTL_USERNAME CTL_PASSWORD CTL_INSECURE CTL_CACERT CTL_CERTFILE CTL_KEYFILE CTL_KEYFILE_PASSWORD " +
	"POSTGRESQL_LISTEN POSTGRESQL_CONNECT_ADDRESS POSTGRESQL_PROXY_ADDRESS POSTGRESQL_DATA_DIR POSTGRESQL_CONFIG_DIR POSTGRESQL_PGPASS POSTGRESQL_BIN_DIR " +
	"POSTGRESQL_BIN_PG_CTL POSTGRESQL_BIN_INITDB POSTGRESQL_BIN_PG_CONTROLDATA POSTGRESQL_BIN_PG_BASEBACKUP POSTGRESQL_BIN_POSTGRES POSTGRESQL_BIN_PG_ISREADY " +
	"POSTGRESQL_BIN_IS_READY POSTGRESQL_BIN_PG_REWIND ETCD_HOST ETCD_HOSTS ETCD_PORT ETCD_USE_PROXIES ETCD_PROTOCOL ETCD_SRV ETCD_SRV_SUFFIX ETCD_URL ETCD_PROXY ETCD_CACERT ETCD_CERT ETCD_KEY " +
	"ETCD3_HOST ETCD3_PORT ETCD3_HOSTS ETCD3_USE_PROXIES ETCD3_PROTOCOL ETCD3_SRV ETCD3_SRV_SUFFIX ETCD3_URL ETCD3_PROXY ETCD3_CACERT ETCD3_CERT ETCD3_KEY"

func TestEveryVariableOfTheContractCounts(t *testing.T) {
	names := strings.Fields(contractEnv)
	for _, role := range []string{"SUPERUSER", "REPLICATION", "REWIND"} {
		for _, k := range authKeys {
			names = append(names, role+"_"+strings.ToUpper(k))
		}
	}
	values := map[envKind]string{envString: "/x", envInt: "7", envBool: "on", envList: "a, b", envMap: "a: b", envFormat: "asctime, message"}
	kinds := map[string]envKind{}
	for _, v := range envTable() {
		kinds[v.name] = v.kind
		if v.legacy != "" {
			kinds[v.legacy] = v.kind
		}
	}
	for _, name := range names {
		kind, known := kinds[name]
		if !known {
			t.Errorf("PATRONI_%s is not known", name)
			continue
		}
		environ := []string{"PATRONI_" + name + "=" + values[kind]}
		tree, problems := environTree(environ)
		if len(problems) > 0 || len(tree.pairs) != 1 || len(unknownEnv(environ)) > 0 {
			t.Errorf("PATRONI_%s: %v, %v, %v", name, tree.plain(), problems, unknownEnv(environ))
		}
	}
	// Credentials of etcd count only beside another variable of the section.
	for _, kind := range []string{"ETCD", "ETCD3"} {
		tree, _ := environTree([]string{"PATRONI_" + kind + "_USERNAME=u", "PATRONI_" + kind + "_PASSWORD=p"})
		if len(tree.pairs) != 0 {
			t.Errorf("%s credentials alone count", kind)
		}
		tree, _ = environTree([]string{"PATRONI_" + kind + "_USERNAME=u", "PATRONI_" + kind + "_HOST=h"})
		if tree.get(strings.ToLower(kind), "username").str() != "u" {
			t.Errorf("%s credentials beside a host do not count", kind)
		}
	}
}
