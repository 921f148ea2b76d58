package postgres

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// minMajor is the oldest supported major version.
const minMajor = 12

// MajorVersion reads PG_VERSION of the data directory. It is never guessed:
// an unmounted disk must not be taken for an old server (ha-behaviour 7.1).
func (s *Server) MajorVersion() (int, error) {
	b, err := os.ReadFile(s.inData("PG_VERSION"))
	if err != nil {
		return 0, fmt.Errorf("read server version: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || major < minMajor {
		return 0, fmt.Errorf("data directory %s is of PostgreSQL %q; %d or later is needed",
			s.config().DataDir, strings.TrimSpace(string(b)), minMajor)
	}
	return major, nil
}

// BinaryVersion asks the postgres binary for its version number, for example 150020.
func (s *Server) BinaryVersion(ctx context.Context) (int, error) {
	out, err := s.run(ctx, command{path: s.bin("postgres"), args: []string{"--version"}})
	if err != nil {
		return 0, fmt.Errorf("ask binary version: %w", err)
	}
	return parseVersion(out)
}

// parseVersion reads "postgres (PostgreSQL) 15.20 (Debian ...)" or "15.20",
// development versions ("17devel", "18beta1") included.
func parseVersion(out string) (int, error) {
	for _, word := range strings.Fields(out) {
		if word[0] < '0' || word[0] > '9' {
			continue
		}
		major, rest, _ := strings.Cut(word, ".")
		m, ok := leadingInt(major)
		if !ok || m > 9999 {
			break
		}
		minor, _ := leadingInt(rest)
		return m*10000 + min(minor, 9999), nil
	}
	return 0, fmt.Errorf("parse server version %q: no number found", strings.TrimSpace(out))
}

func leadingInt(s string) (int, bool) {
	end := 0
	for end < len(s) && end < 9 && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(s[:end])
	return n, err == nil
}

// knownGUCs lists the parameters the server's binary knows; the answer is
// kept, a failure is not.
func (s *Server) knownGUCs(ctx context.Context) (map[string]bool, error) {
	s.mu.Lock()
	known := s.gucs
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	out, err := s.run(ctx, command{path: s.bin("postgres"), args: []string{"--describe-config"}})
	if err != nil {
		return nil, fmt.Errorf("list known parameters: %w", err)
	}
	known = make(map[string]bool)
	for _, line := range strings.Split(out, "\n") {
		if name, _, ok := strings.Cut(line, "\t"); ok {
			known[strings.ToLower(name)] = true
		}
	}
	for _, name := range hiddenGUCs {
		known[name] = true
	}
	s.mu.Lock()
	s.gucs = known
	s.mu.Unlock()
	return known, nil
}

// hiddenGUCs are accepted by every supported server though --describe-config
// does not list them.
var hiddenGUCs = []string{
	"allow_system_table_mods", "debug_print_parse", "debug_print_plan", "debug_print_rewritten",
	"ignore_checksum_failure", "ignore_system_indexes", "jit_debugging_support", "jit_dump_bitcode",
	"jit_expressions", "jit_profiling_support", "jit_tuple_deforming", "post_auth_delay",
	"pre_auth_delay", "trace_notify", "trace_sort", "wal_consistency_checking", "zero_damaged_pages",
	"config_file", "data_directory", "hba_file", "ident_file", "external_pid_file",
}
