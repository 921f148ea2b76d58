package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// newLogger returns a logger whose lines begin like Patroni's (wire contract
// §1.3), or are JSON objects when log.type says so, and the level it goes by.
func newLogger(w io.Writer, c config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(logLevel(c.Level))
	if c.Type == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})), level
	}
	return slog.New(&textHandler{w: w, level: level, mu: new(sync.Mutex)}), level
}

func logLevel(name string) slog.Level {
	switch name {
	case "DEBUG":
		return slog.LevelDebug
	case "WARN", "WARNING":
		return slog.LevelWarn
	case "ERROR", "FATAL", "CRITICAL":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// textHandler writes "2026-01-31 12:00:00,123 INFO: message key=value".
type textHandler struct {
	w     io.Writer
	level slog.Leveler
	attrs string
	mu    *sync.Mutex
}

// Enabled implements slog.Handler.
func (h *textHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// Handle implements slog.Handler.
func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	var b bytes.Buffer
	b.WriteString(r.Time.Format("2006-01-02 15:04:05"))
	fmt.Fprintf(&b, ",%03d %s: %s%s", r.Time.Nanosecond()/int(time.Millisecond), levelName(r.Level), r.Message, h.attrs)
	r.Attrs(func(a slog.Attr) bool { appendAttr(&b, a); return true })
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(b.Bytes())
	return err
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARNING"
	}
	return "ERROR"
}

func appendAttr(b *bytes.Buffer, a slog.Attr) {
	v := a.Value.Resolve().String()
	if bytes.ContainsAny([]byte(v), " \"=\n\t") {
		v = strconv.Quote(v)
	}
	fmt.Fprintf(b, " %s=%s", a.Key, v)
}

// WithAttrs implements slog.Handler.
func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b bytes.Buffer
	b.WriteString(h.attrs)
	for _, a := range attrs {
		appendAttr(&b, a)
	}
	out := *h
	out.attrs = b.String()
	return &out
}

// WithGroup implements slog.Handler; groups are not shown in text.
func (h *textHandler) WithGroup(string) slog.Handler { return h }
