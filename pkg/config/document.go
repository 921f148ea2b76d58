package config

import (
	"errors"
	"slices"
	"strings"
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

// Parameter is one parameter of the server in a /config document.
type Parameter struct {
	Path  string // dotted, in the document
	Name  string // lower case
	Value string // as written to postgresql.conf
}

// ChangedParameters lists what the document next says about parameters of the
// server and old did not, section by section. What is never taken from there is
// left out.
func ChangedParameters(old, next []byte) [][]Parameter {
	before, _ := parseJSONObject(old, dynamicName) // nothing, if it is none
	after, _ := parseJSONObject(next, dynamicName)
	var out [][]Parameter
	for _, section := range parameterKeys {
		was, params := before.get("postgresql", section), after.get("postgresql", section)
		if !params.isMap() {
			continue
		}
		var list []Parameter
		for i := range params.pairs {
			p := &params.pairs[i]
			name := strings.ToLower(p.key)
			value, ok := gucValue(p.value)
			elsewhere := derivedGUCs[name] != "" || section != "parameters" && isControlled(name) || strings.HasPrefix(name, "recovery_target")
			if !ok || elsewhere || findGUC(params, name) != p {
				continue
			}
			if q := findGUC(was, name); q != nil {
				if same, _ := gucValue(q.value); same == value {
					continue
				}
			}
			list = append(list, Parameter{Path: "postgresql." + section + "." + p.key, Name: name, Value: value})
		}
		if len(list) > 0 {
			out = append(out, list)
		}
	}
	return out
}
