package agent

import (
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/ha"
)

// An agent that was stopped between the decision and the act promotes nothing: in pause no
// leash would end that server.
func TestLatePromotion(t *testing.T) {
	n := &node{now: func() ha.Instant { return 100 }} // whose server must not be touched
	if _, err := n.promote(t.Context(), ha.Promote{From: 1, Timeline: 2, Until: 100}); err == nil || !strings.Contains(err.Error(), "not begun") {
		t.Errorf("%v", err)
	}
}
