package leash

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// Exit codes of the command.
const (
	exitFailed = 1
	exitUsage  = 2
	exitLocked = 3 // another leash holds the run directory
)

const (
	defaultIdle = time.Minute
	readyLine   = "ok"
	readyFD     = 3
)

// Main is the command pgha-leash. It starts the leash as a daemon and returns
// when that listens; with -foreground it is the leash. The caller has locked
// the main goroutine to the main thread.
func Main(args []string, stdout io.Writer) int {
	flags := flag.NewFlagSet("pgha-leash", flag.ContinueOnError)
	var (
		cfg        Config
		logFile    string
		foreground bool
		notify     bool
		version    bool
	)
	flags.StringVar(&cfg.RunDir, "run-dir", "", "directory of socket and record, mode 0700, on a tmpfs")
	flags.DurationVar(&cfg.Quiet, "quiet", defaultQuiet, "time between SIGQUIT and SIGKILL at the deadline")
	flags.DurationVar(&cfg.Lmax, "lmax", 30*time.Second, "a deadline further away is refused")
	flags.DurationVar(&cfg.Idle, "idle", defaultIdle, "leave after this long without agent and server")
	flags.StringVar(&logFile, "log-file", "", "append messages to this file (default: stderr)")
	flags.BoolVar(&foreground, "foreground", false, "do not start a daemon")
	flags.BoolVar(&notify, "notify", false, "report readiness on descriptor 3 (used by the daemon)")
	flags.BoolVar(&version, "version", false, "print version and protocol")
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	if version {
		fmt.Fprintf(stdout, "pgha-leash %s, protocol %d\n", buildVersion(), Protocol)
		return 0
	}
	if err := checkConfig(&cfg); err != nil || flags.NArg() > 0 {
		fmt.Fprintf(stdout, "pgha-leash: %v\n", errors.Join(err, noArguments(flags.Args())))
		return exitUsage
	}
	if !foreground {
		return daemonise(args, stdout)
	}
	return runForeground(cfg, logFile, notify, stdout)
}

func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func noArguments(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

func checkConfig(c *Config) error {
	if c.RunDir == "" {
		return errors.New("-run-dir is missing")
	}
	dir, err := filepath.Abs(c.RunDir)
	if err != nil {
		return fmt.Errorf("-run-dir: %w", err)
	}
	c.RunDir = dir
	if _, _, err := Step(State{}, Extension{}, Configure{Lmax: int64(c.Lmax), Quiet: int64(c.Quiet)}, 0); err != nil {
		return err
	}
	if c.Idle <= 0 {
		return errors.New("-idle must be positive")
	}
	return nil
}

// daemonise starts this program again in a session of its own and waits until
// it listens. As its parent ends at once, no agent has to wait for it.
func daemonise(args []string, stdout io.Writer) int {
	line, code, err := startDaemon(args)
	if err != nil {
		fmt.Fprintf(stdout, "pgha-leash: %v\n", err)
		return exitFailed
	}
	if line == readyLine {
		return 0
	}
	fmt.Fprintln(stdout, line)
	return code
}

func startDaemon(args []string) (line string, code int, err error) {
	exe, err := os.Executable()
	if err != nil {
		return "", 0, fmt.Errorf("find own program: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return "", 0, fmt.Errorf("create pipe: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(exe, append(args[:len(args):len(args)], "-foreground", "-notify")...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return "", 0, fmt.Errorf("start daemon: %w", err)
	}
	text, err := io.ReadAll(r) // ends when the daemon closes its side, or ends
	line = strings.TrimSpace(string(text))
	if line == readyLine {
		return line, 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("wait for daemon: %w", err)
	}
	werr := cmd.Wait()
	if line == "" {
		return "", 0, fmt.Errorf("the daemon ended before it was ready: %w", werr)
	}
	return line, cmd.ProcessState.ExitCode(), nil
}

func runForeground(cfg Config, logFile string, notify bool, stdout io.Writer) int {
	report := func(line string) { fmt.Fprintln(stdout, line) }
	if notify {
		report = notifier()
	}
	if err := detach(logFile); err != nil {
		report("pgha-leash: " + err.Error())
		return exitFailed
	}
	if notify {
		cfg.Ready = func() { report(readyLine) }
	}
	err := Run(cfg)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errLocked):
		report("pgha-leash: " + err.Error())
		return exitLocked
	}
	report("pgha-leash: " + err.Error())
	return exitFailed
}

// notifier writes one line to the parent that waits, and hangs up.
func notifier() func(string) {
	syscall.CloseOnExec(readyFD)
	f := os.NewFile(readyFD, "ready")
	return func(line string) {
		fmt.Fprintln(f, line) // a parent that is gone does not matter
		f.Close()
	}
}

// detach lets go of what belongs to the agent: its directory, its terminal,
// and, with a log file, its stderr.
func detach(logFile string) error {
	if logFile != "" {
		fd, err := openLog(logFile)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		for _, std := range []int{1, 2} {
			if err := syscall.Dup3(fd, std, 0); err != nil {
				return fmt.Errorf("redirect to %s: %w", logFile, err)
			}
		}
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("leave working directory: %w", err)
	}
	return nil
}
