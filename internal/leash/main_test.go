package leash

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary plays three more parts, chosen by this variable: the leash
// itself, an agent that is going to be killed, and this test as user postgres.
const partEnv = "PGHA_LEASH_TEST_PART"

func init() {
	if os.Getenv(partEnv) == "leash" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	switch part := os.Getenv(partEnv); {
	case part == "leash":
		os.Exit(Main(os.Args[1:], os.Stdout))
	case part == "agent":
		os.Exit(agentToKill())
	case os.Geteuid() == 0 && !fuzzing():
		os.Exit(asPostgres())
	}
	// Servers whose leash is killed become our children: nobody else's reaping
	// is waited for.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "become subreaper:", err)
		os.Exit(1)
	}
	code := m.Run()
	if template.dir != "" {
		_ = os.RemoveAll(filepath.Dir(template.dir))
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// fuzzing needs no server, and a corpus that belongs to root.
func fuzzing() bool {
	return slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.fuzz") })
}

// asPostgres runs the tests again as user postgres: the server refuses root.
func asPostgres() int {
	code, err := rerun()
	if err != nil {
		fmt.Fprintln(os.Stderr, "run tests as postgres:", err)
		return 1
	}
	return code
}

func rerun() (int, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	dir, err := os.MkdirTemp("", "pgha-leash-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, uid, gid); err != nil {
		return 0, err
	}
	bin := filepath.Join(dir, "leash.test")
	if err := copyProgram(bin); err != nil {
		return 0, err
	}
	cmd := exec.Command(bin)
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(a, "-test.testlogfile=") { // belongs to root
			cmd.Args = append(cmd.Args, a)
		}
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir, "USER=postgres")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

func copyProgram(to string) error {
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// agentOrder is what an agent that will be killed is to do first.
type agentOrder struct {
	Spawn    SpawnOptions
	Start    StartRequest
	Epoch    int64
	Deadline int64
}

// agentToKill starts leash and server, says the pid, and waits for its end.
func agentToKill() int {
	var o agentOrder
	if err := json.Unmarshal([]byte(os.Getenv("PGHA_LEASH_TEST_ORDER")), &o); err != nil {
		fmt.Println(err)
		return 1
	}
	os.Setenv(partEnv, "leash")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := Spawn(ctx, o.Spawn)
	if err == nil {
		err = c.Arm(ctx, o.Epoch, o.Deadline)
	}
	pid := 0
	if err == nil {
		pid, err = c.Start(ctx, o.Start)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(pid)
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed, or the test ends
	return 0
}
