package config

import (
	"errors"
	"slices"
)

// YAMLToJSON reads a YAML text with the types Patroni gives its values (YAML
// 1.1) and returns it as compact JSON in the order of the text. name stands for
// the text in errors, which are one line: where, what, and how to mend it. An
// empty text is null.
func YAMLToJSON(text []byte, name string) ([]byte, error) {
	n, problems, err := parseYAML(text, name)
	if err != nil {
		msg, cure := explainYAML(err)
		return nil, errors.New(Problem{File: name, Line: yamlLine(err), Message: msg, Cure: cure}.String())
	}
	for _, p := range problems {
		if p.Severity == Error {
			return nil, errors.New(p.String())
		}
	}
	return n.json(), nil
}

// NewErrors lists why the /config document next may not be stored in place of
// old. What was wrong before does not count: a document spoilt by another tool
// must not keep an operator from pausing the cluster or mending it step by
// step. An empty old has nothing wrong.
func NewErrors(old, next []byte) []Problem {
	return slices.DeleteFunc(NewProblems(old, next), func(p Problem) bool { return p.Severity != Error })
}

// NewProblems lists what is wrong or odd with the document next and was not with
// old.
func NewProblems(old, next []byte) []Problem {
	known := map[string]bool{}
	if len(old) > 0 {
		for _, p := range ValidateDynamic(old) {
			known[p.String()] = true
		}
	}
	return slices.DeleteFunc(ValidateDynamic(next), func(p Problem) bool { return known[p.String()] })
}
