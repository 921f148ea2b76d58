package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// cronExample is what a message about a schedule shows.
const cronExample = `write minute, hour, day, month and weekday, for example "30 1 * * 0" (Sundays at 01:30), or @daily`

// inBackup tells whether path is pgha.backup or below it, in either document.
func inBackup(path string) bool {
	path = strings.TrimPrefix(path, "bootstrap.dcs.")
	return path == "pgha.backup" || strings.HasPrefix(path, "pgha.backup.")
}

// unsafeText names what text may not hold that goes into a line of another
// program's configuration or into a command; "" when it is fine.
func unsafeText(text string) string {
	for _, r := range text {
		switch {
		case r == '\n' || r == '\r':
			return "a line break"
		case r == 0:
			return "a zero byte"
		case r == '\'' || r == '"' || r == '`':
			return "a quote"
		case r < ' ' || r == 0x7f || r == '\ufffd':
			return "a control character"
		}
	}
	return ""
}

// faultOfLine judges a value of kind kLine, kName or kFile: what is wrong with
// it and how to mend it, or nothing. It does not show the value.
func faultOfLine(kind valueKind, text string) (msg, cure string) {
	if what := unsafeText(text); what != "" {
		return "holds " + what, "remove it"
	}
	switch {
	case kind == kName && (strings.ContainsAny(text, "/\\ ") || strings.HasPrefix(text, "-") || text == "." || text == ".."):
		return "is no name for a directory", "use letters, digits, hyphens, dots and underscores"
	case kind == kFile && !filepath.IsAbs(text):
		return "is not an absolute path", "begin it with /"
	}
	return "", ""
}

func (c *checker) checkLine(p *pair, s *spec, path string) {
	if !c.needScalar(p, s, path, "text") {
		return
	}
	c.checkUnquoted(p, s, path)
	if msg, cure := faultOfLine(s.kind, p.value.str()); msg != "" {
		c.add(Error, p.at(), path, msg, cure)
	}
}

func (c *checker) checkCron(p *pair, s *spec, path string) {
	if !c.needScalar(p, s, path, "a schedule") {
		return
	}
	if text := p.value.str(); text != "" {
		if _, err := ParseSchedule(text); err != nil {
			c.add(Error, p.at(), path, fmt.Sprintf("%q is no schedule (%v)", shorten(text), err), cronExample)
		}
	}
}

