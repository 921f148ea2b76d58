package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrNoFreezer tells that this kernel has no cgroup freezer the rig may use.
var ErrNoFreezer = errors.New("no cgroup freezer here")

// freezer is a cgroup whose processes can be stopped at one instant, all of them,
// and without their noticing, as a hypervisor does it.
type freezer struct {
	dir            string
	state          string // file
	freeze, thaw   string // what to write into it
	frozen, thawed string // and what it then says
}

// newFreezer makes one, with cgroup v1 or v2.
func newFreezer(name string) (*freezer, error) {
	f := &freezer{state: "freezer.state", freeze: "FROZEN", thaw: "THAWED", frozen: "FROZEN", thawed: "THAWED"}
	root := "/sys/fs/cgroup/freezer"
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		root = "/sys/fs/cgroup"
		f.state, f.freeze, f.thaw = "cgroup.freeze", "1", "0"
		f.frozen, f.thawed = "1", "0"
	}
	f.dir = filepath.Join(root, name)
	if err := os.Mkdir(f.dir, 0o755); err != nil && !os.IsExist(err) {
		return nil, fmt.Errorf("%w: %w", ErrNoFreezer, err)
	}
	if _, err := os.Stat(filepath.Join(f.dir, f.state)); err != nil {
		_ = os.Remove(f.dir)
		return nil, fmt.Errorf("%w: %w", ErrNoFreezer, err)
	}
	return f, nil
}

// take moves every process of a host into the cgroup. Children born meanwhile are
// found by another round.
func (f *freezer) take(h *host) error {
	moved := map[int]bool{}
	for again := true; again; {
		again = false
		for _, p := range h.tree() {
			if moved[p.pid] {
				continue
			}
			err := os.WriteFile(filepath.Join(f.dir, "cgroup.procs"), []byte(strconv.Itoa(p.pid)), 0o644)
			if err != nil && !errors.Is(err, os.ErrNotExist) && !strings.Contains(err.Error(), "no such process") {
				return fmt.Errorf("move process %d of %s into a cgroup: %w", p.pid, h.name, err)
			}
			moved[p.pid], again = true, true
		}
	}
	return nil
}

// set writes a state and waits for it: a process in the kernel stops when it leaves it.
func (f *freezer) set(value, want string) error {
	path := filepath.Join(f.dir, f.state)
	deadline := Boottime() + 20*time.Second
	for {
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set %s: %w", path, err)
		}
		if now, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(now)) == want {
			return nil
		}
		if Boottime() > deadline {
			return fmt.Errorf("set %s to %s: it does not follow", path, value)
		}
	}
}

func freezerName(n *Node) string {
	return fmt.Sprintf("pgha-lab-%s-%s", filepath.Base(filepath.Dir(n.Dir)), n.Name)
}

// FreezeHost stops everything on a node at once, unnoticed by it.
func (l *Lab) FreezeHost(n *Node) error {
	f, err := newFreezer(freezerName(n))
	if err != nil {
		return err
	}
	n.freezer = f
	if err := f.take(n.host); err != nil {
		return err
	}
	return f.set(f.freeze, f.frozen)
}

// ThawHost undoes FreezeHost.
func (l *Lab) ThawHost(n *Node) error {
	if n.freezer == nil {
		return nil
	}
	f := n.freezer
	if err := f.set(f.thaw, f.thawed); err != nil {
		return err
	}
	n.freezer = nil
	root := filepath.Join(filepath.Dir(f.dir), "cgroup.procs")
	for _, p := range n.host.tree() {
		_ = os.WriteFile(root, []byte(strconv.Itoa(p.pid)), 0o644) // it may have ended
	}
	_ = os.Remove(f.dir) // not while a process of it lives
	return nil
}
