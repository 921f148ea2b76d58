package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"strings"

	"github.com/pgha/pgha/pkg/config"
)

// backrestRule turns one failure of pgBackRest into a line that names the
// setting to mend. The first rule that matches wins.
type backrestRule struct {
	code int            // exit code; 0: any
	text *regexp.Regexp // in what it printed; nil: the code says enough
	s3   bool           // only for an S3 repository of our own file
	kind error
	say  string // %s is the match of the first group
}

func rule(code int, text string, kind error, say string) backrestRule {
	r := backrestRule{code: code, kind: kind, say: say}
	if text != "" {
		r.text = regexp.MustCompile(text)
	}
	return r
}

func ruleS3(text string, kind error, say string) backrestRule {
	r := rule(0, text, kind, say)
	r.s3 = true
	return r
}

// backrestRules were found by running pgBackRest 2.45 against every mistake;
// testdata holds what it said. S3 answers carry the code of the object store in
// their body, except to HEAD, where only the status is left.
func backrestRules() []backrestRule {
	return []backrestRule{
		// The object store.
		rule(0, `<Code>(NoSuchBucket|InvalidBucketName)</Code>`, ErrRepository,
			"the bucket does not exist: make it, or mend pgha.backup.repo.s3_bucket"),
		rule(0, `<Code>(InvalidAccessKeyId|InvalidAccessKey|XAdminUserNotFound)</Code>`, ErrRepository,
			"the object store does not know the key: mend key= in the file of pgha.backup.repo.s3_key_file"),
		rule(0, `<Code>SignatureDoesNotMatch</Code>`, ErrRepository,
			"the object store refuses the signature: mend secret= in the file of pgha.backup.repo.s3_key_file"),
		rule(0, `<Code>(?:AuthorizationHeaderMalformed|InvalidRegionName|IllegalLocationConstraintException)</Code>(?:.*?<Region>([^<]*)</Region>)?`, ErrRepository,
			"the object store expects another region%s: mend pgha.backup.repo.s3_region"),
		rule(0, `<Code>(PermanentRedirect|TemporaryRedirect)</Code>|\b30[1278] \(`, ErrRepository,
			"the object store sends us elsewhere: mend pgha.backup.repo.s3_endpoint and s3_region"),
		rule(0, `<Code>AccessDenied</Code>`, ErrRepository,
			"the object store denies access: give the key of pgha.backup.repo.s3_key_file list, read, write and delete in pgha.backup.repo.s3_bucket"),
		rule(0, `<Code>RequestTimeTooSkewed</Code>`, ErrRepository,
			"the clocks of this host and of the object store differ too much: set this host's clock (NTP)"),
		rule(0, `<Code>(QuotaExceeded|XMinioStorageFull|InsufficientStorage)</Code>|\b507 \(`, ErrRepository,
			"the object store is full: make room, or lower pgha.backup.retention"),
		ruleS3(`HTTP request failed with 403`, ErrRepository,
			"the object store refuses key or secret: mend the file of pgha.backup.repo.s3_key_file"),
		ruleS3(`HTTP request failed with 404`, ErrRepository,
			"the object store knows no such bucket or key: mend pgha.backup.repo.s3_bucket or the file of s3_key_file"),
		ruleS3(`HTTP request failed with 400`, ErrRepository,
			"the object store does not understand us: mend pgha.backup.repo.s3_region or s3_uri_style"),
		rule(0, `HTTP request failed with (5\d\d[^:\n]*)`, ErrRepository, "the object store fails (%s): try again, or ask its operator"),
		rule(0, `HTTP request failed with ([^:\n]*)`, ErrRepository, "the object store answers %s: mend pgha.backup.repo"),
		rule(0, `unable to verify certificate presented by '([^']*)'`, ErrRepository,
			"the certificate of %s is not trusted: name its CA in pgha.backup.repo.s3_ca_file, or set s3_verify_tls: false"),
		rule(0, `unable to find hostname '([^']*)' in certificate`, ErrRepository,
			"the certificate is for other names than %s: mend pgha.backup.repo.s3_endpoint (host style puts the bucket in front: s3_uri_style: path), or set s3_verify_tls: false"),
		rule(0, `unable to set user-defined CA certificate location|unable to load (?:CA|ca) file`, ErrRepository,
			"the CA file cannot be read: mend pgha.backup.repo.s3_ca_file"),
		rule(0, `unable to get address for '([^']*)'`, ErrRepository,
			"the name %s has no address: mend pgha.backup.repo.s3_endpoint (with s3_uri_style: host the bucket is part of the name)"),
		rule(0, `unable to connect to '([^']*:\d+)'|timeout connecting to '([^']*)'`, ErrRepository,
			"nobody answers at %s: mend pgha.backup.repo.s3_endpoint or s3_port, or start the object store"),
		rule(0, `TLS error|unable to negotiate TLS`, ErrRepository,
			"the object store does not speak TLS there: mend pgha.backup.repo.s3_endpoint or s3_port"),
		// The repository as files.
		rule(0, `No space left on device|Disk quota exceeded`, ErrRepository,
			"the disk is full: make room in pgha.backup.repo.path, or lower pgha.backup.retention"),
		rule(0, `cipher header invalid|unable to flush|is or was the repo encrypted`, ErrRepository,
			"the passphrase is not the repository's: mend the file of pgha.backup.repo.cipher_pass_file"),
		rule(0, `\.conf' for read: \[\d+\]`, ErrRepository,
			"the file of pgha.backup.config cannot be read by this user: mend its mode or owner"),
		rule(0, `\.conf' for read`, ErrRepository, "the file of pgha.backup.config does not exist: mend the path"),
		rule(0, `unable to set ownership for`, nil, "files of the data directory belong to another user: chown -R the directory of postgresql.data_dir to the user pgha runs as"),
		rule(0, `(?:path|file|create path|open|list)[^\n]*'(/[^']*)'[^\n]*\[(?:13|30)\] (?:Permission denied|Read-only file system)`, ErrRepository,
			"%s must be readable and writable for this user: chown or mount it right, or mend pgha.backup.repo.path"),
		rule(0, `\[5\] Input/output error|Stale file handle|Transport endpoint is not connected`, ErrRepository,
			"the file system of the repository fails: look at the mount of pgha.backup.repo.path"),
		// Stanza and backups.
		rule(0, `stanza version (\S+), system-id`, ErrForeignRepository, ""),
		rule(28, `do not match the database`, ErrForeignRepository,
			"it was made for another cluster or another version of PostgreSQL: set pgha.backup.stanza to a name of this cluster's own, or run stanza-upgrade after a pg_upgrade"),
		rule(0, `no backup sets? (?:to restore|found)|backup set (\S+) is not valid`, ErrNoBackup,
			"pghactl backup list shows what there is"),
		rule(0, `has a stanza-create been performed|missing stanza`, ErrNoStanza, "pgha makes it before the first backup, or: pghactl backup check"),
		rule(50, ``, ErrRepositoryBusy, "wait for it, or end the process that holds the lock"),
		rule(62, ``, ErrRepository, "pgbackrest was stopped by hand on this host: run pgbackrest start"),
		// The server.
		rule(82, ``, ErrArchiving, "the segment did not arrive within archive-timeout: look at archive_command in the server's log and at pgha.backup.repo"),
		rule(0, `archive_mode must be enabled|archive_mode=`, ErrArchiving, "archive_mode is off: set pgha.backup.archive: true and restart the server"),
		rule(0, `archive_command '.*' must contain|archive_command.*is not set`, ErrArchiving, "archive_command does not call pgbackrest: take it out of postgresql.parameters, so that pgha sets it"),
		rule(0, `password authentication failed|no password supplied|no pg_hba\.conf entry|Peer authentication failed`, nil,
			"the server refuses the superuser: mend postgresql.authentication.superuser or pg_hba"),
		rule(38, ``, ErrRunning, "a server runs in the data directory, or left postmaster.pid behind"),
		rule(40, `restore to path '([^']*)'`, ErrForeignFiles, "%s holds files: empty it, if no other server uses it"),
		rule(0, `no database found|unable to find primary cluster`, nil, "no running primary was found: start the server; a backup from a standby must reach the leader"),
		rule(0, `unable to find standby cluster`, nil, "no running standby was found: set pgha.backup.from: leader"),
		// The command line.
		rule(0, `option '([^']*)' not valid|invalid option '([^']*)'`, nil, "this pgbackrest does not know the option %s: mend pgha.backup.options, or install another version"),
		rule(0, `is not allowed for '([^']*)' option|is not valid for '([^']*)' option`, nil, "the option %s has a bad value: mend pgha.backup.options"),
	}
}

