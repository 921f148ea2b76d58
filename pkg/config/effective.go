package config

import "time"

// Effective is what a node acts on: defaults, dynamic and local configuration
// joined (wire contract §1.1).
type Effective struct {
	Local    *Local
	Dynamic  *Dynamic
	Postgres Postgres
	PGHA     PGHA // file over /config
	// Bootstrap is that of the file; with pgha.backup, Native may be set.
	Bootstrap Bootstrap

	// The merged sections, for Explain.
	postgres, pgha *node

	// Problems are values replaced by defaults or dropped while joining; the
	// agent logs them.
	Problems []Problem
}

// Auth is one of postgresql.authentication's sections.
type Auth struct {
	Username string
	Password Secret
	// TLS and authentication options for libpq, empty when unset.
	SSLMode, SSLCert, SSLKey, SSLRootCert, SSLCRL, SSLCRLDir string
	SSLPassword                                              Secret
	GSSEncMode, ChannelBinding, SSLNegotiation               string
}

// Postgres is the effective postgresql section (wire contract §1.8).
type Postgres struct {
	Scope string // cluster_name
	Name  string // application_name

	ListenAddresses string // GUC listen_addresses, comma separated
	Port            int
	ConnectHost     string // from connect_address
	ConnectPort     int
	ProxyAddress    string // host:port, empty when unset
	LocalHost       string // local TCP address (wire contract §1.8)

	DataDir        string
	ConfigDir      string
	ConfigBaseName string            // default "postgresql"
	BinDir         string            // empty means PATH
	BinNames       map[string]string // tool -> configured name; use Bin
	Database       string            // default "postgres"

	Superuser   Auth
	Replication Auth
	Rewind      Auth // Superuser when not configured
	RewindSet   bool // a rewind section (or legacy pg_rewind) exists

	// Parameters are the ordinary GUCs, lower-case names. The GUCs owned by the
	// cluster (wire contract §3.4) are not in it.
	Parameters map[string]string
	// Controlled are the GUCs of wire contract §3.4, validated, without
	// listen_addresses, port and cluster_name.
	Controlled []ControlledGUC

	PGHBA        []string // nil: not managed
	PGIdent      []string // nil: not managed
	CustomConf   string
	RecoveryConf map[string]string
	// ByRole is what replaces the above in a role; see For.
	ByRole map[string]RoleSettings

	// Backup is pgha.backup; the driver needs it for archive and restore commands.
	Backup Backup
	// Standby is the section standby_cluster, nil unless this is one.
	Standby *StandbyCluster
	// RunDir is where the agent puts files it writes for tools; set by the agent.
	RunDir string

	CreateReplicaMethods []string                 // never empty
	Methods              map[string]*CustomMethod // every method of that list but basebackup
	BaseBackup           []Option
	RewindOptions        []Option // long options of pg_rewind

	PGPass       string // password file; empty: the agent chooses ~/pgpass
	PgCtlTimeout time.Duration
	UsePgRewind  bool
	UseSlots     bool
	// SynchronousMode and SynchronousStrict are the cluster's: while the mode is
	// on, synchronous_standby_names belongs to the agent.
	SynchronousMode   SyncMode
	SynchronousStrict bool
	KrbSrvName        string

	RemoveDataDirOnRewindFailure    bool
	RemoveDataDirOnDivergedTimeline bool

	UseUnixSocket     bool
	UseUnixSocketRepl bool

	Callbacks  map[string]string // on_start, on_stop, on_restart, on_reload, on_role_change
	PrePromote string
	BeforeStop string
}

// ControlledGUC is one GUC that only /config may set.
type ControlledGUC struct {
	Name        string
	Value       string
	CommandLine bool // passed as --name=value, so ALTER SYSTEM cannot override it
	// MinVersion and MaxVersion bound the server versions that know it
	// (server_version_num; 0 means unbounded, MaxVersion exclusive).
	MinVersion, MaxVersion int
}
