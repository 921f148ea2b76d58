package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// repairName is the suffix of the file, beside the outer marker, that says how
// far a clone, a bootstrap from the repository or a restore has come.
const repairName = "pgha.repair"

// What a repair is for, and how far it has come.
const (
	purposeReplica   = "replica"
	purposeBootstrap = "bootstrap"
	purposeRestore   = "restore"

	phaseFiles  = "files"  // the files are being put in place; nothing may be started
	phaseReplay = "replay" // the files are complete; recovery runs, or has to go on
	phaseDone   = "done"   // a restore: kept until the next repair, so that an order is not carried out twice
)

// repair is the content of that file. A restore is recognised by it alone while
// it replays: the leash would not start a server over a marker.
type repair struct {
	Purpose  string       `json:"purpose"`
	Order    string       `json:"order,omitempty"`
	Rung     int          `json:"rung"` // of the repair ladder: those before it failed
	Method   string       `json:"method,omitempty"`
	Phase    string       `json:"phase"`
	Set      string       `json:"set,omitempty"` // backup set being restored
	Attempts int          `json:"attempts"`
	Errors   []string     `json:"errors,omitempty"`
	Timeline wal.Timeline `json:"timeline,omitempty"` // of a restore that is done
	Started  time.Time    `json:"started"`
}

// saveRepair writes the file where the marker is written.
func (s *Server) saveRepair(r repair) error {
	if r.Started.IsZero() {
		r.Started = time.Now().UTC()
	}
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write repair state: %w", err)
	}
	path := s.sidePath(repairName)
	if err := writeFile(path, append(body, '\n'), 0o600); err != nil {
		return fmt.Errorf("write repair state: %w", err)
	}
	for _, other := range s.sidePaths(repairName) {
		if other != path {
			if err := removeFile(other); err != nil {
				return fmt.Errorf("write repair state: %w", err)
			}
		}
	}
	return nil
}

// loadRepair reads the file; ok is false when there is none, or one that
// cannot be understood, which is said once: the work then begins anew.
func (s *Server) loadRepair() (r repair, ok bool) {
	for _, path := range s.sidePaths(repairName) {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
			continue
		}
		r = repair{}
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err == nil && r.known() {
			return r, true
		}
		s.mu.Lock()
		said := s.saidRepair
		s.saidRepair = true
		s.mu.Unlock()
		if !said {
			s.log.Warn("cannot read the state of an earlier repair, it is ignored", "file", path, "error", err)
		}
	}
	return repair{}, false
}

// known tells whether r is something this version writes.
func (r repair) known() bool {
	switch r.Purpose {
	case purposeReplica, purposeBootstrap, purposeRestore:
	default:
		return false
	}
	switch r.Phase {
	case phaseFiles, phaseReplay, phaseDone:
	default:
		return false
	}
	return r.Rung >= 0
}

// clearRepair removes the file.
func (s *Server) clearRepair() error {
	for _, path := range s.sidePaths(repairName) {
		if err := removeFile(path); err != nil {
			return fmt.Errorf("remove repair state: %w", err)
		}
	}
	return nil
}

// unfinished adds to what the marker says: whether the work can be continued,
// and a restore that replays without any marker.
func (s *Server) unfinished(kind Kind, marked bool) (DataDir, bool) {
	r, ok := s.loadRepair()
	d := DataDir{State: DirInProgress, Kind: kind}
	switch {
	case !marked && ok && r.Purpose == purposeRestore && r.Phase == phaseReplay && s.hasControlFile():
		d.Kind, d.Resumable, d.Order = KindRestore, true, r.Order
		return d, true
	case !marked:
		return DataDir{}, false
	case ok && r.Purpose == purposeRestore && kind == KindRestore && r.Phase != phaseDone:
		d.Resumable, d.Order = true, r.Order
	case ok && r.Purpose == purposeBootstrap && kind == KindBootstrap && r.Method == config.NativeMethod:
		d.Resumable = true
	}
	return d, true
}

func (s *Server) hasControlFile() bool {
	_, err := os.Stat(s.inData("global", "pg_control"))
	return err == nil
}
