package logging

import (
	"context"
	"log/slog"
	"time"
)

// LevelCritical is Python's level above ERROR.
const LevelCritical = slog.LevelError + 4

// Level reads a level of log.level; anything unknown is INFO.
func Level(name string) slog.Level {
	switch name {
	case "DEBUG":
		return slog.LevelDebug
	case "WARN", "WARNING":
		return slog.LevelWarn
	case "ERROR":
		return slog.LevelError
	case "FATAL", "CRITICAL":
		return LevelCritical
	}
	return slog.LevelInfo
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARNING"
	case l < LevelCritical:
		return "ERROR"
	}
	return "CRITICAL"
}

// record is one message with all its attributes.
type record struct {
	time    time.Time
	level   slog.Level
	message string
	attrs   []slog.Attr
	pc      uintptr // of the call, 0 unknown
}

// handler implements slog.Handler.
type handler struct {
	log   *Log
	attrs []slog.Attr
}

var _ slog.Handler = (*handler)(nil)

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.log.shape.Load().level }

// Handle implements slog.Handler.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	s := h.log.shape.Load()
	out := record{time: r.Time, level: r.Level, message: r.Message, attrs: h.attrs, pc: r.PC}
	if r.NumAttrs() > 0 {
		out.attrs = append([]slog.Attr(nil), h.attrs...)
		r.Attrs(func(a slog.Attr) bool { out.attrs = append(out.attrs, a); return true })
	}
	h.log.put(s.layout.format(out))
	return nil
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	out.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return &out
}

// WithGroup implements slog.Handler; groups are not shown.
func (h *handler) WithGroup(string) slog.Handler { return h }
