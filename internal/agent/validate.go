package agent

import (
	"fmt"
	"io"

	"github.com/pgha/pgha/pkg/config"
)

// Validate prints every finding about a configuration, one line each, and
// returns the exit code: 1 when something must be mended.
func Validate(path string, environ []string, stdout, stderr io.Writer) int {
	local, problems, err := config.Load(path, environ)
	if local != nil {
		problems = append(problems, local.Missing()...)
	}
	if err != nil && len(problems) == 0 {
		fmt.Fprintln(stderr, "error: "+err.Error())
		return 1
	}
	bad := 0
	for _, p := range problems {
		out := stderr
		if p.Severity == config.Notice {
			out = stdout
		} else {
			bad++
		}
		fmt.Fprintf(out, "%s: %s\n", p.Severity, p)
	}
	if bad > 0 || err != nil {
		return 1
	}
	return 0
}
