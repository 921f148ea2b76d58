package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Manual is a document whose marked blocks (```sh WORD) are run on hosts of the
// lab, as they stand. Its block "setup" names what stands for the reader's own
// values; the rest uses these names.
type Manual struct {
	lab    *Lab
	path   string
	blocks map[string][]string // by the word behind "sh"
	names  []string            // in the order of the setup block
	values map[string]string
	tools  string // directory with stand-ins, first on the blocks' PATH
}

var (
	fenced     = regexp.MustCompile("(?ms)^```sh ([a-z0-9-]+)\n(.*?)^```$")
	assignment = regexp.MustCompile(`(?m)^(?:export )?([A-Z_]+)=`)
)

// OpenManual reads the document at path. Every name of its setup block needs a
// value, and every value must be of a name in it.
func (l *Lab) OpenManual(path string, values map[string]string) (*Manual, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read manual: %w", err)
	}
	m := &Manual{lab: l, path: path, blocks: map[string][]string{}, values: values, tools: filepath.Join(l.opts.Dir, "tools")}
	for _, found := range fenced.FindAllStringSubmatch(string(text), -1) {
		m.blocks[found[1]] = append(m.blocks[found[1]], found[2])
	}
	for _, found := range assignment.FindAllStringSubmatch(strings.Join(m.blocks["setup"], ""), -1) {
		if _, ok := values[found[1]]; !ok {
			return nil, fmt.Errorf("%s: the setup block has %s, which is given no value", path, found[1])
		}
		m.names = append(m.names, found[1])
	}
	if len(m.names) != len(values) {
		return nil, fmt.Errorf("%s: the setup block has %v, there are values for %d names", path, m.names, len(values))
	}
	if err := os.Mkdir(m.tools, 0o755); err != nil {
		return nil, fmt.Errorf("make stand-ins: %w", err)
	}
	return m, nil
}

// Set gives a name of the setup block another value.
func (m *Manual) Set(name, value string) { m.values[name] = value }

// Tool puts a program in the way of the one called name.
func (m *Manual) Tool(name string, program []byte) error {
	return os.WriteFile(filepath.Join(m.tools, name), program, 0o755)
}

// Follow runs the i-th block with that word on a node and returns what it
// printed. Where a command asks, the answer is the cluster's name.
func (m *Manual) Follow(ctx context.Context, n *Node, word string, i int) (string, error) {
	if i >= len(m.blocks[word]) {
		return "", fmt.Errorf("%s has no block %d with the word %q", m.path, i, word)
	}
	script := "set -eu -o pipefail\nexport PATH=" + m.tools + ":" + m.lab.Bin() + ":$PATH\n"
	for _, name := range m.names {
		script += fmt.Sprintf("export %s='%s'\n", name, m.values[name])
	}
	script += m.blocks[word][i]
	path := filepath.Join(n.Dir, "block.sh")
	if err := m.lab.WriteOwnFile(path, []byte(script), 0o700); err != nil {
		return "", err
	}
	out, err := m.lab.AsServer(ctx, n, "bash", "-c", "yes "+m.lab.opts.Scope+" 2>/dev/null | bash "+path)
	if err != nil && !strings.Contains(err.Error(), "signal: broken pipe") {
		return out, fmt.Errorf("%s, block %q %d on %s: %w", m.path, word, i, n.Name, err)
	}
	return out, nil
}

// systemctl asks the rig to do what it is told on the host it is called on, and
// waits until that is done.
const systemctl = `#!/bin/sh
set -eu
echo "$*" >systemctl.new
mv systemctl.new systemctl.order
while test -e systemctl.order; do sleep 0.05; done
test ! -e systemctl.failed
`

// ServeSystemctl installs a stand-in for systemctl whose orders, for instance
// "start pgha-agent", are given to do until ctx ends.
func (m *Manual) ServeSystemctl(ctx context.Context, do func(n *Node, order string) error) error {
	if err := m.Tool("systemctl", []byte(systemctl)); err != nil {
		return err
	}
	go func() {
		_ = Poll(ctx, func() bool {
			for _, n := range m.lab.Nodes {
				m.obey(n, do)
			}
			return false
		})
	}()
	return nil
}

func (m *Manual) obey(n *Node, do func(n *Node, order string) error) {
	path, failed := filepath.Join(n.Dir, "systemctl.order"), filepath.Join(n.Dir, "systemctl.failed")
	order, err := os.ReadFile(path)
	if err != nil {
		return
	}
	_ = os.Remove(failed)
	if err := do(n, strings.TrimSpace(string(order))); err != nil {
		_ = os.WriteFile(failed, []byte(err.Error()), 0o644)
	}
	_ = os.Remove(path)
}
