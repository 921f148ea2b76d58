package postgres

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

// Values are judged by the server's own program, without a server.
func TestRefusedValues(t *testing.T) {
	ctx := testContext(t)
	n := newNode(t, "n")
	n.stateDir = t.TempDir()
	want := map[string]string{
		"shared_buffers":            `invalid value for parameter "shared_buffers": "12 parsecs" (Valid units`,
		"max_connections":           `invalid value for parameter "max_connections": "abc"`,
		"max_wal_senders":           "300000 is outside the valid range",
		"jit":                       `parameter "jit" requires a Boolean value`,
		"log_min_messages":          `invalid value for parameter "log_min_messages": ""`,
		"synchronous_standby_names": "syntax error",
		"log_line_prefix":           "line break",
	}
	given := map[string]string{
		"shared_buffers": "12 parsecs", "max_connections": "abc", "max_wal_senders": "300000", "JIT": "perhaps", "log_min_messages": "",
		"synchronous_standby_names": "FIRST (", "log_line_prefix": "a\nb",
		"work_mem": "4MB", "wal_level": "hot_standby", "archive_command": "cp '%p' /x", "app.setting": "anything", "no_such_parameter": "1", "config_file": "/x",
	}
	got, err := n.RefusedValues(ctx, given)
	must(t, err)
	for name, words := range want {
		if !strings.Contains(got[name], words) {
			t.Errorf("%s: %q, want %q", name, got[name], words)
		}
	}
	if len(got) != len(want) {
		t.Errorf("refused: %v", slices.Sorted(maps.Keys(got)))
	}
	if got, err := n.RefusedValues(ctx, map[string]string{"work_mem": "4MB", "no_such_parameter": "1"}); err != nil || len(got) > 0 {
		t.Errorf("good values: %v, %v", got, err)
	}
	if left, err := os.ReadDir(n.stateDir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	none := newNode(t, "none", func(c *config.Postgres) { c.BinDir = "/nonexistent" })
	if got, err := none.RefusedValues(ctx, given); err == nil || got != nil {
		t.Errorf("without a program: %v, %v", got, err)
	}
}
