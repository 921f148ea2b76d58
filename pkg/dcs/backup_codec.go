package dcs

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Limits of texts in our own keys, in bytes. Free text is cut to them when
// written, so that a long message of a failed command spoils no key.
const (
	maxWord    = 1024
	maxMessage = 4096
)

// Encode returns the value of /pgha/restore: compact JSON, times in UTC to the
// second, zero fields left out.
func (r *Restore) Encode() []byte {
	var w writer
	w.str("id", r.ID)
	w.str("state", string(r.State))
	w.strIf("member", r.Member)
	w.strIf("stanza", r.Stanza)
	w.strIf("set", r.Set)
	if t := r.Target; t != (RestoreTarget{}) {
		var o writer
		o.strIf("type", t.Type)
		o.strIf("value", t.Value)
		o.strIf("timeline", t.Timeline)
		o.trueIf("exclusive", t.Exclusive)
		w.name("target")
		w.buf = append(w.buf, o.end()...)
	}
	w.strIf("system_id", r.SystemID)
	w.trueIf("force", r.Force)
	w.timeIf("requested", r.Requested)
	w.strIf("by", oneLine(r.By))
	w.timeIf("ended", r.Ended)
	w.uintIf("timeline", uint64(r.Timeline))
	w.strIf("error", cut(r.Error, maxMessage))
	return w.end()
}

// Encode returns the value of /pgha/backup; "{}" when nothing was asked for and
// nothing was done.
func (b *Backup) Encode() []byte {
	var w writer
	w.strIf("requested", b.Requested)
	w.timeIf("requested_at", b.RequestedAt)
	w.strIf("requested_by", oneLine(b.RequestedBy))
	w.strIf("type", b.Type)
	w.strIf("member", b.Member)
	w.timeIf("due", b.Due)
	w.timeIf("started", b.Started)
	w.timeIf("ended", b.Ended)
	w.strIf("label", b.Label)
	w.strIf("error", cut(b.Error, maxMessage))
	w.uintIf("tries", uint64(max(b.Tries, 0)))
	return w.end()
}

// Encode returns the value of /pgha/backup_lock.
func (l *BackupLock) Encode() []byte {
	var w writer
	w.str("member", l.Member)
	w.strIf("type", l.Type)
	w.timeIf("started", l.Started)
	w.progressIf("progress", l.Progress)
	return w.end()
}

func (w *writer) progressIf(name string, p *Progress) {
	if p == nil {
		return
	}
	w.name(name)
	w.buf = append(w.buf, p.fields().end()...)
}

// ownIf writes the member "pgha" of a member key.
func (w *writer) ownIf(m *Member) {
	if m.Progress == nil && m.Quarantine == "" && len(m.Slots) == 0 && m.DataTimeline == 0 {
		return
	}
	o := &writer{}
	if m.Progress != nil {
		o = m.Progress.fields()
	}
	o.strIf("quarantine", m.Quarantine)
	o.rawIf("slots", encodeSlotUsage(m.Slots))
	o.uintIf("data_timeline", uint64(m.DataTimeline))
	w.name("pgha")
	w.buf = append(w.buf, o.end()...)
}

func (p *Progress) fields() *writer {
	o := &writer{}
	o.strIf("operation", p.Operation)
	o.strIf("method", p.Method)
	o.uintIf("done", uint64(max(p.Done, 0)))
	o.uintIf("total", uint64(max(p.Total, 0)))
	o.uintIf("rate", uint64(max(p.Rate, 0)))
	o.timeIf("started", p.Started)
	return o
}

// timeIf writes an RFC 3339 time in UTC, to the second. Times outside the years
// that RFC 3339 knows are left out.
func (w *writer) timeIf(name string, t time.Time) {
	if t = t.UTC(); !t.IsZero() && t.Year() >= 1 && t.Year() <= 9999 {
		w.str(name, t.Format(time.RFC3339))
	}
}

// cut shortens s to at most n bytes, between characters. What is no UTF-8 would
// grow when read back.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// oneLine makes free text one that word accepts.
func oneLine(s string) string {
	return cut(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s), maxWord)
}

// reader takes typed fields out of a JSON object and keeps the first error.
// Unknown fields are left alone: a newer release may have written them.
type reader struct {
	f   object
	err error
}

func read(text []byte) (*reader, error) {
	if len(text) > MaxValue {
		return nil, errTooLarge
	}
	f, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	return &reader{f: f}, nil
}

func (r *reader) fail(name string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
}

// word reads a short text on one line: it goes into messages and commands.
func (r *reader) word(name string) string {
	s := r.text(name, maxWord)
	if !cleanText([]byte(s)) {
		r.fail(name, errors.New("holds control characters"))
		return ""
	}
	return s
}

func (r *reader) text(name string, most int) string {
	raw := r.f.get(name)
	if isNull(raw) {
		return ""
	}
	var s string
	switch err := json.Unmarshal(raw, &s); {
	case err != nil:
		r.fail(name, errors.New("not a string"))
	case len(s) > most:
		r.fail(name, fmt.Errorf("longer than %d bytes", most))
	default:
		return s
	}
	return ""
}

