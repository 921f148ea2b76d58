package postgres

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// RecoveryTarget says where recovery from the archive stops.
type RecoveryTarget struct {
	Type      string // "latest" (default), "immediate", "time", "lsn", "name" or "xid"
	Value     string // "" for latest and immediate; a time needs a zone
	Timeline  string // "" or "latest", "current", or a number
	Exclusive bool   // stop just before the target: time, lsn and xid
}

// Validate reports in one line what is wrong with the target.
func (t RecoveryTarget) Validate() error {
	_, err := t.settings()
	return err
}

// String names the target in messages.
func (t RecoveryTarget) String() string {
	kind := t.kind()
	if t.Value == "" {
		return kind
	}
	return kind + " " + t.Value
}

func (t RecoveryTarget) kind() string {
	if t.Type == "" {
		return "latest"
	}
	return t.Type
}

// settings renders the target as recovery settings. Empty values defeat
// targets in included files.
func (t RecoveryTarget) settings() (settings, error) {
	r := settings{"recovery_target_action": "promote"}
	for name := range recoveryTargets {
		r[name] = ""
	}
	if err := t.set(r); err != nil {
		return nil, fmt.Errorf("recovery target: %w", err)
	}
	tl, err := t.timeline()
	if err != nil {
		return nil, fmt.Errorf("recovery target: %w", err)
	}
	r["recovery_target_timeline"] = tl
	return r, nil
}

func (t RecoveryTarget) set(r settings) error {
	switch kind := t.kind(); kind {
	case "latest", "immediate":
		if t.Value != "" {
			return fmt.Errorf("%s takes no value, but %q is given", kind, clip(t.Value, 60))
		}
		if t.Exclusive {
			return fmt.Errorf("exclusive does not go with %s: it is for time, lsn and xid", kind)
		}
		if kind == "immediate" {
			r["recovery_target"] = kind
		}
		return nil
	case "name":
		if t.Exclusive {
			return fmt.Errorf("exclusive does not go with name: it is for time, lsn and xid")
		}
		if t.Value == "" || len(t.Value) > 63 || strings.ContainsAny(t.Value, "\n\r\x00") {
			return fmt.Errorf("name %q: give the name of a restore point, 1 to 63 bytes", clip(t.Value, 70))
		}
		r["recovery_target_name"] = t.Value
		return nil
	case "time", "lsn", "xid":
		value, err := t.position(kind)
		if err != nil {
			return err
		}
		r["recovery_target_"+kind], r["recovery_target_inclusive"] = value, strconv.FormatBool(!t.Exclusive)
		return nil
	default:
		return fmt.Errorf("type %q: give latest, immediate, time, lsn, name or xid", clip(kind, 40))
	}
}

func (t RecoveryTarget) position(kind string) (string, error) {
	switch kind {
	case "time":
		at, err := ParseTargetTime(t.Value)
		if err != nil {
			return "", err
		}
		return at.UTC().Format("2006-01-02 15:04:05.999999+00"), nil
	case "lsn":
		at, err := wal.ParseLSN(t.Value)
		if err != nil || at == 0 {
			return "", fmt.Errorf("lsn %q: give a position such as 0/3000148", clip(t.Value, 40))
		}
		return at.String(), nil
	default:
		n, err := strconv.ParseUint(t.Value, 10, 64)
		if err != nil || n < 3 {
			return "", fmt.Errorf("xid %q: give a transaction id, a number from 3 up", clip(t.Value, 40))
		}
		return strconv.FormatUint(n, 10), nil
	}
}

func (t RecoveryTarget) timeline() (string, error) {
	switch t.Timeline {
	case "", "latest":
		return "latest", nil
	case "current":
		return "current", nil
	}
	n, err := strconv.ParseUint(t.Timeline, 10, 32)
	if err != nil || n == 0 {
		return "", fmt.Errorf("timeline %q: give latest, current or a number", clip(t.Timeline, 40))
	}
	return strconv.FormatUint(n, 10), nil
}

// ParseTargetTime reads a point in time with its zone: an offset, Z, UTC or
// GMT. Without a zone it would depend on who reads it, so it is refused.
func ParseTargetTime(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	offset := text
	for _, utc := range []string{"UTC", "GMT", "Z"} {
		if head, ok := strings.CutSuffix(text, utc); ok {
			offset = strings.TrimSpace(head) + "+00"
			break
		}
	}
	for _, sep := range []string{" ", "T"} {
		for _, clock := range []string{"15:04:05", "15:04"} {
			day := "2006-01-02" + sep + clock
			if _, err := time.Parse(day, text); err == nil {
				return time.Time{}, fmt.Errorf("time %q has no zone: add one, as in %q", text, text+"+00")
			}
			for _, zone := range []string{"-07:00", " -07:00", "-0700", " -0700", "-07", " -07"} {
				if at, err := time.Parse(day+zone, offset); err == nil {
					return at, nil
				}
			}
		}
	}
	return time.Time{}, fmt.Errorf("time %q: write it as \"2006-01-02 15:04:05+00\", with a zone", clip(text, 60))
}
