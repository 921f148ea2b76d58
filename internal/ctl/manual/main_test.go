package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestManual(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	for page, words := range map[string][]string{
		"pghactl.1":             {"patronictl.yaml", "SEE ALSO", "pghactl-restart(1)"},
		"pghactl-restart.1":     {"--pending", "--pg-version", "CLUSTER"},
		"pghactl-edit-config.1": {"--replace"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Error(err)
		}
		plain := strings.ReplaceAll(string(text), `\-`, "-")
		for _, word := range words {
			if !strings.Contains(plain, word) {
				t.Errorf("%s does not say %q", page, word)
			}
		}
	}
	if err := write("/proc/nowhere"); err == nil {
		t.Error("wrote into /proc")
	}
}
