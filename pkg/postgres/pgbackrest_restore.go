package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// ErrForeignFiles means that a restore would write into a directory that
// belongs to something else.
var ErrForeignFiles = errors.New("a restore would overwrite files that are not of this data directory")

// Files of pgBackRest's and of the server's that tell a data directory: without
// one of them --delta is refused.
const (
	backupManifest = "backup.manifest"
	pgVersionFile  = "PG_VERSION"
)

// RestoreFiles puts the files of a backup into the data directory. What is
// there already and equal stays, what does not belong there is deleted: an
// empty directory, an outdated copy and an interrupted restore all end up the
// same. No recovery settings are left in it. The caller holds the outer marker
// and no inner one, which pgBackRest would delete; pg_control goes first and
// comes last. progress (may be nil) gets bytes done and the size of the set.
//
// Cancelling ctx ends the whole process group; the next call goes on.
func (s *Server) RestoreFiles(ctx context.Context, o RestoreFiles, progress func(done, total int64)) error {
	for try := 1; ; try++ {
		err := s.restoreFiles(ctx, o, progress)
		var failed *CommandError
		switch {
		case err == nil:
			return nil
		case ctx.Err() == nil && try < restoreTries && errors.As(err, &failed) && failed.Code < 0:
			s.log.Warn("pgbackrest restore was killed, going on with what it has restored", "set", o.Set, "error", err)
		default:
			return fmt.Errorf("restore files from stanza %q: %w", s.stanzaName(o.Stanza), err)
		}
	}
}

// restoreTries is how often a restore is run that somebody kills, such as the
// kernel for want of memory. One that fails by itself is not repeated.
const restoreTries = 3

func (s *Server) restoreFiles(ctx context.Context, o RestoreFiles, progress func(done, total int64)) error {
	if _, ok := s.Running(); ok {
		return ErrRunning
	}
	repo, err := s.Repository(ctx, o.Stanza)
	if err != nil {
		return err
	}
	set, err := repo.find(o.Set)
	if err != nil {
		return err
	}
	outside, err := s.setLinks(ctx, o.Stanza, set.Label)
	if err != nil {
		return err
	}
	args := []string{s.pgPathOption(), "--set=" + set.Label, "--link-all", "--type=none"}
	if target := s.walTarget(); target != "" {
		outside.links["pg_wal"] = target
		args = append(args, "--link-map=pg_wal="+target)
	}
	delta, err := s.prepareDelta()
	if err != nil {
		return err
	}
	if delta {
		if err := s.checkOutside(outside); err != nil {
			return err
		}
		args = append(args, "--delta")
	}
	meter := restoreMeter{total: set.Size, report: progress}
	if _, err := s.backrest(ctx, backrestCall{name: "restore", stanza: o.Stanza, args: args, line: meter.line}); err != nil {
		return err
	}
	s.log.Info("files restored", "set", set.Label, "bytes", set.Size, "files", meter.files, "already_there", meter.kept)
	return s.dropRecoveryFiles()
}

// dropRecoveryFiles removes what pgBackRest leaves even with --type=none: it
// makes a recovery.signal, and settings may have come with the backup.
func (s *Server) dropRecoveryFiles() error {
	for _, name := range []string{recoverySignal, standbySignal} {
		if err := removeFile(s.inData(name)); err != nil {
			return err
		}
	}
	_, err := s.stripAutoConf()
	return err
}

// prepareDelta sees to it that pgBackRest takes the directory for what it is.
// It turns --delta off where it finds neither PG_VERSION nor a manifest, and
// then refuses if there is any file: a restore killed before it wrote the
// manifest could never go on, nor a mount point with lost+found be used. There
// an empty manifest says that the directory is ours; the marker proves it.
func (s *Server) prepareDelta() (delta bool, err error) {
	dir := s.config().DataDir
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() == pgVersionFile || e.Name() == backupManifest {
			return true, nil
		}
	}
	_, marked, err := s.inProgress()
	if err != nil {
		return false, err
	}
	if !marked && !isEmpty(entries) {
		return false, fmt.Errorf("%w: %s", ErrNotEmpty, dir)
	}
	return true, writeFile(filepath.Join(dir, backupManifest), nil, 0o600)
}

// walTarget is where pg_wal shall lie, "" when inside the data directory: where
// it lies now, or where pg_basebackup would put it. Without this pgBackRest
// would follow the backup, and move the WAL of a replica to another disk.
func (s *Server) walTarget() string {
	if target, err := os.Readlink(s.inData("pg_wal")); err == nil {
		return s.absolute(target)
	}
	if _, err := os.Lstat(s.inData("pg_wal")); err == nil {
		return ""
	}
	for _, o := range s.config().BaseBackup {
		if name := strings.TrimLeft(o.Name, "-"); (name == "waldir" || name == "xlogdir") && filepath.IsAbs(o.Value) {
			return filepath.Clean(o.Value)
		}
	}
	return ""
}

// absolute resolves the target of a link in the data directory.
func (s *Server) absolute(target string) string {
	if filepath.IsAbs(target) {
		return filepath.Clean(target)
	}
	return s.inData(target)
}

// checkOutside refuses to delete files of somebody else's. With --delta
// pgBackRest cleans the directories of tablespaces and links that the backup
// names; those may be in use by the cluster it was made of, on this host. Ours
// are those that our data directory points to already, and empty ones.
func (s *Server) checkOutside(o setLinks) error {
	version := "PG_*"
	var bad []string
	for oid, dir := range o.tablespaces {
		if found, _ := filepath.Glob(filepath.Join(dir, version)); len(found) > 0 && !s.pointsTo(filepath.Join("pg_tblspc", oid), dir) {
			bad = append(bad, dir)
		}
	}
	for name, target := range o.links {
		entries, err := os.ReadDir(target)
		if err == nil && len(entries) > 0 && !s.pointsTo(name, target) {
			bad = append(bad, target)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	sort.Strings(bad)
	return fmt.Errorf("%w: %s: empty it, if no other server uses it", ErrForeignFiles, strings.Join(bad, ", "))
}

// pointsTo tells whether a link in the data directory leads to target.
func (s *Server) pointsTo(name, target string) bool {
	mine, err1 := os.Stat(s.inData(name))
	there, err2 := os.Stat(target)
	fi, err3 := os.Lstat(s.inData(name))
	return errors.Join(err1, err2, err3) == nil && fi.Mode()&fs.ModeSymlink != 0 && os.SameFile(mine, there)
}

// restoreMeter reads progress from the log of a restore.
type restoreMeter struct {
	total       int64
	report      func(done, total int64)
	files, kept int
}

func (m *restoreMeter) line(line string) {
	_, percent, ok := parseFileLine(line, "restore file ")
	if !ok {
		return
	}
	m.files++
	if strings.Contains(line, " - exists and ") {
		m.kept++
	}
	if m.report != nil {
		m.report(int64(float64(m.total)*percent/100), m.total)
	}
}
