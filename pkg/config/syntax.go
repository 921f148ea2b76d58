package config

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
)

var yamlErrLine = regexp.MustCompile(`line (\d+):`)

// yamlLine finds the line number in a yaml.v3 error, 0 when it has none.
func yamlLine(err error) int {
	m := yamlErrLine.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// errNoMapping means valid YAML of the wrong shape.
var errNoMapping = errors.New("the file holds no \"key: value\" lines at its top level")

// yamlCures turns the parser's words into a person's.
var yamlCures = []struct{ sign, msg, cure string }{
	{"mapping values are not allowed", "YAML finds a second \"key:\" where a value is expected", "check the indentation of this line and the one above, or put the value in quotes"},
	{"did not find expected key", "the indentation does not fit the lines above", "give all keys of one section the same indentation"},
	{"did not find expected '-' indicator", "the list is interrupted here", "start every entry with \"- \" in the same column"},
	{"did not find expected", "a bracket, brace, quote or comma is missing", "close what the lines above open, or put the value in quotes"},
	{"found character that cannot start any token", "the line or its value starts with a character YAML reserves (a tab, @, ` or %)", "indent with spaces only, and put such a value in quotes"},
	{"found a tab character", "a tab is used for indentation", "indent with spaces"},
	{"could not find expected ':'", "the line is no \"key: value\" line", "write a colon and a space after the key"},
	{"found unexpected end of stream", "a quote is opened and never closed", "close the quote"},
	{"found unknown escape character", "a backslash in double quotes starts an unknown escape", "use single quotes"},
	{"unknown anchor", "a value starting with * refers to an anchor that does not exist", "put the value in quotes"},
	{"control characters are not allowed", "the file holds a control character", "remove it; is this a text file?"},
	{"invalid", "the file is not valid UTF-8 text", "save it as UTF-8"},
}

// explainYAML gives the message and the cure for a parser error.
func explainYAML(err error) (msg, cure string) {
	if errors.Is(err, errTooDeep) {
		return "the document is nested too deeply", "flatten it, and look for an anchor that contains itself"
	}
	if errors.Is(err, errNoMapping) {
		return errNoMapping.Error(), "write for example \"scope: my-cluster\", starting in the first column"
	}
	text := err.Error()
	for _, c := range yamlCures {
		if strings.Contains(text, c.sign) {
			return c.msg, c.cure
		}
	}
	text = strings.TrimPrefix(text, "yaml: ")
	if m := yamlErrLine.FindStringIndex(text); m != nil {
		text = strings.TrimSpace(text[m[1]:])
	}
	return text, "correct the YAML here"
}
