//go:build e2e

package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

var (
	rowsFlag   = flag.String("chaos.rows", "", "run these rows only, for example 4,27,28")
	peerFlag   = flag.String("chaos.peer", "pgha", "pgha, or patroni for both with equal timings")
	modesFlag  = flag.String("chaos.modes", "async", "replication modes: async, sync, quorum")
	slackFlag  = flag.Float64("chaos.slack", 1, "factor on the seconds a busy machine may take; what must never be is not affected")
	quickFlag  = flag.Bool("chaos.quick", false, "run the few short rows only")
	resumeFlag = flag.Bool("chaos.resume", false, "leave out rows that have a result already")
	timeFlag   = flag.String("chaos.timings", "", "run with these timings only, for example 8/1/2 (ttl, loop_wait, retry_timeout)")
	docsFlag   = flag.String("chaos.docs", "", "directory of safety.md and of the file with the results (default: nothing is written)")
	listFlag   = flag.Bool("chaos.list", false, "list the rows")
)

func TestMain(m *testing.M) {
	lab.BeInit()
	if os.Geteuid() == 0 {
		inside, code, err := lab.Enclose()
		if err != nil {
			exit(err)
		}
		if !inside {
			os.Exit(code)
		}
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// profile is a set of timings, and what follows from them by the argument in
// docs/safety.md.
type profile struct {
	name                        string
	ttl, loopWait, retryTimeout time.Duration
	orderly                     time.Duration // after its last renewal a primary steps down,
	last                        time.Duration // and after this it is dead
	kill                        time.Duration // that is so long after its deadline
}

var (
	chaosProfile = profile{"8/1/2", 8 * time.Second, time.Second, 2 * time.Second, 4200 * time.Millisecond, 7400 * time.Millisecond, 1200 * time.Millisecond}
	fastProfile  = profile{"5/1/1", 5 * time.Second, time.Second, time.Second, 2800 * time.Millisecond, 4600 * time.Millisecond, 800 * time.Millisecond}
	// equalProfile has the shortest timings Patroni takes.
	equalProfile = profile{"20/1/3", 20 * time.Second, time.Second, 3 * time.Second, 11900 * time.Millisecond, 18900 * time.Millisecond, 2 * time.Second}
)

// Names of the peers, as the tables have them.
const (
	ours    = "pgha"
	patroni = "Patroni"
)

// slack stretches a limit of liveness: how long it may take until the good thing
// happens. Leases and deadlines are not stretched.
func slack(d time.Duration) time.Duration { return time.Duration(*slackFlag * float64(d)) }

// campaign is one cluster and the rows it lives through.
type campaign struct {
	peer, mode string
	profile
	pick func(row) bool

	lab    *lab.Lab
	broken bool
}

func (c *campaign) String() string {
	return fmt.Sprintf("%s, %s, %s", c.peer, c.profile.name, c.mode)
}

// modes are the replication modes a run can have, as settings of /config.
var modes = map[string]map[string]any{
	"async":  nil,
	"sync":   {"synchronous_mode": true},
	"quorum": {"synchronous_mode": "quorum"},
}

func campaigns(t *testing.T) []*campaign {
	t.Helper()
	var out []*campaign
	for _, mode := range strings.Split(*modesFlag, ",") {
		if _, known := modes[mode]; !known {
			t.Fatalf("mode %q is not known; it is async, sync or quorum", mode)
		}
		switch {
		case *quickFlag:
			out = append(out, &campaign{peer: ours, mode: mode, profile: fastProfile, pick: func(r row) bool { return r.quick }})
		case *peerFlag == "patroni":
			for _, peer := range []string{ours, patroni} {
				out = append(out, &campaign{peer: peer, mode: mode, profile: equalProfile, pick: func(row) bool { return true }})
			}
		case *peerFlag == ours:
			out = append(out, &campaign{peer: ours, mode: mode, profile: chaosProfile, pick: func(row) bool { return true }},
				&campaign{peer: ours, mode: mode, profile: fastProfile, pick: func(r row) bool { return r.fast }},
				&campaign{peer: ours, mode: mode, profile: equalProfile, pick: func(row) bool { return *timeFlag != "" }})
		default:
			t.Fatalf("peer %q is not known; it is pgha or patroni", *peerFlag)
		}
	}
	if *timeFlag != "" {
		out = slices.DeleteFunc(out, func(c *campaign) bool { return c.profile.name != *timeFlag })
	}
	return out
}

// TestChaos runs the rows.
func TestChaos(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("breaking hosts, disks and networks needs root")
	}
	if *listFlag {
		for _, r := range allRows() {
			t.Logf("%-4s %-3s %s", r.id, r.expect, r.title)
		}
		return
	}
	wanted, err := parseRows(*rowsFlag)
	if err != nil {
		t.Fatal(err)
	}
	path := ""
	if *docsFlag != "" {
		path = filepath.Join(*docsFlag, "chaos.json")
	}
	kept, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []Result
	for _, c := range campaigns(t) {
		all = append(all, c.run(t, kept, wanted)...)
	}
	t.Log("\n" + tables(all))
	if *docsFlag != "" {
		if err := publish(filepath.Join(*docsFlag, "safety.md"), "chaos", tables(kept.results)); err != nil {
			t.Error(err)
		}
	}
}

func publish(path, name, tables string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read page of the tables: %w", err)
	}
	text, err := splice(string(page), name, tables)
	if err != nil {
		return fmt.Errorf("put tables into %s: %w", path, err)
	}
	return replaceFile(path, []byte(text))
}

