package leash

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Protocol is the version of the socket and of the record. A running leash is
// never replaced, so an agent must speak the current and the previous one. A
// field that either side may leave out, or an operation that the agent asks for
// only where the status shows that the leash knows it, makes no new version.
const Protocol = 1

const (
	maxMessage = 64 << 10
	headerSize = 4
)

// Names of the files in the run directory.
const (
	socketName = "leash.sock"
	recordName = "leash.record"
	lockName   = "leash.lock"
)

// Status is what the leash says about itself.
type Status struct {
	Protocol       int     `json:"protocol"`
	PID            int     `json:"pid"`
	Server         *Server `json:"server,omitempty"` // nil: none, and nothing left of one
	Armed          bool    `json:"armed"`
	Epoch          int64   `json:"epoch"`    // armed, or set aside by a suspension
	Deadline       int64   `json:"deadline"` // of Epoch, on the clock of Now
	HighestArmed   int64   `json:"highest_armed"`
	HighestLatched int64   `json:"highest_latched"`
	// Etcd is the id of the etcd cluster whose epochs these are. 0: not known, as
	// with an agent or a leash of an earlier version.
	Etcd          uint64        `json:"etcd,omitempty"`
	Suspended     bool          `json:"suspended"`
	SuspendReason string        `json:"suspend_reason,omitempty"`
	Degraded      []string      `json:"degraded,omitempty"` // promises not in force, one reason each
	Lmax          time.Duration `json:"lmax"`
	Quiet         time.Duration `json:"quiet"`
	LastExit      *Exit         `json:"last_exit,omitempty"`
	// Watchdog is nil for a leash that knows none.
	Watchdog *WatchdogStatus `json:"watchdog,omitempty"`
}

// WatchdogOptions are the settings of the kernel watchdog.
type WatchdogOptions struct {
	Mode   WatchdogMode `json:"mode"`
	Driver string       `json:"driver,omitempty"`
	Device string       `json:"device,omitempty"`
	// Timeout is Wd of safety B.1, Longest the longest that a device may keep
	// instead, both in whole seconds. Tail is what the hard limit of a reset
	// lies behind the deadline.
	Timeout time.Duration `json:"timeout,omitempty"`
	Longest time.Duration `json:"longest,omitempty"`
	Tail    time.Duration `json:"tail,omitempty"`
}

// WatchdogStatus is what the leash says about the kernel watchdog.
type WatchdogStatus struct {
	Mode    string        `json:"mode"`
	Device  string        `json:"device,omitempty"`
	Open    bool          `json:"open"`
	InForce bool          `json:"in_force"`      // armed, open, and it takes its keepalives
	Why     string        `json:"why,omitempty"` // it is not in force
	Timeout time.Duration `json:"timeout,omitempty"`
	// Failed is when Why began to be a failure, on the clock of Now; 0: it is none.
	Failed int64 `json:"failed,omitempty"`
	// LastReset is why the host was started last, as the device said when it
	// was opened: "watchdog", "other" or "" (it does not know, or was never open).
	LastReset string `json:"last_reset,omitempty"`
}

// Server describes the server of the leash.
type Server struct {
	PID      int    `json:"pid"`     // of the postmaster
	Started  int64  `json:"started"` // start or adoption, on the clock of Now
	DataDir  string `json:"data_dir"`
	Phase    string `json:"phase"` // running, fencing or sweeping
	Writable bool   `json:"writable"`
	Adopted  bool   `json:"adopted"`
}

// Exit describes the end of a server. It is reported only when no process of
// the server is left and its shared memory is detached.
type Exit struct {
	PID     int    `json:"pid"`
	DataDir string `json:"data_dir"`
	At      int64  `json:"at"`               // postmaster gone, on the clock of Now
	Gone    int64  `json:"gone"`             // everything gone
	Code    int    `json:"code"`             // exit code of the postmaster; -1: killed or unknown
	Signal  int    `json:"signal,omitempty"` // that killed the postmaster
	Unknown bool   `json:"unknown,omitempty"`
	Orphans int    `json:"orphans"` // processes that outlived the postmaster and were killed
	Killed  int    `json:"killed"`  // processes killed in all, the postmaster included
	Fenced  bool   `json:"fenced"`  // the deadline passed
	Epoch   int64  `json:"epoch,omitempty"`
}

