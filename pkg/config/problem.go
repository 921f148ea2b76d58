package config

import (
	"fmt"
	"strings"
)

// Severity says what a Problem means for a starting agent.
type Severity int

const (
	// Notice informs: the value is accepted, with the stated meaning.
	Notice Severity = iota
	// Warning is a finding of --validate-config that does not stop the agent.
	Warning
	// Error makes the configuration unusable: the agent refuses it.
	Error
)

// String gives "notice", "warning" or "error".
func (s Severity) String() string {
	switch s {
	case Notice:
		return "notice"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return fmt.Sprintf("severity(%d)", int(s))
}

// Problem is one finding in a configuration: where, what, and how to mend it.
// Values of secret keys never appear in it.
type Problem struct {
	File     string // "patroni.yml", "environment", "/config"; may be empty
	Line     int    // 1-based; 0 when the source has no lines
	Column   int    // 1-based; 0 when unknown
	Path     string // dotted key path, for example "postgresql.listen"
	Message  string // what is wrong
	Cure     string // how to mend it
	Severity Severity
}

// String gives one line: "file:line: path: message; cure".
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Cure != "" {
		b.WriteString("; " + p.Cure)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// HasErrors tells whether any problem is of severity Error.
func HasErrors(ps []Problem) bool {
	for _, p := range ps {
		if p.Severity == Error {
			return true
		}
	}
	return false
}
