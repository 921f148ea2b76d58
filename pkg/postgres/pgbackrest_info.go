package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Repository asks what a stanza holds; "" is ours. A stanza without backups is
// no error. ErrNoStanza, ErrRepository and others say why there is no answer.
func (s *Server) Repository(ctx context.Context, stanza string) (*Repository, error) {
	out, err := s.backrest(ctx, backrestCall{name: "info", stanza: stanza, args: []string{"--output=json"}, quick: true})
	if err != nil {
		return nil, fmt.Errorf("read the repository: %w", err)
	}
	info, err := parseInfo(out, s.stanzaName(stanza))
	if err != nil {
		return nil, fmt.Errorf("read the repository: %w", s.infoError(s.stanzaName(stanza), err))
	}
	return info.repository()
}

// setLinks are the places outside the data directory that a restore of a set
// writes to.
type setLinks struct {
	tablespaces map[string]string // oid -> directory
	links       map[string]string // name within the data directory -> target
}

// setLinks asks for them; it makes pgBackRest read the whole manifest.
func (s *Server) setLinks(ctx context.Context, stanza, set string) (setLinks, error) {
	var l setLinks
	out, err := s.backrest(ctx, backrestCall{
		name: "info", stanza: stanza, args: []string{"--output=json", "--set=" + set}, quick: true})
	if err != nil {
		return l, err
	}
	info, err := parseInfo(out, s.stanzaName(stanza))
	if err != nil {
		return l, s.infoError(s.stanzaName(stanza), err)
	}
	l.tablespaces, l.links = make(map[string]string), make(map[string]string)
	for _, b := range info.Backup {
		if b.Label != set {
			continue
		}
		for _, t := range b.Tablespace {
			l.tablespaces[strconv.FormatUint(t.OID, 10)] = t.Destination
		}
		for _, k := range b.Link {
			l.links[k.Name] = k.Destination
		}
	}
	return l, nil
}

// infoStanza is one stanza in the answer of "info --output=json".
type infoStanza struct {
	Name    string       `json:"name"`
	Status  infoStatus   `json:"status"`
	Repo    []infoRepo   `json:"repo"`
	DB      []infoDB     `json:"db"`
	Archive []infoWAL    `json:"archive"`
	Backup  []infoBackup `json:"backup"`
}

type infoStatus struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

type infoRepo struct {
	Key    int        `json:"key"`
	Status infoStatus `json:"status"`
}

type infoDB struct {
	ID       int         `json:"id"`
	RepoKey  int         `json:"repo-key"`
	SystemID json.Number `json:"system-id"`
	Version  string      `json:"version"`
}

// infoRef names one of the databases that a stanza has seen in its life.
type infoRef struct {
	ID      int `json:"id"`
	RepoKey int `json:"repo-key"`
}

type infoWAL struct {
	Database infoRef `json:"database"`
	Min      string  `json:"min"`
	Max      string  `json:"max"`
}

type infoBackup struct {
	Label    string  `json:"label"`
	Type     string  `json:"type"`
	Prior    string  `json:"prior"`
	Error    bool    `json:"error"`
	Database infoRef `json:"database"`
	Archive  struct {
		Start string `json:"start"`
		Stop  string `json:"stop"`
	} `json:"archive"`
	LSN struct {
		Start string `json:"start"`
		Stop  string `json:"stop"`
	} `json:"lsn"`
	Timestamp struct {
		Start int64 `json:"start"`
		Stop  int64 `json:"stop"`
	} `json:"timestamp"`
	Info struct {
		Size       int64 `json:"size"`
		Delta      int64 `json:"delta"`
		Repository struct {
			Delta int64 `json:"delta"`
		} `json:"repository"`
	} `json:"info"`
	Tablespace []struct {
		OID         uint64 `json:"oid"`
		Destination string `json:"destination"`
	} `json:"tablespace"`
	Link []struct {
		Name        string `json:"name"`
		Destination string `json:"destination"`
	} `json:"link"`
}

// Codes of infoStatus.
const (
	infoOK            = 0
	infoNoStanzaPath  = 1
	infoNoBackup      = 2
	infoNoStanzaData  = 3
	infoMixed         = 4 // repositories in different states
	infoBackupUnknown = 6
)

// infoFailure is a repository that could not be read, in pgBackRest's words.
type infoFailure struct{ message string }

func (e *infoFailure) Error() string { return e.message }

