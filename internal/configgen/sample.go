package configgen

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/pgha/pgha/pkg/config"
)

// facts are what a template is filled with.
type facts struct {
	scope, name, address string
	listen               string // host:port of postgres
	connect              string
	dataDir, binDir      string
	superuser, password  string
	replication          string
	rewind               string     // "" without such a user
	dcs                  []entry    // GUCs of the cluster
	dcsOptions           []entry    // other keys of bootstrap.dcs.postgresql
	local                []entry    // GUCs of this node
	hba, ident           []string   // nil: not managed
	log                  config.Log // defaults
}

// Sample writes a template with the defaults, as far as the environment says
// nothing else. It needs the binary of postgres, whose version decides some of
// the settings.
func Sample(ctx context.Context, environ []string) ([]byte, error) {
	env := config.Environment(environ)
	binDir := lookup(env, "postgresql", "bin_dir")
	major, err := binaryMajor(ctx, binDir, lookup(env, "postgresql", "bin_name", "postgres"))
	if err != nil {
		return nil, err
	}
	f := hostFacts()
	f.scope, f.dataDir, f.binDir = fixme, fixme, binDir
	f.superuser, f.password, f.replication = "postgres", fixme, "replicator"
	f.connect, f.listen = net.JoinHostPort(f.address, "5432"), net.JoinHostPort(f.address, "5432")
	method := "scram-sha-256"
	if major < 10 {
		method = "md5"
	}
	f.local = []entry{{"password_encryption", method}}
	f.hba = []string{"host all all all " + method, "host replication " + f.replication + " all " + method}
	if u := lookup(env, "postgresql", "authentication", "replication", "username"); u != "" {
		f.hba[1] = "host replication " + u + " all " + method
	}
	if major >= 11 {
		f.rewind = "rewind_user"
	}
	f.dcsOptions = []entry{{"use_pg_rewind", true}}
	f.dcs = []entry{{"wal_level", "replica"}}
	if major >= 13 {
		f.dcs = append(f.dcs, entry{"wal_keep_size", "128MB"})
	} else {
		f.dcs = append(f.dcs, entry{"wal_keep_segments", 8})
	}
	return f.document(env)
}

// binaryMajor asks the postgres binary for its version.
func binaryMajor(ctx context.Context, binDir, name string) (int, error) {
	if name == "" {
		name = "postgres"
	}
	if binDir != "" {
		name = strings.TrimSuffix(binDir, "/") + "/" + name
	}
	out, err := exec.CommandContext(ctx, name, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w; put PostgreSQL's programs into PATH, or set PATRONI_POSTGRESQL_BIN_DIR", name, err)
	}
	for _, word := range strings.Fields(string(out)) {
		digits := strings.TrimRight(strings.SplitN(word, ".", 2)[0], "abcdefghijklmnopqrstuvwxyz")
		if n, err := strconv.Atoi(digits); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s --version printed %q, which holds no version", name, strings.TrimSpace(string(out)))
}

// hostFacts are those of this host.
func hostFacts() facts {
	f := facts{name: fixme, address: fixme}
	if l, _, err := config.Parse([]byte("{scope: x}"), nil); err == nil {
		f.log = l.Log
	}
	host, err := os.Hostname()
	if err != nil {
		return f
	}
	f.name = host
	addrs, _ := net.LookupIP(host) //nolint:noctx // the resolver's own limits are good enough for a start
	for _, ip := range addrs {
		if !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			f.address = ip.String()
			return f
		}
	}
	if all, err := net.InterfaceAddrs(); err == nil {
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				f.address = n.IP.String()
				return f
			}
		}
	}
	return f
}

// lookup is the scalar under keys, as text.
func lookup(top []config.Setting, keys ...string) string {
	for _, e := range top {
		if e.Key != keys[0] {
			continue
		}
		if len(keys) == 1 {
			if e.Value == nil {
				return ""
			}
			return fmt.Sprint(e.Value)
		}
		return lookup(e.Section, keys[1:]...)
	}
	return ""
}

// document fills the template.
func (f *facts) document(env []config.Setting) ([]byte, error) {
	api := net.JoinHostPort(f.address, "8008")
	superuser := section{{"username", f.superuser}}
	if f.password != "" {
		superuser.set("password", f.password)
	}
	auth := section{{"superuser", superuser}, {"replication", section{{"username", f.replication}, {"password", fixme}}}}
	if f.rewind != "" {
		auth = append(auth, entry{"rewind", section{{"username", f.rewind}, {"password", fixme}}})
	}
	pg := section{
		{"data_dir", f.dataDir}, {"connect_address", f.connect}, {"listen", f.listen}, {"bin_dir", f.binDir}, {"authentication", auth},
	}
	if len(f.local) > 0 {
		pg.set("parameters", section(f.local))
	}
	if f.hba != nil {
		pg.set("pg_hba", f.hba)
	}
	if f.ident != nil {
		pg.set("pg_ident", f.ident)
	}
	doc := section{
		{"scope", f.scope}, {"name", f.name},
		{"log", section{
			{"type", f.log.Type}, {"level", f.log.Level}, {"traceback_level", f.log.TracebackLevel},
			{"format", "%(asctime)s %(levelname)s: %(message)s"}, {"max_queue_size", f.log.MaxQueueSize},
		}},
		{"restapi", section{{"connect_address", api}, {"listen", api}}},
		{"bootstrap", section{{"dcs", f.dynamic()}}},
		{"postgresql", pg},
		{"tags", section{
			{"failover_priority", 1}, {"sync_priority", 1}, {"noloadbalance", false}, {"clonefrom", true}, {"nosync", false}, {"nostream", false},
		}},
	}
	doc.overlay(env)
	if !doc.has("etcd") && !doc.has("etcd3") {
		doc.set("etcd3", section{{"hosts", []string{fixme}}})
	}
	return doc.ordered().render()
}

func (s section) has(key string) bool {
	for _, e := range s {
		if e.key == key {
			return true
		}
	}
	return false
}

// dynamic is bootstrap.dcs: the built-in defaults and what the server has.
func (f *facts) dynamic() section {
	d := config.DefaultDynamic()
	pg := section{{"use_slots", d.UseSlots}}
	for _, e := range f.dcsOptions {
		pg.set(e.key, e.value)
	}
	pg.set("parameters", section(f.dcs))
	return section{
		{"ttl", int(d.TTL.Seconds())}, {"loop_wait", int(d.LoopWait.Seconds())}, {"retry_timeout", int(d.RetryTimeout.Seconds())},
		{"maximum_lag_on_failover", d.MaximumLagOnFailover}, {"maximum_lag_on_syncnode", d.MaximumLagOnSyncNode},
		{"check_timeline", d.CheckTimeline}, {"max_timelines_history", d.MaxTimelinesHistory},
		{"primary_start_timeout", int(d.PrimaryStartTimeout.Seconds())}, {"primary_stop_timeout", int(d.PrimaryStopTimeout.Seconds())},
		{"synchronous_mode", false}, {"synchronous_mode_strict", d.SynchronousModeStrict}, {"synchronous_node_count", d.SynchronousNodeCount},
		{"failsafe_mode", d.FailsafeMode}, {"member_slots_ttl", int(d.MemberSlotsTTL.Seconds())},
		{"postgresql", pg},
	}
}
