package config

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every printed form of a Secret looks like.
const redacted = "[REDACTED]"

// Secret is a password or passphrase. Whatever prints it (fmt, JSON, YAML,
// slog, errors) shows [REDACTED]; Reveal is the only way to the text, so a
// search for Reveal finds every use. Empty means "not configured".
type Secret string

// Reveal gives the text itself.
func (s Secret) Reveal() string { return string(s) }

// IsSet tells whether a value is configured.
func (s Secret) IsSet() bool { return s != "" }

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb (%s %v %q %x %d …) leaks.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// MarshalText implements encoding.TextMarshaler (XML, flags). It does not help a
// Secret used as a map key, which encoding/json prints as it is.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalYAML implements yaml.Marshaler.
func (s Secret) MarshalYAML() (any, error) { return redacted, nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