// parseInfo reads the answer and picks the stanza.
func parseInfo(text, stanza string) (*infoStanza, error) {
	var all []infoStanza
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("%w: pgbackrest info gave something that is not its JSON: %w", ErrRepository, err)
	}
	for i := range all {
		if all[i].Name != stanza {
			continue
		}
		return &all[i], all[i].problem()
	}
	return nil, ErrNoStanza
}

func (i *infoStanza) problem() error {
	switch i.Status.Code {
	case infoOK, infoNoBackup:
		return nil
	case infoNoStanzaPath, infoNoStanzaData:
		return ErrNoStanza
	case infoBackupUnknown:
		return ErrNoBackup
	}
	for _, r := range i.Repo {
		switch r.Status.Code {
		case infoOK, infoNoBackup:
			if i.Status.Code == infoMixed {
				return nil // one of several repositories is good
			}
		case infoNoStanzaPath, infoNoStanzaData:
		default:
			return &infoFailure{r.Status.Message}
		}
	}
	return &infoFailure{i.Status.Message}
}

// infoError says in our words why info could not read the repository.
func (s *Server) infoError(stanza string, err error) error {
	var failure *infoFailure
	switch {
	case errors.As(err, &failure):
		return s.translate(stanza, 0, failure.message)
	case errors.Is(err, ErrNoStanza):
		return fmt.Errorf("%w: %q", ErrNoStanza, stanza)
	}
	return err
}

// repository converts the answer. Databases are numbered upwards as a stanza is
// upgraded; the newest counts.
func (i *infoStanza) repository() (*Repository, error) {
	r := &Repository{Stanza: i.Name}
	var newest infoDB
	system := make(map[infoRef]string)
	for _, d := range i.DB {
		system[infoRef{d.ID, d.RepoKey}] = d.SystemID.String()
		if d.ID >= newest.ID {
			newest = d
		}
	}
	r.SystemID, r.Version = newest.SystemID.String(), newest.Version
	for _, a := range i.Archive {
		if system[a.Database] != r.SystemID || a.Min == "" {
			continue
		}
		if r.MinWAL == "" || a.Min < r.MinWAL {
			r.MinWAL = a.Min
		}
		r.MaxWAL = max(r.MaxWAL, a.Max)
	}
	for _, b := range i.Backup {
		set, err := b.set()
		if err != nil {
			return nil, err
		}
		set.SystemID = system[b.Database]
		r.Backups = append(r.Backups, set)
	}
	return r, nil
}

func (b *infoBackup) set() (BackupSet, error) {
	start, err1 := wal.ParseLSN(b.LSN.Start)
	stop, err2 := wal.ParseLSN(b.LSN.Stop)
	if err := errors.Join(err1, err2); err != nil {
		return BackupSet{}, fmt.Errorf("backup %s: %w", b.Label, err)
	}
	set := BackupSet{
		Label: b.Label, Type: b.Type, Prior: b.Prior, Damaged: b.Error,
		Start: time.Unix(b.Timestamp.Start, 0).UTC(), Stop: time.Unix(b.Timestamp.Stop, 0).UTC(),
		StartLSN: start, StopLSN: stop, StartWAL: b.Archive.Start, StopWAL: b.Archive.Stop,
		Size: b.Info.Size, RepoSize: b.Info.Repository.Delta,
	}
	if len(b.Archive.Stop) != 24 {
		return BackupSet{}, fmt.Errorf("backup %s: %q is no WAL segment", b.Label, b.Archive.Stop)
	}
	tl, err := strconv.ParseUint(b.Archive.Stop[:8], 16, 32)
	if err != nil {
		return BackupSet{}, fmt.Errorf("backup %s: %q is no WAL segment", b.Label, b.Archive.Stop)
	}
	set.Timeline = wal.Timeline(tl)
	return set, nil
}

// find is the set with that label; "" is the newest.
func (r *Repository) find(label string) (BackupSet, error) {
	for i := len(r.Backups) - 1; i >= 0; i-- {
		if label == "" || r.Backups[i].Label == label {
			return r.Backups[i], nil
		}
	}
	if label == "" {
		return BackupSet{}, fmt.Errorf("%w: stanza %q holds none yet: pghactl backup run", ErrNoBackup, r.Stanza)
	}
	return BackupSet{}, fmt.Errorf("%w: stanza %q has no set %q: pghactl backup list shows them", ErrNoBackup, r.Stanza, label)
}
