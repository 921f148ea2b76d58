package leash

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// proc is one line of /proc. Pid and start time together name a process.
type proc struct {
	pid, ppid int
	state     byte
	start     uint64 // clock ticks since boot
}

func (p proc) dead() bool { return p.state == 'Z' || p.state == 'X' || p.state == 'x' }

// fileID names a file or directory whatever its path.
type fileID struct{ dev, ino uint64 }

func statID(path string) (fileID, bool) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileID{}, false
	}
	return fileID{st.Dev, st.Ino}, true
}

func procPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}

// readProc reads /proc/PID/stat; ok is false if there is no such process.
func readProc(pid int) (p proc, ok bool) {
	fd, err := unix.Open(procPath(pid, "stat"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return proc{}, false
	}
	defer unix.Close(fd)
	var buf [1024]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil || n <= 0 {
		return proc{}, false
	}
	return parseStat(buf[:n])
}

// parseStat reads pid, state, parent and start time (fields 1, 3, 4 and 22).
// The command name in between may hold spaces and parentheses.
func parseStat(line []byte) (proc, bool) {
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return proc{}, false
	}
	f := strings.Fields(string(line[end+1:]))
	if len(f) < 20 {
		return proc{}, false
	}
	pid, err1 := strconv.Atoi(strings.TrimSpace(string(line[:open])))
	ppid, err2 := strconv.Atoi(f[1])
	start, err3 := strconv.ParseUint(f[19], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return proc{}, false
	}
	return proc{pid: pid, ppid: ppid, state: f[0][0], start: start}, true
}

// processes reads all of /proc. The picture is not of one instant; callers look
// again until it is quiet.
func processes() (map[int]proc, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := make(map[int]proc, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := readProc(pid); ok {
			all[pid] = p
		}
	}
	return all, nil
}

// descends tells whether p has an ancestor for which is holds. The depth is
// bounded, because a picture taken over time may hold a cycle.
func descends(all map[int]proc, p proc, is func(pid int) bool) bool {
	for range 64 {
		if is(p.ppid) {
			return true
		}
		next, ok := all[p.ppid]
		if !ok || next.pid == p.pid {
			return false
		}
		p = next
	}
	return false
}

// killProc sends SIGKILL to exactly this process; a pid that was used again
// meanwhile is left alone.
func killProc(p proc) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.pid, err)
	}
	defer unix.Close(fd)
	if now, ok := readProc(p.pid); !ok || now.start != p.start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	return nil
}

func procUID(pid int) (int, bool) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid), &st); err != nil {
		return 0, false
	}
	return int(st.Uid), true
}

// title is the command line up to the first NUL, without trailing blanks. A
// backend's begins with "postgres: "; a postmaster's is its path.
func title(pid int) string {
	line, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil {
		return ""
	}
	if i := bytes.IndexByte(line, 0); i >= 0 {
		line = line[:i]
	}
	return strings.TrimRight(string(line), " ")
}

func backendTitle(pid int) bool { return strings.HasPrefix(title(pid), "postgres: ") }

// loggerTitle: the logging collector. It holds no shared memory and ends by
// itself when the last writer of its pipe is gone.
func loggerTitle(pid int) bool {
	t := title(pid)
	return strings.HasPrefix(t, "postgres: ") && strings.HasSuffix(t, " logger")
}

// runsServerIn tells whether pid is a postgres executable of our uid with dir
// as its working directory: a postmaster or a backend of that data directory.
func runsServerIn(pid int, dir fileID) bool {
	if uid, ok := procUID(pid); !ok || uid != os.Geteuid() {
		return false
	}
	if !postgresExe(pid) {
		return false
	}
	cwd, ok := statID(procPath(pid, "cwd"))
	return ok && cwd == dir
}

func postgresExe(pid int) bool {
	exe, err := os.Readlink(procPath(pid, "exe"))
	if err != nil {
		return false
	}
	name := filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
	return name == "postgres" || name == "postmaster"
}

const atSecure = 23 // AT_SECURE of <elf.h>

// secureExec tells whether the kernel treated the exec of pid as a change of
// privilege, which clears the parent-death signal.
func secureExec(pid int) (bool, error) {
	auxv, err := os.ReadFile(procPath(pid, "auxv"))
	if err != nil {
		return false, fmt.Errorf("read auxiliary vector: %w", err)
	}
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.NativeEndian.Uint64(auxv) == atSecure {
			return binary.NativeEndian.Uint64(auxv[8:]) != 0, nil
		}
	}
	return false, fmt.Errorf("read auxiliary vector: no AT_SECURE")
}
