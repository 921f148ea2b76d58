package postgres

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Volume gives the size of the file system that a directory lies on, and what is
// free of it, in bytes. As with df, what is kept back from us (for root, by a
// quota) is part of neither.
func Volume(dir string) (total, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	block := int64(st.Bsize)                                 //nolint:unconvert // types differ between platforms
	free = int64(st.Bavail) * block                          //nolint:gosec // of a disk
	return int64(st.Blocks-st.Bfree)*block + free, free, nil //nolint:gosec // of a disk
}
