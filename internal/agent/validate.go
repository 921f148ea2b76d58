package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
)

// ValidateOptions are those of --validate-config (wire contract §7.1).
type ValidateOptions struct {
	// IgnoreListenPort: the ports may be in use, because the agent runs.
	IgnoreListenPort bool
	// Print the configuration with the environment in it, when it is good.
	Print bool
}

// Validate prints every finding about a configuration, one line each, and
// returns the exit code: 1 when something must be mended. Once the text is
// good, it also looks at what the configuration speaks of: programs, ports, the
// data directory, the servers of etcd.
func Validate(path string, environ []string, o ValidateOptions, stdout, stderr io.Writer) int {
	local, problems, err := config.Load(path, environ)
	if local != nil {
		problems = append(problems, local.Missing()...)
	}
	if err != nil && len(problems) == 0 {
		fmt.Fprintln(stderr, "error: "+err.Error())
		return 1
	}
	bad := err != nil
	for _, p := range problems {
		out := stderr
		if p.Severity == config.Notice {
			out = stdout
		} else {
			bad = true
		}
		fmt.Fprintf(out, "%s: %s\n", p.Severity, p)
	}
	if !config.HasErrors(problems) && err == nil {
		for _, line := range surroundings(config.EffectiveOf(local, localDynamic(local)), o) {
			bad = true
			fmt.Fprintln(stderr, "error: "+line)
		}
	}
	if bad {
		return 1
	}
	if o.Print {
		text, err := local.YAML()
		if err != nil {
			fmt.Fprintln(stderr, "error: "+err.Error())
			return 1
		}
		_, _ = stdout.Write(text) // nobody to tell
	}
	return 0
}

// surroundings says what a good configuration will not find on this host.
func surroundings(e *config.Effective, o ValidateOptions) []string {
	var out []string
	add := func(err error) {
		if err != nil {
			out = append(out, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	add(checkPrograms(e, leashPath()))
	add(checkVersions(&e.Postgres))
	add(checkParent(e.Postgres.DataDir))
	add(checkPgpass(e.Postgres.PGPass))
	if !o.IgnoreListenPort {
		add(checkPort(&e.Postgres))
		add(checkListen("restapi.listen", e.Local.RestAPI.Listen))
	}
	add(checkBackupFiles(&e.PGHA.Backup).fatal)
	add(watchdogNeedsLeash(e))
	return append(out, unreachable(e.Local.Etcd.Hosts)...)
}

// checkVersions: the data directory and the programs are of one version.
func checkVersions(p *config.Postgres) error {
	text, err := os.ReadFile(filepath.Join(p.DataDir, "PG_VERSION"))
	if err != nil {
		return nil //nolint:nilerr // there is no data directory yet
	}
	out, err := exec.Command(p.Bin("postgres"), "--version").Output()
	if err != nil {
		return nil //nolint:nilerr // checkPrograms said so
	}
	have := strings.TrimSpace(string(text))
	if words := strings.Fields(string(out)); len(words) > 2 && !strings.HasPrefix(words[2], have+".") && words[2] != have {
		return fmt.Errorf("postgresql.data_dir %s is of PostgreSQL %s, but %s is of %s; set postgresql.bin_dir to the programs of version %s", p.DataDir, have, p.Bin("postgres"), words[2], have)
	}
	return nil
}

// checkListen tells whether addr could be listened on.
func checkListen(key, addr string) error {
	host, port, err := config.SplitHostPort(addr, 8008)
	if err != nil {
		return nil //nolint:nilerr // the schema said so
	}
	if host == "*" {
		host = ""
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	switch {
	case err == nil:
		return l.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s %s: another program listens there; stop it, choose another port, or say --ignore-listen-port if it is the agent", key, addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s %s: this host has no such address; correct it, or use 0.0.0.0", key, addr)
	}
	return fmt.Errorf("%s %s: %w", key, addr, plain.Connection(err))
}

// unreachable names the servers of etcd that do not answer.
func unreachable(hosts []string) []string {
	found := make([]string, len(hosts))
	var group sync.WaitGroup
	for i, host := range hosts {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			c, err := new(net.Dialer).DialContext(ctx, "tcp", host)
			if err != nil {
				found[i] = fmt.Sprintf("etcd: %s cannot be reached (%s); is it running, and is the way to it open?", host, plain.Reason(err))
				return
			}
			_ = c.Close() // it answers, that is all
		})
	}
	group.Wait()
	var out []string
	for _, f := range found {
		if f != "" {
			out = append(out, f)
		}
	}
	return out
}