// parseRows reads a list of rows; nil means all.
func parseRows(list string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	wanted := strings.Split(list, ",")
	for _, id := range wanted {
		if !slices.ContainsFunc(allRows(), func(r row) bool { return r.id == id }) {
			return nil, fmt.Errorf("there is no row %q (see -chaos.list)", id)
		}
	}
	return wanted, nil
}

// run lets one cluster live through its rows.
func (c *campaign) run(t *testing.T, kept *store, wanted []string) []Result {
	defer func() {
		if err := c.tearDown(); err != nil {
			t.Error(err)
		}
	}()
	if wanted == nil && !*resumeFlag {
		kept.drop(func(r Result) bool { return r.Peer == c.peer && r.Mode == c.mode && r.Profile == c.profile.name })
	}
	var out []Result
	for _, r := range allRows() {
		res := Result{Row: r.id, Title: r.title, Expect: r.expect, Peer: c.peer, Mode: c.mode, Profile: c.profile.name, Date: time.Now().Format(time.DateOnly), Slack: *slackFlag}
		if wanted != nil && !slices.Contains(wanted, r.id) || !c.pick(r) || *resumeFlag && kept.has(res) {
			continue
		}
		t.Run(fmt.Sprintf("%s row %s", c, r.id), func(t *testing.T) {
			c.row(t, r, &res)
			if err := kept.put(res); err != nil {
				t.Error(err)
			}
		})
		out = append(out, res)
	}
	slices.SortFunc(out, compareResults)
	return out
}

// row runs one row, and has the cluster rebuilt when it does not get over it.
func (c *campaign) row(t *testing.T, r row, res *Result) {
	if reason := r.skipped(c); reason != "" {
		res.Verdict, res.Notes = Skipped, []string{reason}
		t.Logf("row %s (%s): skip: %s", r.id, r.title, reason)
		return
	}
	began := lab.Boottime()
	x := &run{t: t, c: c, res: res}
	if err := x.guard(func() { x.live(r) }); err != nil {
		x.wrong("%v", err)
		c.broken = true
	}
	x.close()
	res.TookMS = (lab.Boottime() - began).Milliseconds()
	res.Verdict = Expected
	if len(res.Notes) > 0 {
		res.Verdict = Unexpected
	}
	t.Logf("row %s (%s, expected %s): %s: %s", r.id, r.title, r.expect, res.Verdict, cell(*res))
	if res.Verdict == Unexpected && c.peer == ours {
		t.Error(strings.Join(res.Notes, "\n"))
		if c.lab != nil {
			var logs strings.Builder
			c.lab.DumpLogs(&logs, logLines)
			t.Log("\n" + withoutRoutine(logs.String()))
		}
	}
}

