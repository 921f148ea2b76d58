package ha

import (
	"testing"
)

// TestZReasonCoverage fails for reasons that no test of this package reaches. It
// runs last: tests run in the order of their files and of their places there.
func TestZReasonCoverage(t *testing.T) {
	never := map[Reason]string{
		NoReason:         "the zero value: no decision has it",
		RewindImpossible: "reserved: rejoin starts the server instead, which reports the divergence itself",
	}
	hits.Lock()
	defer hits.Unlock()
	total := 0
	for _, n := range hits.n {
		total += n
	}
	if total < 200 {
		t.Skip("only a part of the tests ran (-run)")
	}
	for r := range hits.n {
		_, excused := never[Reason(r)]
		switch {
		case hits.n[r] == 0 && !excused:
			t.Errorf("reason %d (%s) is never decided", r, Reason(r))
		case hits.n[r] != 0 && excused:
			t.Errorf("reason %d (%s) is decided, but listed as never", r, Reason(r))
		}
	}
}
