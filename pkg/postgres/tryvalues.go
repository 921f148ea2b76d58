package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// RefusedValues tries parameters out on the server's program, for which no server
// needs to run, and gives PostgreSQL's words about each one, by its name, whose
// value it would not start with. Parameters that it does not know are left out of
// its configuration, and here. An error means that nothing was tried.
func (s *Server) RefusedValues(ctx context.Context, given map[string]string) (map[string]string, error) {
	known, err := s.knownGUCs(ctx)
	if err != nil {
		return nil, err
	}
	refused, tried := make(map[string]string), make(settings)
	for name, value := range given {
		switch name = strings.ToLower(name); {
		case strings.ContainsAny(value, lineBreaks):
			refused[name] = "it holds a line break or a zero byte"
		case known[name] && name != "config_file" && name != "data_directory":
			tried[name] = value
		}
	}
	if len(tried) == 0 {
		return refused, nil
	}
	text, err := renderSettings(tried)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.stateDir, "parameters-*")
	if err != nil {
		return nil, fmt.Errorf("try parameters: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.WriteFile(filepath.Join(dir, "postgresql.conf"), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("try parameters: %w", err)
	}
	last := ""
	// -C prints one parameter, after everything was read and checked.
	_, err = s.run(ctx, command{path: s.bin("postgres"), args: []string{"-C", "port", "-D", dir}, line: func(line string) {
		for _, more := range []string{"HINT:", "DETAIL:"} {
			if _, words, ok := strings.Cut(line, more); ok && last != "" {
				refused[last] += " (" + strings.TrimSpace(words) + ")"
				return
			}
		}
		if _, words, ok := strings.Cut(line, "LOG:"); ok {
			if last = refusedName(words, tried); last != "" {
				refused[last] = s.scrub(clip(strings.TrimSpace(words), 300))
			}
		}
	}})
	var failed *CommandError
	if err != nil && (len(refused) == 0 || !errors.As(err, &failed) || failed.Code < 0) {
		return nil, fmt.Errorf("try parameters: %w", err)
	}
	return refused, nil
}
