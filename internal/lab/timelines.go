package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// TimelineFiles reads the history files (pg_wal/*.history) of every node: per file
// name, what each node has. A node that has lost one is not in it.
func (l *Lab) TimelineFiles() (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, n := range l.Nodes {
		paths, err := filepath.Glob(filepath.Join(n.DataDir, "pg_wal", "*.history"))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			doc, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read history of timelines of %s: %w", n.Name, err)
			}
			name := filepath.Base(path)
			if out[name] == nil {
				out[name] = map[string]string{}
			}
			out[name][n.Name] = string(doc)
		}
	}
	return out, nil
}

// ForkedTimelines gives a line for each timeline that was made twice: two nodes hold
// different histories of one number.
func ForkedTimelines(files map[string]map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		nodes := slices.Sorted(maps.Keys(files[name]))
		for _, node := range nodes[1:] {
			if files[name][node] != files[name][nodes[0]] {
				out = append(out, fmt.Sprintf("%s of %s and of %s differ: the timeline was made twice", name, nodes[0], node))
			}
		}
	}
	return out
}
