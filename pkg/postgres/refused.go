package postgres

import (
	"context"
	"errors"
	"regexp"
	"strings"
)

// kept are parameters that are never left out, whatever is wrong with them: a
// server without them would do what nobody wants, so that none is better.
var kept = map[string]bool{
	"synchronous_standby_names": true, // commits would not be waited for
	"hba_file":                  true, // others would get in
	"ident_file":                true,
}

// learnRefused asks the binary, after a start that failed, which parameters of the
// configuration on disk it does not start with, and remembers those that came from
// the operator's parameters. It tells whether there were any that are new: the next
// rendering does without them (wire contract §1.13), since a slip in /config must
// not keep every server of the cluster down that has to start.
func (s *Server) learnRefused(ctx context.Context, conf confFile) bool {
	var lines []string
	// -C prints one parameter, after everything was read and checked.
	_, err := s.run(ctx, command{
		path: s.bin("postgres"), args: append(s.commandLine(conf.cmdline), "-C", "max_connections"),
		line: func(line string) { lines = append(lines, line) },
	})
	var failed *CommandError
	if !errors.As(err, &failed) || failed.Code < 0 {
		return false
	}
	given := make(settings)
	for name, value := range conf.by.Parameters {
		if name = strings.ToLower(name); conf.cmdline[name] == "" && !kept[name] {
			given[name] = value
		}
	}
	learned := false
	for _, line := range lines {
		name := refusedName(line, given)
		if name == "" {
			continue
		}
		s.mu.Lock()
		isNew := s.refused[name] != given[name]
		if isNew {
			s.refused[name] = given[name]
		}
		s.mu.Unlock()
		if isNew {
			learned = true
			s.log.Error("a parameter keeps the server from starting, it is left out; mend it with pghactl edit-config, or in the file", "parameter", name, "error", s.scrub(line))
		}
	}
	return learned
}

var quotedWord = regexp.MustCompile(`["«„]\s*([A-Za-z_][A-Za-z0-9_.$]*)\s*["»“]`)

// refusedName is the first of the given parameters that a line of the server's
// quotes, "" if it quotes none. The words around it may be in any language.
func refusedName(line string, given settings) string {
	for _, m := range quotedWord.FindAllStringSubmatch(line, -1) {
		name := strings.ToLower(m[1])
		if _, ok := given[name]; ok {
			return name
		}
	}
	return ""
}

// dropRefused removes the values that the server did not start with.
func (s *Server) dropRefused(all settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, value := range s.refused {
		if all[name] == value {
			delete(all, name)
		}
	}
}
