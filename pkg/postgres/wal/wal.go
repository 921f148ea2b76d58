// Package wal holds the arithmetic of PostgreSQL's write-ahead log: positions,
// timelines and timeline histories. It does no I/O and imports nothing of this
// module, so that the pure core, the DCS codec and the driver can share it.
package wal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// LSN is an absolute byte position in the WAL, as it travels in JSON (wire
// contract §4.2). Zero means "unknown"; no valid record starts there.
type LSN uint64

// Timeline numbers a branch of history. Zero means "unknown".
type Timeline uint32

// ParseLSN reads PostgreSQL's text form "X/Y" (two hexadecimal halves of at
// most 32 bits each).
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("parse LSN %q: want the form X/Y", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: bad part before the slash", s)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: bad part after the slash", s)
	}
	return LSN(h<<32 | l), nil
}

// String gives PostgreSQL's text form, for example "0/4000060".
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// Sub returns l-m in bytes, or 0 when m is ahead: a lag is never negative.
func (l LSN) Sub(m LSN) uint64 {
	if m >= l {
		return 0
	}
	return uint64(l - m)
}

// Sizes of PostgreSQL's WAL pages: the alignment of records, and the headers of a
// page and of the first page of a segment.
const (
	alignment   = 8
	shortHeader = 24
	longHeader  = 40
)

// RecordEnd returns the position after a record of length bytes (xl_tot_len) at at,
// in pages and segments of these sizes: where the server would go on, or end its
// timeline. A record continues behind the header of each page that it reaches. It
// returns 0 for what no record can be.
func RecordEnd(at LSN, length uint32, page, segment int64) LSN {
	if page <= longHeader || segment < page || segment%page != 0 || length == 0 || at == 0 {
		return 0
	}
	p, seg, left := uint64(page), uint64(segment), uint64(length)
	for pos := uint64(at); ; {
		room := p - pos%p
		if left <= room {
			return LSN(pos + (left+alignment-1)/alignment*alignment)
		}
		pos, left = pos+room, left-room
		if pos%seg == 0 {
			pos += longHeader
		} else {
			pos += shortHeader
		}
	}
}

// Switch is one line of a timeline history file: Timeline ended at LSN, for Reason.
type Switch struct {
	Timeline Timeline
	LSN      LSN
	Reason   string
}

// History is the content of a .history file, oldest timeline first. The
// timeline the file belongs to is not part of it.
type History []Switch

var errHistory = errors.New("timeline history")

// ParseHistory reads a .history file. Empty lines and comments are skipped;
// timelines must increase, as the server itself demands.
func ParseHistory(text string) (History, error) {
	var h History
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(line, "\t", 3)
		if len(f) < 2 {
			f = strings.SplitN(line, " ", 3)
		}
		if len(f) < 2 {
			return nil, fmt.Errorf("%w: line %d: want timeline, LSN, reason", errHistory, i+1)
		}
		tl, err := strconv.ParseUint(strings.TrimSpace(f[0]), 10, 32)
		if err != nil || tl == 0 {
			return nil, fmt.Errorf("%w: line %d: bad timeline %q", errHistory, i+1, f[0])
		}
		lsn, err := ParseLSN(strings.TrimSpace(f[1]))
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", errHistory, i+1, err)
		}
		if n := len(h); n > 0 && h[n-1].Timeline >= Timeline(tl) {
			return nil, fmt.Errorf("%w: line %d: timeline %d does not follow %d", errHistory, i+1, tl, h[n-1].Timeline)
		}
		s := Switch{Timeline: Timeline(tl), LSN: lsn}
		if len(f) == 3 {
			s.Reason = strings.TrimSpace(f[2])
		}
		h = append(h, s)
	}
	return h, nil
}

// End returns the position at which timeline tl ended according to h; ok is
// false when h does not list tl.
func (h History) End(tl Timeline) (LSN, bool) {
	for _, s := range h {
		if s.Timeline == tl {
			return s.LSN, true
		}
	}
	return 0, false
}

// Fork says how a node that ended at (timeline tl, position at) relates to a
// leader on timeline leaderTL with history h.
type Fork int

const (
	// ForkNone: the node's WAL is a prefix of the leader's; it can just stream.
	ForkNone Fork = iota
	// ForkDiverged: the node has WAL that the leader's branch does not contain.
	ForkDiverged
)

// Compare applies ha-behaviour §5.3 step 3. h is the history of the leader's
// timeline. inRecovery tells whether at is a standby's replay position; for a
// cleanly stopped former primary at is the start of its shutdown checkpoint
// record and end is the position after that record (0 when unknown, which
// counts as diverged: an unreadable answer is never trusted).
func Compare(tl Timeline, at, end LSN, inRecovery bool, leaderTL Timeline, h History) Fork {
	switch {
	case tl > leaderTL:
		return ForkDiverged
	case tl == leaderTL:
		return ForkNone
	case len(h) == 0:
		return ForkNone
	}
	for _, s := range h {
		if s.Timeline > tl {
			return ForkDiverged
		}
		if s.Timeline < tl {
			continue
		}
		if inRecovery {
			if at > s.LSN {
				return ForkDiverged
			}
			return ForkNone
		}
		if at >= s.LSN || end != s.LSN {
			return ForkDiverged
		}
		return ForkNone
	}
	return ForkDiverged
}
