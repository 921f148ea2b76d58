package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// backrestConf is the pgbackrest.conf in use.
func (s *Server) backrestConf() string {
	c := s.config()
	if c.Backup.ConfigFile != "" {
		return c.Backup.ConfigFile
	}
	return filepath.Join(c.RunDir, "pgbackrest.conf")
}

// WriteBackupConfig writes pgbackrest.conf, unless it is up to date, absent from
// the configuration, or a file of the operator's. archive_command names the
// file, so it must exist before the server starts.
func (s *Server) WriteBackupConfig() error {
	c := s.config()
	switch {
	case !c.Backup.Enabled:
		return nil
	case c.Backup.ConfigFile != "":
		return checkBackrestConf(c.Backup.ConfigFile)
	case c.RunDir == "":
		return errors.New("write pgbackrest.conf: no runtime directory is set")
	}
	if err := makePrivateDir(c.RunDir); err != nil {
		return fmt.Errorf("write pgbackrest.conf: %w", err)
	}
	text, err := s.renderBackrestConf(c)
	if err != nil {
		return err
	}
	path := s.backrestConf()
	if fi, err := os.Lstat(path); err == nil && fi.Mode() != 0o600 {
		return writeFile(path, []byte(text), 0o600) // an equal one that others can read is replaced too
	}
	_, err = writeIfChanged(path, []byte(text), 0o600)
	return err
}

func checkBackrestConf(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("pgha.backup.config: %w", err)
	}
	return f.Close()
}

// makePrivateDir makes a directory that nobody else may enter, since the
// repository's credentials lie in it.
func makePrivateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fi, err := os.Stat(dir)
	if err == nil && fi.Mode().Perm() != 0o700 {
		err = os.Chmod(dir, 0o700)
	}
	return err
}

// iniLine is one "key=value" of pgbackrest.conf.
type iniLine struct{ key, value string }

// renderBackrestConf renders the file. Options of the operator's replace ours.
func (s *Server) renderBackrestConf(c config.Postgres) (string, error) {
	b := c.Backup
	global, err := repoLines(b.Repo)
	if err != nil {
		return "", err
	}
	global = append(global,
		iniLine{"process-max", strconv.Itoa(max(1, b.ProcessMax))},
		iniLine{"compress-type", s.compressType()},
		iniLine{"start-fast", "y"}, iniLine{"archive-timeout", "60"}, iniLine{"io-timeout", "30"},
		iniLine{"lock-path", filepath.Join(c.RunDir, "pgbackrest-lock")},
		iniLine{"spool-path", filepath.Join(c.RunDir, "pgbackrest-spool")},
		iniLine{"log-level-file", "off"},
	)
	for key, n := range map[string]int{"repo1-retention-full": b.RetentionFull, "repo1-retention-diff": b.RetentionDiff} {
		if n > 0 {
			global = append(global, iniLine{key, strconv.Itoa(n)})
		}
	}
	var server []iniLine
	for _, o := range pgOptions(s.localUpstream(c.UseUnixSocket), c.DataDir, c.Superuser) {
		server = append(server, iniLine{"pg1-" + o[0], o[1]})
	}
	for _, o := range b.Options {
		value := o.Value
		if o.Flag {
			value = "y"
		}
		if serverOption.MatchString(o.Name) {
			server = setLine(server, iniLine{o.Name, value})
			continue
		}
		global = setLine(global, iniLine{o.Name, value})
	}
	text := "# Written by pgha from pgha.backup; changes are overwritten.\n"
	for _, section := range []struct {
		name  string
		lines []iniLine
	}{{"global", global}, {s.stanzaName(""), server}} {
		body, err := renderINI(section.name, section.lines)
		if err != nil {
			return "", err
		}
		text += body
	}
	return text, nil
}

// serverOption are the options that belong into the section of the stanza, such
// as pg2-host-type.
var serverOption = regexp.MustCompile(`^pg[0-9]+-`)

// setLine replaces the line of that key, or adds it.
func setLine(lines []iniLine, l iniLine) []iniLine {
	for i := range lines {
		if lines[i].key == l.key {
			lines[i] = l
			return lines
		}
	}
	return append(lines, l)
}

// renderINI renders a section with its keys sorted. The format has no quoting:
// a value that could end its line is refused.
func renderINI(name string, lines []iniLine) (string, error) {
	if strings.ContainsAny(name, "[]\n\r\x00") {
		return "", fmt.Errorf("pgha.backup.stanza %q: not a name pgbackrest can hold", name)
	}
	sorted := make(settings, len(lines))
	for _, l := range lines {
		if l.key == "" || strings.ContainsAny(l.key, "=[]#\n\r\x00") || strings.ContainsAny(l.value, "\n\r\x00") {
			return "", fmt.Errorf("write pgbackrest.conf: option %q: neither name nor value may hold a line break", l.key)
		}
		sorted[l.key] = l.value
	}
	var b strings.Builder
	b.WriteString("\n[" + name + "]\n")
	for _, key := range slices.Sorted(maps.Keys(sorted)) {
		b.WriteString(key + "=" + sorted[key] + "\n")
	}
	return b.String(), nil
}

