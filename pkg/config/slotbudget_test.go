package config

import "testing"

func TestSlotBudgets(t *testing.T) {
	d, err := ParseDynamic([]byte(`{"pgha":{"slot_wal_budget":"10GB","slot_wal_budgets":{"a":"1MB","b":7,"c":"x"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	b := d.PGHA.SlotBudgets
	for name, want := range map[string]int64{"a": 1 << 20, "b": 7, "c": 10 << 30, "d": 10 << 30} {
		if got := b.Of(name, 5, 100); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	var none SlotBudgets
	if none.Of("a", 5, 100) != 5 || none.Of("a", -1, 100) != 50 || none.Of("a", -1, 0) != 0 {
		t.Errorf("without a setting: %d, %d, %d", none.Of("a", 5, 100), none.Of("a", -1, 100), none.Of("a", -1, 0))
	}
	for in, want := range map[string]string{
		`{"pgha":{"slot_wal_budgets":{"a":"lots"}}}`: `error: /config: pgha.slot_wal_budgets.a: needs the name of a slot and a size but holds the text "lots"`,
		`{"pgha":{"slot_wal_budgets":5}}`:            `error: /config: pgha.slot_wal_budgets: needs a map of sizes`,
	} {
		if ps := ValidateDynamic([]byte(in)); len(ps) != 1 || lines(ps)[:len(want)] != want {
			t.Errorf("%s: %v", in, ps)
		}
	}
}