// isInlineSecret tells whether a key below pgha.backup is one that holds a key
// or a passphrase itself.
func isInlineSecret(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	if strings.HasSuffix(name, "-file") || strings.HasSuffix(name, "-type") {
		return false
	}
	for _, word := range []string{"s3-key", "s3-token", "azure-key", "cipher-pass", "secret", "passphrase", "password"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// secretFault is the line about a secret that stands in the configuration.
func secretFault(name string) (msg, cure string) {
	key := "s3_key_file"
	if n := strings.ToLower(name); strings.Contains(n, "cipher") || strings.Contains(n, "pass") {
		key = "cipher_pass_file"
	}
	return "a secret may not stand in the configuration", fmt.Sprintf("put it into a file of mode 0600 and name that file in pgha.backup.repo.%s", key)
}

var optionName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// ownOption names the setting of ours that an option of pgBackRest comes from;
// "" for one that is free.
func ownOption(name string) string {
	switch name {
	case "repo1-s3-key-type":
		return "pgha.backup.repo.s3_key_file"
	case "repo1-type", "repo1-path":
		return "pgha.backup.repo." + strings.TrimPrefix(name, "repo1-")
	case "repo1-s3-bucket", "repo1-s3-endpoint", "repo1-s3-region", "repo1-s3-uri-style":
		return "pgha.backup.repo." + strings.ReplaceAll(strings.TrimPrefix(name, "repo1-"), "-", "_")
	case "repo1-storage-host", "repo1-storage-port", "repo1-s3-port":
		return "pgha.backup.repo.s3_port"
	case "repo1-storage-verify-tls", "repo1-s3-verify-tls":
		return "pgha.backup.repo.s3_verify_tls"
	case "repo1-storage-ca-file", "repo1-s3-ca-file":
		return "pgha.backup.repo.s3_ca_file"
	case "repo1-cipher-type":
		return "pgha.backup.repo.cipher_pass_file"
	case "process-max":
		return "pgha.backup.process_max"
	case "repo1-retention-full":
		return "pgha.backup.retention.full"
	case "repo1-retention-diff":
		return "pgha.backup.retention.diff"
	case "stanza":
		return "pgha.backup.stanza"
	case "config", "config-path", "config-include-path", "lock-path", "spool-path", "log-level-file":
		return "the agent"
	}
	if pgOption.MatchString(name) {
		return "the postgresql section"
	}
	return ""
}

var pgOption = regexp.MustCompile(`^pg[0-9]*-(host(-.*)?|path|port|socket-path|user|database|local)$`)

// checkLines judges pgha.backup.options.
func (c *checker) checkLines(p *pair, s *spec, path string) {
	if !p.value.isMap() {
		c.wrong(p, s, path, "a map (option: value lines)", "write \"option: value\" lines below it, indented")
		return
	}
	for i := range p.value.pairs {
		q := &p.value.pairs[i]
		if sev, msg, cure := faultOfOption(q); msg != "" {
			c.add(sev, q.at(), joinPath(path, q.key), msg, cure)
		}
	}
}

// faultOfOption judges one entry of options. Values are not shown.
func faultOfOption(q *pair) (sev Severity, msg, cure string) {
	if isInlineSecret(q.key) {
		msg, cure = secretFault(q.key)
		return Error, msg, cure
	}
	if !optionName.MatchString(q.key) {
		return Error, "is no name of an option of pgBackRest", "write it as in its manual, for example compress-type"
	}
	if own := ownOption(q.key); own != "" {
		return Warning, "ignored, its value comes from " + own, "remove it"
	}
	if !q.value.isScalar() && !q.value.isNull() {
		return Error, "needs one value but holds " + q.value.describe(), "write the value after the colon"
	}
	if what := unsafeText(q.value.str()); what != "" {
		return Error, "holds " + what, "remove it"
	}
	return Notice, "", ""
}

// checkBackup looks at what the schema cannot express in pgha.backup of one
// document. other is the document it is joined with, nil when that is unknown:
// a key missing here may stand there, so its lack is an error only if both are
// known.
func (c *checker) checkBackup(n, other *node, path string) {
	if !n.isMap() {
		return
	}
	if !n.get("config").isNull() {
		for _, key := range []string{"repo", "options"} {
			if p := n.pair(key); p != nil && p.value.truthy() {
				c.add(Warning, p.at(), joinPath(path, key), "ignored, because config is set as well and counts", "remove one of the two")
			}
		}
		return
	}
	at := n.pair("repo")
	if at == nil || !at.value.isMap() {
		return
	}
	repo := newMap()
	if o := other.get("repo"); o.isMap() {
		repo = o.clone()
	}
	patchNode(repo, at.value)
	sev := Error
	if other == nil {
		sev = Warning
	}
	c.checkRepo(at, repo, joinPath(path, "repo"), sev)
}

// checkRepo looks for keys that do not fit the type of repository, or are
// missing for it; at is where the document names them.
func (c *checker) checkRepo(at *pair, repo *node, path string, sev Severity) {
	if repo.strAt("posix", "type") != "s3" {
		for i := range at.value.pairs {
			if p := &at.value.pairs[i]; strings.HasPrefix(p.key, "s3_") && p.value.truthy() && repo.get("type") == nil && !isInlineSecret(p.key) {
				c.add(Warning, p.at(), joinPath(path, p.key), "has no meaning without type: s3", "add type: s3, or remove it")
				return
			}
		}
		return
	}
	if strings.Contains(at.value.strAt("", "s3_endpoint"), "://") {
		p := at.value.pair("s3_endpoint")
		c.add(Error, p.at(), joinPath(path, "s3_endpoint"), "is a URL", "write the host only, for example s3.eu-central-1.amazonaws.com")
	}
	if at.value.strAt("", "type") != "s3" {
		return // the rest is in the other document, which is judged by itself
	}
	where := at.value.pair("type").at()
	for _, k := range []struct{ key, cure string }{
		{"s3_bucket", "add the name of the bucket"},
		{"s3_endpoint", "add the host of the S3 service, for example s3.eu-central-1.amazonaws.com"},
		{"s3_region", "add the region, for example eu-central-1 (MinIO: us-east-1)"},
		{"s3_key_file", "add the path of a file of mode 0600 with the lines key=... and secret=..."},
	} {
		if !repo.get(k.key).truthy() {
			c.add(sev, where, joinPath(path, k.key), "is required with type: s3 and not set", k.cure)
		}
	}
}

// checkRepositoryBootstrap judges bootstrap.pgbackrest without a command.
func (c *checker) checkRepositoryBootstrap(n *node) {
	const path = "bootstrap." + NativeMethod
	if !n.isMap() {
		return
	}
	s := buildSpec([]row{
		{path: "stanza", kind: kName},
		{path: "set", kind: kName},
		{path: "target_type", kind: kEnum, enum: "latest immediate time lsn name xid"},
		{path: "target", kind: kStr},
		{path: "target_timeline", kind: kStr},
		{path: "target_exclusive", kind: kBool},
		{path: "command", kind: kStr},
		{path: "no_params", kind: kBool},
		{path: "keep_existing_recovery_conf", kind: kBool},
		{path: "recovery_conf", kind: kGUCs},
	})
	c.section(n, s, path)
	kind, target := n.strAt("latest", "target_type"), n.pair("target")
	set := target != nil && target.value.truthy()
	switch kind {
	case "latest", "immediate":
		if set {
			c.add(Error, target.at(), path+".target", fmt.Sprintf("is set, but recovery stops at %q", kind), "add target_type: time (or lsn, name, xid), or remove it")
		}
	case "time", "lsn", "name", "xid":
		if !set {
			c.add(Error, n.pair("target_type").at(), path+".target", "is required with target_type: "+kind+" and not set", "add the "+kind+" where recovery stops")
		}
	}
}

// cleanBackup removes from a merged pgha section the values of backup that
// cannot be used, and says which, and what the two documents together lack.
func cleanBackup(pgha *node) []Problem {
	p := pgha.pair("backup")
	if p == nil || !p.value.isMap() {
		return nil
	}
	c := &checker{}
	s := buildSpec(mount("pgha.backup", backupRows()))
	c.spec = s
	c.section(p.value, s.kid("pgha").kid("backup"), "pgha.backup")
	found := c.problems
	c.problems = nil
	for _, f := range found {
		at := p.value
		section, key, deep := strings.Cut(strings.TrimPrefix(f.Path, "pgha.backup."), ".")
		if !deep {
			key = section
		} else if at = at.get(section); at == nil {
			continue // an unknown key with a dot in its name
		}
		ours := section == "options" // what the agent sets itself goes without a word
		if (f.Severity == Error || ours) && at.remove(key) && f.Severity == Error {
			f.Severity, f.Message = Warning, f.Message+", so it is left out"
			c.problems = append(c.problems, f)
		}
	}
	c.checkBackup(p.value, nil, "pgha.backup")
	return c.problems
}
