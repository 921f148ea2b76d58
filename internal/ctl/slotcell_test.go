package ctl

import (
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
)

// TestListSlots: list -e tells which slots keep WAL; without -e the table is
// patronictl's.
func TestListSlots(t *testing.T) {
	c := cluster(map[string]string{"leader": "x", "members/x": `{"conn_url":"postgres://10.0.0.1:5432/postgres","state":"running","role":"primary",` +
		`"pgha":{"slots":[{"name":"to_warehouse","percent":80,"budget":10737418240},{"name":"gone","percent":0,"budget":5,"lost":true}]}}`})
	for args, want := range map[string]string{
		"list -e":         "| to_warehouse: 80% of 10.0 GB |",
		"list -e -f tsv":  "\tto_warehouse: 80% of 10.0 GB, gone: lost\n",
		"list -e -f json": `"Slots": [{"slot": "to_warehouse", "percent": 80, "budget": 10737418240, "lost": false}, {"slot": "gone", "percent": 0, "budget": 5, "lost": true}]`,
	} {
		app := newTestApp(t, &fakeCluster{cluster: c})
		if code := app.run(strings.Fields(args)...); code != 0 || !strings.Contains(app.out.String(), want) {
			t.Errorf("%s: exit %d, got\n%s%s\nwant in it\n%s", args, code, app.out.String(), app.err.String(), want)
		}
	}
	app := newTestApp(t, &fakeCluster{cluster: c})
	if code := app.run("list"); code != 0 || strings.Contains(app.out.String(), "Slots") {
		t.Errorf("exit %d, got\n%s", code, app.out.String())
	}
	if got := slotsCell([]dcs.SlotUsage{{Name: "a", Lost: true}}, formatPretty); got != "a: lost" {
		t.Errorf("%v", got)
	}
}
