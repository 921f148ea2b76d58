package restapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// fakeBackups answers as it is told and notes what it was asked for.
type fakeBackups struct {
	asked   []string
	no      *Refusal
	doc     *BackupDocument
	known   *BackupDocument
	plan    *RestorePlan
	state   *RestoreStatus
	checked *BackupCheck
}

func (b *fakeBackups) ask(format string, args ...any) *Refusal {
	b.asked = append(b.asked, fmt.Sprintf(format, args...))
	return b.no
}

func (b *fakeBackups) Reinitialize(_ context.Context, force, fromLeader bool) *Refusal {
	return b.ask("reinit force=%v from_leader=%v", force, fromLeader)
}
func (b *fakeBackups) CancelReinitialize() *Refusal { return b.ask("cancel reinit") }
func (b *fakeBackups) Backup(context.Context) (*BackupDocument, *Refusal) {
	return b.doc, b.no
}
func (b *fakeBackups) BackupKnown() *BackupDocument { return b.known }
func (b *fakeBackups) RequestBackup(_ context.Context, kind, by string) *Refusal {
	return b.ask("backup %s by %s", kind, by)
}
func (b *fakeBackups) CancelBackup(_ context.Context, by string) *Refusal {
	return b.ask("cancel backup by %s", by)
}
func (b *fakeBackups) CheckBackup(context.Context) (*BackupCheck, *Refusal) {
	return b.checked, b.ask("check")
}
func (b *fakeBackups) Restore(_ context.Context, r RestoreRequest, by string) (*RestorePlan, *Refusal) {
	return b.plan, b.ask("restore %+v by %s", r, by)
}
func (b *fakeBackups) RestoreState() *RestoreStatus { return b.state }
func (b *fakeBackups) CancelRestore(_ context.Context, by string) *Refusal {
	return b.ask("cancel restore by %s", by)
}

