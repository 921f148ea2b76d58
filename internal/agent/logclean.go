package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// cleanEvery is how often PostgreSQL's old log files are looked for.
const cleanEvery = time.Hour

// cleanLogs removes PostgreSQL's old log files, now and every hour, where
// pgha.postgresql_log_keep asks for it.
func cleanLogs(ctx context.Context, cfg func() *config.Effective, log *slog.Logger) {
	tick := time.NewTicker(cleanEvery)
	defer tick.Stop()
	for {
		if e := cfg(); e.PGHA.LogKeep > 0 {
			removed, err := removeOldLogs(&e.Postgres, e.PGHA.LogKeep, time.Now())
			if len(removed) > 0 {
				log.Info("old PostgreSQL log files removed", "files", len(removed), "older_than", e.PGHA.LogKeep.String())
			}
			if err != nil {
				log.Warn("remove old PostgreSQL log files: " + err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// removeOldLogs deletes regular files in log_directory that match log_filename
// and were last written more than keep ago. The newest of them always stays.
func removeOldLogs(p *config.Postgres, keep time.Duration, now time.Time) (removed []string, err error) {
	name := p.Parameters["log_filename"]
	if name == "" {
		name = "postgresql-%Y-%m-%d_%H%M%S.log"
	}
	match, err := logPattern(name)
	if err != nil {
		return nil, err
	}
	dir := p.Parameters["log_directory"]
	if dir == "" {
		dir = "log"
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(p.DataDir, dir)
	}
	root, err := os.OpenRoot(dir) // nothing outside can be reached, whatever is made a link meanwhile
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	files, err := matchingFiles(root, match)
	if err != nil {
		return nil, err
	}
	newest := -1
	for i, f := range files {
		if newest < 0 || f.ModTime().After(files[newest].ModTime()) {
			newest = i
		}
	}
	for i, f := range files {
		if i == newest || now.Sub(f.ModTime()) <= keep {
			continue
		}
		if rerr := root.Remove(f.Name()); rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		removed = append(removed, f.Name())
	}
	return removed, err
}

func matchingFiles(root *os.Root, match *regexp.Regexp) ([]fs.FileInfo, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var out []fs.FileInfo
	for _, e := range entries {
		if !e.Type().IsRegular() || !match.MatchString(e.Name()) {
			continue
		}
		if f, err := root.Lstat(e.Name()); err == nil && f.Mode().IsRegular() {
			out = append(out, f)
		}
	}
	return out, nil
}

// strftimeForms are what the escapes of log_filename stand for. PostgreSQL
// writes names of days and months in English, whatever the locale.
var strftimeForms = map[byte]string{
	'Y': `[0-9]{4}`, 'y': `[0-9]{2}`, 'C': `[0-9]{2}`, 'G': `[0-9]{4}`, 'g': `[0-9]{2}`,
	'm': `[0-9]{2}`, 'd': `[0-9]{2}`, 'e': `[ 0-9][0-9]`, 'H': `[0-9]{2}`, 'I': `[0-9]{2}`, 'k': `[ 0-9][0-9]`, 'l': `[ 0-9][0-9]`,
	'M': `[0-9]{2}`, 'S': `[0-9]{2}`, 'j': `[0-9]{3}`, 's': `[0-9]+`, 'U': `[0-9]{2}`, 'V': `[0-9]{2}`, 'W': `[0-9]{2}`,
	'u': `[1-7]`, 'w': `[0-6]`, 'F': `[0-9]{4}-[0-9]{2}-[0-9]{2}`, 'R': `[0-9]{2}:[0-9]{2}`, 'T': `[0-9]{2}:[0-9]{2}:[0-9]{2}`,
	'p': `[AP]M`, 'Z': `[A-Za-z0-9+-]+`, 'z': `[+-][0-9]{4}`, '%': `%`,
	'a': `(Sun|Mon|Tue|Wed|Thu|Fri|Sat)`, 'A': `(Sunday|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday)`,
	'b': `(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`, 'h': `(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`,
	'B': `(January|February|March|April|May|June|July|August|September|October|November|December)`,
}

// logPattern turns log_filename into an expression for the files it names:
// those of the collector itself, and those in CSV and JSON, whose names end in
// .csv and .json in place of .log, or behind everything else.
func logPattern(name string) (*regexp.Regexp, error) {
	base, isLog := strings.CutSuffix(name, ".log")
	var out strings.Builder
	for i := 0; i < len(base); i++ {
		if base[i] != '%' {
			out.WriteString(regexp.QuoteMeta(base[i : i+1]))
			continue
		}
		i++
		if i == len(base) {
			return nil, fmt.Errorf("log_filename %q ends with a single %%", name)
		}
		form, ok := strftimeForms[base[i]]
		if !ok {
			return nil, fmt.Errorf("log_filename %q: %%%c is not understood here; remove pgha.postgresql_log_keep, or name the files differently", name, base[i])
		}
		out.WriteString(form)
	}
	ending := `(\.csv|\.json)?`
	if isLog {
		ending = `(\.log|\.csv|\.json)`
	}
	return regexp.Compile(`^` + out.String() + ending + `$`)
}
