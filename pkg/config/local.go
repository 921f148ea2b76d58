package config

import "time"

// Local is this node's own configuration: the file (or directory) with the
// PATRONI_* environment merged over it. It is immutable after Load.
type Local struct {
	Scope     string // cluster name
	Name      string // member name
	Namespace string // DCS prefix as configured, default "service"

	Log       Log
	RestAPI   RestAPI
	Ctl       Ctl
	Etcd      Etcd
	Bootstrap Bootstrap
	Watchdog  Watchdog
	Tags      Tags // as published in the member key (wire contract §1.9)
	PGHA      PGHA // our own section, file part only

	root *node
}

// Log is the log section (wire contract §1.3).
type Log struct {
	Type           string // "plain" or "json"
	Level          string // DEBUG INFO WARNING ERROR CRITICAL
	TracebackLevel string
	Format         string // Python logging format; empty when Fields is used
	Fields         []Option
	DateFormat     string // strftime pattern; empty means the default with milliseconds
	StaticFields   []Setting
	MaxQueueSize   int
	Dir            string // empty means standard error
	FileSize       int64  // bytes
	FileNum        int
	Mode           int // permission bits; -1 means "by umask"
	Loggers        []Option
	Deduplicate    bool // deduplicate_heartbeat_logs
}

// RestAPI is the restapi section (wire contract §1.4).
type RestAPI struct {
	Listen                  string // host:port
	ConnectAddress          string // host:port, default Listen
	Username                string
	Password                Secret
	CertFile                string
	KeyFile                 string
	KeyFilePassword         Secret
	CAFile                  string
	Ciphers                 string
	VerifyClient            string // "", "none", "optional" or "required"
	Allowlist               []string
	AllowlistIncludeMembers bool
	HTTPExtraHeaders        []Option
	HTTPSExtraHeaders       []Option
	RequestQueueSize        int
	ServerTokens            string // "original", "minimal" or "productonly"
}

// AuthConfigured tells whether unsafe requests need Basic authentication.
func (r RestAPI) AuthConfigured() bool { return r.Username != "" || r.Password.IsSet() }

// TLS tells whether the API is served over HTTPS.
func (r RestAPI) TLS() bool { return r.CertFile != "" }

// BaseURL is "http(s)://<connect_address>", without a path.
func (r RestAPI) BaseURL() string {
	if r.TLS() {
		return "https://" + r.ConnectAddress
	}
	return "http://" + r.ConnectAddress
}

// URL is the api_url published for this member (wire contract §4.2).
func (r RestAPI) URL() string { return r.BaseURL() + "/patroni" }

// Ctl is the ctl section: how this node calls other members' REST API (wire
// contract §1.5). The fallbacks to restapi.authentication and restapi.cafile
// are already applied.
type Ctl struct {
	Username        string
	Password        Secret
	Insecure        bool
	CACert          string
	CertFile        string
	KeyFile         string
	KeyFilePassword Secret
}

// Etcd is the etcd3 (or etcd) section (wire contract §1.6).
type Etcd struct {
	Kind       string   // "etcd" or "etcd3": the section used; empty when neither exists
	Hosts      []string // host:port each, from proxy, url, hosts or host, in that priority
	Protocol   string   // "http" or "https"
	Username   string
	Password   Secret
	CACert     string
	Cert       string
	Key        string // empty with Cert set: the key is inside Cert
	SRV        string
	SRVSuffix  string
	UseProxies bool // the endpoint list is fixed: no member discovery
	Line       int  // line of the section, 0 when it comes from the environment
}

// Endpoints gives the configured endpoints as URLs; empty when only SRV is set.
func (e Etcd) Endpoints() []string {
	out := make([]string, 0, len(e.Hosts))
	for _, h := range e.Hosts {
		out = append(out, e.Protocol+"://"+h)
	}
	return out
}

// Option is a named value. Flag marks an option written without any value
// (initdb's "data-checksums").
type Option struct {
	Name  string
	Value string
	Flag  bool
}

// Bootstrap is the bootstrap section (wire contract §1.7).
type Bootstrap struct {
	Present bool   // without the section the node never bootstraps a cluster
	DCS     []byte // first /config: compact JSON, key order kept, timings adjusted (§3.1)
	InitDB  []Option
	PGHBA   []string
	Method  string // as configured, default "initdb"
	Custom  *CustomMethod
	// PostBootstrap is post_bootstrap, or post_init when that is empty.
	PostBootstrap string
	// Native: the cluster begins as a restore from the repository of pgha.backup,
	// as Repository says. Known only in Effective.Bootstrap, because pgha.backup
	// may stand in /config.
	Native     bool
	Repository RepositoryBootstrap
}

// RepositoryBootstrap is bootstrap.pgbackrest without a command: which backup a
// new cluster begins with, and where its recovery stops.
type RepositoryBootstrap struct {
	Stanza         string // default: that of pgha.backup; may be another cluster's
	Set            string // label of the backup set; empty: the newest before the target
	TargetType     string // "latest" (default), "immediate", "time", "lsn", "name" or "xid"
	Target         string
	TargetTimeline string // "latest" (default), "current" or a number
	// TargetExclusive: stop just before the target.
	TargetExclusive bool
}

// CustomMethod is a bootstrap or replica creation method that runs a command
// (wire contract §8.2, §8.3).
type CustomMethod struct {
	Name string
	// Native: not a command but the agent's own restore from the repository of
	// pgha.backup; Command is empty then.
	Native                   bool
	Command                  string
	NoParams                 bool
	NoLeader                 bool
	KeepData                 bool
	KeepExistingRecoveryConf bool
	RecoveryConf             map[string]string
	Options                  []Option // every key but command, in file order
}

// Watchdog is the watchdog section (wire contract §1.10).
type Watchdog struct {
	Mode         string // "off", "automatic" or "required"
	Device       string
	SafetyMargin int // seconds; -1 means half of the ttl
	Driver       string
	Present      bool
}

// PGHA holds the settings Patroni does not know.
type PGHA struct {
	Leash         string // "auto", "on" or "off"
	RestAPIStrict bool   // refuse a non-loopback listen without TLS and authentication
	VerifyPeers   bool   // verify peers' certificates when calling them
	DCSCommands   bool   // accept command GUCs from /config (default true)
	RunDir        string // empty: the agent chooses
	Backup        Backup // Stanza has its default only in Effective
	// LogKeep is how long PostgreSQL's own log files are kept
	// (pgha.postgresql_log_keep); 0: for ever.
	LogKeep time.Duration
	// SlotBudgets is how much WAL replication slots may keep.
	SlotBudgets SlotBudgets
}

// Tag is one published tag. Value is a bool, int64, float64, string, nil, or
// for free-form tags a JSON-like slice or map.
type Tag struct {
	Name  string
	Value any
}

// Tags are a member's tags in file order, as published.
type Tags []Tag

// Our floors for ttl, loop_wait and retry_timeout; Patroni's are 20, 1 and 3 seconds (wire contract §3.1).
const (
	MinTTL          = 5 * time.Second
	MinLoopWait     = time.Second
	MinRetryTimeout = time.Second
)
