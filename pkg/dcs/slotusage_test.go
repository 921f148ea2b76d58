package dcs

import (
	"reflect"
	"testing"
)

func TestSlotUsageRoundTrip(t *testing.T) {
	want := []SlotUsage{{Name: "a", Percent: 80, Budget: 5}, {Name: "b", Lost: true}}
	c := Decode("/b", []KV{{Key: Key("members/n1").Path("/b"), Value: (&Member{ConnURL: "u", State: "running", Slots: want}).Encode()}})
	m := c.Member("n1")
	if m == nil || !reflect.DeepEqual(m.Slots, want) || m.Progress != nil {
		t.Errorf("%+v", m)
	}
	for _, bad := range []string{`5`, `[5]`, `{}`, `[{"name":"a\u0007"}]`} {
		c := Decode("/b", []KV{{Key: Key("members/n1").Path("/b"), Value: []byte(`{"conn_url":"u","state":"running","pgha":{"slots":` + bad + `}}`)}})
		if m := c.Member("n1"); m == nil || len(m.Slots) != 0 {
			t.Errorf("%s: %+v", bad, m)
		}
	}
}
