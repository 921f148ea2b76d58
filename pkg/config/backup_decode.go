package config

import "time"

// Defaults of pgha.backup.
const (
	defaultBackupCommand = "pgbackrest"
	defaultRepoPath      = "/var/lib/pgbackrest"
	defaultProcessMax    = 2
	defaultArchiveMaxLag = 10 * time.Minute
)

// decodeBackup reads pgha.backup. Values that cannot be used were reported and
// read as unset here.
func decodeBackup(n *node) Backup {
	if !n.isMap() || !n.truthy() {
		return Backup{}
	}
	b := Backup{
		Enabled:       true,
		Stanza:        n.strAt("", "stanza"),
		Command:       n.strAt(defaultBackupCommand, "command"),
		ConfigFile:    n.strAt("", "config"),
		Archive:       n.boolAt(true, "archive"),
		Restore:       n.boolAt(true, "restore"),
		ProcessMax:    max(clampInt(n.intAt(defaultProcessMax, "", "process_max")), 1),
		Full:          decodeSchedule(n.get("schedule", "full")),
		Diff:          decodeSchedule(n.get("schedule", "diff")),
		Incr:          decodeSchedule(n.get("schedule", "incr")),
		RetentionFull: max(clampInt(n.intAt(0, "", "retention", "full")), 0),
		RetentionDiff: max(clampInt(n.intAt(0, "", "retention", "diff")), 0),
		From:          BackupFromLeader,
		MaxAge:        seconds(max(n.intAt(0, "s", "max_age"), 0)),
		ArchiveMaxLag: seconds(max(n.intAt(int64(defaultArchiveMaxLag/time.Second), "s", "archive_max_lag"), 0)),
	}
	if n.strAt("", "from") == string(BackupFromStandby) {
		b.From = BackupFromStandby
	}
	if b.ConfigFile == "" {
		b.Repo = decodeRepo(n.get("repo"))
		b.Options = decodeLines(n.get("options"))
	}
	return b
}

// decodeSchedule gives nil when no usable schedule is set.
func decodeSchedule(n *node) *Schedule {
	if n.str() == "" {
		return nil
	}
	s, err := ParseSchedule(n.str())
	if err != nil {
		return nil
	}
	return s
}

func decodeRepo(n *node) Repo {
	r := Repo{
		Type:           "posix",
		Path:           n.strAt(defaultRepoPath, "path"),
		Bucket:         n.strAt("", "s3_bucket"),
		Endpoint:       n.strAt("", "s3_endpoint"),
		Region:         n.strAt("", "s3_region"),
		URIStyle:       n.strAt("host", "s3_uri_style"),
		KeyFile:        n.strAt("", "s3_key_file"),
		Port:           clampInt(n.intAt(0, "", "s3_port")),
		VerifyTLS:      n.boolAt(true, "s3_verify_tls"),
		CAFile:         n.strAt("", "s3_ca_file"),
		CipherPassFile: n.strAt("", "cipher_pass_file"),
	}
	if n.strAt("", "type") == "s3" {
		r.Type = "s3"
	}
	return r
}

// decodeLines reads a map of scalars. Booleans become y and n, as pgBackRest
// writes them.
func decodeLines(n *node) []Option {
	var out []Option
	if !n.isMap() {
		return nil
	}
	for _, p := range n.pairs {
		if text := lineValue(p.value); text != "" {
			out = append(out, Option{Name: p.key, Value: text})
		}
	}
	return out
}

func lineValue(n *node) string {
	if n.isScalar() && n.kind == boolNode {
		if n.b {
			return "y"
		}
		return "n"
	}
	return n.str()
}

// decodeRepositoryBootstrap reads bootstrap.pgbackrest without a command.
func decodeRepositoryBootstrap(n *node) RepositoryBootstrap {
	return RepositoryBootstrap{
		Stanza:          n.strAt("", "stanza"),
		Set:             n.strAt("", "set"),
		TargetType:      n.strAt("latest", "target_type"),
		Target:          n.strAt("", "target"),
		TargetTimeline:  n.strAt("latest", "target_timeline"),
		TargetExclusive: n.boolAt(false, "target_exclusive"),
	}
}
