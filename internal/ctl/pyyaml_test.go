package ctl

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
)

// TestYAMLMatchesPyYAML compares with what PyYAML 6.0.3 printed (safe_dump,
// allow_unicode, block and flow style) for values that need every quoting rule.
func TestYAMLMatchesPyYAML(t *testing.T) {
	data, err := os.ReadFile("testdata/pyyaml.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Value       any
		Block, Flow string
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 100 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, tc := range cases {
		if got := yamlBlock(tc.Value); got != tc.Block {
			t.Errorf("block style of %q:\n got %q\nwant %q", tc.Value, got, tc.Block)
		}
		if got := yamlFlow(tc.Value); got != tc.Flow {
			t.Errorf("flow style of %q:\n got %q\nwant %q", tc.Value, got, tc.Flow)
		}
	}
}

// TestYAMLFolds compares with what PyYAML 6 printed for long strings (safe_dump,
// allow_unicode, width 200).
func TestYAMLFolds(t *testing.T) {
	data, err := os.ReadFile("testdata/pyyaml_long.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Value any
		Block string
	}
	if err := json.Unmarshal(data, &cases); err != nil || len(cases) < 20 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, tc := range cases {
		if got := yamlBlock(tc.Value); got != tc.Block {
			t.Errorf("got\n%s\nwant\n%s", got, tc.Block)
		}
	}
}
