package postgres

import (
	"context"

	"golang.org/x/sys/unix"
)

// LaunchSpec is one start of the postmaster.
type LaunchSpec struct {
	Path    string   // the postgres binary
	Args    []string // arguments without the program name
	Env     []string // the whole environment
	DataDir string
	LogPath string // stdout and stderr; empty: inherited
	// Writable is set when the server is meant to come up as a primary: there
	// is no standby.signal.
	Writable bool
	// Bootstrap is set for the first start of a cluster this node just made,
	// while nobody holds the leader key yet (safety B.6, start).
	Bootstrap bool
}

// Launcher is the parent of the postmaster. In production it is the leash.
type Launcher interface {
	// Start returns when the process exists; it does not wait for readiness.
	Start(ctx context.Context, spec LaunchSpec) error
	// Signal goes to the postmaster, by a handle that cannot hit a stranger.
	Signal(ctx context.Context, sig unix.Signal) error
	// Sweep kills every process of the server with SIGKILL, whatever state the
	// postmaster is in (safety P3-P6), and waits until they are gone.
	Sweep(ctx context.Context) error
	// Running tells the pid of the server, if there is one.
	Running() (pid int, ok bool)
	// Exited is closed when the current server and all its orphans are gone.
	// Without a server it is a closed channel.
	Exited() <-chan struct{}
}
