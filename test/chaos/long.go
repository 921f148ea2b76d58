package chaos

import (
	"fmt"
	"slices"
	"strings"
)

// Life is what one cluster lived through in a run with many faults: how the load of its
// whole life fared.
type Life struct {
	Mode    string `json:"mode"`
	Profile string `json:"profile"`
	Seed    uint64 `json:"seed"` // of the choice of faults

	Faults        []Fault `json:"faults"`
	Acked         int     `json:"acked"`
	Lost          int     `json:"lost"`
	OverlapMS     int64   `json:"overlap_ms"`
	RoleOverlapMS int64   `json:"role_overlap_ms"`
	// GivenUp lives ended early, and what became of their rows is not known.
	GivenUp bool     `json:"given_up,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	TookMS  int64    `json:"took_ms"`
}

// Fault is one of a Life, and how long clients then waited.
type Fault struct {
	Name  string `json:"name"`
	GapMS int64  `json:"gap_ms"`
}

// lifeTables sums lives up, for each kind of replication.
func lifeTables(lives []Life) string {
	var b strings.Builder
	for _, mode := range []string{"async", "sync", "quorum"} {
		var these []Life
		for _, l := range lives {
			if l.Mode == mode {
				these = append(these, l)
			}
		}
		if len(these) > 0 {
			lifeTable(&b, mode, these)
		}
	}
	return b.String()
}

func lifeTable(b *strings.Builder, mode string, lives []Life) {
	var faults, acked, lost, givenUp int
	var overlap, took int64
	gaps := map[string][]int64{}
	var all []int64
	for _, l := range lives {
		if l.GivenUp {
			givenUp++
		} else {
			acked += l.Acked
			lost += l.Lost
		}
		overlap = max(overlap, l.OverlapMS, l.RoleOverlapMS)
		took += l.TookMS
		faults += len(l.Faults)
		for _, f := range l.Faults {
			gaps[f.Name] = append(gaps[f.Name], f.GapMS)
			all = append(all, f.GapMS)
		}
	}
	fmt.Fprintf(b, "### %s replication, ttl/loop_wait/retry_timeout %s\n\n", mode, lives[0].Profile)
	fmt.Fprintf(b, "%d faults in %d lives (%d min, %d of them given up); %d writes acknowledged, %d of them lost; longest overlap of two primaries %d ms\n\n",
		faults, len(lives), took/60000, givenUp, acked, lost, overlap)
	b.WriteString("| Fault | Times | Clients waited p50 | p95 | max |\n|---|---|---|---|---|\n")
	line := func(name string, times []int64) {
		fmt.Fprintf(b, "| %s | %d | %d ms | %d ms | %d ms |\n", name, len(times), quantile(times, 0.5), quantile(times, 0.95), quantile(times, 1))
	}
	var names []string
	for name := range gaps {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		line(name, gaps[name])
	}
	if len(all) > 0 {
		line("all", all)
	}
	b.WriteString("\n")
}

// quantile gives the value below or at which a share of the values lies.
func quantile(values []int64, share float64) int64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}
