package sim

import (
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSchedule plays schedules of three nodes and a minute of virtual time.
func BenchmarkSchedule(b *testing.B) {
	begun, seed := cpu(), uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		Run(Options{Seed: seed, Nodes: 3, Length: time.Minute})
		seed++
	}
	b.ReportMetric(float64(b.N)/(cpu()-begun).Seconds(), "schedules/cpu-s")
}
