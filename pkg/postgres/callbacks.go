package postgres

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// OnReload is the callback of a reload; it disturbs no other.
const OnReload = "on_reload"

// lane runs one callback at a time: a newer one kills the one that runs, with
// its children, and takes the place of one that waits (wire contract §8.1).
type lane struct {
	mu     sync.Mutex
	cancel context.CancelFunc
	done   chan struct{} // closed when the newest is over
}

func (l *lane) run(do func(ctx context.Context)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel != nil {
		l.cancel()
	}
	before, done := l.done, make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.done = cancel, done
	go func() {
		defer close(done)
		defer cancel()
		if before != nil {
			<-before
		}
		if ctx.Err() == nil {
			do(ctx)
		}
	}()
}

func (l *lane) newest() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done
}

// Callback begins to run the script configured for event, if there is one, and
// does not wait for it.
func (s *Server) Callback(event, role string) {
	line := s.config().Callbacks[event]
	if strings.TrimSpace(line) == "" {
		return
	}
	words, err := commandWords("postgresql.callbacks."+event, line)
	if err != nil {
		s.log.Error(err.Error())
		return
	}
	words = append(words, event, role, s.scope)
	l := &s.callbacks[0]
	if event == OnReload {
		l = &s.callbacks[1]
	}
	l.run(func(ctx context.Context) {
		if err := s.runCallback(ctx, event, words); err != nil {
			s.log.Warn("callback " + event + ": " + s.scrub(err.Error()))
		}
	})
}

// runCallback runs one script. Unlike a tool it may outlive the agent: one that
// takes an address away must come to its end.
func (s *Server) runCallback(ctx context.Context, event string, words []string) error {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env, cmd.Dir = s.serverEnv(), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A child that it leaves behind on purpose may keep the output open.
	cmd.WaitDelay = time.Second
	out := &tail{line: s.scriptLine(event)}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	out.flush()
	switch {
	case ctx.Err() != nil && cmd.Process != nil:
		return errors.New("it was killed, because the next one came")
	case errors.Is(err, exec.ErrWaitDelay):
		return nil
	}
	return err
}

// WaitCallbacks waits until the callbacks that run are over, or the time is.
func (s *Server) WaitCallbacks(limit time.Duration) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for i := range s.callbacks {
		done := s.callbacks[i].newest()
		if done == nil {
			continue
		}
		select {
		case <-done:
		case <-timeout.C:
			s.log.Warn("a callback still runs; it is left to itself")
			return
		}
	}
}

// PrePromote runs postgresql.pre_promote. Its failure means that the server must
// not be promoted.
func (s *Server) PrePromote(ctx context.Context) error {
	if err := s.hook(ctx, "pre_promote", s.config().PrePromote); err != nil {
		return fmt.Errorf("pre_promote: %w", err)
	}
	return nil
}

// beforeStopLimit bounds postgresql.before_stop: a script that hangs must not
// keep the server from being stopped.
const beforeStopLimit = time.Minute

// beforeStop runs postgresql.before_stop; what becomes of it is only logged.
func (s *Server) beforeStop(ctx context.Context) {
	line := s.config().BeforeStop
	if line == "" || s.isPrivate() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, beforeStopLimit)
	defer cancel()
	if err := s.hook(ctx, "before_stop", line); err != nil {
		s.log.Warn("before_stop: " + err.Error() + "; the server is stopped all the same")
	}
}

// hook runs a script that is waited for.
func (s *Server) hook(ctx context.Context, name, line string) error {
	if strings.TrimSpace(line) == "" {
		return nil
	}
	words, err := commandWords("postgresql."+name, line)
	if err != nil {
		return err
	}
	return s.runScript(ctx, name, words, nil)
}
