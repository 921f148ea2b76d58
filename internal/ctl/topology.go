package ctl

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newTopologyCommand(a *App, opts *globals) *cobra.Command {
	o := listOptions{format: formatTopology}
	cmd := newMembersCommand(a, opts, &o)
	cmd.Use = "topology [CLUSTER...]"
	cmd.Short = "Show who replicates from whom"
	return cmd
}

// asTree orders the members so that each follows the one it replicates from,
// and draws the branches into their names. A replica whose replicatefrom names
// no other replica hangs below the leader; so do those that name each other in
// a circle.
func asTree(members []memberInfo) []memberInfo {
	replica := map[string]bool{}
	leader := ""
	for _, m := range members {
		if m.leader {
			leader = m.name
		} else {
			replica[m.name] = true
		}
	}
	below := map[string][]memberInfo{}
	var out []memberInfo
	for _, m := range members {
		from := m.tags.String("replicatefrom")
		switch {
		case m.leader:
			out = append(out, m)
		case from == m.name || !replica[from]:
			below[leader] = append(below[leader], m)
		default:
			below[from] = append(below[from], m)
		}
	}
	drawn := map[string]bool{leader: true}
	var draw func(m memberInfo, depth int)
	draw = func(m memberInfo, depth int) {
		if drawn[m.name] {
			return
		}
		drawn[m.name] = true
		children := below[m.name]
		m.name = strings.Repeat("  ", depth) + "+ " + m.name
		out = append(out, m)
		for _, child := range children {
			draw(child, depth+1)
		}
	}
	for _, m := range slices.Concat(below[leader], members) {
		draw(m, 0)
	}
	return out
}
