package bench

import (
	"fmt"
	"slices"
	"strings"
)

// unit is what a measure is counted in.
type unit string

const (
	milliseconds unit = "ms"
	megabytes    unit = "MB"
	perSecond    unit = "/s"
)

// measure is one thing that is measured with each peer.
type measure struct {
	name string
	unit unit
}

// better tells how many times better ours is.
func (m measure) better(ours, theirs float64) float64 {
	if m.unit == perSecond {
		return ours / theirs
	}
	return theirs / ours
}

// results are the values of each measure with each peer, in the order in which
// they came.
type results struct {
	order  []measure
	values map[measure]map[string][]float64
}

func (r *results) add(peer string, m measure, value float64) {
	if r.values == nil {
		r.values = make(map[measure]map[string][]float64)
	}
	if r.values[m] == nil {
		r.values[m] = make(map[string][]float64)
		r.order = append(r.order, m)
	}
	r.values[m][peer] = append(r.values[m][peer], value)
}

// table gives the medians side by side, and the worst values where there are
// several.
func (r *results) table(ours, theirs string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s | %s | ratio |\n|---|---|---|---|\n", ours, theirs)
	for _, m := range r.order {
		a, c := r.values[m][ours], r.values[m][theirs]
		ratio := ""
		if len(a) > 0 && len(c) > 0 && median(a) > 0 && median(c) > 0 {
			ratio = fmt.Sprintf("%.1f", m.better(median(a), median(c)))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", m.name, m.cell(a), m.cell(c), ratio)
	}
	return b.String()
}

func (m measure) cell(values []float64) string {
	if len(values) == 0 {
		return "–"
	}
	worst := slices.Max(values)
	if m.unit == perSecond {
		worst = slices.Min(values)
	}
	text := m.text(median(values))
	if len(values) > 1 {
		text += " (worst " + m.text(worst) + ")"
	}
	return text
}

func (m measure) text(v float64) string {
	if m.unit == perSecond {
		return fmt.Sprintf("%.0f%s", v, m.unit)
	}
	if v < 10 {
		return fmt.Sprintf("%.1f %s", v, m.unit)
	}
	return fmt.Sprintf("%.0f %s", v, m.unit)
}

// document is docs/benchmarks.md.
func document(patroni string, rounds int, table string) []byte {
	return fmt.Appendf(nil, `# pgha beside Patroni

Written by 'make bench', which anybody can run: three database hosts and three etcd members in network namespaces of
one machine, %s and then pgha on them, with the same PostgreSQL and the same timings (ttl 20, loop_wait 1,
retry_timeout 3: the shortest that Patroni takes). A client writes one row every 5 ms; a gap is the longest time without
an acknowledged write, each fault was made %d times, and the median is given. Requests are counted over connections that
are kept open, by a client on the same machine.

Seconds are those of the machine that ran it. The ratios are what to look at: how many times better pgha is.

%s`, strings.TrimSpace(patroni), rounds, table)
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile gives the smallest value that so great a part of the values does not
// exceed.
func quantile(values []float64, part float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	i := int(part * float64(len(sorted)))
	return sorted[min(i, len(sorted)-1)]
}
