package agent

import (
	"fmt"

	"github.com/pgha/pgha/pkg/config"
)

// goodTiming replaces the timing of a /config document by the last good one where
// safety B.2 refuses it: our REST API and CLI write none such, but others may. The
// rest of the document is in force. Nothing unsafe would follow from it, but one
// failed renewal would demote the primary.
func (a *agent) goodTiming(d *config.Dynamic) {
	err := d.Timing().Check()
	if err == nil {
		return
	}
	good := config.DefaultDynamic().Timing()
	if e := a.config.Load(); e != nil && e.Dynamic != nil && e.Dynamic.Timing().Check() == nil {
		good = e.Dynamic.Timing()
	}
	d.TTL, d.LoopWait, d.RetryTimeout = good.TTL, good.LoopWait, good.RetryTimeout
	a.log.Error(fmt.Sprintf("ttl, loop_wait and retry_timeout of the dynamic configuration are not applied; %v, %v and %v are in force: %v; mend them with pghactl edit-config",
		good.TTL, good.LoopWait, good.RetryTimeout, err))
}