// TestBackupRequests: every endpoint with good and bad input. "asked" is what
// reached the agent; "" nothing.
func TestBackupRequests(t *testing.T) {
	const from = "192.0.2.1"
	chunked := func(r *http.Request) { r.ContentLength = -1; r.Header.Del("Content-Length") }
	for _, c := range []struct {
		name, method, path, body string
		code                     int
		text                     string // the whole answer, or "~part" of it
		asked                    string
		change                   func(*http.Request)
	}{
		{"reinit", "POST", "/reinitialize", ``, 200, "reinitialize started", "reinit force=false from_leader=false", nil},
		{"reinit with an empty object", "POST", "/reinitialize", `{}`, 200, "reinitialize started", "reinit force=false from_leader=false", nil},
		{"reinit with both", "POST", "/reinitialize", `{"force":true,"from_leader":true}`, 200, "reinitialize started", "reinit force=true from_leader=true", nil},
		{"reinit with words", "POST", "/reinitialize", `{"force":"on","from-leader":"no"}`, 200, "reinitialize started", "reinit force=true from_leader=false", nil},
		{"reinit with null", "POST", "/reinitialize", `{"force":null}`, 200, "reinitialize started", "reinit force=false from_leader=false", nil},
		{"reinit with half an object", "POST", "/reinitialize", `{"force":`, 400, "~Error code: 400", "", nil},
		{"reinit with a list", "POST", "/reinitialize", `[true]`, 400, "~Error code: 400", "", nil},
		{"reinit with a number", "POST", "/reinitialize", `{"force":3}`, 400, "force must be true or false", "", nil},
		{"reinit with an unknown field", "POST", "/reinitialize", `{"forse":true}`, 400, `unknown field "forse"; force and from_leader are known`, "", nil},
		{"reinit without length", "POST", "/reinitialize", `{"force":true}`, 411, "~Error code: 411", "", chunked},
		{"cancel reinit", "DELETE", "/reinitialize", ``, 200, "reinitialize cancelled", "cancel reinit", nil},

		{"backup", "POST", "/backup", `{"type":"diff"}`, 202, "diff backup requested", "backup diff by " + from, nil},
		{"backup of another type", "POST", "/backup", `{"type":"half"}`, 400, "type must be one of full, diff, incr", "", nil},
		{"backup without type", "POST", "/backup", `{}`, 400, "~Error code: 400", "", nil},
		{"backup without body", "POST", "/backup", ``, 411, "~Error code: 411", "", nil},
		{"backup with an unknown field", "POST", "/backup", `{"type":"full","stanza":"x"}`, 400, `unknown field "stanza"`, "", nil},
		{"backup with a number", "POST", "/backup", `{"type":7}`, 400, "~cannot unmarshal number", "", nil},
		{"backup, too large", "POST", "/backup", `{"type":"` + strings.Repeat("x", maxBodyBytes) + `"}`, 413, "~Error code: 413", "", nil},
		{"cancel backup", "DELETE", "/backup", ``, 200, "backup cancelled", "cancel backup by " + from, nil},
		{"check", "POST", "/backup_check", ``, 200, `{"ok":true,"items":[{"name":"repository","ok":true}]}`, "check", nil},
		{"check with a field", "POST", "/backup_check", `{"deep":true}`, 400, `unknown field "deep"`, "", nil},

		{"plan a restore", "POST", "/restore", `{"type":"time","value":"2026-01-01 00:00:00+00","dry":true}`, 200, "~\"member\":\"pg-db-02\"", "restore {Type:time Value:2026-01-01 00:00:00+00 Timeline: Exclusive:false Set: Force:false Dry:true} by " + from, nil},
		{"restore", "POST", "/restore", `{"type":"latest","force":true}`, 202, "~\"member\":\"pg-db-02\"", "restore {Type:latest Value: Timeline: Exclusive:false Set: Force:true Dry:false} by " + from, nil},
		{"restore with an unknown field", "POST", "/restore", `{"type":"latest","confirm":1}`, 400, `unknown field "confirm"`, "", nil},
		{"restore without a body", "POST", "/restore", ``, 411, "~Error code: 411", "", nil},
		{"restore with a list", "POST", "/restore", `["latest"]`, 400, "~Error code: 400", "", nil},
		{"state of a restore", "GET", "/restore", ``, 200, "~\"state\":\"requested\"", "", nil},
		{"cancel restore", "DELETE", "/restore", ``, 200, "restore cancelled", "cancel restore by " + from, nil},
		{"backups", "GET", "/backup", ``, 200, "~\"stanza\":\"main\"", "", nil},
		{"backups, further segments", "GET", "/backup/x", ``, 200, "~\"stanza\":\"main\"", "", nil},
		{"put a backup", "PUT", "/backup", `{"type":"full"}`, 501, "~Unsupported method", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, "healthy-async", "pg-db-02")
			a.fakeBackups = fakeBackups{
				doc: &BackupDocument{Stanza: "main", Member: "pg-db-02"}, plan: &RestorePlan{Member: "pg-db-02"},
				state: &RestoreStatus{State: "requested"}, checked: &BackupCheck{OK: true, Items: []CheckItem{{Name: "repository", OK: true}}},
			}
			change := c.change
			if change == nil {
				change = func(*http.Request) {}
			}
			got := ask(newServer(t, a, Settings{}).Handler(), c.method, c.path, c.body, change)
			part, isPart := strings.CutPrefix(c.text, "~")
			text := got.Body.String()
			if got.Code != c.code || isPart && !strings.Contains(text, part) || !isPart && text != c.text {
				t.Errorf("%d %s\nwant %d %s", got.Code, text, c.code, c.text)
			}
			if strings.Contains(text, "\n") && !strings.HasPrefix(text, "<!DOCTYPE") {
				t.Errorf("more than one line: %q", text)
			}
			if asked := strings.Join(a.asked, "; "); asked != c.asked {
				t.Errorf("asked %q, want %q", asked, c.asked)
			}
		})
	}
}

