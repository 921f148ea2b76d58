package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// App is everything pghactl touches outside itself. The zero value of the
// unexported fields means: the real etcd and the real REST API.
type App struct {
	In       io.Reader
	Out      io.Writer
	Err      io.Writer
	Now      func() time.Time // in the zone times are to be printed in
	Environ  []string         // "NAME=value"
	Terminal bool             // Out is a terminal: a watch may clear it

	input      *bufio.Reader
	unwritten  atomic.Pointer[error] // why something of the output got lost
	pollPeriod time.Duration         // between two looks at what is followed; 0: the usual one

	openCluster func(ctx context.Context, local *config.Local, scope string) (clusterStore, error)
	newAPI      func(local *config.Local, insecure bool) (memberAPI, error)
}

// clusterStore is what the commands need of a cluster's keys in the DCS.
type clusterStore interface {
	// Read is a linearizable read of all keys.
	Read(ctx context.Context) (*dcs.Cluster, error)
	// ReadClusters reads all clusters of a namespace; only of a store that was
	// opened without a cluster's name.
	ReadClusters(ctx context.Context) (map[string]*dcs.Cluster, error)
	// Put writes one key without a lease.
	Put(ctx context.Context, w dcs.Write) error
	// RemoveCluster deletes all keys while the leadership is that of epoch, or
	// nobody leads (0).
	RemoveCluster(ctx context.Context, epoch int64) error
	// Close drops the connections.
	Close() error
}

// memberAPI is what the commands need of the members' REST API. Any HTTP
// answer is a nil error.
type memberAPI interface {
	Get(ctx context.Context, url string) (status int, body string, err error)
	Post(ctx context.Context, memberAPIURL, path string, body any) (status int, text string, err error)
	Send(ctx context.Context, method, memberAPIURL, path string, body any) (status int, text string, err error)
}

// Exit codes (wire contract §6.1). An operation the REST API refuses is no
// failure of the CLI: it prints the reason and ends with 0.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// errAborted ends a command at a prompt: Ctrl-C, or no more input.
var errAborted = errors.New("aborted")

// usageError is a command line that cannot be understood.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// Main runs pghactl with args (without the program name) and returns its exit
// code. Cancelling ctx is Ctrl-C.
func (a *App) Main(ctx context.Context, args []string) int {
	a.input = bufio.NewReader(a.In)
	if a.openCluster == nil {
		a.openCluster = openEtcd
	}
	if a.newAPI == nil {
		a.newAPI = newRESTClient
	}
	root := newRootCommand(a)
	root.SetArgs(args)
	code := a.exitCode(root.ExecuteContext(ctx))
	if lost := a.unwritten.Load(); code == exitOK && lost != nil {
		a.errorf("Error: write the output: %s", plain.Reason(*lost))
		code = exitError
	}
	return code
}

// exitCode says what went wrong, on one line, and gives the code for it.
func (a *App) exitCode(err error) int {
	var usage usageError
	var away left
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errAborted):
		a.errorf("Aborted!")
		return exitError
	case errors.As(err, &away):
		a.errorf("%s", plain.OneLine(away.Error()))
		return exitError
	case errors.As(err, &usage):
		a.errorf("Error: %s", plain.OneLine(usage.text))
		return exitUsage
	}
	a.errorf("Error: %s", plain.OneLine(err.Error()))
	return exitError
}

// output is Out for those who do not look at the error of a write: what could not
// be written is an error in the end.
type output struct{ a *App }

// Write implements io.Writer.
func (o output) Write(p []byte) (int, error) {
	n, err := o.a.Out.Write(p)
	if err != nil {
		o.a.unwritten.CompareAndSwap(nil, &err)
	}
	return n, err
}

// printf writes to standard output.
func (a *App) printf(text string, args ...any) { _, _ = fmt.Fprintf(output{a}, text, args...) }

// errorf writes a line to standard error.
func (a *App) errorf(text string, args ...any) { _, _ = fmt.Fprintf(a.Err, text+"\n", args...) }

// warnf writes a log line as patronictl does: time, level, text.
func (a *App) warnf(text string, args ...any) {
	now := a.Now()
	a.errorf("%s,%03d - WARNING - %s", now.Format(time.DateTime), now.Nanosecond()/1e6,
		plain.OneLine(fmt.Sprintf(text, args...)))
}

// timestamp is the prefix of the lines that report an action: local time with
// five digits of a second (wire contract §6.1).
func (a *App) timestamp() string { return a.Now().Format("2006-01-02 15:04:05.00000") }

// getenv looks a variable up; "" when unset.
func (a *App) getenv(name string) string {
	for _, entry := range a.Environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
