package logging

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-strftime"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
)

// layout turns a record into the bytes of a line, with its line break.
type layout interface{ format(r record) []byte }

// defaultFormat is that of Patroni.
const defaultFormat = "%(asctime)s %(levelname)s: %(message)s"

func newLayout(c config.Log) layout {
	stamp := stamp(c.DateFormat)
	if c.Type == "json" {
		return newJSONLayout(c, stamp)
	}
	format := c.Format
	if format == "" {
		format = defaultFormat
	}
	return textLayout{parts: splitFormat(format), stamp: stamp}
}

// stamp is a strftime pattern; "" means Python's default, with milliseconds
// after a comma.
type stamp string

func (s stamp) of(t time.Time) string {
	if s == "" {
		return t.Format("2006-01-02 15:04:05,000")
	}
	return strftime.Format(string(s), t)
}

// placeholder is one %(name)s of Python's logging formats.
var placeholder = regexp.MustCompile(`%%|%\((\w+)\)([-#0 +]*\d*(?:\.\d+)?)([a-zA-Z])`)

// part is literal text, or a placeholder when name is set.
type part struct {
	text, name, verb string
}

func splitFormat(format string) []part {
	var out []part
	at := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(format, -1) {
		out = append(out, part{text: format[at:m[0]]})
		at = m[1]
		if m[2] < 0 {
			out = append(out, part{text: "%"})
			continue
		}
		out = append(out, part{name: format[m[2]:m[3]], verb: "%" + format[m[4]:m[5]] + format[m[6]:m[7]]})
	}
	return append(out, part{text: format[at:]})
}

// value is one of the attributes that Python's log records have. Those that
// only a Python program has are empty.
func (r *record) value(name string, s stamp) any {
	switch name {
	case "asctime":
		return s.of(r.time)
	case "levelname":
		return levelName(r.level)
	case "levelno":
		return pythonLevel(r.level)
	case "message":
		return r.message
	case "name":
		return "pgha"
	case "created":
		return float64(r.time.UnixMicro()) / 1e6
	case "msecs":
		return r.time.Nanosecond() / int(time.Millisecond)
	case "process":
		return os.Getpid()
	case "processName", "threadName":
		return "pgha-agent"
	case "thread":
		return 0
	}
	return r.caller(name)
}

// caller gives the attributes that tell where the call stands.
func (r *record) caller(name string) any {
	f, _ := runtime.CallersFrames([]uintptr{r.pc}).Next()
	file := filepath.Base(f.File)
	switch name {
	case "lineno":
		return f.Line
	case "pathname":
		return f.File
	case "filename":
		return file
	case "module":
		return strings.TrimSuffix(file, ".go")
	case "funcName":
		return f.Function[strings.LastIndexByte(f.Function, '.')+1:]
	}
	return ""
}

func pythonLevel(l slog.Level) int {
	switch levelName(l) {
	case "DEBUG":
		return 10
	case "INFO":
		return 20
	case "WARNING":
		return 30
	case "ERROR":
		return 40
	}
	return 50
}

// textLayout writes a line of text; attributes follow the message as key=value.
type textLayout struct {
	parts []part
	stamp stamp
}

func (l textLayout) format(r record) []byte {
	var b bytes.Buffer
	for _, p := range l.parts {
		switch p.name {
		case "":
			b.WriteString(p.text)
		case "message":
			appendPart(&b, p.verb, r.message+attrText(r.attrs))
		default:
			appendPart(&b, p.verb, r.value(p.name, l.stamp))
		}
	}
	line := bytes.TrimRight(b.Bytes(), "\n")
	return append(line, '\n')
}

// appendPart prints a value by Python's verb: d and i want a number, f a float;
// anything else is text.
func appendPart(b *bytes.Buffer, verb string, v any) {
	kind := verb[len(verb)-1]
	flags := verb[:len(verb)-1]
	switch n := v.(type) {
	case int:
		switch kind {
		case 'd', 'i':
			fmt.Fprintf(b, flags+"d", n)
			return
		case 'f', 'F':
			fmt.Fprintf(b, flags+"f", float64(n))
			return
		}
	case float64:
		switch kind {
		case 'd', 'i':
			fmt.Fprintf(b, flags+"d", int64(n))
			return
		case 'f', 'F':
			fmt.Fprintf(b, flags+"f", n)
			return
		}
	}
	fmt.Fprintf(b, flags+"s", fmt.Sprint(v))
}

func attrText(attrs []slog.Attr) string {
	if len(attrs) == 0 {
		return ""
	}
	var b strings.Builder
	for _, a := range attrs {
		v := a.Value.Resolve().String()
		if strings.ContainsAny(v, " \"=\n\t") {
			v = strconv.Quote(v)
		}
		b.WriteString(" " + a.Key + "=" + v)
	}
	return b.String()
}

// jsonLayout writes one object per line: the fields asked for, the static ones,
// and the record's attributes under names not taken yet.
type jsonLayout struct {
	fields []config.Option // Name: attribute, Value: printed name
	static []config.Setting
	stamp  stamp
}

func newJSONLayout(c config.Log, s stamp) jsonLayout {
	l := jsonLayout{static: c.StaticFields, stamp: s}
	for _, f := range c.Fields {
		if f.Flag {
			f.Value = f.Name
		}
		l.fields = append(l.fields, f)
	}
	if len(l.fields) == 0 {
		format := c.Format
		if format == "" {
			format = defaultFormat
		}
		for _, p := range splitFormat(format) {
			if p.name != "" {
				l.fields = append(l.fields, config.Option{Name: p.name, Value: p.name})
			}
		}
	}
	return l
}

// fieldValue is a value of log.static_fields, of the type that it has in the file.
func fieldValue(s config.Setting) any {
	if s.Section == nil {
		return s.Value
	}
	o := make(pyjson.Object, 0, len(s.Section))
	for _, f := range s.Section {
		o.Set(f.Key, fieldValue(f))
	}
	return o
}

func (l jsonLayout) format(r record) []byte {
	var o pyjson.Object
	taken := map[string]bool{}
	set := func(name string, v any) {
		if !taken[name] {
			taken[name] = true
			o.Set(name, v)
		}
	}
	for _, f := range l.fields {
		set(f.Value, r.value(f.Name, l.stamp))
	}
	for _, f := range l.static {
		set(f.Key, fieldValue(f))
	}
	for _, a := range r.attrs {
		set(a.Key, a.Value.Resolve().String())
	}
	return append(pyjson.Append(nil, o, pyjson.Spaced), '\n')
}
