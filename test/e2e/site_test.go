//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
	"github.com/pgha/pgha/pkg/restapi"
)

const (
	// siteLimit bounds a whole row on a cluster of its own, longLimit one that
	// goes through many points of failure.
	siteLimit = 15 * time.Minute
	longLimit = 30 * time.Minute
	// workLimit bounds one backup, restore or copy of the few megabytes here, beside
	// another such row.
	workLimit = 4 * time.Minute

	watchPeriod = 15 * time.Millisecond
)

// sites counts the clusters of this run: on loopback each has its own ports.
var sites atomic.Int32

// site is a cluster of a row's own: rows about backups set its data back, lose
// it, or share its repository.
type site struct {
	*testing.T
	*lab.Lab
	ctx    context.Context
	leader *lab.Node
	// watched is what ran on the nodes: afterwards, no two backups may have run at
	// once, and no server on a directory that was being restored.
	watched *lab.Watch
}

// newSite makes a cluster of two nodes with a posix repository, or what change
// makes of that. Nothing runs yet.
func newSite(t *testing.T, change func(*lab.Options)) *site {
	t.Helper()
	limit := siteLimit
	if long() {
		limit = longLimit
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	number := int(sites.Add(1))
	l := newLab(t, func(o *lab.Options) {
		o.Nodes, o.Etcd, o.Backup = 2, 1, lab.BackupPosix
		o.BasePort += 200 * number
		// Killed are processes here, never the machine.
		o.NoFsync = true
		if change != nil {
			change(o)
		}
	})
	s := &site{T: t, Lab: l, ctx: ctx}
	t.Cleanup(s.afterwards)
	return s
}

// startSite makes a cluster and waits until all its nodes stream.
func startSite(t *testing.T, change func(*lab.Options)) *site {
	t.Helper()
	s := newSite(t, change)
	ctx, cancel := context.WithTimeout(s.ctx, workLimit)
	defer cancel()
	s.must(s.Start(ctx))
	for _, n := range s.Nodes {
		s.must(s.Supervise(n, true))
	}
	s.Logf("%d nodes with a repository: all streaming after %.1f s", len(s.Nodes), s.whole().Seconds())
	s.value(s.leader, "CREATE EXTENSION IF NOT EXISTS amcheck")
	s.watched = s.Watch(s.ctx, watchPeriod)
	return s
}

// long tells whether the slow rows run too: 'make e2e-long'.
func long() bool { return os.Getenv("PGHA_LONG") != "" }

// onlyLong skips a row that has no place in the minutes of 'make test'.
func onlyLong(t *testing.T) {
	t.Helper()
	if !long() {
		t.Skip("a long row: 'make e2e-long' runs it")
	}
}

func (s *site) afterwards() {
	if s.watched != nil {
		s.watched.Stop()
		for _, v := range s.watched.Violations() {
			s.Error(v)
		}
	}
	if s.Failed() {
		logs(s.T, s.Lab)
	}
	if err := s.Close(); err != nil {
		s.Error(err)
	}
	dir := s.Options().Dir
	if s.Failed() || os.Getenv("PGHA_E2E_KEEP") != "" {
		s.Logf("logs stay in %s", dir)
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		s.Error(err)
	}
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// await waits for something that must come true within workLimit.
func (s *site) await(what string, done func() bool) time.Duration {
	s.Helper()
	began := lab.Boottime()
	ctx, cancel := context.WithTimeout(s.ctx, workLimit)
	defer cancel()
	if err := lab.Poll(ctx, done); err != nil {
		s.Fatalf("wait for %s: %v", what, err)
	}
	return lab.Boottime() - began
}

// whole waits until the nodes given (default: all) stream from one leader, which
// it notes, and tells how long that took.
func (s *site) whole(nodes ...*lab.Node) time.Duration {
	s.Helper()
	began := lab.Boottime()
	ctx, cancel := context.WithTimeout(s.ctx, workLimit)
	defer cancel()
	must := nodes
	if len(must) == 0 {
		must = s.Nodes
	}
	for _, n := range must {
		// The key of a member that was killed says "streaming" until its lease ends.
		_, err := s.WaitProcess(ctx, n, lab.Postmaster)
		s.must(err)
	}
	_, err := s.WaitStreaming(ctx, nodes...)
	s.must(err)
	s.leader, err = s.WaitLeader(ctx, nil)
	s.must(err)
	return lab.Boottime() - began
}

// standby gives a node that does not lead.
func (s *site) standby() *lab.Node {
	for _, n := range s.Nodes {
		if n != s.leader {
			return n
		}
	}
	s.Fatal("a cluster of one has no standby")
	return nil
}

// value runs SQL on a node and gives the only value it returns, as text.
func (s *site) value(n *lab.Node, sql string) string {
	s.Helper()
	text, err := s.ask(n, sql)
	s.must(err)
	return text
}

// ask is value without a verdict. Statements that return nothing are fine.
func (s *site) ask(n *lab.Node, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(s.ctx, workLimit)
	defer cancel()
	conn, err := s.ConnectSoon(ctx, n)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", fmt.Errorf("%s on %s: %w", sql, n.Name, err)
	}
	if len(results) == 0 {
		return "", nil
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 || len(last.Rows[0]) == 0 {
		return "", nil
	}
	return string(last.Rows[0][0]), nil
}

// rows writes a batch of rows under one word and waits for nothing.
func (s *site) rows(word string, n int) {
	s.Helper()
	s.value(s.leader, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS rows (id serial PRIMARY KEY, word text NOT NULL);
		INSERT INTO rows (word) SELECT '%s' FROM generate_series(1, %d)`, word, n))
}

// content is a digest of everything rows and fill have written, with the numbers
// of rows for messages. Reading it verifies the checksum of every page.
const content = `SELECT coalesce(string_agg(format('%s=%s/%s', word, n, hash), ' ' ORDER BY word), 'nothing')
	FROM (SELECT word, count(*) AS n, sum(hashtext(id::text)::bigint) AS hash FROM rows GROUP BY word) w`

func (s *site) content(n *lab.Node) string {
	s.Helper()
	return s.value(n, content)
}

// sameEverywhere waits until every node has what the leader has.
func (s *site) sameEverywhere(want string) {
	s.Helper()
	for _, n := range s.Nodes {
		var got string
		ctx, cancel := context.WithTimeout(s.ctx, workLimit)
		err := lab.Poll(ctx, func() bool {
			var err error
			got, err = s.ask(n, content)
			return err == nil && got == want
		})
		cancel()
		if err != nil {
			s.Fatalf("%s has %q, want %q", n.Name, got, want)
		}
	}
}

// Every index against its table, and every table by itself.
const (
	checkIndexes = `SELECT bt_index_check(c.oid, i.indisunique) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND i.indisvalid`
	checkTables = `SELECT count(*) FROM pg_class c, LATERAL verify_heapam(c.oid) v
		WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p'`
)

// sound reads every index and table of a node: nothing in it may be torn.
func (s *site) sound(n *lab.Node) {
	s.Helper()
	if _, err := s.ask(n, checkIndexes); err != nil {
		s.Errorf("an index of %s is damaged: %v", n.Name, err)
	}
	if found, err := s.ask(n, checkTables); err != nil || found != "0" {
		s.Errorf("tables of %s are damaged: %s findings, %v", n.Name, found, err)
	}
}

// fill makes the database some megabytes larger, of text that does not compress
// to nothing, so that copies of it take long enough to be interrupted. It uses
// many files: pgBackRest tells of a file when it is done.
func (s *site) fill(megabytes int) {
	s.Helper()
	for done := 0; done < megabytes; done += fillStep {
		s.value(s.leader, fmt.Sprintf(`CREATE TABLE filler_%d AS SELECT i,
			(SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 31) j) AS noise
			FROM generate_series(1, %d) i`, lab.Boottime(), fillStep*1024))
	}
	s.value(s.leader, "CHECKPOINT")
}

// fillStep is the size of one table of fill, in megabytes.
const fillStep = 5

// timeline is that of the leader.
func (s *site) timeline() int {
	s.Helper()
	timeline := 0
	s.await("the leader's timeline", func() bool {
		var c lab.Cluster
		if code, err := s.Get(s.ctx, s.leader, "/cluster", &c); err != nil || code != http.StatusOK {
			return false
		}
		for _, m := range c.Members {
			if m.Role == "leader" {
				timeline = m.Timeline
			}
		}
		return timeline > 0
	})
	return timeline
}

// ctl runs pghactl on the leader's host; it must succeed.
func (s *site) ctl(args ...string) string {
	s.Helper()
	out, err := s.Ctl(s.ctx, s.leader, args...)
	s.must(err)
	return out
}

// refused runs pghactl, which must fail with one line that holds the words.
func (s *site) refused(words string, args ...string) string {
	s.Helper()
	out, err := s.Ctl(s.ctx, s.leader, args...)
	line := lastLine(out)
	switch {
	case err == nil:
		s.Errorf("pghactl %s was accepted:\n%s", strings.Join(args, " "), out)
	case !strings.Contains(strings.ToLower(line), strings.ToLower(words)):
		s.Errorf("pghactl %s: the last line does not say %q:\n%s", strings.Join(args, " "), words, out)
	default:
		s.Logf("refused: %s", line)
	}
	return line
}

// document is GET /backup of a node.
func (s *site) document(n *lab.Node) (restapi.BackupDocument, error) {
	var doc restapi.BackupDocument
	code, err := s.Get(s.ctx, n, "/backup", &doc)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("GET /backup of %s: status %d", n.Name, code)
	}
	return doc, err
}

// backups reads the repository's list, as the leader knows it.
func (s *site) backups() []restapi.BackupEntry {
	s.Helper()
	var doc restapi.BackupDocument
	s.await("the list of backups", func() bool {
		var err error
		doc, err = s.document(s.leader)
		return err == nil && doc.Error == ""
	})
	return doc.Backups
}

// backup makes one by pghactl and gives it.
func (s *site) backup(kind string) restapi.BackupEntry {
	s.Helper()
	before := ""
	if doc, err := s.document(s.leader); err == nil && len(doc.Backups) > 0 {
		before = doc.Backups[len(doc.Backups)-1].Label
	}
	began := lab.Boottime()
	s.ctl("backup", "run", "--type", kind, "--force")
	took := lab.Boottime() - began
	var list []restapi.BackupEntry
	s.await("the backup in the list", func() bool {
		list = s.backups()
		return len(list) > 0 && list[len(list)-1].Label != before
	})
	b := list[len(list)-1]
	if b.Type != kind {
		s.Fatalf("asked for a %s backup, the newest is %+v", kind, b)
	}
	s.Logf("%s backup %s: %.1f s, %d bytes of database, %d new in the repository", kind, b.Label, took.Seconds(), b.Size, b.RepoSize)
	return b
}

// said tells whether a node's agent has logged words since an offset.
func (s *site) said(n *lab.Node, offset int64, words string) bool {
	log, _ := s.AgentLog(n, offset)
	return strings.Contains(log, words)
}

// mark is the present end of a node's agent log.
func (s *site) mark(n *lab.Node) int64 {
	_, end := s.AgentLog(n, 0)
	return end
}
