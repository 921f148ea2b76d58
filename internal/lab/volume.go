package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// volume is a node's disk: ext4 on a loop device over an image in a tmpfs of its
// own. What happens to the tmpfs happens to the disk.
type volume struct {
	size           int64
	backing, mount string // directories
	mounted        bool
	frozen         bool
}

// backingSpare is what the tmpfs holds beyond the image.
const backingSpare = 1 << 20

const fillerName = "pgha-lab-filler"

// ErrNoVolume is returned by faults of disks where nodes have none of their own.
var ErrNoVolume = errors.New("faults of disks need Options.Volume")

func (v *volume) image() string { return filepath.Join(v.backing, "image") }

// makeVolume gives a node its disk, empty.
func (l *Lab) makeVolume(n *Node) error {
	v := n.disk
	for _, dir := range []string{v.backing, v.mount} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make volume: %w", err)
		}
	}
	options := fmt.Sprintf("size=%d", v.size+backingSpare)
	if err := unix.Mount("pgha-lab", v.backing, "tmpfs", 0, options); err != nil {
		return fmt.Errorf("mount tmpfs of volume: %w", err)
	}
	f, err := os.Create(v.image())
	if err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	if err := errors.Join(f.Truncate(v.size), f.Close()); err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	if err := command("mkfs.ext4", "-q", "-F", "-m", "0", v.image()); err != nil {
		return err
	}
	if err := command("mount", "-o", "loop", v.image(), v.mount); err != nil {
		return err
	}
	v.mounted = true
	return l.give(v.mount)
}

func (v *volume) remove() error {
	if !v.mounted {
		return nil
	}
	v.mounted = false
	errs := []error{v.thaw()}
	if err := command("umount", v.mount); err != nil {
		// A dying disk keeps its files open in the kernel.
		errs = append(errs, unix.Unmount(v.mount, unix.MNT_DETACH))
	}
	errs = append(errs, unix.Unmount(v.backing, unix.MNT_DETACH))
	return errors.Join(errs...)
}

func (v *volume) thaw() error {
	if !v.frozen {
		return nil
	}
	v.frozen = false
	return command("fsfreeze", "-u", v.mount)
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// FillDisk takes all free space of a node's disk; DrainDisk gives it back.
func (l *Lab) FillDisk(n *Node) error {
	if n.disk == nil {
		return ErrNoVolume
	}
	return fill(filepath.Join(n.disk.mount, fillerName))
}

// DrainDisk undoes FillDisk.
func (l *Lab) DrainDisk(n *Node) error {
	if n.disk == nil {
		return ErrNoVolume
	}
	return os.Remove(filepath.Join(n.disk.mount, fillerName))
}

// FillHome takes all free space of the file system with a node's logs and run
// directory; DrainHome gives it back.
func (l *Lab) FillHome(n *Node) error {
	if l.opts.Home == 0 {
		return ErrNoVolume
	}
	return fill(filepath.Join(n.Dir, fillerName))
}

// DrainHome undoes FillHome.
func (l *Lab) DrainHome(n *Node) error { return os.Remove(filepath.Join(n.Dir, fillerName)) }

// makeHomes gives every node a file system for its directory.
func (l *Lab) makeHomes() error {
	if l.opts.Home == 0 {
		return nil
	}
	for _, n := range l.Nodes {
		if err := os.MkdirAll(n.Dir, 0o700); err != nil {
			return fmt.Errorf("make home: %w", err)
		}
		if err := unix.Mount("pgha-lab", n.Dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", l.opts.Home)); err != nil {
			return fmt.Errorf("mount tmpfs of home: %w", err)
		}
	}
	return nil
}

func (l *Lab) removeHomes() error {
	if l.opts.Home == 0 {
		return nil
	}
	var errs []error
	for _, n := range l.Nodes {
		if err := unix.Unmount(n.Dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", n.Dir, err))
		}
	}
	return errors.Join(errs...)
}

// fill makes a file of all the space there is around it.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	defer func() { _ = f.Close() }()
	at, step := int64(0), int64(64<<20)
	for step >= 4096 {
		switch err := unix.Fallocate(int(f.Fd()), 0, at, step); {
		case err == nil:
			at += step
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("fill disk: %w", err)
		}
	}
	return nil
}

// HangDisk lets every write to a node's disk wait, for ever.
func (l *Lab) HangDisk(n *Node) error {
	if n.disk == nil {
		return ErrNoVolume
	}
	if err := command("fsfreeze", "-f", n.disk.mount); err != nil {
		return err
	}
	n.disk.frozen = true
	return nil
}

// ThawDisk undoes HangDisk.
func (l *Lab) ThawDisk(n *Node) error {
	if n.disk == nil {
		return ErrNoVolume
	}
	return n.disk.thaw()
}

// BreakDisk lets every write to a node's disk fail from now on. Only ReplaceDisk
// mends that.
func (l *Lab) BreakDisk(n *Node) error {
	if n.disk == nil {
		return ErrNoVolume
	}
	if err := os.Truncate(n.disk.image(), 4096); err != nil {
		return fmt.Errorf("break disk: %w", err)
	}
	return fill(filepath.Join(n.disk.backing, fillerName))
}

// ReplaceDisk gives a node whose processes are gone a new, empty disk.
func (l *Lab) ReplaceDisk(n *Node) error {
	if n.disk == nil {
		return ErrNoVolume
	}
	if err := n.disk.remove(); err != nil {
		return fmt.Errorf("replace disk: %w", err)
	}
	return l.makeVolume(n)
}
