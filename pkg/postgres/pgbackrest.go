package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// What a caller may branch on when pgBackRest fails. The text around them names
// the setting to mend.
var (
	// ErrNoStanza means that the repository has no such stanza yet.
	ErrNoStanza = errors.New("the repository has no such stanza")
	// ErrNoBackup means that the stanza holds no (such) backup.
	ErrNoBackup = errors.New("the repository has no such backup")
	// ErrRepository means that the repository cannot be reached or used.
	ErrRepository = errors.New("the repository cannot be used")
	// ErrForeignRepository means that the stanza belongs to another cluster.
	ErrForeignRepository = errors.New("the stanza belongs to another cluster")
	// ErrArchiving means that WAL does not reach the repository.
	ErrArchiving = errors.New("WAL is not archived")
	// ErrRepositoryBusy means that another pgBackRest works on the stanza.
	ErrRepositoryBusy = errors.New("another pgbackrest works on the stanza")
)

// BackupSet is one backup in the repository. Sizes are in bytes.
type BackupSet struct {
	Label    string // 20261122-124851F, with _…D or _…I for differences
	Type     string // full, diff, incr
	Prior    string // label it builds on, "" for a full one
	Start    time.Time
	Stop     time.Time
	StartLSN wal.LSN
	StopLSN  wal.LSN
	StartWAL string
	StopWAL  string
	Timeline wal.Timeline // of StopWAL
	Size     int64        // of the database
	RepoSize int64        // what this backup added to the repository
	Damaged  bool         // page checksum errors were found while it was made
	SystemID string       // of the cluster it was made of
}

// Repository is what a stanza holds.
type Repository struct {
	Stanza   string
	SystemID string // of the newest database of the stanza
	Version  string // PostgreSQL's major version, as "15"
	Backups  []BackupSet
	MinWAL   string // first and last segment archived of the newest database
	MaxWAL   string
}

// RestoreFiles says what to restore.
type RestoreFiles struct {
	Stanza string // "" ours
	Set    string // label; "" the newest backup
}

// BackupHost is another member, whose files a backup may be copied from.
type BackupHost struct {
	Name   string
	Host   string // for pgBackRest's own protocol; "" when on this machine
	Port   int
	Path   string // its data directory
	Socket string // its socket directory
}

// stanzaName is the stanza meant by a caller: "" is ours.
func (s *Server) stanzaName(stanza string) string {
	if stanza != "" {
		return stanza
	}
	if own := s.config().Backup.Stanza; own != "" {
		return own
	}
	return s.scope
}

// backrestCall is one run of pgBackRest.
type backrestCall struct {
	name   string   // its command: info, backup, restore, ...
	stanza string   // "" ours
	args   []string // options of the command
	quick  bool     // only looks at the repository: gives up early when nobody answers
	line   func(line string)
	grace  time.Duration // see command
}

// quickTimeout is how long a run that only looks waits for the object store.
// pgBackRest's default of a minute is spent twice or more on a dead one.
const quickTimeout = "10"

// backrest runs pgBackRest and gives its standard output. Errors are
// translated. Whatever it logs comes on stderr, so that standard output is the
// answer alone.
func (s *Server) backrest(ctx context.Context, c backrestCall) (string, error) {
	if err := s.WriteBackupConfig(); err != nil {
		return "", err
	}
	env, cleanup, err := s.backrestEnv()
	if err != nil {
		return "", err
	}
	defer cleanup()
	words := s.backrestWords(c.stanza)
	args := append(words[1:], "--log-level-console=off", "--log-level-stderr=detail", "--no-log-timestamp")
	if c.quick && !s.backrestSets("io-timeout") {
		args = append(args, "--io-timeout="+quickTimeout)
	}
	args = append(append(args, c.args...), c.name)
	out, err := s.run(ctx, command{path: words[0], args: args, env: env, grace: c.grace, line: func(line string) {
		s.logBackrest(c.name, line)
		if c.line != nil {
			c.line(line)
		}
	}})
	if err != nil && ctx.Err() == nil {
		err = s.backrestError(s.stanzaName(c.stanza), out, err)
	}
	return out, err
}

// logBackrest passes on what pgBackRest says, file names excepted.
func (s *Server) logBackrest(name, line string) {
	level, text, ok := strings.Cut(line, ": ")
	switch level = strings.TrimSpace(level); {
	case !ok:
	case level == "WARN":
		s.log.Warn("pgbackrest "+name, "message", s.scrub(text))
	case level == "INFO":
		s.log.Debug("pgbackrest "+name, "message", s.scrub(text))
	}
}

