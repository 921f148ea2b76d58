package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// waitDelay is how long a cancelled command and whatever holds its pipes may
// take to end before they are killed.
const waitDelay = 5 * time.Second

// tailSize is how much of a command's output an error carries.
const tailSize = 4096

// command is one run of an external program.
type command struct {
	path string
	args []string
	env  []string          // the whole environment; nil: toolEnv
	dir  string            // working directory; default: /
	line func(line string) // called for each line of stderr; may be nil
	both bool              // standard output is treated as stderr is, and not returned
	// grace is what a cancelled command gets to end by itself; 0: waitDelay.
	grace time.Duration
}

// CommandError is a program that could not be run or did not exit with 0.
type CommandError struct {
	Name   string // base name of the program
	Code   int    // exit code; -1 when it did not exit by itself
	Stderr string // the end of what it printed, scrubbed of passwords
	Err    error
}

// Error implements error with the line of the output that says most.
func (e *CommandError) Error() string {
	line := tellingLine(e.Stderr)
	if line == "" {
		return fmt.Sprintf("run %s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("run %s: %v: %s", e.Name, e.Err, line)
}

// tellingLine is the last line that reports an error, else the last line.
func tellingLine(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "error:") || strings.Contains(lines[i], "FATAL:") {
			return strings.TrimSpace(lines[i])
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// Unwrap gives the cause, for example the context's error.
func (e *CommandError) Unwrap() error { return e.Err }

// run executes c and waits for it. Cancelling ctx interrupts the whole process
// group; what is left after its grace is killed. Standard output is returned
// also when the command failed.
func (s *Server) run(ctx context.Context, c command) (string, error) {
	if c.env == nil {
		c.env = s.toolEnv()
	}
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	mark := s.markOf()
	cmd.Env = append(c.env[:len(c.env):len(c.env)], mark)
	cmd.Dir = c.dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = cmp.Or(c.grace, waitDelay)
	var stdout bytes.Buffer
	stderr := &tail{line: c.line}
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	if c.both {
		cmd.Stdout = stderr
	}
	err := cmd.Run()
	stderr.flush()
	if cmd.Process != nil && err != nil {
		// Whatever ignored SIGINT, or lost its parent, must not go on writing to the
		// directory.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		err = errors.Join(err, s.endRun(mark))
	}
	if err == nil {
		return stdout.String(), nil
	}
	code := -1
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return stdout.String(), &CommandError{Name: filepath.Base(c.path), Code: code, Stderr: s.scrub(stderr.String()), Err: err}
}

// scrub replaces our passwords in text that will be logged.
func (s *Server) scrub(text string) string {
	c := s.config()
	for _, secret := range []string{
		c.Superuser.Password.Reveal(), c.Replication.Password.Reveal(), c.Rewind.Password.Reveal(),
		c.Superuser.SSLPassword.Reveal(), c.Replication.SSLPassword.Reveal(), c.Rewind.SSLPassword.Reveal(),
	} {
		// Very short passwords would blacken every other word.
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, secret, "[REDACTED]")
		}
	}
	return text
}

// toolEnv is the environment of PostgreSQL's tools: nothing is inherited but
// the search path, so that no PG* variable can redirect a tool and messages
// are in English. extra is appended.
func (s *Server) toolEnv(extra ...string) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	env := []string{"PATH=" + path, "HOME=" + s.home, "LANG=C", "LC_ALL=C"}
	for _, keep := range []string{"TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "KRB5CCNAME", "KRB5_CONFIG"} {
		if v, ok := os.LookupEnv(keep); ok {
			env = append(env, keep+"="+v)
		}
	}
	if k := s.config().KrbSrvName; k != "" {
		env = append(env, "PGKRBSRVNAME="+k)
	}
	return append(env, extra...)
}

// serverEnv is the environment of the postmaster and of the user's scripts:
// ours without what is meant for the agent alone (ha-behaviour 7.1).
func (s *Server) serverEnv() []string {
	var env []string
	b := s.config().Backup
	ownRepo := b.Enabled && b.ConfigFile == ""
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "PATRONI_"), strings.HasPrefix(name, "PGHA_"),
			strings.HasPrefix(name, "KUBERNETES_"), name == "NOTIFY_SOCKET", name == "WATCHDOG_USEC",
			name == "WATCHDOG_PID", name == "PGPASSWORD", name == "MALLOC_ARENA_MAX",
			// They would win over the pgbackrest.conf that we write.
			strings.HasPrefix(name, "PGBACKREST_") && ownRepo:
		case name == "PG_MALLOC_ARENA_MAX":
			env = append(env, "MALLOC_ARENA_MAX="+value)
		default:
			env = append(env, kv)
		}
	}
	return env
}

// tail keeps the last tailSize bytes written and hands out whole lines.
type tail struct {
	mu   sync.Mutex
	buf  []byte
	part []byte
	line func(string)
}

var _ io.Writer = (*tail)(nil)

// Write implements io.Writer. Carriage returns end lines too: pg_basebackup
// and pg_rewind print their progress that way.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - tailSize; n > 0 {
		t.buf = append(t.buf[:0], t.buf[n:]...)
	}
	if t.line == nil {
		return len(p), nil
	}
	t.part = append(t.part, p...)
	for {
		i := bytes.IndexAny(t.part, "\r\n")
		if i < 0 {
			break
		}
		if l := strings.TrimSpace(string(t.part[:i])); l != "" {
			t.line(l)
		}
		t.part = t.part[i+1:]
	}
	if len(t.part) > tailSize {
		t.part = nil
	}
	return len(p), nil
}

// flush hands out an unfinished last line.
func (t *tail) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := strings.TrimSpace(string(t.part)); t.line != nil && l != "" {
		t.line(l)
	}
	t.part = nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// childAttributes: a process group of its own, so that all of it can be ended;
// and an end of its own with the agent's, so that no orphaned pg_rewind or
// pg_basebackup goes on writing where the next agent starts over.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
