package postgres

import "testing"

func TestWithUnit(t *testing.T) {
	for _, c := range []struct{ value, unit, want string }{
		{"2176", "8kB", "17MB"}, {"16384", "8kB", "128MB"}, {"1", "8kB", "8kB"}, {"1048576", "kB", "1GB"}, {"1536", "MB", "1536MB"}, {"16777216", "B", "16MB"},
		{"300", "s", "5min"}, {"90", "s", "90s"}, {"86400000", "ms", "1d"}, {"60", "min", "1h"},
		{"0", "8kB", "0"}, {"-1", "kB", "-1"}, {"100", "", "100"}, {"on", "", "on"}, {"?", "kB", "?"}, {"5", "parsec", "5"},
	} {
		if got := withUnit(c.value, c.unit); got != c.want {
			t.Errorf("%s in %s: %s, want %s", c.value, c.unit, got, c.want)
		}
	}
}