// backrestSets tells whether the operator chose an option of pgBackRest.
func (s *Server) backrestSets(name string) bool {
	b := s.config().Backup
	for _, o := range b.Options {
		if o.Name == name {
			return true
		}
	}
	return b.ConfigFile != ""
}

// backrestWords is how every command line of ours begins: program, file, stanza.
func (s *Server) backrestWords(stanza string) []string {
	program := s.config().Backup.Command
	if program == "" {
		program = "pgbackrest"
	}
	return []string{program, "--config=" + s.backrestConf(), "--stanza=" + s.stanzaName(stanza)}
}

// pgPathOption names our data directory: the file of an operator may mean
// another one, and another stanza's section none at all.
func (s *Server) pgPathOption() string { return "--pg1-path=" + s.config().DataDir }

// archiveCommand is archive_command for pgBackRest.
func (s *Server) archiveCommand() string {
	return s.serverCommand("", "archive-push", `"%p"`)
}

// restoreCommand is restore_command; "" means our stanza.
func (s *Server) restoreCommand(stanza string) string {
	return s.serverCommand(stanza, "archive-get", `%f "%p"`)
}

// serverCommand renders a command line that the server gives to a shell after
// replacing %p and %f. It holds no secret: those are in the file it names.
func (s *Server) serverCommand(stanza, name, placeholders string) string {
	words := s.backrestWords(stanza)
	if s.stanzaName(stanza) != s.stanzaName("") {
		words = append(words, s.pgPathOption())
	}
	for i, w := range append(words, name) {
		w = strings.ReplaceAll(shellQuote(w), "%", "%%")
		if i < len(words) {
			words[i] = w
		}
	}
	return strings.Join(words, " ") + " " + name + " " + placeholders
}

// shellQuote quotes a word for /bin/sh where that is needed.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./=:@,+%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// backrestEnv is the environment of our own runs. pgBackRest connects by libpq
// as the superuser, so its password file and TLS settings travel as libpq's
// variables; so does the address when the server is not reached by its socket,
// for which pgBackRest has no option.
func (s *Server) backrestEnv() (env []string, cleanup func(), err error) {
	c := s.config()
	own := s.localUpstream(c.UseUnixSocket)
	pass, cleanup, err := s.toolPgpass(Upstream{Host: "*", Port: "*"}, c.Superuser)
	if err != nil {
		return nil, nil, err
	}
	env = s.toolEnv()
	if c.Backup.ConfigFile != "" {
		env = append(env, inherited("PGBACKREST_")...)
		if s.ownPgpass() {
			cleanup()
			return append(env, inherited("PGPASSFILE")...), func() {}, nil
		}
	}
	env = append(env, pass...)
	if own.Host != "" && !strings.HasPrefix(own.Host, "/") {
		env = append(env, "PGHOST="+own.Host)
	}
	for _, v := range []struct{ name, value string }{
		{"PGSSLMODE", c.Superuser.SSLMode}, {"PGSSLCERT", c.Superuser.SSLCert}, {"PGSSLKEY", c.Superuser.SSLKey},
		{"PGSSLROOTCERT", c.Superuser.SSLRootCert}, {"PGSSLCRL", c.Superuser.SSLCRL}, {"PGGSSENCMODE", c.Superuser.GSSEncMode},
		{"PGCHANNELBINDING", c.Superuser.ChannelBinding},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value)
		}
	}
	return env, cleanup, nil
}

// ownPgpass tells whether the operator of a pgbackrest.conf of his own keeps a
// password file for it.
func (s *Server) ownPgpass() bool {
	if os.Getenv("PGPASSFILE") != "" {
		return true
	}
	_, err := os.Stat(filepath.Join(s.home, ".pgpass"))
	return err == nil
}

// inherited are the variables of this process whose names begin with prefix.
func inherited(prefix string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, prefix) {
			env = append(env, kv)
		}
	}
	return env
}

// pgOptions describe one server to pgBackRest, as its option names without the
// leading "pgN-".
func pgOptions(up Upstream, path string, user config.Auth) [][2]string {
	o := [][2]string{{"path", path}, {"port", up.Port}}
	if strings.HasPrefix(up.Host, "/") {
		o = append(o, [2]string{"socket-path", up.Host})
	}
	if user.Username != "" {
		o = append(o, [2]string{"user", user.Username})
	}
	if up.Database != "" {
		o = append(o, [2]string{"database", up.Database})
	}
	return o
}

// pgIndexed renders pgOptions for the n-th server on a command line.
func pgIndexed(n int, options [][2]string) []string {
	var args []string
	for _, o := range options {
		args = append(args, "--pg"+strconv.Itoa(n)+"-"+o[0]+"="+o[1])
	}
	return args
}
