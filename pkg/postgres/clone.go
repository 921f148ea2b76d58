package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pgha/pgha/pkg/config"
)

// CloneSpec says what to make a replica of, and how.
type CloneSpec struct {
	// Upstream is the member to copy from; nil: nobody, so only methods with
	// no_leader can be used.
	Upstream *Upstream
	// Leader is the cluster's leader where Upstream is another member; nil:
	// Upstream is the leader.
	Leader *Upstream
	// LeaderInRecovery: the leader is that of a standby cluster.
	LeaderInRecovery bool
	// Archive: there is no server at all, and never was: the first copy of a standby
	// cluster that lives by a repository, which is restored from its newest backup.
	Archive    bool
	FromLeader bool     // reinit --from-leader: basebackup only
	Methods    []string // in place of the configured ones; a standby cluster may name its own
	// Wipe: a complete copy in the data directory may be given up, once the
	// leader was seen to run (safety S9).
	Wipe     bool
	SystemID string // the cluster's, "" unknown
	// Progress (may be nil) gets the method in use, bytes done and their total, 0 unknown.
	Progress func(method string, done, total int64)
}

// baseBackupMethod is the name of pg_basebackup among the methods.
const baseBackupMethod = "basebackup"

// rung is one way to make a replica.
type rung struct {
	name   string
	method *config.CustomMethod // nil: basebackup
}

func (r rung) native() bool { return r.method != nil && r.method.Native }
func (r rung) keeps() bool  { return r.native() || r.method != nil && r.method.KeepData }

// Clone makes the data directory a replica: it tries the configured methods in
// their order and ends with the first that works. An interrupted call is gone
// on with by the next one, at the same method; a method that failed is not
// tried again until all have failed. Data in a complete directory is given up
// only when Wipe allows it and the leader was seen to run. While the work is
// not done the directory is marked and cannot be started.
func (s *Server) Clone(ctx context.Context, c CloneSpec) error {
	if err := s.clone(ctx, c); err != nil {
		return fmt.Errorf("make a replica: %w", err)
	}
	return nil
}

func (s *Server) clone(ctx context.Context, c CloneSpec) error {
	if _, ok := s.Running(); ok {
		return ErrRunning
	}
	d := s.State()
	switch {
	case d.State == DirUnreadable:
		return d.Err
	case d.State == DirPresent && !c.Wipe:
		return fmt.Errorf("%w: %s", ErrNotEmpty, s.config().DataDir)
	}
	rungs := s.rungs(c)
	if len(rungs) == 0 {
		return errors.New("nobody is there to copy from, and no method in create_replica_methods has no_leader")
	}
	cl := &cloning{s: s, c: c, precious: d.State == DirPresent, note: s.cloneNote(d, rungs)}
	return cl.climb(ctx, rungs)
}

// rungs lists the methods that can be used.
func (s *Server) rungs(c CloneSpec) []rung {
	cfg := s.config()
	names := cfg.CreateReplicaMethods
	if c.Methods != nil {
		names = c.Methods
	}
	if c.FromLeader || len(names) == 0 {
		names = []string{baseBackupMethod}
	}
	var out []rung
	for _, name := range names {
		r := rung{name: name}
		if name != baseBackupMethod {
			if r.method = cfg.Methods[name]; r.method == nil {
				r.method = &config.CustomMethod{Name: name, Command: name}
			}
		}
		if c.Upstream != nil || c.Archive && r.native() || r.method != nil && r.method.NoLeader && !r.native() {
			out = append(out, r)
		}
	}
	return out
}

// cloneNote finds where an interrupted clone was.
func (s *Server) cloneNote(d DataDir, rungs []rung) repair {
	note, ok := s.loadRepair()
	if ok && d.State == DirInProgress && note.Purpose == purposeReplica && note.Phase == phaseFiles {
		for i, r := range rungs {
			if r.name == note.Method {
				note.Rung = i
				s.log.Info("going on with the interrupted replica", "method", r.name)
				return note
			}
		}
	}
	return repair{Purpose: purposeReplica, Phase: phaseFiles}
}

// cloning is one climb of the ladder.
type cloning struct {
	s        *Server
	c        CloneSpec
	note     repair
	precious bool // a complete copy that nobody has given up yet
	begun    bool // the marker was written
}

func (cl *cloning) climb(ctx context.Context, rungs []rung) error {
	var failed []error
	for _, earlier := range cl.note.Errors {
		failed = append(failed, errors.New(earlier))
	}
	for i := cl.note.Rung; i < len(rungs); i++ {
		r := rungs[i]
		cl.note.Rung, cl.note.Method = i, r.name
		err := cl.try(ctx, r)
		if err == nil {
			return cl.finish()
		}
		err = fmt.Errorf("%s: %w", r.name, err)
		if ctx.Err() != nil {
			return err
		}
		cl.s.log.Warn("cannot make a replica this way", "method", r.name, "error", err)
		cl.note.Errors = append(cl.note.Errors, clip(err.Error(), 500))
		failed = append(failed, err)
	}
	return errors.Join(append(failed, cl.giveUp())...)
}

