package sim

import (
	"fmt"
	"io"
	"strings"
)

// Line is one thing that happened: to a node, or, where Node is leads, to etcd
// or by an operator's hand.
type Line struct {
	At   int64
	Node int
	Text string
}

func (l Line) String() string {
	who := "--"
	if l.Node != leads {
		who = fmt.Sprintf("n%d", l.Node+1)
	}
	return fmt.Sprintf("%10s %s  %s", clock(l.At), who, l.Text)
}

// Table prints what happened as a sequence: a column for etcd and the operator,
// and one for each node.
func Table(to io.Writer, nodes int, lines []Line) {
	const width = 40
	row := func(at string, cells []string) {
		fmt.Fprintf(to, "%10s", at)
		for _, c := range cells {
			fmt.Fprintf(to, " | %-*s", width, c)
		}
		fmt.Fprintln(to)
	}
	head := []string{"etcd, faults, the operator"}
	for i := range nodes {
		head = append(head, fmt.Sprintf("n%d", i+1))
	}
	row("", head)
	for _, l := range lines {
		at := clock(l.At)
		for _, part := range wrap(l.Text, width) {
			cells := make([]string, nodes+1)
			if l.Node < nodes {
				cells[l.Node+1] = part
			}
			row(at, cells)
			at = ""
		}
	}
}

// wrap breaks text between words.
func wrap(text string, width int) (out []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			out, line = append(out, line), ""
		}
		for len(word) > width {
			out, word = append(out, word[:width]), word[width:]
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(out, line)
}
