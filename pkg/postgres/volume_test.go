package postgres

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestVolume(t *testing.T) {
	dir := t.TempDir()
	total, free, err := Volume(dir)
	must(t, err)
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	if whole := int64(st.Blocks) * int64(st.Bsize); free <= 0 || free > total || total > whole {
		t.Errorf("%d bytes free of %d, the device has %d", free, total, whole)
	}
	if _, _, err := Volume(filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
