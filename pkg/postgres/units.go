package postgres

import (
	"strconv"
	"strings"
)

// showUnit is one of the units in which SHOW prints whole numbers.
type showUnit struct {
	name string
	size int64
}

// unitFamilies have the largest unit first.
var unitFamilies = [][]showUnit{
	{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}},
	{{"d", 86_400_000}, {"h", 3_600_000}, {"min", 60_000}, {"s", 1000}, {"ms", 1}},
}

// withUnit gives a value in the form of SHOW that postgres -C printed in the
// parameter's unit, for example "8kB": in the largest unit that fits.
func withUnit(value, base string) string {
	n, err := strconv.ParseInt(value, 10, 64)
	name := strings.TrimLeft(base, "0123456789")
	if err != nil || n <= 0 || name == "" { // 0 and -1 have no unit there either
		return value
	}
	if factor, err := strconv.ParseInt(strings.TrimSuffix(base, name), 10, 64); err == nil {
		n *= factor
	}
	for _, family := range unitFamilies {
		for _, u := range family {
			if u.name == name {
				return largestUnit(n*u.size, family)
			}
		}
	}
	return value
}

func largestUnit(n int64, family []showUnit) string {
	for _, u := range family {
		if n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) // not reached: the last unit is 1
}
