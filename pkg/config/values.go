package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The helpers of this file are Patroni's patroni/utils.py, rule by rule (wire
// contract, "shared value parsing"). They take any value that encoding/json or
// this package produces and look at its printed form in Python notation.

// ParseBool reads on/true/yes/1 and off/false/no/0 in any case. ok is false
// for anything else.
func ParseBool(v any) (value, ok bool) { return parseBoolText(fromPlain(v).printed()) }

func parseBoolText(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "on", "true", "yes", "1":
		return true, true
	case "off", "false", "no", "0":
		return false, true
	}
	return false, false
}

var (
	hexPrefix = regexp.MustCompile(`^[-+]?0x[0-9a-fA-F]+`)
	octPrefix = regexp.MustCompile(`^[-+]?0[0-7]*`)
	decPrefix = regexp.MustCompile(`^[-+]?(?:0|[1-9][0-9]*)`)
	dblPrefix = regexp.MustCompile(`^[-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?`)
)

// strtol reads an integer prefix (0x hexadecimal, leading 0 octal, else
// decimal) and gives the rest of the text. ok is false without digits.
func strtol(s string) (v float64, rest string, ok bool) {
	s = strings.TrimSpace(s)
	for _, r := range []struct {
		re   *regexp.Regexp
		base int
	}{{hexPrefix, 16}, {octPrefix, 8}, {decPrefix, 10}} {
		m := r.re.FindString(s)
		if m == "" {
			continue
		}
		digits := m
		if r.base == 16 {
			digits = strings.Replace(m, "0x", "", 1)
		}
		i, err := strconv.ParseInt(digits, r.base, 64)
		if err != nil {
			f, ferr := strconv.ParseFloat(m, 64)
			return f, s[len(m):], ferr == nil
		}
		return float64(i), s[len(m):], true
	}
	return 0, s, false
}

func strtod(s string) (v float64, rest string, ok bool) {
	s = strings.TrimSpace(s)
	m := dblPrefix.FindString(s)
	if m == "" {
		return 0, s, false
	}
	f, err := strconv.ParseFloat(m, 64)
	return f, s[len(m):], err == nil
}

// ParseInt reads an integer; a float is rounded (halves to even). A unit
// suffix (B kB MB GB TB, us ms s min h d; case-sensitive) is accepted only when
// baseUnit is given, and the value is converted to it. baseUnit may carry a
// factor, for example "8kB".
func ParseInt(v any, baseUnit string) (value int64, ok bool) {
	return parseIntText(fromPlain(v).printed(), baseUnit)
}

func parseIntText(s, baseUnit string) (int64, bool) {
	// Integers too large for a float64 to hold exactly.
	if i, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil && (s == "0" || !octPrefix.MatchString(s)) {
		return i, true
	}
	val, unit, ok := strtol(s)
	if !ok && strings.HasPrefix(unit, ".") || unit != "" && strings.ContainsRune(".eE", rune(unit[0])) {
		val, unit, ok = strtod(s)
	}
	if !ok {
		return 0, false
	}
	if unit = strings.TrimSpace(unit); unit != "" {
		if val, ok = convertToBaseUnit(val, unit, baseUnit); !ok {
			return 0, false
		}
	}
	val = math.RoundToEven(val)
	if math.IsNaN(val) || val < math.MinInt64 || val >= math.MaxInt64 {
		return 0, false
	}
	return int64(val), true
}

// A unit's size in the smallest unit of its family, largest first: rounding
// goes to the next smaller unit.
var (
	memoryUnits = []unitSize{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}
	timeUnits   = []unitSize{{"d", 86_400_000_000}, {"h", 3_600_000_000}, {"min", 60_000_000}, {"s", 1_000_000}, {"ms", 1000}, {"us", 1}}
	memoryBases = []string{"B", "kB", "MB"}
	timeBases   = []string{"ms", "s", "min"}
)

type unitSize struct {
	name string
	size float64
}

// convertToBaseUnit is Patroni's convert_to_base_unit, with PostgreSQL's rule
// that a value is rounded to a multiple of the next smaller unit.
func convertToBaseUnit(v float64, unit, base string) (float64, bool) {
	factor, baseName, ok := strtol(base)
	if !ok {
		factor, baseName = 1, strings.TrimSpace(base)
	}
	units := unitFamily(baseName)
	from, to := unitIndex(units, unit), unitIndex(units, baseName)
	if from < 0 || to < 0 || factor == 0 {
		return 0, false
	}
	scale := units[to].size * factor
	v *= units[from].size / scale
	if from+1 < len(units) {
		step := units[from+1].size / units[to].size
		v = math.RoundToEven(v/step) * step
	}
	return v, true
}

