// Package doctor looks for what would make the next incident worse: it gathers
// facts about a cluster, each with a deadline, and judges them by a table of
// small functions.
package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

// Severity says how bad a finding is.
type Severity string

// Severities, the worst first.
const (
	Error   Severity = "error"   // a failover would fail, or something is broken now
	Warning Severity = "warning" // it will hurt one day
	Notice  Severity = "notice"  // worth knowing
)

// Finding is what a check has to say.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Where    string   `json:"where"` // a member, "cluster", "etcd" or "this host"
	Seen     string   `json:"seen"`
	Cure     string   `json:"cure"`
}

// Report is the outcome of an examination.
type Report struct {
	Cluster  string    `json:"cluster"`
	Findings []Finding `json:"findings"` // the worst first
	// Skipped says what could not be looked at, and why.
	Skipped []string `json:"skipped"`
	Checks  int      `json:"checks"` // how many were made
}

// Errors tells how many findings are errors.
func (r *Report) Errors() (n int) {
	for i := range r.Findings {
		if r.Findings[i].Severity == Error {
			n++
		}
	}
	return n
}

// Facts is everything the checks may know. What could not be found out is zero,
// and said in Skipped.
type Facts struct {
	Now    time.Time
	Config *config.Effective // of this host's file, joined with /config
	Path   string            // of that file, "" for the environment
	Public bool              // the file can be read by everybody
	// Problems are those of the file and of /config.
	Problems []config.Problem
	Cluster  *dcs.Cluster
	Etcd     *etcd.Checkup
	EtcdErr  string
	Members  []Member
	Local    *Local // nil: this is no host of a member
	// Certificates are of the REST APIs and of etcd, as they were presented.
	Certificates []Certificate
	Skipped      []string
}

// Member is one member as it answers.
type Member struct {
	dcs.Member
	Silence string // why it did not answer; "" if it did
	Patroni bool   // it runs Patroni, or a pgha of before
	// Refused is how it answers those whom it lets change nothing, us among them:
	// 401 or 403, and why; 0 if it lets us.
	Refused    int
	RefusedWhy string
	Why        restapi.WhyDocument
	// ClockOffset is how far its clock is ahead of ours, give or take ClockError.
	ClockOffset, ClockError time.Duration
}

// Local is this host, where a member lives.
type Local struct {
	Member    string
	Missing   []string // programs that cannot be run
	Versions  string   // of the programs, where it is not the directory's; "" if they fit
	Directory string   // what is wrong with the data directory, "" if nothing
	Parent    string   // why the place beside the data directory cannot be written
	Disks     []Disk
	Watchdog  string // why the configured device cannot be used
	Server    *postgres.Checkup
	Archive   *postgres.ArchiveState
	Replicate map[string]string // member: why a replication connection to it fails
	Rewind    map[string]string // member: why pg_rewind's user cannot log in there
}

// Disk is a file system that the server needs.
type Disk struct {
	Path        string
	Total, Free int64 // bytes
}

// check is one thing to look at. It returns nothing where all is well.
type check struct {
	name  string
	judge func(f *Facts) []Finding
}

// Examine judges the facts.
func Examine(cluster string, f *Facts) *Report {
	r := &Report{Cluster: cluster, Findings: []Finding{}, Skipped: append([]string{}, f.Skipped...), Checks: len(checks)}
	for _, c := range checks {
		for _, found := range c.judge(f) {
			found.Check = c.name
			r.Findings = append(r.Findings, found)
		}
	}
	order := []Severity{Error, Warning, Notice}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return slices.Index(order, a.Severity) - slices.Index(order, b.Severity)
	})
	return r
}

// String is the report for a person.
func (r *Report) String() string {
	var b strings.Builder
	count := map[Severity]int{}
	for _, f := range r.Findings {
		count[f.Severity]++
		fmt.Fprintf(&b, "%-7s  %s, %s: %s\n         cure: %s\n", strings.ToUpper(string(f.Severity)), f.Where, f.Check, f.Seen, f.Cure)
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "SKIPPED  %s\n", s)
	}
	fmt.Fprintf(&b, "%d checks of cluster %s: %d errors, %d warnings, %d notices\n", r.Checks, r.Cluster, count[Error], count[Warning], count[Notice])
	return b.String()
}

// one is a single finding.
func one(s Severity, where, cure, seen string, args ...any) []Finding {
	return []Finding{{Severity: s, Where: where, Seen: fmt.Sprintf(seen, args...), Cure: cure}}
}
