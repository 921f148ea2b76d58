package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pgha/pgha/pkg/config"
)

// conninfoOrder is the order of keys in primary_conninfo (wire contract §1.8).
// Peers of other make compare the text, so it is part of the contract.
var conninfoOrder = []string{
	"dbname", "user", "passfile", "password", "host", "port", "sslmode", "sslcompression", "sslcert",
	"sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "application_name", "krbsrvname",
	"gssencmode", "channel_binding", "target_session_attrs", "sslnegotiation",
}

// conninfo is a set of libpq connection parameters.
type conninfo map[string]string

// String renders c as Patroni does: known keys in the contract's order, unset
// ones left out, values escaped by backslashes and not quoted.
func (c conninfo) String() string {
	var b strings.Builder
	for _, key := range conninfoOrder {
		value := c[key]
		if value == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(key)
		b.WriteByte('=')
		escapeConninfo(&b, value)
	}
	return b.String()
}

func escapeConninfo(b *strings.Builder, value string) {
	for i := range len(value) {
		switch value[i] {
		case '\'', '\\', ' ', '\t', '\r', '\f', '\v', '\n':
			b.WriteByte('\\')
		}
		b.WriteByte(value[i])
	}
}

// quoted renders c with every value in quotes, which is the one form that
// libpq and pgx read alike.
func (c conninfo) quoted() string {
	var b strings.Builder
	for _, key := range conninfoOrder {
		if value := c[key]; value != "" {
			fmt.Fprintf(&b, "%s='%s' ", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		}
	}
	return b.String()
}

func isConninfoSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r'
}

// parseConninfo reads libpq's keyword/value form.
func parseConninfo(s string) (conninfo, error) {
	c := make(conninfo)
	skip := func(i int) int {
		for i < len(s) && isConninfoSpace(s[i]) {
			i++
		}
		return i
	}
	for i := skip(0); i < len(s); i = skip(i) {
		start := i
		for i < len(s) && s[i] != '=' && !isConninfoSpace(s[i]) {
			i++
		}
		key := s[start:i]
		if i = skip(i); key == "" || i >= len(s) || s[i] != '=' {
			return nil, fmt.Errorf("parse connection string: no = after a keyword at byte %d", start)
		}
		value, next, err := conninfoValue(s, skip(i+1))
		if err != nil {
			return nil, err
		}
		c[key] = value
		i = next
	}
	return c, nil
}

// conninfoValue reads one value, quoted or not, and gives the position after it.
func conninfoValue(s string, i int) (value string, next int, err error) {
	quoted := i < len(s) && s[i] == '\''
	if quoted {
		i++
	}
	var b strings.Builder
	for ; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			// As in libpq, a backslash at the very end stands for nothing.
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case quoted && s[i] == '\'':
			return b.String(), i + 1, nil
		case !quoted && isConninfoSpace(s[i]):
			return b.String(), i, nil
		default:
			b.WriteByte(s[i])
		}
	}
	if quoted {
		return "", 0, fmt.Errorf("parse connection string: unterminated quoted value")
	}
	return b.String(), min(i, len(s)), nil
}

// authInfo starts a conninfo with the credentials a, password excepted.
func authInfo(a config.Auth) conninfo {
	return conninfo{
		"user": a.Username, "sslmode": a.SSLMode, "sslcert": a.SSLCert, "sslkey": a.SSLKey,
		"sslrootcert": a.SSLRootCert, "sslcrl": a.SSLCRL, "sslcrldir": a.SSLCRLDir,
		"gssencmode": a.GSSEncMode, "channel_binding": a.ChannelBinding,
		"sslnegotiation": a.SSLNegotiation,
	}
}

// toolInfo is the DSN for a PostgreSQL tool or a script: no password, which
// travels in a password file.
func (s *Server) toolInfo(up Upstream, a config.Auth) conninfo {
	c := authInfo(a)
	c["host"], c["port"] = up.Host, up.Port
	c["dbname"] = up.Database
	if c["dbname"] == "" {
		c["dbname"] = s.config().Database
	}
	return c
}

// primaryConninfo renders primary_conninfo for a server of the given major version.
func (s *Server) primaryConninfo(up Upstream, major int) string {
	cfg := s.config()
	c := s.toolInfo(up, cfg.Replication)
	c["application_name"] = s.name
	c["krbsrvname"] = cfg.KrbSrvName
	if up.Remote && up.SlotName != "" && strings.Contains(up.Host, ",") {
		c["target_session_attrs"] = "read-write" // the slot is the primary's
	}
	if cfg.Replication.Password.IsSet() {
		c["passfile"] = cfg.PGPass
	}
	c["sslpassword"] = cfg.Replication.SSLPassword.Reveal()
	c.setDefault("sslmode", "prefer")
	c.setDefault("gssencmode", "prefer")
	c.since(major, 13, "channel_binding", "prefer")
	c.since(major, 17, "sslnegotiation", "postgres")
	if major < 13 {
		delete(c, "sslpassword")
	}
	if major < 14 {
		delete(c, "sslcrldir")
	}
	return c.String()
}

func (c conninfo) setDefault(key, value string) {
	if c[key] == "" {
		c[key] = value
	}
}

// since sets a default from version on, and removes the key before it.
func (c conninfo) since(major, version int, key, value string) {
	if major < version {
		delete(c, key)
		return
	}
	c.setDefault(key, value)
}

// localUpstream describes this server for tools and connections: the socket
// directory when configured, else the local TCP address (wire contract §1.8).
func (s *Server) localUpstream(socket bool) Upstream {
	cfg := s.config()
	up := Upstream{Name: s.name, Host: cfg.LocalHost, Port: strconv.Itoa(cfg.Port), Database: cfg.Database}
	if !socket {
		return up
	}
	dirs, set := cfg.Parameters["unix_socket_directories"]
	if !set {
		up.Host = "" // libpq's own default directory
		return up
	}
	for _, dir := range strings.Split(dirs, ",") {
		if dir = strings.Trim(strings.TrimSpace(dir), `"`); strings.HasPrefix(dir, "/") {
			up.Host = dir
			return up
		}
	}
	return up
}
