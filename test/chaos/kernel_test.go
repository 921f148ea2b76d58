//go:build e2e

package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
)

// because is for rows that this rig never runs.
func because(reason string) func() string { return func() string { return reason } }

// iptables tells whether packets can be dropped at random.
func iptables() string {
	if _, err := exec.LookPath("iptables"); err != nil {
		return "no iptables (scripts/deps.sh chaos installs it)"
	}
	// In a namespace of its own: it says what the kernel has.
	probe := exec.Command("unshare", "-n", "iptables", "-A", "INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.1", "-j", "DROP")
	if err := probe.Run(); err != nil {
		return "the kernel's iptables has no match 'statistic'"
	}
	return ""
}

// hostFreezer tells whether a host can be frozen as a whole.
func hostFreezer() string {
	for _, path := range []string{"/sys/fs/cgroup/freezer/cgroup.procs", "/sys/fs/cgroup/cgroup.procs"} {
		if _, err := os.Stat(path); err == nil {
			return ""
		}
	}
	return "no cgroup freezer"
}

// memoryRoot is where memory is limited.
const memoryRoot = "/sys/fs/cgroup/memory"

// memoryCgroup tells whether the memory of a process can be limited.
func memoryCgroup() string {
	if _, err := os.Stat(filepath.Join(memoryRoot, "memory.limit_in_bytes")); err != nil {
		return "no cgroup v1 with the memory controller"
	}
	return ""
}

// pidsCgroup tells whether the number of processes can be limited.
func pidsCgroup() string {
	dir, err := os.MkdirTemp("/sys/fs/cgroup/pids", "pgha-chaos-")
	if err != nil {
		return "no cgroup v1 with the pids controller"
	}
	defer func() { _ = os.Remove(dir) }()
	if _, err := os.Stat(filepath.Join(dir, "pids.max")); err != nil {
		return "no cgroup v1 with the pids controller"
	}
	return ""
}
