package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGenerateOnFullDisk: what could not be written whole does not stay, and is not
// in the way once there is room.
func TestGenerateOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	filler, path := filepath.Join(dir, "filler"), filepath.Join(dir, "patroni.yml")
	if err := os.WriteFile(filler, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	generate := func() (int, string) {
		var stderr bytes.Buffer
		return GenerateSample(t.Context(), path, nil, &bytes.Buffer{}, &stderr), stderr.String()
	}
	if code, said := generate(); code != 1 || !strings.Contains(said, "no space left on device") || strings.Count(said, "\n") != 1 {
		t.Errorf("exit %d, %s", code, said)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("something stayed: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if code, said := generate(); code != 0 {
		t.Errorf("with room: exit %d, %s", code, said)
	}
}