// logLines are shown of every log when a row fails, less what every turn says.
const logLines = 600

func withoutRoutine(logs string) string {
	var out []string
	for line := range strings.Lines(logs) {
		if !strings.Contains(line, "no action.") && !strings.Contains(line, "updating replication slots") && !strings.Contains(line, "the database system is starting up") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// cluster gives the running cluster, built if needed.
func (c *campaign) cluster(ctx context.Context) (*lab.Lab, error) {
	if c.lab != nil && !c.broken {
		return c.lab, nil
	}
	if err := c.tearDown(); err != nil {
		return nil, err
	}
	opts, err := c.options()
	if err != nil {
		return nil, err
	}
	l, err := lab.New(opts)
	if err != nil {
		return nil, err
	}
	c.lab, c.broken = l, true // until it stands
	if err := c.writeHook(l); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := l.Start(ctx); err != nil {
		return nil, err
	}
	if _, err := l.WaitStreaming(ctx); err != nil {
		return nil, err
	}
	c.broken = false
	return l, nil
}

// homeSize holds the logs of a node.
const homeSize = 256 << 20

// hookName is the pre_promote script of every node. The first one that finds a file
// "hold" says who it is, and waits until that is taken away.
const hookName = "pre_promote"

const hook = `#!/bin/sh
cd "$(dirname "$0")/hook" || exit 0
mv hold hold.$$ 2>/dev/null || exit 0
echo $$ >held
i=0
while [ -e hold.$$ ] && [ $i -lt 900 ]; do
	sleep 0.1
	i=$((i + 1))
done
`

func (c *campaign) writeHook(l *lab.Lab) error {
	dir := l.Options().Dir
	if err := l.OwnDir(filepath.Join(dir, "hook")); err != nil {
		return err
	}
	return l.WriteOwnFile(filepath.Join(dir, hookName), []byte(hook), 0o755)
}

// volumeSize holds the data directory of a node, with WAL for an hour of the load.
const volumeSize = 1 << 30

func (c *campaign) options() (lab.Options, error) {
	dir, err := os.MkdirTemp("", "pgha-chaos-")
	if err != nil {
		return lab.Options{}, err
	}
	bin := os.Getenv("PGHA_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin")
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return lab.Options{}, err
	}
	opts := lab.Options{
		Dir: dir, Etcd: 3, BinDir: bin, Network: lab.Namespaces,
		TTL: c.ttl, LoopWait: c.loopWait, RetryTimeout: c.retryTimeout,
		DCS:      map[string]any{"postgresql": map[string]any{"parameters": map[string]any{"wal_keep_size": "32MB"}}},
		Volume:   volumeSize,
		Watchdog: c.peer == ours,
		Config:   map[string]any{"postgresql": map[string]any{"pre_promote": filepath.Join(dir, hookName)}},
		// Little WAL: pg_rewind copies all of it.
		Parameters: map[string]string{"max_wal_size": "48MB", "min_wal_size": "32MB"},
	}
	maps.Copy(opts.DCS, modes[c.mode])
	if os.Getenv("PGHA_CHAOS_KEEP") == "" { // it would go with the logs
		opts.Home = homeSize
	}
	if c.peer == patroni {
		opts.Patroni = patroniProgram
	}
	return opts, os.Chmod(dir, 0o755)
}

// patroniProgram is where Debian's package has it.
const patroniProgram = "/usr/bin/patroni"

func (c *campaign) tearDown() error {
	if c.lab == nil {
		return nil
	}
	dir := c.lab.Options().Dir
	err := c.lab.Close()
	c.lab = nil
	if os.Getenv("PGHA_CHAOS_KEEP") != "" {
		fmt.Fprintln(os.Stderr, "logs stay in", dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(dir))
}
