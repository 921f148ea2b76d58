package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/pgha/pgha/pkg/dcs"
)

// journalSize is when the local file is set aside, in bytes; one older file is
// kept.
const journalSize = 4 << 20

// journalFile is the local file: one event per line, as JSON.
type journalFile struct {
	path  string
	limit int64
	f     *os.File
	size  int64
}

// keepFile writes entries as they come, until ctx ends and the queue is empty.
// A failure loses the entries in hand, is logged once, and the next entry tries
// anew.
func (j *journal) keepFile(ctx context.Context, places []string) {
	file := j.openFile(places)
	if file == nil {
		file = &journalFile{path: places[0], limit: journalSize}
	}
	defer file.close()
	failing := ""
	write := func(batch []dcs.Event) {
		err := file.write(batch)
		switch {
		case err == nil && failing != "":
			failing = ""
			j.log.Info("the journal can be written again", "file", file.path)
		case err != nil:
			j.miss(len(batch))
			if failing != err.Error() {
				failing = err.Error()
				j.log.Warn("write the journal: " + failing)
			}
			return
		}
		j.confess()
	}
	for {
		select {
		case e := <-j.file:
			write(j.batch(e))
		case <-ctx.Done():
			select {
			case e := <-j.file:
				write(j.batch(e))
			default:
				return
			}
		}
	}
}

// batch takes what else is in the queue.
func (j *journal) batch(first dcs.Event) []dcs.Event {
	out := []dcs.Event{first}
	for {
		select {
		case e := <-j.file:
			out = append(out, e)
		default:
			return out
		}
	}
}

// openFile takes the first place that can be written, and remembers what earlier
// runs left there.
func (j *journal) openFile(places []string) *journalFile {
	for _, path := range places {
		file := &journalFile{path: path, limit: journalSize}
		if file.open() == nil {
			j.remember(readJournal(path))
			return file
		}
	}
	return nil
}

func (f *journalFile) open() (err error) {
	if f.f != nil {
		return nil
	}
	if f.f, err = os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		f.f = nil
		return err
	}
	st, err := f.f.Stat()
	if err != nil {
		return errors.Join(err, f.close())
	}
	f.size = st.Size()
	return f.mend()
}

// mend ends a line that a crash cut short.
func (f *journalFile) mend() error {
	if f.size == 0 {
		return nil
	}
	last := make([]byte, 1)
	if _, err := f.f.ReadAt(last, f.size-1); err != nil {
		return errors.Join(err, f.close())
	}
	if last[0] == '\n' {
		return nil
	}
	n, err := f.f.WriteString("\n")
	f.size += int64(n)
	if err != nil {
		return errors.Join(err, f.close())
	}
	return nil
}

func (f *journalFile) close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}

// write appends the events durably.
func (f *journalFile) write(batch []dcs.Event) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := range batch {
		if err := enc.Encode(&batch[i]); err != nil {
			return err
		}
	}
	if err := f.open(); err != nil {
		return err
	}
	if f.size > 0 && f.size+int64(b.Len()) > f.limit {
		if err := errors.Join(f.close(), os.Rename(f.path, f.path+".1"), f.open()); err != nil {
			return err
		}
	}
	n, err := f.f.Write(b.Bytes())
	f.size += int64(n)
	if err == nil {
		err = f.f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.close()) // the next entry begins anew
	}
	return nil
}

// readJournal returns the newest entries of the local files, oldest first. Lines
// that cannot be read are left out.
func readJournal(path string) []dcs.Event {
	var out []dcs.Event
	for _, name := range []string{path + ".1", path} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(io.LimitReader(f, 2*journalSize))
		lines.Buffer(nil, 64<<10)
		for lines.Scan() {
			var e dcs.Event
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.Member != "" {
				out = shorten(append(out, e), tailLength)
			}
		}
		_ = f.Close() // only read
	}
	return out[max(len(out)-tailLength, 0):]
}
