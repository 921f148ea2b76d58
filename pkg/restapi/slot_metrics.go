package restapi

import (
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/restapi/metric"
)

// slotMetrics are the numbers about each replication slot.
func slotMetrics(slots []ha.SlotUsage) (out []metric.Metric) {
	for _, m := range []struct {
		name, help string
		value      func(*ha.SlotUsage) float64
	}{
		{"pgha_slot_wal_bytes", "Bytes of WAL that are kept for a replication slot.", func(u *ha.SlotUsage) float64 { return float64(u.Kept) }},
		{"pgha_slot_wal_budget_bytes", "Bytes of WAL that a replication slot may keep before there is a warning, 0 unknown.", func(u *ha.SlotUsage) float64 { return float64(u.Budget) }},
		{"pgha_slot_active", "Value is 1 if somebody streams from a replication slot, 0 otherwise.", func(u *ha.SlotUsage) float64 { return num(u.Active) }},
		{"pgha_slot_lost", "Value is 1 if what a replication slot needs is gone, 0 otherwise.", func(u *ha.SlotUsage) float64 { return num(u.Lost) }},
	} {
		for i := range slots {
			out = append(out, metric.Metric{Name: m.name, Help: m.help, Label: "slot", Is: slots[i].Name, Value: m.value(&slots[i])})
		}
	}
	return out
}
