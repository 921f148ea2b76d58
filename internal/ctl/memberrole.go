package ctl

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pgha/pgha/pkg/dcs"
)

// memberRole is one of the values of --role (wire contract §6.1).
type memberRole string

// The roles; "leader" is the lock holder of either kind of cluster.
const (
	anyMember           memberRole = "any"
	leaderMember        memberRole = "leader"
	primaryMember       memberRole = "primary"
	standbyLeaderMember memberRole = "standby-leader"
	replicaMember       memberRole = "replica"
	standbyMember       memberRole = "standby" // the same as replica
)

var memberRoles = []string{
	string(leaderMember), string(primaryMember), string(standbyLeaderMember),
	string(replicaMember), string(standbyMember), string(anyMember),
}

// String implements pflag.Value.
func (r *memberRole) String() string { return string(*r) }

// Type implements pflag.Value: the word shown in the help.
func (r *memberRole) Type() string { return "ROLE" }

// Set implements pflag.Value.
func (r *memberRole) Set(text string) error {
	for _, name := range memberRoles {
		if text == name {
			*r = memberRole(text)
			return nil
		}
	}
	return fmt.Errorf("choose from %s", strings.Join(memberRoles, ", "))
}

func (r *memberRole) addTo(flags *pflag.FlagSet, usage string) {
	flags.VarP(r, "role", "r", usage+": "+strings.Join(memberRoles, ", "))
}

// membersWith lists the members in a role, in the order of their names.
func membersWith(c *dcs.Cluster, r memberRole) []*dcs.Member {
	var out []*dcs.Member
	for i := range c.Members {
		if m := &c.Members[i]; plays(c, m, r) {
			out = append(out, m)
		}
	}
	return out
}

func plays(c *dcs.Cluster, m *dcs.Member, r memberRole) bool {
	leads := m.Name == c.LeaderName()
	switch r {
	case leaderMember:
		return leads
	case primaryMember:
		return leads && m.Role != "standby_leader"
	case standbyLeaderMember:
		return leads && m.Role != "primary"
	case replicaMember, standbyMember:
		return !leads
	case anyMember:
	}
	return true
}

// target is the one member a command talks to: by name, or the first in a role.
type target struct {
	role   memberRole // "" is not given
	member string
}

func (t *target) addTo(flags *pflag.FlagSet) {
	t.role.addTo(flags, "a member in this role, the leader if not given")
	flags.StringVarP(&t.member, "member", "m", "", "the member of this name")
}

// check refuses what contradicts itself.
func (t *target) check() error {
	if t.role != "" && t.member != "" {
		return refuse("--role and --member are mutually exclusive options")
	}
	return nil
}

// String names what was looked for, in patronictl's words.
func (t target) String() string {
	switch {
	case t.member != "":
		return " to member " + t.member
	case t.role != "":
		return " to role " + string(t.role)
	}
	return ""
}

// find returns the member, nil when there is none.
func (t *target) find(c *dcs.Cluster) *dcs.Member {
	if t.member != "" {
		return c.Member(t.member)
	}
	role := t.role
	if role == "" {
		role = leaderMember
	}
	if members := membersWith(c, role); len(members) > 0 {
		return members[0]
	}
	return nil
}