// TestBackupRefusals: what the agent refuses is passed on as one line.
func TestBackupRefusals(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	a.no = &Refusal{Status: 503, Text: "reinitialize\n already in progress"}
	h := newServer(t, a, Settings{}).Handler()
	for _, r := range [][3]string{
		{"POST", "/reinitialize", ""}, {"DELETE", "/reinitialize", ""}, {"GET", "/backup", ""}, {"POST", "/backup", `{"type":"full"}`},
		{"DELETE", "/backup", ""}, {"POST", "/backup_check", ""}, {"POST", "/restore", `{"type":"latest"}`}, {"DELETE", "/restore", ""},
	} {
		if got := ask(h, r[0], r[1], r[2]); got.Code != 503 || got.Body.String() != "reinitialize already in progress" {
			t.Errorf("%s %s: %d %q", r[0], r[1], got.Code, got.Body)
		}
	}
	if got := ask(h, "GET", "/restore", ""); got.Code != 404 || got.Body.String() != "no restore was ordered" {
		t.Errorf("GET /restore: %d %q", got.Code, got.Body)
	}
}

// TestWhoAsked: the name of an operator counts only where it was verified.
func TestWhoAsked(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	basic := func(r *http.Request) { r.SetBasicAuth("admin", "s3cret") }
	ask(newServer(t, a, withAuth()).Handler(), "DELETE", "/restore", "", basic)
	ask(newServer(t, a, Settings{RestAPI: config.RestAPI{}}).Handler(), "DELETE", "/restore", "", basic)
	want := "cancel restore by admin@192.0.2.1; cancel restore by 192.0.2.1"
	if got := strings.Join(a.asked, "; "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBackupMetrics(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	stop := time.Now().Add(-time.Hour)
	a.known = &BackupDocument{
		Stanza: "main", Member: "pg-db-02", Alarms: []string{"old"},
		Backups: []BackupEntry{
			{Label: "1F", Type: "full", Stop: stop.Add(-time.Hour), Size: 1},
			{Label: "2F", Type: "full", Stop: stop, Size: 4096},
			{Label: "2F_1I", Type: "incr", Stop: stop.Add(time.Minute), Size: 8192, Damaged: true},
		},
		Running: &RunningBackup{Member: "x", Progress: Progress{Done: 10, Total: 20}},
		Last:    &LastBackup{Error: "disk full"},
		Archive: ArchiveState{ReadyFiles: 3, OldestReady: 42, FailedCount: 7, Failing: true, WALBytes: 99, WALFreeBytes: 100, LastTime: time.Unix(1700000000, 0)},
	}
	text := ask(newServer(t, a, Settings{}).Handler(), "GET", "/metrics", "").Body.String()
	const labels = `{name="pg-db-02",scope="pg-ha-cluster"}`
	for _, want := range []string{
		fmt.Sprintf(`pgha_backup_last_success_timestamp_seconds{name="pg-db-02",scope="pg-ha-cluster",type="full"} %v`, float64(stop.Unix())),
		"pgha_backup_size_bytes" + labels + " 4096", "pgha_backup_running" + labels + " 1",
		"pgha_backup_progress_bytes" + labels + " 10", "pgha_backup_total_bytes" + labels + " 20",
		"pgha_backup_last_attempt_failed" + labels + " 1", "pgha_backup_alarm" + labels + " 1",
		"pgha_archive_ready_files" + labels + " 3", "pgha_archive_oldest_ready_seconds" + labels + " 42",
		"pgha_archive_failed_total" + labels + " 7", "pgha_archive_failing" + labels + " 1",
		"pgha_archive_last_success_timestamp_seconds" + labels + " 1.7e+09",
		"pgha_wal_bytes" + labels + " 99", "pgha_wal_free_bytes" + labels + " 100",
		"pgha_operation_progress_bytes" + labels + " 0",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("not there: %s\n", want)
		}
	}
	if strings.Contains(text, `type="incr"`) {
		t.Error("a damaged backup counts as a success")
	}
	if v, ok := backupAge(backupReading{doc: a.known, now: stop.Add(90 * time.Second)}); !ok || v != 90 {
		t.Errorf("age %v %v", v, ok)
	}
}

// TestBackupMetricsWithoutBackups: only archiving and pg_wal are shown.
func TestBackupMetricsWithoutBackups(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	a.known = &BackupDocument{Member: "pg-db-02", Archive: ArchiveState{WALBytes: 5}}
	text := ask(newServer(t, a, Settings{}).Handler(), "GET", "/metrics", "").Body.String()
	if !strings.Contains(text, "pgha_wal_bytes{") || strings.Contains(text, "pgha_backup_") {
		t.Errorf("got %s", text)
	}
}

// TestProgressInTheStatusDocument: a member "pgha" while something runs, nothing
// else changed.
func TestProgressInTheStatusDocument(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	h := newServer(t, a, Settings{}).Handler()
	before := ask(h, "GET", "/patroni", "").Body.String()
	if strings.Contains(before, "pgha") {
		t.Fatalf("without an operation: %s", before)
	}
	a.update(func(v *ha.View) {
		v.Progress = &dcs.Progress{Operation: "clone", Method: "pgbackrest", Done: 5, Total: 10, Rate: 2, Started: time.Unix(0, 0)}
	})
	after := ask(h, "GET", "/patroni", "").Body.String()
	want := strings.TrimSuffix(before, "}") + `, "pgha": {"operation": "clone", "method": "pgbackrest", "done": 5, "total": 10, "rate": 2, "started": "1970-01-01T00:00:00Z"}}`
	if after != want {
		t.Errorf("got  %s\nwant %s", after, want)
	}
	text := ask(h, "GET", "/metrics", "").Body.String()
	if !strings.Contains(text, `pgha_operation_progress_bytes{name="pg-db-02",scope="pg-ha-cluster"} 5`+"\n") {
		t.Error("no progress in the metrics")
	}
}

func TestBackupClient(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a.fakeBackups = fakeBackups{
		doc:  &BackupDocument{Stanza: "main", Member: "pg-db-02", Backups: []BackupEntry{{Label: "1F", Stop: at}}},
		plan: &RestorePlan{ID: "x"}, state: &RestoreStatus{ID: "y"}, checked: &BackupCheck{OK: true},
	}
	srv := httptest.NewServer(newServer(t, a, withAuth()).Handler())
	defer srv.Close()
	c := NewClient(ClientOptions{Username: "admin", Password: "s3cret"})
	defer c.Close()
	url, ctx := srv.URL+"/patroni", context.Background()

	if doc, no, err := c.Backup(ctx, url); err != nil || no != nil || len(doc.Backups) != 1 || !doc.Backups[0].Stop.Equal(at) {
		t.Errorf("backup: %+v %+v %v", doc, no, err)
	}
	if plan, no, err := c.Restore(ctx, url, RestoreRequest{Type: "latest", Dry: true}); err != nil || no != nil || plan.ID != "x" {
		t.Errorf("restore: %+v %+v %v", plan, no, err)
	}
	if st, no, err := c.RestoreState(ctx, url); err != nil || no != nil || st.ID != "y" {
		t.Errorf("restore state: %+v %+v %v", st, no, err)
	}
	if res, no, err := c.CheckBackup(ctx, url); err != nil || no != nil || !res.OK {
		t.Errorf("check: %+v %+v %v", res, no, err)
	}
	for name, call := range map[string]func() (int, string, error){
		"202 full backup requested":  func() (int, string, error) { return c.RequestBackup(ctx, url, "full") },
		"200 backup cancelled":       func() (int, string, error) { return c.CancelBackup(ctx, url) },
		"200 restore cancelled":      func() (int, string, error) { return c.CancelRestore(ctx, url) },
		"200 reinitialize started":   func() (int, string, error) { return c.Reinitialize(ctx, url, true, false) },
		"200 reinitialize cancelled": func() (int, string, error) { return c.CancelReinitialize(ctx, url) },
	} {
		status, text, err := call()
		if got := fmt.Sprint(status, " ", text); err != nil || got != name {
			t.Errorf("got %q %v, want %q", got, err, name)
		}
	}
	a.no = &Refusal{Status: 404, Text: "backups are not configured"}
	if _, no, err := c.Backup(ctx, url); err != nil || no == nil || *no != *a.no {
		t.Errorf("refused: %+v %v", no, err)
	}
}

// TestBackupClientAndPatroni: a health check's answer is no backup document.
func TestBackupClientAndPatroni(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"state": "running", "role": "primary"})
	}))
	defer srv.Close()
	c := NewClient(ClientOptions{})
	defer c.Close()
	if _, no, err := c.Backup(context.Background(), srv.URL); err == nil || no != nil {
		t.Errorf("got %+v %v, want an error", no, err)
	}
}