// unlogged is what pgBackRest puts in front of a line before it knows how to log.
var unlogged = regexp.MustCompile(`(?m)^P\d+ +`)

// backrestError translates the failure of a run that printed out on standard output:
// newer versions (2.55) complain there of a command line they do not understand.
func (s *Server) backrestError(stanza, out string, err error) error {
	var failed *CommandError
	if !errors.As(err, &failed) {
		return err
	}
	program := s.backrestWords("")[0]
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no program %q: install pgbackrest, or set pgha.backup.command", program)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("this user may not run %q: mend its mode, or set pgha.backup.command", program)
	}
	if failed.Code < 0 {
		return fmt.Errorf("pgbackrest ended unexpectedly: %w", err)
	}
	if failed.Stderr == "" {
		return s.translate(stanza, failed.Code, unlogged.ReplaceAllString(s.scrub(out), ""))
	}
	return s.translate(stanza, failed.Code, failed.Stderr)
}

// translate finds the rule for an exit code and what pgBackRest printed.
func (s *Server) translate(stanza string, code int, output string) error {
	text, c := failureText(output), s.config()
	own := c.Backup.ConfigFile == ""
	for _, r := range backrestRules() {
		if r.code != 0 && r.code != code || r.s3 && own && c.Backup.Repo.Type != "s3" {
			continue
		}
		var m []string
		if r.text != nil {
			if m = r.text.FindStringSubmatch(text); m == nil {
				continue
			}
		}
		say := r.advice(m, c.Backup)
		if errors.Is(r.kind, ErrForeignRepository) && say == "" {
			say = foreignAdvice(text)
		}
		switch {
		case r.kind == nil:
			return errors.New(say)
		case errors.Is(r.kind, ErrNoStanza), errors.Is(r.kind, ErrForeignRepository), errors.Is(r.kind, ErrRepositoryBusy):
			return fmt.Errorf("%w (%s): %s", r.kind, stanza, say)
		}
		return fmt.Errorf("%w: %s", r.kind, say)
	}
	return fmt.Errorf("pgbackrest failed (code %d): %s", code, firstLine(text))
}

