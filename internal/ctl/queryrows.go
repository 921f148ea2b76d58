package ctl

import (
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgha/pgha/internal/pyjson"
)

// resultTable turns the rows of a query into a table. Tables and tsv show values
// as patronictl's Python prints them (True, None, 2026-01-01 00:00:00+00:00),
// the other formats as what they are.
func resultTable(r *pgconn.Result, f format) *table {
	t := &table{}
	for _, field := range r.FieldDescriptions {
		t.columns = append(t.columns, field.Name)
	}
	for _, values := range r.Rows {
		row := make([]any, len(values))
		for i, v := range values {
			if f.isTable() || f == formatTSV {
				row[i] = pythonText(r.FieldDescriptions[i].DataTypeOID, v)
			} else {
				row[i] = typedValue(r.FieldDescriptions[i].DataTypeOID, v)
			}
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// pythonText prints a value in PostgreSQL's text form as Python's str would.
// Arrays and composite values stay as PostgreSQL writes them.
func pythonText(oid uint32, text []byte) string {
	if text == nil {
		return "None"
	}
	s := string(text)
	switch oid {
	case pgtype.BoolOID:
		if s == "t" {
			return "True"
		}
		return "False"
	case pgtype.Float4OID, pgtype.Float8OID:
		return pythonFloat(s)
	case pgtype.TimestampOID, pgtype.TimestamptzOID, pgtype.TimeOID, pgtype.TimetzOID:
		return pythonTime(s)
	}
	return s
}

// typedValue is the value for JSON and YAML.
func typedValue(oid uint32, text []byte) any {
	if text == nil {
		return nil
	}
	s := string(text)
	switch oid {
	case pgtype.BoolOID:
		return s == "t"
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return json.Number(s)
	case pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID:
		if v, err := strconv.ParseFloat(s, 64); err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) {
			return json.Number(s)
		}
	case pgtype.JSONOID, pgtype.JSONBOID:
		if v, err := pyjson.Decode(text); err == nil {
			return v
		}
	}
	return pythonText(oid, text)
}

func pythonFloat(s string) string {
	v, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil:
		return s
	case math.IsNaN(v), math.IsInf(v, 0):
		return strings.ToLower(strings.TrimSuffix(s, "inity"))
	}
	return string(pyjson.AppendFloat(nil, v))
}

// isoTime splits a time in DateStyle ISO: up to the seconds, fraction, offset.
var isoTime = regexp.MustCompile(`^(.*\d\d:\d\d:\d\d)(\.\d+)?([-+]\d\d)?(:\d\d)?$`)

// pythonTime gives a fraction its six digits and an offset its minutes.
func pythonTime(s string) string {
	m := isoTime.FindStringSubmatch(s)
	if m == nil {
		return s // infinity, or before Christ
	}
	clock, fraction, offset, minutes := m[1], m[2], m[3], m[4]
	if fraction != "" {
		fraction = (fraction + "000000")[:7]
	}
	if offset != "" && minutes == "" {
		minutes = ":00"
	}
	return clock + fraction + offset + minutes
}
