package lab

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// tailBytes bounds what is read of a log's end.
const tailBytes = 64 << 10

// tail gives the last lines of a file; a note when it cannot be read.
func tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		_, _ = f.Seek(-tailBytes, io.SeekEnd)
	}
	doc, err := io.ReadAll(f)
	if err != nil {
		return fmt.Sprintf("(read log: %v)", err)
	}
	all := strings.Split(strings.TrimRight(string(doc), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// DumpLogs writes the end of every host's logs: what one looks at first when
// something went wrong.
func (l *Lab) DumpLogs(w io.Writer, lines int) {
	for _, n := range l.Nodes {
		pid, status, _ := n.host.running()
		fmt.Fprintf(w, "--- %s agent: pid %d, last end %q\n%s\n", n.Name, pid, status, tail(n.AgentLog, lines))
		fmt.Fprintf(w, "--- %s postgres\n%s\n", n.Name, tail(filepath.Join(n.Dir, "postgresql.log"), lines/2))
		for _, p := range n.host.tree() {
			fmt.Fprintf(w, "    %6d child of %6d %s\n", p.pid, p.ppid, p.comm)
		}
	}
	for _, m := range l.etcd {
		fmt.Fprintf(w, "--- %s\n%s\n", m.host.name, tail(filepath.Join(m.host.dir, "etcd.log"), lines/4))
	}
}
