//go:build race

package sim

// slow: under the race detector, schedules take some ten times as long.
const slow = true
