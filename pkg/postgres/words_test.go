package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

func TestSplitWords(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
		err  string
	}{
		{"", nil, ""},
		{" \t\n ", nil, ""},
		{"a b  c", []string{"a", "b", "c"}, ""},
		{`/opt/my\ script --x='a "b" \ c' "d 'e' \"f\" \$g \h"`, []string{"/opt/my script", `--x=a "b" \ c`, `d 'e' "f" $g \h`}, ""},
		{`a '' ""b`, []string{"a", "", "b"}, ""},
		{"a\\\nb 'c\nd'", []string{"ab", "c\nd"}, ""},
		{`$HOME *.c ~ a#b ;|&`, []string{"$HOME", "*.c", "~", "a#b", ";|&"}, ""},
		{`say 'it`, nil, "the ' at character 5 is never closed"},
		{`say "it`, nil, `the " at character 5 is never closed`},
		{`a "b\"`, nil, "never closed"},
		{`a \`, nil, "ends with a backslash"},
		{"a\x00b", nil, "zero byte"},
		{"'a\x00b'", nil, "zero byte"},
	} {
		got, err := splitWords(c.line)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: error %v, want %q", c.line, err, c.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %v, want %q", c.line, got, err, c.want)
		}
	}
}

// FuzzSplitWords: what was quoted comes back as it was, and nothing panics.
func FuzzSplitWords(f *testing.F) {
	f.Add("a b", `it's`)
	f.Add(`\`, "\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		_, _ = splitWords(a)
		if strings.ContainsRune(a+b, 0) {
			return
		}
		single := "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		double := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(b) + `"`
		got, err := splitWords("  " + single + "\t" + double + " ")
		if err != nil || !slices.Equal(got, []string{a, b}) {
			t.Fatalf("%q and %q became %q, %v", a, b, got, err)
		}
	})
}

func TestPostBootstrapOf(t *testing.T) {
	o, err := PostBootstrapOf(config.Bootstrap{PostBootstrap: `/x/y.sh 'a b'`})
	if err != nil || !slices.Equal(o.Script, []string{"/x/y.sh", "a b"}) {
		t.Errorf("%q, %v", o.Script, err)
	}
	if o, err = PostBootstrapOf(config.Bootstrap{PostBootstrap: "  "}); err != nil || o.Script != nil {
		t.Errorf("none: %q, %v", o.Script, err)
	}
	if _, err = PostBootstrapOf(config.Bootstrap{PostBootstrap: "'"}); err == nil || !strings.Contains(err.Error(), "bootstrap.post_bootstrap") {
		t.Errorf("bad: %v", err)
	}
}
