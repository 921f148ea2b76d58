package wal

import "testing"

func TestLSNRoundTrip(t *testing.T) {
	for _, s := range []string{"0/0", "0/4000060", "16/B374D848", "FFFFFFFF/FFFFFFFF"} {
		l, err := ParseLSN(s)
		if err != nil || l.String() != s {
			t.Errorf("%s: got %s, %v", s, l, err)
		}
	}
	for _, s := range []string{"", "0", "0/", "/0", "0/1/2", "100000000/0", "0/-1", "x/y", "0 /1"} {
		if l, err := ParseLSN(s); err == nil {
			t.Errorf("%q: accepted as %s", s, l)
		}
	}
}

func TestSub(t *testing.T) {
	if LSN(5).Sub(7) != 0 || LSN(7).Sub(5) != 2 || LSN(7).Sub(7) != 0 {
		t.Fatal("a lag is the difference, or zero")
	}
}

func TestParseHistory(t *testing.T) {
	h, err := ParseHistory("1\t0/3000000\tno recovery target specified\n\n# note\n2\t0/4000188\tbefore 2000-01-01 00:00:00+00\n")
	if err != nil || len(h) != 2 || h[1].Timeline != 2 || h[1].LSN != 0x4000188 || h[0].Reason != "no recovery target specified" {
		t.Fatalf("got %+v, %v", h, err)
	}
	if end, ok := h.End(1); !ok || end != 0x3000000 {
		t.Fatalf("end of 1: %s %v", end, ok)
	}
	if _, ok := h.End(3); ok {
		t.Fatal("timeline 3 is not in the history")
	}
	for _, bad := range []string{"x\t0/1\tr", "1", "0\t0/1", "2\t0/1\n1\t0/2", "1\tzz"} {
		if h, err := ParseHistory(bad); err == nil {
			t.Errorf("%q: accepted as %+v", bad, h)
		}
	}
}

// Rows of ha-behaviour §5.3, step 3.
func TestCompare(t *testing.T) {
	h := History{{1, 100, ""}, {3, 200, ""}}
	for _, c := range []struct {
		name       string
		tl         Timeline
		at, end    LSN
		inRecovery bool
		leader     Timeline
		h          History
		want       Fork
	}{
		{"local timeline is newer", 5, 1, 0, true, 4, h, ForkDiverged},
		{"same timeline", 4, 900, 0, true, 4, h, ForkNone},
		{"no history to be had", 1, 900, 0, true, 4, nil, ForkNone},
		{"standby before the switch", 1, 100, 0, true, 4, h, ForkNone},
		{"standby past the switch", 1, 101, 0, true, 4, h, ForkDiverged},
		{"timeline 2 is no parent of 4", 2, 50, 0, true, 4, h, ForkDiverged},
		{"former primary, checkpoint record ends at the switch", 1, 90, 100, false, 4, h, ForkNone},
		{"former primary, checkpoint at the switch", 1, 100, 110, false, 4, h, ForkDiverged},
		{"former primary, something follows the checkpoint", 1, 80, 95, false, 4, h, ForkDiverged},
		{"former primary, end of record unreadable", 1, 90, 0, false, 4, h, ForkDiverged},
		{"timeline not listed", 4, 50, 0, true, 9, h, ForkDiverged},
	} {
		if got := Compare(c.tl, c.at, c.end, c.inRecovery, c.leader, c.h); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1\t0/3000000\tr\n")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := ParseHistory(s); err == nil {
			for i := 1; i < len(h); i++ {
				if h[i].Timeline <= h[i-1].Timeline {
					t.Fatalf("timelines out of order: %+v", h)
				}
			}
		}
		if l, err := ParseLSN(s); err == nil {
			if m, err := ParseLSN(l.String()); err != nil || m != l {
				t.Fatalf("%q does not round-trip", s)
			}
		}
	})
}

func TestRecordEnd(t *testing.T) {
	const page, segment = 8192, 1 << 20
	for name, c := range map[string]struct {
		at     LSN
		length uint32
		want   LSN
	}{
		"aligned":               {0x3000028, 112, 0x3000098},
		"a shutdown checkpoint": {0x3000028, 114, 0x30000A0},
		"up to the page's end":  {0x3001F88, 114, 0x3002000},
		"over a page's end":     {0x3001F90, 114, 0x3002020},
		"over a segment's end":  {0x30FFF90, 114, 0x3100030},
		"over three pages":      {0x3001F90, 16560, 0x3006088},
		"longer than a segment": {0x3000028, 1 << 20, 0x3100C38},
		"of no length":          {0x3000028, 0, 0},
		"at no place":           {0, 114, 0},
	} {
		if got := RecordEnd(c.at, c.length, page, segment); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if RecordEnd(0x3000028, 114, 0, segment) != 0 || RecordEnd(0x3000028, 114, page, 0) != 0 || RecordEnd(0x3000028, 114, page, page+1) != 0 {
		t.Error("sizes that the control file does not show are taken for sizes")
	}
}
