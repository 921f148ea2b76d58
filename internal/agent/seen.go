package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/restapi"
)

// seenFile is what this member keeps of etcd over restarts (safety S11): beside
// the data directory like the installation's id, so that no copy of the data has
// it. It is written by a goroutine of its own; nothing waits for the disk.
type seenFile struct {
	path  string
	base  string // of the keys it is about
	log   *slog.Logger
	first ha.Seen
	wake  chan struct{}

	mu     sync.Mutex
	newest ha.Seen
	word   *acceptance
	serial int64
}

// seenDocument is the contents of the file.
type seenDocument struct {
	Base string `json:"base"`
	ha.Seen
	// Accepted is the last word of an operator.
	Accepted *acceptance `json:"accepted,omitempty"`
}

type acceptance struct {
	At  time.Time `json:"at"`
	By  string    `json:"by"`
	Why string    `json:"why"` // what was behind
}

// seenRest is how old the revision in the file may be. A new leadership, timeline
// or etcd is written at once.
const seenRest = 10 * time.Second

// openSeen reads the file, beside the data directory or, where that place cannot
// be written, in the runtime directory.
func openSeen(dataDir, runDir, base string, log *slog.Logger) (*seenFile, error) {
	f := &seenFile{base: base, log: log, wake: make(chan struct{}, 1)}
	places := []string{filepath.Clean(dataDir) + ".pgha.seen", filepath.Join(runDir, "seen")}
	for _, path := range places {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var doc seenDocument
		if err == nil {
			err = json.Unmarshal(text, &doc)
		}
		if err != nil {
			return nil, fmt.Errorf("read what this member knows of etcd: %s: %w; if etcd holds the truth, remove that file", path, err)
		}
		f.path = path
		if doc.Base == base {
			f.first, f.word = doc.Seen, doc.Accepted
		}
		f.newest = f.first
		return f, nil
	}
	f.path = places[0]
	if err := writable(filepath.Dir(f.path)); err != nil {
		f.path = places[1]
	}
	return f, nil
}

func writable(dir string) error {
	t, err := os.CreateTemp(dir, ".pgha-*")
	if err != nil {
		return err
	}
	return errors.Join(t.Close(), os.Remove(t.Name()))
}

// saw takes in what the loop has seen; it does not wait.
func (f *seenFile) saw(s ha.Seen) {
	f.mu.Lock()
	changed := s != f.newest
	f.newest = s
	f.mu.Unlock()
	if changed {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// run writes the file until ctx ends, and once more then.
func (f *seenFile) run(ctx context.Context) {
	written, told := f.first, false
	var last time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-f.wake:
		case <-timer.C:
		}
		f.mu.Lock()
		doc := seenDocument{f.base, f.newest, f.word}
		f.mu.Unlock()
		same := written
		same.Revision = doc.Revision
		switch rest := seenRest - time.Since(last); {
		case doc.Seen == written:
			continue
		case doc.Seen == same && rest > 0 && !ended:
			timer.Reset(rest)
			continue
		}
		last = time.Now()
		err := f.write(doc)
		if err == nil {
			written = doc.Seen
		} else {
			timer.Reset(seenRest)
		}
		if err != nil && !told {
			f.log.Warn("keep what this member knows of etcd: " + err.Error() + "; until that is mended, an etcd that goes back while the agent is stopped is not noticed here")
		}
		told = err != nil
	}
}

func (f *seenFile) write(doc seenDocument) error {
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return writeNew(f.path, string(text)+"\n")
}

// accept takes an operator's word that what etcd holds is right.
func (f *seenFile) accept(v *ha.View, by string) *restapi.Refusal {
	if v.Quarantine == "" {
		return refusal(http.StatusConflict, "nothing to accept: this member is not in quarantine")
	}
	f.mu.Lock()
	f.serial++
	f.word = &acceptance{At: time.Now().UTC().Truncate(time.Second), By: by, Why: v.Quarantine}
	f.mu.Unlock()
	f.log.Warn("an operator accepted what etcd holds", "by", by, "quarantine", v.Quarantine, "seen_revision", v.Seen.Revision, "seen_epoch", v.Seen.Epoch, "seen_timeline", v.Seen.Timeline)
	return nil
}

// accepted is the newest word, for the loop.
func (f *seenFile) accepted() ha.Acceptance {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := ha.Acceptance{Serial: f.serial}
	if f.word != nil {
		a.By = f.word.By
	}
	return a
}
