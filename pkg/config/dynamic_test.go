package config

import (
	"strings"
	"testing"
	"time"
)

func TestDefaultDynamic(t *testing.T) {
	d := DefaultDynamic()
	if d.TTL != 30*time.Second || d.LoopWait != 10*time.Second || d.RetryTimeout != 10*time.Second || d.MaximumLagOnFailover != 1048576 ||
		d.MaximumLagOnSyncNode != -1 || d.PrimaryStartTimeout != 300*time.Second || d.PrimaryStopTimeout != 0 || d.MemberSlotsTTL != 30*time.Minute ||
		d.CheckTimeline || d.MaxTimelinesHistory != 0 || d.SynchronousModeStrict || d.FailsafeMode || d.Pause || d.PrimaryRaceBackoff != 0 ||
		!d.UseSlots || d.SynchronousMode != SyncOff || d.SynchronousNodeCount != 1 || d.StandbyCluster != nil || string(d.Raw) != "{}" || !d.PGHA.DCSCommands {
		t.Errorf("%+v", d)
	}
}

func TestTimingAdjustment(t *testing.T) {
	for _, c := range []struct{ in, want [3]int64 }{
		{[3]int64{30, 10, 10}, [3]int64{30, 10, 10}},
		{[3]int64{20, 10, 10}, [3]int64{20, 1, 9}},
		{[3]int64{25, 10, 10}, [3]int64{25, 5, 10}},
		{[3]int64{21, 10, 10}, [3]int64{21, 1, 10}},
		{[3]int64{1, 0, 0}, [3]int64{5, 1, 1}},
		{[3]int64{5, 10, 1}, [3]int64{5, 3, 1}},
		{[3]int64{120, 10, 10}, [3]int64{120, 10, 10}},
	} {
		doc := newMap()
		for i, k := range timingKeys {
			doc.set(k.name, newInt(c.in[i]))
		}
		d, err := ParseDynamic(doc.json())
		if err != nil || d.Timing() != newTiming(c.want) {
			t.Errorf("%v: %v, %v", c.in, d, err)
		}
		if err := adjustTiming(doc); err != nil || doc.get("ttl").s != newInt(c.want[0]).s || doc.get("loop_wait").s != newInt(c.want[1]).s {
			t.Errorf("%v: %s, %v", c.in, doc.json(), err)
		}
	}
	doc, _ := parseJSONObject([]byte(`{"x":1,"ttl":20}`), "")
	if err := adjustTiming(doc); err != nil || string(doc.json()) != `{"x":1,"ttl":20,"loop_wait":1,"retry_timeout":9}` {
		t.Errorf("%s", doc.json())
	}
}

func TestTimingCheck(t *testing.T) {
	for _, c := range []struct {
		t, w, r int64
		ok      bool
	}{{30, 10, 10, true}, {120, 10, 10, true}, {20, 1, 3, true}, {20, 10, 5, true}, {20, 4, 8, true}, {5, 1, 1, true}, {8, 1, 2, true}, {5, 1, 2, false}, {5, 3, 2, false}} {
		if err := newTiming([3]int64{c.t, c.w, c.r}).Check(); (err == nil) != c.ok {
			t.Errorf("%v: %v", c, err)
		}
	}
	// What Patroni accepts is never refused.
	for ttl := int64(20); ttl < 200; ttl += 3 {
		for r := int64(3); r < 110; r += 2 {
			for _, w := range []int64{1, 5, 10, 60, 300} {
				doc := newMap()
				doc.set("ttl", newInt(ttl))
				doc.set("loop_wait", newInt(w))
				doc.set("retry_timeout", newInt(r))
				s, _ := readTiming(doc)
				if err := newTiming(s).Check(); err != nil {
					t.Fatalf("%d/%d/%d: %v", ttl, w, r, err)
				}
			}
		}
	}
}

