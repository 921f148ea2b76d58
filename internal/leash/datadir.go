package leash

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// InProgressMarker is the file an agent keeps in a data directory while the
// directory is made or changed: bootstrap, clone, rewind, restore. Its
// contents name which. Tools that insist on an empty directory get the marker
// beside it; MarkerPaths has both places.
const InProgressMarker = "pgha.in_progress"

// MarkerBootstrap is the word in the marker of a new cluster's directory. Only
// such a directory may be started unarmed by StartRequest.Bootstrap.
const MarkerBootstrap = "bootstrap"

// MarkerPaths are the places where a marker forbids to start dataDir.
func MarkerPaths(dataDir string) []string {
	dataDir = filepath.Clean(dataDir)
	return []string{filepath.Join(dataDir, InProgressMarker), dataDir + "." + InProgressMarker}
}

const (
	standbySignal  = "standby.signal"
	recoverySignal = "recovery.signal"
	promoteTrigger = "promote"
)

// marker is what was in progress, or "".
func marker(dataDir string) (string, error) {
	for _, path := range MarkerPaths(dataDir) {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read marker: %w", err)
		}
		if bytes.Contains(text, []byte(MarkerBootstrap)) {
			return MarkerBootstrap, nil
		}
		word := strings.ToValidUTF8(strings.TrimSpace(string(text[:min(len(text), 40)])), "?")
		if word == "" {
			word = "an operation"
		}
		return word, nil
	}
	return "", nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// checkDir refuses a directory that PostgreSQL would refuse, or that is not
// the expected cluster.
func checkDir(dataDir, systemID string) error {
	if !filepath.IsAbs(dataDir) {
		return fmt.Errorf("data directory %q is not an absolute path", dataDir)
	}
	info, err := os.Stat(dataDir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dataDir)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s does not belong to uid %d", dataDir, os.Geteuid())
	}
	if info.Mode().Perm()&0o027 != 0 {
		return fmt.Errorf("%s has mode %04o; chmod it to 0700 or 0750", dataDir, info.Mode().Perm())
	}
	c, err := readControl(dataDir)
	if err != nil {
		return err
	}
	if systemID != "" && c.systemID != systemID {
		return fmt.Errorf("%s has system identifier %s, expected %s", dataDir, c.systemID, systemID)
	}
	return nil
}

// control is the head of global/pg_control, whose layout has not changed since
// PostgreSQL 9: system identifier, two versions, state.
type control struct {
	systemID string
	state    uint32
}

// Two values of DBState: recovery that waits for more WAL, or for its end.
const (
	stateCrashRecovery   = 4
	stateArchiveRecovery = 5
)

func readControl(dataDir string) (control, error) {
	f, err := os.Open(filepath.Join(dataDir, "global", "pg_control"))
	if err != nil {
		return control{}, fmt.Errorf("read control file: %w", err)
	}
	defer f.Close()
	var head [20]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return control{}, fmt.Errorf("read control file: %w", err)
	}
	return control{
		systemID: strconv.FormatUint(binary.NativeEndian.Uint64(head[0:]), 10),
		state:    binary.NativeEndian.Uint32(head[16:]),
	}, nil
}

// inRecovery tells whether a running server that was started with
// standby.signal is still in recovery: the state in the control file changes
// before the first write is let through.
func inRecovery(dataDir string) bool {
	c, err := readControl(dataDir)
	return err == nil && (c.state == stateCrashRecovery || c.state == stateArchiveRecovery)
}

// standbyOnly: standby.signal is there and nobody asked for a promotion.
func standbyOnly(dataDir string) bool {
	return exists(filepath.Join(dataDir, standbySignal)) && !exists(filepath.Join(dataDir, promoteTrigger))
}

// pidFile is what the leash needs of postmaster.pid.
type pidFile struct {
	pid int // negative: a single-user backend
	shm shm
}

func readPidFile(dataDir string) (pidFile, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return pidFile{}, fmt.Errorf("read pid file: %w", err)
	}
	return parsePidFile(string(text))
}

// parsePidFile takes the pid from line 1 and the shared memory from line 7,
// which is missing until the server has made it.
func parsePidFile(text string) (pidFile, error) {
	lines := strings.Split(text, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return pidFile{}, fmt.Errorf("read pid file: line 1 is %q, not a pid", lines[0])
	}
	p := pidFile{pid: pid}
	if len(lines) < 7 {
		return p, nil
	}
	f := strings.Fields(lines[6])
	if len(f) != 2 {
		return p, nil
	}
	key, err1 := strconv.ParseUint(f[0], 10, 64)
	id, err2 := strconv.Atoi(f[1])
	if err1 == nil && err2 == nil {
		p.shm = shm{key: int32(uint32(key)), id: id, known: true}
	}
	return p, nil
}

// shm is the System V segment by which PostgreSQL itself tells whether a
// process of a former server is left.
type shm struct {
	key   int32
	id    int
	known bool
}

const shmDest = 0o1000 // SHM_DEST: removed, kept alive by those attached

// attached is the number of processes attached to the segment.
func (m shm) attached() (uint64, error) {
	if !m.known {
		return 0, nil
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(m.id, unix.IPC_STAT, &d); err != nil {
		if err == unix.EINVAL || err == unix.EIDRM {
			return 0, nil // gone
		}
		if err == unix.EACCES {
			return 0, nil // the id was used again, by another user
		}
		return 0, fmt.Errorf("look at shared memory %d: %w", m.id, err)
	}
	if d.Perm.Key != m.key && d.Perm.Mode&shmDest == 0 {
		return 0, nil // the id was used again
	}
	return d.Nattch, nil
}

// livePostmaster is the pid of a postmaster that runs in dataDir, or 0.
func livePostmaster(dataDir string) int {
	f, err := readPidFile(dataDir)
	dir, ok := statID(dataDir)
	if err != nil || !ok || f.pid <= 0 {
		return 0
	}
	if p, alive := readProc(f.pid); !alive || p.dead() || !runsServerIn(f.pid, dir) {
		return 0
	}
	return f.pid
}

// attachedTo is the number of processes still attached to the shared memory
// of the last server of dataDir.
func attachedTo(dataDir string) uint64 {
	f, err := readPidFile(dataDir)
	if err != nil {
		return 0
	}
	n, err := f.shm.attached()
	if err != nil {
		return 0
	}
	return n
}
