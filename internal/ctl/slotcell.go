package ctl

import (
	"fmt"
	"strings"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/dcs"
)

// slotsCell tells which replication slots of a member keep WAL, and how much of
// what they may; members publish it by tens of percent.
func slotsCell(slots []dcs.SlotUsage, f format) any {
	if !f.isTable() && f != formatTSV {
		list := make([]any, len(slots))
		for i, s := range slots {
			list[i] = pyjson.Object{{Name: "slot", Value: s.Name}, {Name: "percent", Value: int64(s.Percent)}, {Name: "budget", Value: s.Budget}, {Name: "lost", Value: s.Lost}}
		}
		return list
	}
	lines := make([]string, len(slots))
	for i, s := range slots {
		lines[i] = fmt.Sprintf("%s: %d%% of %s", s.Name, s.Percent, byteText(s.Budget))
		if s.Lost {
			lines[i] = s.Name + ": lost"
		}
	}
	if f == formatPretty {
		return strings.Join(lines, "\n")
	}
	return strings.Join(lines, ", ")
}
