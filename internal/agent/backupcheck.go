package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// Version of pgBackRest that is needed: the options used are in it.
const (
	neededMajor = 2
	neededMinor = 30
)

// backupProblems is what keeps backups from working on this host.
type backupProblems struct {
	fatal error // the agent does not start with it
	other error // worth a line in the log
}

// checkBackupFiles looks at the program and at the files that pgha.backup names.
// Nothing of the repository itself is asked for.
func checkBackupFiles(b *config.Backup) backupProblems {
	var p backupProblems
	if !b.Enabled {
		return p
	}
	p.fatal = errors.Join(checkBackupProgram(b.Command), checkSecretFile("pgha.backup.repo.s3_key_file", b.Repo.KeyFile),
		checkSecretFile("pgha.backup.repo.cipher_pass_file", b.Repo.CipherPassFile))
	if b.ConfigFile != "" {
		if err := readable(b.ConfigFile); err != nil {
			p.other = fmt.Errorf("pgha.backup.config: %w", err)
		}
		return p
	}
	if b.Repo.Type != "s3" {
		p.other = checkRepositoryDir(b.Repo.Path)
	}
	return p
}

var versionText = regexp.MustCompile(`(\d+)\.(\d+)`)

func checkBackupProgram(command string) error {
	path, err := exec.LookPath(command)
	if err != nil {
		return fmt.Errorf("the program %s of pgha.backup cannot be run (%w); install pgBackRest, or name it in pgha.backup.command", command, errors.Unwrap(err))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH")}, "/" // no PGBACKREST_* of whoever started us
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("the program %s of pgha.backup does not run: \"%s version\": %w; install pgBackRest again", command, path, err)
	}
	m := versionText.FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("the program %s of pgha.backup is no pgBackRest: \"%s version\" says %q", command, path, clip(string(out)))
	}
	major, _ := strconv.Atoi(string(m[1])) // digits by the expression
	minor, _ := strconv.Atoi(string(m[2]))
	if major < neededMajor || major == neededMajor && minor < neededMinor {
		return fmt.Errorf("pgBackRest %s is too old (%s); %d.%d or later is needed", m[0], path, neededMajor, neededMinor)
	}
	return nil
}

// clip shortens foreign output for one line.
func clip(text string) string {
	if len(text) > 80 {
		text = text[:80]
	}
	return text
}

// checkSecretFile: only its owner may read a file with a secret.
func checkSecretFile(setting, path string) error {
	if path == "" {
		return nil
	}
	if err := readable(path); err != nil {
		return fmt.Errorf("%s: %w", setting, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s: %w", setting, err)
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%s: %s holds a secret and has mode %04o; chmod 0600 %s", setting, path, perm, path)
	}
	return nil
}

func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w; make it readable for %s", err, userName(uint32(os.Geteuid())))
	}
	return f.Close()
}

// checkRepositoryDir: the directory of a repository on this host must be
// writable, unless pgBackRest is still to make it.
func checkRepositoryDir(path string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("pgha.backup.repo.path: %w", err)
	case !st.IsDir():
		return fmt.Errorf("pgha.backup.repo.path: %s is no directory", path)
	case syscall.Access(path, 2) != nil:
		return fmt.Errorf("pgha.backup.repo.path: %s cannot be written; give it to %s", path, userName(uint32(os.Geteuid())))
	}
	return nil
}