// giveUp lets the next call begin anew. An empty directory needs no marker.
func (cl *cloning) giveUp() error {
	if !cl.begun {
		return nil
	}
	entries, err := os.ReadDir(cl.s.config().DataDir)
	if err == nil && isEmpty(entries) || os.IsNotExist(err) {
		return cl.s.Finish()
	}
	return cl.s.clearRepair()
}

// finish makes the copy a standby before the marker goes: a copy of a primary
// must not come up as one.
func (cl *cloning) finish() error {
	if err := cl.s.restoreConfBackups(); err != nil {
		return err
	}
	if err := cl.s.writeSignal(RoleStandby); err != nil {
		return err
	}
	return cl.s.Finish()
}

// try makes one attempt, and checks what came of it.
func (cl *cloning) try(ctx context.Context, r rung) error {
	var err error
	switch {
	case r.method == nil:
		err = cl.baseBackup(ctx, r)
	case r.native():
		err = cl.restore(ctx, r)
	default:
		err = cl.custom(ctx, r)
	}
	if err != nil {
		return err
	}
	if err := checkMode(cl.s.config().DataDir); err != nil {
		return err
	}
	control, err := cl.s.ControlData(ctx)
	if err == nil && cl.c.SystemID != "" && control.SystemID != cl.c.SystemID {
		err = fmt.Errorf("%w: it made a copy of %s, ours is %s", ErrForeignSystem, control.SystemID, cl.c.SystemID)
	}
	return err
}

// begin marks the directory, after the last check before the first change.
func (cl *cloning) begin(ctx context.Context, r rung, kind Kind) error {
	if cl.precious {
		if err := cl.s.seeLeader(ctx, cl.c); err != nil {
			return fmt.Errorf("not giving up the data here before the leader is seen to run: %w", err)
		}
	}
	cl.note.Attempts++
	if err := cl.s.saveRepair(cl.note); err != nil {
		return err
	}
	if err := cl.s.Begin(kind, false); err != nil {
		return err
	}
	cl.begun, cl.precious = true, false
	if r.keeps() {
		return nil
	}
	return cl.s.Wipe()
}

func (cl *cloning) baseBackup(ctx context.Context, r rung) error {
	if err := cl.begin(ctx, r, KindClone); err != nil {
		return err
	}
	return cl.s.baseBackups(ctx, *cl.c.Upstream, cl.progress(r))
}

func (cl *cloning) progress(r rung) func(done, total int64) {
	if cl.c.Progress == nil {
		return nil
	}
	return func(done, total int64) { cl.c.Progress(r.name, done, total) }
}

func (cl *cloning) custom(ctx context.Context, r rung) error {
	if err := cl.begin(ctx, r, KindClone); err != nil {
		return err
	}
	err := cl.s.customReplica(ctx, r.method, cl.c.Upstream)
	if err != nil && ctx.Err() == nil && !r.keeps() {
		return errors.Join(err, cl.s.Wipe())
	}
	return err
}

// restore is the native way: the newest backup that belongs to the leader's
// history, laid over what is there.
func (cl *cloning) restore(ctx context.Context, r rung) error {
	s := cl.s
	if cl.c.Archive {
		return cl.restoreNewest(ctx, r)
	}
	leader, err := s.leaderPointOf(ctx, *cl.c.leader())
	if err != nil {
		return err
	}
	if cl.c.SystemID != "" && leader.systemID != cl.c.SystemID {
		return fmt.Errorf("%w: the leader has %s, ours is %s", ErrForeignSystem, leader.systemID, cl.c.SystemID)
	}
	repo, err := s.Repository(ctx, "")
	if err != nil {
		return err
	}
	set, err := setForReplica(*repo, leader)
	if err != nil {
		return err
	}
	cl.note.Set = set.Label
	if err := cl.begin(ctx, r, KindRestore); err != nil {
		return err
	}
	if err := s.putFiles(ctx, RestoreFiles{Set: set.Label}, cl.c.Progress); err != nil {
		return err
	}
	return s.putHistory(ctx, *cl.c.leader(), set.Timeline, leader.tl)
}

func (c CloneSpec) leader() *Upstream {
	if c.Leader != nil {
		return c.Leader
	}
	return c.Upstream
}

// seeLeader demands that the leader runs as a primary of our cluster (S9).
func (s *Server) seeLeader(ctx context.Context, c CloneSpec) error {
	leader := c.leader()
	if leader == nil {
		return errors.New("no leader is known")
	}
	sys, err := s.IdentifySystem(ctx, leader)
	if err != nil {
		return fmt.Errorf("%s: %w", leader.where(), err)
	}
	want := c.SystemID
	if want == "" {
		control, err := s.ControlData(ctx)
		if err != nil {
			return err
		}
		want = control.SystemID
	}
	if sys.ID != want {
		return fmt.Errorf("%s: %w (%s, ours is %s)", leader.where(), ErrForeignSystem, sys.ID, want)
	}
	if c.LeaderInRecovery {
		return nil
	}
	primary, err := s.upstreamPrimary(ctx, *leader)
	if err != nil {
		return err
	}
	if !primary {
		return fmt.Errorf("%s: %w", leader.where(), ErrNotPrimary)
	}
	return nil
}
