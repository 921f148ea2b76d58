package lab

import (
	"fmt"
	"os"
	"path/filepath"
)

// Backup is the kind of repository a lab's nodes back up to.
type Backup int

const (
	// BackupNone leaves pgha.backup out.
	BackupNone Backup = iota
	// BackupPosix is a directory that all nodes share, as an NFS mount would be.
	BackupPosix
	// BackupS3 is a bucket of an S3 server that speaks TLS, on a host of its own.
	BackupS3
)

// prepareRepository makes what the nodes' configuration will name.
func (l *Lab) prepareRepository() error {
	switch l.opts.Backup {
	case BackupPosix:
		return l.makeOwnDir(l.opts.Repository)
	case BackupS3:
		return l.prepareS3()
	default:
		return nil
	}
}

// backupConfig is the part of a node's patroni.yml that switches backups on.
func (l *Lab) backupConfig(n *Node) map[string]any {
	var repo map[string]any
	switch l.opts.Backup {
	case BackupPosix:
		repo = map[string]any{"type": "posix", "path": l.opts.Repository}
	case BackupS3:
		repo = l.s3Config(n)
	default:
		return nil
	}
	return map[string]any{"pgha": map[string]any{"backup": map[string]any{
		"repo":      repo,
		"retention": map[string]any{"full": 3},
		// An empty cluster is a thousand small files: in bundles they are not
		// flushed to disk, or sent, one by one.
		"options": map[string]any{"repo1-bundle": true, "compress-type": "lz4"},
	}}}
}

// HideRepository makes a posix repository unreachable for everybody, as a lost
// mount does, or (false) reachable again. Nothing in it changes.
func (l *Lab) HideRepository(hide bool) error {
	mode := os.FileMode(0o700)
	if hide {
		mode = 0
	}
	if err := os.Chmod(l.opts.Repository, mode); err != nil {
		return fmt.Errorf("hide repository: %w", err)
	}
	return nil
}

// KeyFile is where a node has the key of its S3 repository.
func (l *Lab) KeyFile(n *Node) string { return filepath.Join(n.Dir, "s3.key") }
