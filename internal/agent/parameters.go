package agent

import (
	"context"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// parametersTimeout bounds the try of new parameters, in which a program starts.
const parametersTimeout = 3 * time.Second

// RefusedParameters implements restapi.Agent.
func (b *board) RefusedParameters(ctx context.Context, old, next []byte) []config.Problem {
	ctx, cancel := context.WithTimeout(ctx, parametersTimeout)
	defer cancel()
	var out []config.Problem
	for _, section := range config.ChangedParameters(old, next) {
		given := make(map[string]string, len(section))
		for _, p := range section {
			given[p.Name] = p.Value
		}
		words := b.refused(ctx, given)
		for _, p := range section {
			if why := words[p.Name]; why != "" {
				out = append(out, config.Problem{File: "/config", Path: p.Path, Severity: config.Error,
					Message: "PostgreSQL does not start with this value: " + why, Cure: "correct it, or write null for the default"})
			}
		}
	}
	return out
}

// refusedValues tells which values the server would not start with; none, where
// they cannot be tried.
func (n *node) refusedValues(ctx context.Context, given map[string]string) map[string]string {
	words, err := n.srv.RefusedValues(ctx, given)
	if err != nil {
		n.log.Warn("new parameters are taken without having been tried: " + err.Error())
	}
	return words
}
