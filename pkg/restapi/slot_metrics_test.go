package restapi

import (
	"testing"

	"github.com/pgha/pgha/pkg/ha"
)

func TestSlotMetrics(t *testing.T) {
	got := map[string]float64{}
	for _, m := range slotMetrics([]ha.SlotUsage{{Name: "a", Active: true, Kept: 5, Budget: 10}, {Name: "b", Lost: true}}) {
		if m.Label != "slot" || m.Help == "" {
			t.Errorf("%+v", m)
		}
		got[m.Name+" "+m.Is] = m.Value
	}
	for series, want := range map[string]float64{
		"pgha_slot_wal_bytes a": 5, "pgha_slot_wal_budget_bytes a": 10, "pgha_slot_active a": 1, "pgha_slot_lost a": 0,
		"pgha_slot_wal_bytes b": 0, "pgha_slot_active b": 0, "pgha_slot_lost b": 1,
	} {
		if v, there := got[series]; !there || v != want {
			t.Errorf("%s: %v, want %v", series, v, want)
		}
	}
}