// ShowInt gives a whole number in baseUnit, which may carry a factor as in "8kB",
// as PostgreSQL's SHOW prints it: in the largest unit that fits. Anything else,
// 0 and -1 among it, stays as it is.
func ShowInt(value, baseUnit string) string {
	factor, name, ok := strtol(baseUnit)
	if !ok {
		factor, name = 1, baseUnit
	}
	units := unitFamily(name)
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n <= 0 || units == nil {
		return value
	}
	size := float64(n) * factor * units[unitIndex(units, name)].size
	for _, u := range units {
		if whole := size / u.size; whole == math.Trunc(whole) {
			return strconv.FormatInt(int64(whole), 10) + u.name
		}
	}
	return value
}

func unitFamily(base string) []unitSize {
	for _, b := range memoryBases {
		if b == base {
			return memoryUnits
		}
	}
	for _, b := range timeBases {
		if b == base {
			return timeUnits
		}
	}
	return nil
}

func unitIndex(units []unitSize, name string) int {
	for i, u := range units {
		if u.name == name {
			return i
		}
	}
	return -1
}

// deepEqual is Patroni's deep_compare: maps need equal key sets and are
// compared recursively, everything else by its printed form in Python notation
// (2 equals "2"; true prints True and differs from "true").
func deepEqual(a, b *node) bool {
	if !a.isMap() || !b.isMap() {
		return a.isMap() == b.isMap() && a.printed() == b.printed()
	}
	if len(a.pairs) != len(b.pairs) {
		return false
	}
	for _, p := range a.pairs {
		q := b.pair(p.key)
		if q == nil || !deepEqual(p.value, q.value) {
			return false
		}
	}
	return true
}

// patchNode is Patroni's patch_config on ordered trees: a null in src deletes
// the key, maps merge, anything else replaces when its printed form differs; a
// key that dst lacks is taken verbatim. It tells whether dst changed.
func patchNode(dst, src *node) bool {
	changed := false
	for _, p := range src.pairs {
		old := dst.pair(p.key)
		switch {
		case p.value.isNull():
			if old != nil {
				changed = changed || !old.value.isNull()
				dst.remove(p.key)
			}
		case old == nil:
			c := p
			c.value = p.value.clone()
			dst.pairs, changed = append(dst.pairs, c), true
		case p.value.isMap() && old.value.isMap():
			changed = patchNode(old.value, p.value) || changed
		case p.value.isMap(), old.value.printed() != p.value.printed():
			old.value, old.line, old.col, changed = p.value.clone(), p.line, p.col, true
		}
	}
	return changed
}

// fromPlain makes a node of an ordinary Go value; map keys come sorted.
func fromPlain(v any) *node {
	switch t := v.(type) {
	case nil:
		return nil
	case *node:
		return t
	case bool:
		return newBool(t)
	case string:
		return newString(t)
	case int:
		return newInt(int64(t))
	case int64:
		return newInt(t)
	case float64:
		if t == math.Trunc(t) && math.Abs(t) < 1e15 {
			return newInt(int64(t)) // encoding/json gives integers as float64
		}
		return &node{kind: floatNode, f: t}
	case json.Number:
		return jsonNumber(string(t), "")
	case []any:
		n := newList()
		for _, it := range t {
			n.items = append(n.items, fromPlain(it))
		}
		return n
	case map[string]any:
		n := newMap()
		for _, k := range slices.Sorted(maps.Keys(t)) {
			n.pairs = append(n.pairs, pair{key: k, value: fromPlain(t[k])})
		}
		return n
	}
	return newString(fmt.Sprint(v))
}

// SplitHostPort is Patroni's split_host_port: it splits at the last colon,
// strips IPv6 brackets, and uses defaultPort when there is no colon. Several
// comma-separated hosts may precede one port; they stay joined in host.
func SplitHostPort(s string, defaultPort int) (host string, port int, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, defaultPort, nil
	}
	host = s[:i]
	if strings.Contains(host, ":") {
		parts := strings.Split(host, ",")
		for j, p := range parts {
			parts[j] = strings.Trim(strings.TrimSpace(p), "[]")
		}
		host = strings.Join(parts, ",")
	}
	port, perr := strconv.Atoi(strings.TrimSpace(s[i+1:]))
	if perr != nil {
		return "", 0, fmt.Errorf("split %q into host and port: %q is not a port number", s, s[i+1:])
	}
	return host, port, nil
}

// JoinHostPort puts host and port together, with brackets around IPv6; a port
// of 0 is left out.
func JoinHostPort(host string, port int) string {
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	if port == 0 {
		return host
	}
	return host + ":" + strconv.Itoa(port)
}
