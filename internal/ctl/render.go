package ctl

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/pgha/pgha/internal/pyjson"
)

// format is one of the values of --format.
type format string

const (
	formatPretty format = "pretty"
	formatTSV    format = "tsv"
	formatJSON   format = "json"
	formatYAML   format = "yaml"
	// formatTopology is the pretty table of members as a tree; no value of
	// --format.
	formatTopology format = "topology"
)

// isTable tells whether the format is meant for eyes.
func (f format) isTable() bool { return f == formatPretty || f == formatTopology }

// table is what a command prints, in any format. A cell is a string, an
// integer or a pyjson.Object.
type table struct {
	title   string // overlays the top rule of a pretty table
	columns []string
	right   map[string]bool // columns aligned to the right in a pretty table
	rows    [][]any
	// dropsEmpty leaves empty cells out of JSON and YAML.
	dropsEmpty bool
	unnamed    bool   // no line with the columns in tsv
	delimiter  string // of tsv; "" is a tab
}

// write prints the table; every format ends with a line break, YAML with an
// empty line as patronictl's does.
func (t *table) write(w io.Writer, f format) error {
	var out string
	switch f {
	case formatTSV:
		out = t.tsv()
	case formatJSON:
		out = t.json()
	case formatYAML:
		out = t.yaml()
	default:
		out = t.pretty()
	}
	_, err := io.WriteString(w, out)
	return err
}

// tsv joins cells by the delimiter and quotes nothing.
func (t *table) tsv() string {
	delimiter := t.delimiter
	if delimiter == "" {
		delimiter = "\t"
	}
	var b strings.Builder
	if !t.unnamed {
		b.WriteString(strings.Join(t.columns, delimiter) + "\n")
	}
	for _, row := range t.rows {
		for i, cell := range row {
			if i > 0 {
				b.WriteString(delimiter)
			}
			b.WriteString(cellText(cell))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// pretty draws the table with rules; a cell of several lines makes a rule
// after every row, so that rows stay apart.
func (t *table) pretty() string {
	rows, multiline := t.cellLines()
	widths := t.widths(rows)
	rule := ruleOf(widths)

	var b strings.Builder
	b.WriteString(titleRule(rule, t.title))
	header := make([][]string, len(t.columns))
	for i, col := range t.columns {
		header[i] = []string{col}
	}
	t.drawRow(&b, header, widths)
	b.WriteString(rule)
	for i, row := range rows {
		t.drawRow(&b, row, widths)
		if multiline && i < len(rows)-1 {
			b.WriteString(rule)
		}
	}
	b.WriteString(rule)
	return b.String()
}

// cellLines splits every cell into its lines.
func (t *table) cellLines() (rows [][][]string, multiline bool) {
	for _, row := range t.rows {
		cells := make([][]string, len(row))
		for i, cell := range row {
			cells[i] = strings.Split(cellText(cell), "\n")
			multiline = multiline || len(cells[i]) > 1
		}
		rows = append(rows, cells)
	}
	return rows, multiline
}

func (t *table) widths(rows [][][]string) []int {
	widths := make([]int, len(t.columns))
	for i, col := range t.columns {
		widths[i] = utf8.RuneCountInString(col)
	}
	for _, row := range rows {
		for i, cell := range row {
			for _, line := range cell {
				widths[i] = max(widths[i], utf8.RuneCountInString(line))
			}
		}
	}
	return widths
}

func (t *table) drawRow(b *strings.Builder, cells [][]string, widths []int) {
	height := 1
	for _, cell := range cells {
		height = max(height, len(cell))
	}
	for line := range height {
		for i, cell := range cells {
			content := ""
			if line < len(cell) {
				content = cell[line]
			}
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(content))
			if t.right[t.columns[i]] {
				b.WriteString("| " + pad + content + " ")
			} else {
				b.WriteString("| " + content + pad + " ")
			}
		}
		b.WriteString("|\n")
	}
}

func ruleOf(widths []int) string {
	var b strings.Builder
	for _, w := range widths {
		b.WriteString("+" + strings.Repeat("-", w+2))
	}
	return b.String() + "+\n"
}

// titleRule writes the title over the rule from its second character on; the
// corners stay.
func titleRule(rule, title string) string {
	runes := []rune(rule)
	last := len(runes) - 2 // the corner before the line break
	for i, r := range []rune(title) {
		if i+1 >= last {
			break
		}
		runes[i+1] = r
	}
	return string(runes)
}

// cellText is a cell in the formats made of text.
func cellText(cell any) string {
	if tags, ok := cell.(pyjson.Object); ok {
		return yamlFlow(tags)
	}
	return fmt.Sprint(cell)
}

// object is one row as ordered keys and values, for JSON and YAML.
func (t *table) object(row []any) pyjson.Object {
	obj := make(pyjson.Object, 0, len(row))
	for i, cell := range row {
		if t.dropsEmpty && cell == any("") {
			continue
		}
		obj = put(obj, t.columns[i], cell)
	}
	return obj
}

// join adds the rows of another table, whose columns are the same up to the end
// of the shorter list.
func (t *table) join(other *table) {
	if len(other.columns) > len(t.columns) {
		t.columns = other.columns
	}
	t.rows = append(t.rows, other.rows...)
	for i, row := range t.rows {
		for len(row) < len(t.columns) {
			row = append(row, "")
		}
		t.rows[i] = row
	}
}

// put sets a field; one whose name is taken replaces the first.
func put(o pyjson.Object, name string, value any) pyjson.Object {
	for i := range o {
		if o[i].Name == name {
			o[i].Value = value
			return o
		}
	}
	return append(o, pyjson.Field{Name: name, Value: value})
}

// objects is the table as a list of objects.
func (t *table) objects() []any {
	list := make([]any, 0, len(t.rows))
	for _, row := range t.rows {
		list = append(list, t.object(row))
	}
	return list
}

// json prints an array of objects on one line, with Python's separators.
func (t *table) json() string {
	return string(pyjson.Append(nil, t.objects(), pyjson.Spaced)) + "\n"
}

// yaml prints an array of objects with sorted keys, then an empty line.
func (t *table) yaml() string {
	return yamlBlock(t.objects()) + "\n"
}