// EventKind says what happened.
type EventKind string

const (
	// ServerExited: the server is gone, to the last process. Exit is set.
	ServerExited EventKind = "exited"
	// DeadlinePassed: Epoch is latched and the server is being killed.
	DeadlinePassed EventKind = "deadline-passed"
	// WatchdogChanged: the kernel watchdog began or ceased to take keepalives;
	// the status says which.
	WatchdogChanged EventKind = "watchdog"
	// LeashLost: the connection broke. Made by the client: most likely the leash
	// died, and then the server has SIGQUIT already.
	LeashLost EventKind = "leash-lost"
)

// Event is something the leash tells without being asked.
type Event struct {
	Kind  EventKind `json:"kind"`
	Epoch int64     `json:"epoch,omitempty"`
	Exit  *Exit     `json:"exit,omitempty"`
}

// StartRequest is one start of the postmaster.
type StartRequest struct {
	Path     string   `json:"path"` // of the postgres binary
	Args     []string `json:"args"` // without the program name
	Env      []string `json:"env"`  // the whole environment
	DataDir  string   `json:"data_dir"`
	LogPath  string   `json:"log_path,omitempty"` // stdout and stderr are appended; empty: those of the leash
	Writable bool     `json:"writable"`           // a primary is meant: no standby.signal
	// Bootstrap allows the first start of a new cluster unarmed. The marker in
	// the data directory must say MarkerBootstrap.
	Bootstrap bool   `json:"bootstrap"`
	SystemID  string `json:"system_id,omitempty"` // expected; empty: any
}

type request struct {
	ID       uint64        `json:"id"`
	Op       string        `json:"op"`
	Protocol int           `json:"protocol,omitempty"`
	Epoch    int64         `json:"epoch,omitempty"`
	Etcd     uint64        `json:"etcd,omitempty"` // the cluster that Epoch is of
	Deadline int64         `json:"deadline,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Signal   int           `json:"signal,omitempty"`
	DataDir  string        `json:"data_dir,omitempty"`
	SystemID string        `json:"system_id,omitempty"`
	Lmax     int64         `json:"lmax,omitempty"`
	Quiet    int64         `json:"quiet,omitempty"`
	Start    *StartRequest `json:"start,omitempty"`

	Watchdog *WatchdogOptions `json:"watchdog,omitempty"`
}

// reply answers the request of the same id; id 0 carries an event.
type reply struct {
	ID      uint64   `json:"id"`
	Refusal *Refusal `json:"refusal,omitempty"`
	Status  *Status  `json:"status,omitempty"`
	Event   *Event   `json:"event,omitempty"`
}

var errMessageSize = errors.New("message larger than 64 KiB")

// encode frames a message: length (4 bytes, little endian), then JSON.
func encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	if len(body) > maxMessage {
		return nil, errMessageSize
	}
	frame := make([]byte, headerSize, headerSize+len(body))
	binary.LittleEndian.PutUint32(frame, uint32(len(body)))
	return append(frame, body...), nil
}

// cut takes one message off the front of buf; body is nil if it is incomplete.
func cut(buf []byte) (body, rest []byte, err error) {
	if len(buf) < headerSize {
		return nil, buf, nil
	}
	n := binary.LittleEndian.Uint32(buf)
	if n > maxMessage {
		return nil, buf, errMessageSize
	}
	if len(buf) < headerSize+int(n) {
		return nil, buf, nil
	}
	end := headerSize + int(n)
	return buf[headerSize:end:end], buf[end:], nil
}