// oneOf reads a word that must be in the list.
func (r *reader) oneOf(name string, words ...string) string {
	s := r.word(name)
	if r.err == nil && !slices.Contains(words, s) {
		r.fail(name, fmt.Errorf("%s is not one of %s", clip(s), strings.Join(words, " ")))
	}
	return s
}

func (r *reader) time(name string) time.Time {
	s := r.word(name)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if t = t.UTC().Truncate(time.Second); err != nil || t.Year() < 1 || t.Year() > 9999 {
		r.fail(name, fmt.Errorf("%s is not a time such as 2026-01-31T12:00:00Z", clip(s)))
		return time.Time{}
	}
	return t
}

func (r *reader) number(name string, limit uint64) uint64 {
	raw := r.f.get(name)
	if isNull(raw) {
		return 0
	}
	n, err := integer(raw, limit)
	if err != nil {
		r.fail(name, err)
	}
	return n
}

func (r *reader) flag(name string) bool {
	raw := r.f.get(name)
	if isNull(raw) || string(raw) == "false" {
		return false
	}
	if string(raw) != "true" {
		r.fail(name, errors.New("neither true nor false"))
	}
	return true
}

// DecodeRestore reads /pgha/restore. An order that is not understood to the
// last known field is refused: it would set a cluster back to somewhere else.
func DecodeRestore(v []byte) (*Restore, error) {
	f, err := read(v)
	if err != nil {
		return nil, err
	}
	r := &Restore{
		ID:        f.word("id"),
		State:     RestoreState(f.oneOf("state", string(RestoreRequested), string(RestoreDone), string(RestoreFailed))),
		Member:    f.word("member"),
		Stanza:    f.word("stanza"),
		Set:       f.word("set"),
		SystemID:  f.word("system_id"),
		Force:     f.flag("force"),
		Requested: f.time("requested"),
		By:        f.word("by"),
		Ended:     f.time("ended"),
		Timeline:  wal.Timeline(f.number("timeline", math.MaxUint32)),
		Error:     f.text("error", maxMessage),
	}
	if raw := f.f.get("target"); !isNull(raw) {
		t, err := read(raw)
		if err != nil {
			return nil, fmt.Errorf("target: %w", err)
		}
		r.Target = RestoreTarget{
			Type:      t.oneOf("type", "", "latest", "immediate", "time", "lsn", "name", "xid"),
			Value:     t.word("value"),
			Timeline:  t.word("timeline"),
			Exclusive: t.flag("exclusive"),
		}
		if t.err != nil {
			return nil, fmt.Errorf("target: %w", t.err)
		}
	}
	if f.err == nil && r.ID == "" {
		f.err = errors.New("id is missing")
	}
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

// DecodeBackup reads /pgha/backup.
func DecodeBackup(v []byte) (*Backup, error) {
	f, err := read(v)
	if err != nil {
		return nil, err
	}
	b := &Backup{
		Requested:   f.oneOf("requested", "", "full", "diff", "incr"),
		RequestedAt: f.time("requested_at"),
		RequestedBy: f.word("requested_by"),
		Type:        f.oneOf("type", "", "full", "diff", "incr"),
		Member:      f.word("member"),
		Due:         f.time("due"),
		Started:     f.time("started"),
		Ended:       f.time("ended"),
		Label:       f.word("label"),
		Error:       f.text("error", maxMessage),
		Tries:       int(f.number("tries", math.MaxInt32)),
	}
	if f.err != nil {
		return nil, f.err
	}
	return b, nil
}

// DecodeBackupLock reads /pgha/backup_lock.
func DecodeBackupLock(v []byte) (*BackupLock, error) {
	f, err := read(v)
	if err != nil {
		return nil, err
	}
	l := &BackupLock{Member: f.word("member"), Type: f.word("type"), Started: f.time("started")}
	if raw := f.f.get("progress"); !isNull(raw) {
		if l.Progress, err = decodeProgress(raw); err != nil {
			return nil, fmt.Errorf("progress: %w", err)
		}
	}
	if f.err == nil && l.Member == "" {
		f.err = errors.New("member is missing")
	}
	if f.err != nil {
		return nil, f.err
	}
	return l, nil
}

func decodeProgress(raw json.RawMessage) (*Progress, error) {
	f, err := read(raw)
	if err != nil {
		return nil, err
	}
	p := &Progress{
		Operation: f.word("operation"),
		Method:    f.word("method"),
		Done:      int64(f.number("done", math.MaxInt64)),
		Total:     int64(f.number("total", math.MaxInt64)),
		Rate:      int64(f.number("rate", math.MaxInt64)),
		Started:   f.time("started"),
	}
	if f.err != nil {
		return nil, f.err
	}
	return p, nil
}

// decodeOwn reads the member "pgha" of a member key.
func (m *Member) decodeOwn(raw json.RawMessage) error {
	p, err := decodeProgress(raw)
	if err != nil {
		return err
	}
	f, err := read(raw)
	if err != nil {
		return err
	}
	m.Quarantine = f.word("quarantine")
	m.Slots = decodeSlotUsage(f.f.get("slots"))
	m.DataTimeline = wal.Timeline(f.number("data_timeline", math.MaxUint32))
	if m.Quarantine == "" && len(m.Slots) == 0 && m.DataTimeline == 0 || *p != (Progress{}) {
		m.Progress = p
	}
	return f.err
}
