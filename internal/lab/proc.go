package lab

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// proc is one line of the process table.
type proc struct {
	pid, ppid int
	comm      string
	zombie    bool
}

// processes reads the process table. Processes that end meanwhile are left out.
func processes() []proc {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		if p, ok := parseStat(pid, stat); ok {
			out = append(out, p)
		}
	}
	return out
}

// parseStat reads /proc/PID/stat: "pid (comm) state ppid ...". The name may hold
// blanks and parentheses, so it ends at the last one.
func parseStat(pid int, stat []byte) (proc, bool) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return proc{}, false
	}
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 2 {
		return proc{}, false
	}
	ppid, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return proc{}, false
	}
	return proc{
		pid:    pid,
		ppid:   ppid,
		comm:   string(stat[open+1 : end]),
		zombie: fields[0][0] == 'Z' || fields[0][0] == 'X',
	}, true
}

// descendants picks from the table everything below root, zombies included: a
// process is a zombie already while threads of it are still ending.
func descendants(table []proc, root int) []proc {
	children := map[int][]proc{}
	for _, p := range table {
		children[p.ppid] = append(children[p.ppid], p)
	}
	var out []proc
	queue := []int{root}
	for len(queue) > 0 {
		next := children[queue[0]]
		queue = queue[1:]
		for _, p := range next {
			queue = append(queue, p.pid)
			out = append(out, p)
		}
	}
	return out
}

// killBelow sends SIGKILL to every process below root and tells how many there
// were, those included that nobody has waited for yet. A process forked
// meanwhile is found by the next call.
func killBelow(root int) int {
	victims := descendants(processes(), root)
	for _, p := range victims {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	return len(victims)
}
