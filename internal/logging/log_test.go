package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// section reads a log section as the agent would.
func section(t *testing.T, text string) config.Log {
	t.Helper()
	l, problems, err := config.Parse([]byte("log:\n  "+strings.ReplaceAll(text, "\n", "\n  ")+"\n"), nil)
	if err != nil || config.HasErrors(problems) {
		t.Fatal(err, problems)
	}
	return l.Log
}

// lines logs by do and returns what was written.
func lines(t *testing.T, text string, do func(*slog.Logger)) string {
	t.Helper()
	var out bytes.Buffer
	l := New(&out, section(t, text))
	do(l.Logger())
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestLayouts(t *testing.T) {
	info := func(l *slog.Logger) {
		l.With("component", "restapi").Info("no action. I am (n1), the leader with the lock", "text", "two words")
	}
	for text, want := range map[string]string{
		"level: INFO": `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO: no action\. I am \(n1\), the leader with the lock component=restapi text="two words"\n$`,
		`format: "%(asctime)s [%(process)05d] %(levelname)-8s%% %(name)s %(message)s"` + "\ndateformat: '%d.%m.%Y %H:%M:%S %z'": `^\d\d\.\d\d\.\d{4} \d\d:\d\d:\d\d [+-]\d{4} \[\d{5,}\] INFO    % pgha no action.*\n$`,
		`format: "%(module)s:%(lineno)d %(funcName)s %(levelno)d %(msecs)03d %(created).1f %(nonsense)s|"`:                      `^log_test:\d+ func\d+ 20 \d{3} \d+\.\d \|\n$`,
		"type: json": `^\{"asctime": "\d{4}-.*,\d{3}", "levelname": "INFO", "message": "no action.*", "component": "restapi", "text": "two words"\}\n$`,
		"type: json\nformat: [message, {levelname: severity}, process]\nstatic_fields: {app: pgha, component: mine, shard: 7, live: on, at: {rack: 2, row: b}, tags: [a, 1]}": `^\{"message": "no action.*", "severity": "INFO", "process": \d+, "app": "pgha", "component": "mine", "shard": 7, "live": true, "at": \{"rack": 2, "row": "b"\}, "tags": \["a", 1\], "text": "two words"\}\n$`,
	} {
		got := lines(t, text, info)
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q does not match %s", text, got, want)
		}
		if strings.HasPrefix(text, "type: json") && !json.Valid([]byte(got)) {
			t.Errorf("no JSON: %s", got)
		}
	}
}

func TestLevels(t *testing.T) {
	all := func(l *slog.Logger) {
		l.Debug("a")
		l.Info("b")
		l.Warn("c")
		l.Error("d")
		l.Log(context.Background(), LevelCritical, "e")
	}
	for level, want := range map[string]string{
		"DEBUG": "DEBUG: a\nINFO: b\nWARNING: c\nERROR: d\nCRITICAL: e\n", "INFO": "INFO: b\nWARNING: c\nERROR: d\nCRITICAL: e\n",
		"WARN": "WARNING: c\nERROR: d\nCRITICAL: e\n", "WARNING": "WARNING: c\nERROR: d\nCRITICAL: e\n",
		"ERROR": "ERROR: d\nCRITICAL: e\n", "FATAL": "CRITICAL: e\n", "CRITICAL": "CRITICAL: e\n",
	} {
		if got := lines(t, "level: "+level+"\nformat: '%(levelname)s: %(message)s'", all); got != want {
			t.Errorf("%s: %q", level, got)
		}
	}
}

// blocked is a device that takes nothing until it is opened.
type blocked struct {
	open chan struct{}
	mu   sync.Mutex
	bytes.Buffer
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.open
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func TestADeviceThatHangsHoldsUpNobody(t *testing.T) {
	dev := &blocked{open: make(chan struct{})}
	l := New(dev, section(t, "max_queue_size: 10"))
	log := l.Logger()
	done := make(chan struct{})
	go func() {
		for i := range 1000 {
			log.Info(fmt.Sprintf("record %d", i))
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("logging waits for the device")
	}
	// At most the batch that hangs, of up to ten, and ten more are kept.
	lost := l.Lost()
	if lost < 980 {
		t.Fatalf("%d lost", lost)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := l.Flush(short); !errors.Is(err, ErrStuck) {
		t.Fatalf("flush of a stuck log: %v", err)
	}
	close(dev.open)
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.Info("and on")
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, said := dev.String(), uint64(0)
	for _, m := range regexp.MustCompile(`WARNING: (\d+) log records were lost here`).FindAllStringSubmatch(text, -1) {
		n, _ := strconv.ParseUint(m[1], 10, 64)
		said += n
	}
	if said != lost || !strings.HasSuffix(text, "INFO: and on\n") {
		t.Fatalf("%d lost, but:\n%s", lost, text)
	}
}

func TestFilesAreRotated(t *testing.T) {
	dir := t.TempDir()
	var stderr bytes.Buffer
	c := section(t, fmt.Sprintf("format: '%%(message)s'\ndir: %s\nfile_size: 20\nfile_num: 2\nmode: 0640", dir))
	l := New(&stderr, c)
	if err := l.Open(c); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		l.Logger().Info(fmt.Sprintf("line %d", i)) // 7 bytes each: two per file
	}
	// Moved by a reload, back to standard error and away again.
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Configure(section(t, "format: '%(message)s'")); err != nil {
		t.Fatal(err)
	}
	l.Logger().Info("to standard error")
	bad := c
	bad.Dir = filepath.Join(dir, "missing")
	if err := l.Configure(bad); err == nil || !strings.Contains(err.Error(), "log.dir") {
		t.Fatalf("a missing directory: %v", err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"patroni.log": "line 6\nline 7\n", "patroni.log.1": "line 4\nline 5\n", "patroni.log.2": "line 2\nline 3\n"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "patroni.log.3")); err == nil {
		t.Error("too many files are kept")
	}
	if stderr.String() != "to standard error\n" {
		t.Errorf("standard error: %q", stderr.String())
	}
}