func TestParseDynamicValues(t *testing.T) {
	d, err := ParseDynamic([]byte(`{"ttl":"40","maximum_lag_on_failover":"1MB","check_timeline":"yes","master_start_timeout":5,"member_slots_ttl":"30min",
	 "primary_stop_timeout":"1min","master_stop_timeout":1,"synchronous_mode":"QUORUM","synchronous_mode_strict":true,"synchronous_node_count":0,"pause":true,"failsafe_mode":1,
	 "permanent_slots":{},"slots":{"a":null,"b":{"database":"d","plugin":"p"},"Bad":{}},"ignore_slots":[{"name":"x"},5],"unknown":{"kept":[1]},
	 "postgresql":{"use_slots":false},"pgha":{"leash":false,"dcs_commands":"deny"},"standby_cluster":{"primary_slot_name":"x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if d.TTL != 40*time.Second || d.MaximumLagOnFailover != 1048576 || !d.CheckTimeline || d.PrimaryStartTimeout != 5*time.Second || d.PrimaryStopTimeout != time.Minute ||
		d.SynchronousMode != SyncQuorum || d.SynchronousNodeCount != 1 || !d.Pause || !d.FailsafeMode || d.UseSlots || d.PGHA.Leash != "off" || d.PGHA.DCSCommands || d.StandbyCluster != nil {
		t.Errorf("%+v", d)
	}
	if len(d.Slots) != 2 || d.Slots[0] != (Slot{Name: "a", Type: "physical"}) || d.Slots[1].Type != "logical" || len(d.IgnoreSlots) != 1 {
		t.Errorf("%+v %+v", d.Slots, d.IgnoreSlots)
	}
	if !strings.Contains(string(d.Raw), `"unknown":{"kept":[1]}`) {
		t.Errorf("%s", d.Raw)
	}
	s, err := ParseDynamic([]byte(`{"synchronous_mode":"on","standby_cluster":{"host":"h","port":"5433"}}`))
	if err != nil || s.StandbyCluster == nil || s.StandbyCluster.Port != 5433 || s.SynchronousMode != SyncOff {
		t.Errorf("%+v %v", s, err)
	}
	if o, _ := ParseDynamic([]byte(`{"standby_cluster":{"port":5433,"host":"h"},"synchronous_mode":"on"}`)); !s.Equal(o) {
		t.Error("5433 and \"5433\" differ, or key order counts")
	}
}

func TestParseDynamicRejects(t *testing.T) {
	for in, want := range map[string]string{
		``: "not valid JSON", `[]`: "not a JSON object but a list", `{"ttl":"x"}`: `ttl needs a whole number of seconds but holds the text "x"`, `{"ttl":"30s"}`: "ttl",
		`{"loop_wait":[]}`: "loop_wait", `{"postgresql":5}`: "postgresql needs an object but holds the number 5",
		`{"postgresql":{"parameters":"x"}}`: "postgresql.parameters", `{} x`: "JSON", `{"retry_timeout":true}`: "the boolean true",
	} {
		if _, err := ParseDynamic([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestValidateDynamic(t *testing.T) {
	for in, want := range map[string]string{
		`{"ttl":"x"}`:       `error: /config: ttl: needs a whole number of seconds but holds the text "x"; write a number without a unit, for example 30`,
		`{"postgresql":5}`:  `error: /config: postgresql: needs a section`,
		`{"pause":"maybe"}`: `error: /config: pause: needs true or false`,
		`5`:                 `error: /config: not a JSON object but the number 5; send a JSON object`,
		`{"ttll":5}`:        `warning: /config: ttll: unknown key, ignored; did you mean "ttl"?`,
		`{"ttl":1}`:         `warning: /config: ttl: 1 is below the minimum of 5 seconds; it is raised to 5`,
		`{"parameters":{}}`: `warning: /config: parameters: parameters belongs under postgresql`,
		`{"ttl":5,"loop_wait":1,"retry_timeout":2}`:             `error: /config: timing leaves no room`,
		`{"postgresql":{"listen":"x"}}`:                         `warning: /config: postgresql.listen: this setting is ignored; it counts only in the node's own file`,
		`{"postgresql":{"parameters":{"wal_level":"minimal"}}}`: `error: /config: postgresql.parameters.wal_level: needs one of hot_standby, replica, logical`,
		`{"postgresql":{"parameters":{"max_connections":3e5}}}`: `error: /config: postgresql.parameters.max_connections: needs a whole number from 25 to 262143 but holds the number 300000`,
		`{"synchronous_mode":"quorun"}`:                         `error: /config: synchronous_mode: needs one of off, on, quorum but holds the text "quorun"; did you mean "quorum"?`,
		`{"slots":[1]}`:                                         `error: /config: slots: needs a map of slots`,
		`{"slots":{"My-Slot":null}}`:                            `error: /config: slots.My-Slot: is no slot name; use 1 to 63 characters of a-z, 0-9 and _`,
		`{"slots":{"a":5}}`:                                     `error: /config: slots.a: needs a map but holds the number 5`,
		`{"slots":{"a":{"type":"logcal"}}}`:                     `error: /config: slots.a: has the type "logcal"; write {type: physical}`,
		`{"slots":{"a":{"type":"logical"}}}`:                    `error: /config: slots.a: is logical without database or plugin`,
		`{"slots":{"a":{"databse":"x"}}}`:                       `error: /config: slots.a.databse: is not known; write one of type, database, plugin, cluster_type`,
		`{"slots":{"a":{"cluster_type":"x"}}}`:                  `error: /config: slots.a.cluster_type: is "x"; write primary or standby, or remove it`,
		`{"ignore_slots":{"name":"a"}}`:                         `error: /config: ignore_slots: needs a list of maps`,
		`{"ignore_slots":[{"nmae":"a"}]}`:                       `error: /config: ignore_slots[0]: matches every slot; say which: name, type, database or plugin`,
		`{"ignore_slots":[{"name":"a","x":1}]}`:                 `error: /config: ignore_slots[0].x: is not known`,
		`{"postgresql":{"parameters":{"port":1}}}`:              `warning: /config: postgresql.parameters.port: ignored, its value comes from postgresql.listen`,
	} {
		if got := lines(ValidateDynamic([]byte(in))); !strings.Contains(got, want) {
			t.Errorf("%s:\n got %s want %s", in, got, want)
		}
	}
	if ps := ValidateDynamic([]byte(`{"permanent_slots":{"a":null,"b":{"type":"physical","cluster_type":"primary"},"c":{"database":"d","plugin":"pgoutput"}},"ignore_slots":[{"type":"logical","plugin":"wal2json"}]}`)); len(ps) != 0 {
		t.Errorf("good slots: %v", ps)
	}
	if ps := ValidateDynamic([]byte(`{"ttl":30,"loop_wait":2,"retry_timeout":10,"maximum_lag_on_failover":1048576,"failsafe_mode":false,"postgresql":{"use_pg_rewind":true,"use_slots":true,"parameters":{"wal_log_hints":"on","max_connections":100,"wal_keep_size":"256MB"}}}`)); len(ps) != 0 {
		t.Error(lines(ps))
	}
}

func FuzzParseDynamic(f *testing.F) {
	f.Add([]byte(`{"ttl":"40","slots":{"a":{}},"postgresql":{"parameters":{"wal_keep_segments":1e9}}}`), []byte(`{"a":null}`))
	f.Add([]byte(`{"pgha":{"backup":{"stanza":"a\nb","options":{"repo1-s3-key":"x","a":[1,true]},"schedule":{"full":"TZ=","diff":"0 0 30 2 *"},"repo":{"type":"s3"}}}}`), []byte(`{"pgha":{"backup":{"repo":5}}}`))
	f.Add([]byte(`{"a":{"b":[1,2.5e400,"\u0000"]}}`), []byte(`{"a":{"b":null}}`))
	l, _, err := Parse([]byte(minimal), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, doc, patch []byte) {
		problems := ValidateDynamic(doc)
		d, err := ParseDynamic(doc)
		if err != nil && !HasErrors(problems) {
			t.Fatalf("%q is rejected (%v) but validates", doc, err)
		}
		if err == nil {
			EffectiveOf(l, d)
			again, err := ParseDynamic(d.Raw)
			if err != nil || string(again.Raw) != string(d.Raw) {
				t.Fatalf("%q does not survive: %q, %v", doc, d.Raw, err)
			}
		}
		out, _, err := PatchDynamic(doc, patch)
		if err != nil {
			return
		}
		out2, changed, err := PatchDynamic(out, []byte(`{}`))
		if err != nil || changed || string(out2) != string(out) {
			t.Fatalf("%q patched with nothing: %q %v %v", out, out2, changed, err)
		}
	})
}