// repoLines describe the repository.
func repoLines(r config.Repo) ([]iniLine, error) {
	path := r.Path
	if path == "" {
		path = "/var/lib/pgbackrest"
	}
	lines := []iniLine{{"repo1-path", path}}
	if r.CipherPassFile != "" {
		pass, err := readSecretFile("pgha.backup.repo.cipher_pass_file", r.CipherPassFile)
		if err != nil {
			return nil, err
		}
		lines = append(lines, iniLine{"repo1-cipher-type", "aes-256-cbc"}, iniLine{"repo1-cipher-pass", strings.TrimRight(pass, "\r\n")})
	}
	if r.Type != "s3" {
		return append(lines, iniLine{"repo1-type", "posix"}), nil
	}
	key, secret, err := readKeyFile(r.KeyFile)
	if err != nil {
		return nil, err
	}
	style, verify := r.URIStyle, "y"
	if style == "" {
		style = "host"
	}
	if !r.VerifyTLS {
		verify = "n"
	}
	if !strings.HasPrefix(path, "/") {
		lines[0].value = "/" + path
	}
	lines = append(lines, iniLine{"repo1-type", "s3"}, iniLine{"repo1-s3-bucket", r.Bucket}, iniLine{"repo1-s3-endpoint", r.Endpoint},
		iniLine{"repo1-s3-region", r.Region}, iniLine{"repo1-s3-uri-style", style}, iniLine{"repo1-s3-key", key},
		iniLine{"repo1-s3-key-secret", secret}, iniLine{"repo1-storage-verify-tls", verify})
	if r.Port != 0 {
		lines = append(lines, iniLine{"repo1-storage-port", strconv.Itoa(r.Port)})
	}
	if r.CAFile != "" {
		lines = append(lines, iniLine{"repo1-storage-ca-file", r.CAFile})
	}
	return lines, nil
}

// readSecretFile reads a file that only its owner may read.
func readSecretFile(setting, path string) (string, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: %s does not exist", setting, path)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", setting, err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: others can read %s: chmod 600 %s", setting, path, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", setting, err)
	}
	return string(b), nil
}

// readKeyFile reads the lines "key=…" and "secret=…" of s3_key_file.
func readKeyFile(path string) (key, secret string, err error) {
	const setting = "pgha.backup.repo.s3_key_file"
	if path == "" {
		return "", "", errors.New(setting + " is not set: name a file of mode 0600 with the lines key=… and secret=…")
	}
	text, err := readSecretFile(setting, path)
	if err != nil {
		return "", "", err
	}
	for _, line := range strings.Split(text, "\n") {
		name, value, _ := strings.Cut(line, "=")
		switch strings.TrimSpace(name) {
		case "key":
			key = strings.TrimSpace(value)
		case "secret":
			secret = strings.TrimSpace(value)
		}
	}
	if key == "" || secret == "" {
		return "", "", fmt.Errorf("%s: %s must hold the two lines key=… and secret=…", setting, path)
	}
	return key, secret, nil
}

// compressType is the best compression that this pgBackRest was built with. It
// has no way to list them; a run that lacks its arguments tells.
func (s *Server) compressType() string {
	if s.backrestSets("compress-type") {
		return "" // replaced by the option
	}
	program := s.backrestWords("")[0]
	s.mu.Lock()
	known := s.compress
	s.mu.Unlock()
	if known.program == program {
		return known.kind
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	kind := "gz"
	for _, try := range []string{"zst", "lz4"} {
		_, err := s.run(ctx, command{path: program, args: []string{
			"--no-config", "--log-level-file=off", "--stanza=probe", "--pg1-path=/probe", "--compress-type=" + try, "archive-push"}})
		var failed *CommandError
		if errors.As(err, &failed) && failed.Code == backrestNoParameter {
			kind = try
			break
		}
		if failed == nil || failed.Code < 0 {
			return kind // there is no such program: ask again next time
		}
	}
	s.mu.Lock()
	s.compress = compression{program, kind}
	s.mu.Unlock()
	return kind
}

// backrestNoParameter is the exit code for a missing argument, which is looked
// at after all options were found to be good.
const backrestNoParameter = 43

// compression remembers the answer of compressType.
type compression struct{ program, kind string }
