package config

import "maps"

// roleWords are the roles that settings of postgresql can be bound to.
var roleWords = []string{"primary", "replica", "standby_leader"}

// parameterKeys are the sections that are joined parameter by parameter.
var parameterKeys = []string{"parameters", "parameters_primary", "parameters_replica", "parameters_standby_leader"}

// RoleSettings are postgresql.parameters_ROLE, pg_hba_ROLE and pg_ident_ROLE.
type RoleSettings struct {
	Parameters map[string]string // laid over Postgres.Parameters
	PGHBA      []string          // nil: as in any other role
	PGIdent    []string          // nil: as in any other role
}

// For is the configuration of a server in a role: primary, replica or
// standby_leader.
func (p Postgres) For(role string) Postgres {
	r, ok := p.ByRole[role]
	if !ok {
		return p
	}
	if len(r.Parameters) > 0 {
		all := maps.Clone(p.Parameters)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, r.Parameters)
		p.Parameters = all
	}
	if r.PGHBA != nil {
		p.PGHBA = r.PGHBA
	}
	if r.PGIdent != nil {
		p.PGIdent = r.PGIdent
	}
	return p
}

func decodeRoles(n *node) map[string]RoleSettings {
	out := map[string]RoleSettings{}
	for _, role := range roleWords {
		r := RoleSettings{
			Parameters: scalarMap(n.get("parameters_" + role)),
			PGHBA:      managedLines(n.get("pg_hba_" + role)),
			PGIdent:    managedLines(n.get("pg_ident_" + role)),
		}
		if len(r.Parameters) > 0 || r.PGHBA != nil || r.PGIdent != nil {
			out[role] = r
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
