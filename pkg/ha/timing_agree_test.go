package ha

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// What config refuses to write into /config is what the lease arithmetic warns
// of: both state the inequality of safety B.2, and must state the same.
func TestTimingAgreesWithTheConfigurationCheck(t *testing.T) {
	for ttl := 5; ttl <= 40; ttl++ {
		for wait := 1; wait <= 15; wait++ {
			for retry := 1; retry <= 15; retry++ {
				s := func(n int) time.Duration { return time.Duration(n) * time.Second }
				_, ours := NewTiming(s(ttl), s(wait), s(retry))
				theirs := config.Timing{TTL: s(ttl), LoopWait: s(wait), RetryTimeout: s(retry)}.Check()
				if (ours == nil) != (theirs == nil) {
					t.Fatalf("%d/%d/%d: lease says %v, configuration says %v", ttl, wait, retry, ours, theirs)
				}
			}
		}
	}
}