// advice fills in what the rule's expression found.
func (r backrestRule) advice(m []string, b config.Backup) string {
	found := ""
	for _, group := range m[min(1, len(m)):] {
		if group != "" {
			found = group
			break
		}
	}
	if strings.Contains(r.say, "region%s") && found != "" {
		found = " (" + found + ")"
	}
	say := strings.Replace(r.say, "%s", found, 1)
	if b.ConfigFile != "" {
		// Then pgha.backup.repo is not used at all.
		say = strings.NewReplacer("the file of pgha.backup.repo.", b.ConfigFile+": repo1-", "pgha.backup.repo", b.ConfigFile+": repo1").Replace(say)
	}
	return say
}

var versions = regexp.MustCompile(`PostgreSQL version (\S+), system-id (\d+) do not match stanza version (\S+), system-id (\d+)`)

// foreignAdvice tells another cluster's stanza from one that a pg_upgrade left behind.
func foreignAdvice(text string) string {
	m := versions.FindStringSubmatch(text)
	if m == nil {
		return "set pgha.backup.stanza to a name of this cluster's own"
	}
	if m[2] == m[4] || m[1] != m[3] {
		return fmt.Sprintf("it is of PostgreSQL %s, this server is %s: set pgha.backup.stanza to a new name, or run stanza-upgrade after a pg_upgrade", m[3], m[1])
	}
	return fmt.Sprintf("it is of the system identifier %s, this cluster is %s: set pgha.backup.stanza to a name of this cluster's own", m[4], m[2])
}

// failureText is the part of what pgBackRest printed that says why it failed:
// from the first ERROR on, with the warnings before it.
func failureText(output string) string {
	var keep []string
	taking := true // the answer of info has no levels
	for _, line := range strings.Split(output, "\n") {
		switch {
		case strings.HasPrefix(line, "INFO: "), strings.HasPrefix(line, "DETAIL: "):
			taking = false
		case strings.HasPrefix(line, "ERROR: "), strings.HasPrefix(line, "WARN: "):
			taking = true
		}
		if taking {
			keep = append(keep, strings.TrimRight(line, " \r"))
		}
	}
	return strings.Join(keep, "\n")
}

// firstLine is the first line of an error, without its level.
func firstLine(text string) string {
	if i := strings.Index(text, "ERROR: "); i >= 0 {
		text = text[i+len("ERROR: "):]
	}
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
