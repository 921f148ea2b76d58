package ctl

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/restapi"
)

// writeBackups prints what a member knows of the cluster's backups. JSON and
// YAML are the document itself, TSV the backups alone with plain values.
func (a *App) writeBackups(doc *restapi.BackupDocument, name string, f format) error {
	switch f {
	case formatJSON, formatYAML:
		return writeDocument(a.Out, doc, f)
	case formatTSV:
		return rawBackups(doc, name).write(a.Out, f)
	}
	if err := a.backupTable(doc, name).write(a.Out, f); err != nil {
		return err
	}
	_, err := io.WriteString(a.Out, a.backupFooter(doc))
	return err
}

// writeDocument prints a document of the REST API: on one line as JSON, with
// sorted keys as YAML.
func writeDocument(w io.Writer, doc any, f format) error {
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	text := string(raw) + "\n"
	if f == formatYAML {
		v, err := pyjson.Decode(raw)
		if err != nil {
			return err
		}
		text = yamlBlock(v) + "\n"
	}
	_, err = io.WriteString(w, text)
	return err
}

func (a *App) backupTable(doc *restapi.BackupDocument, name string) *table {
	t := &table{
		title:   fmt.Sprintf(" Backups: %s (stanza %s) ", name, doc.Stanza),
		columns: []string{"Label", "Type", "Start", "Duration", "Size", "New in repository", "Age", "TL", "WAL range"},
		right:   map[string]bool{"Duration": true, "Size": true, "New in repository": true, "Age": true, "TL": true},
	}
	now := a.Now()
	for _, b := range doc.Backups {
		label := b.Label
		if b.Damaged {
			label += " DAMAGED"
		}
		t.rows = append(t.rows, []any{
			label, b.Type, b.Start.In(now.Location()).Format(time.DateTime), spanText(b.Stop.Sub(b.Start)),
			byteText(b.Size), byteText(b.RepoSize), spanText(now.Sub(b.Stop)), b.Timeline, rangeText(b.StartWAL, b.StopWAL),
		})
	}
	return t
}

func rawBackups(doc *restapi.BackupDocument, name string) *table {
	t := &table{columns: []string{
		colCluster, "Label", "Type", "Start", "Stop", "Size", "New in repository", "TL",
		"Start LSN", "Stop LSN", "Start WAL", "Stop WAL", "Reference", "Damaged",
	}}
	for _, b := range doc.Backups {
		t.rows = append(t.rows, []any{
			name, b.Label, b.Type, b.Start.UTC().Format(time.RFC3339), b.Stop.UTC().Format(time.RFC3339), b.Size, b.RepoSize,
			b.Timeline, b.StartLSN, b.StopLSN, b.StartWAL, b.StopWAL, b.Reference, fmt.Sprint(b.Damaged),
		})
	}
	return t
}

// rangeText prints a range of segments, one name if both ends are the same.
func rangeText(from, to string) string {
	if from == to || to == "" {
		return from
	}
	return from + " to " + to
}

// backupFooter holds the lines below the table: archive, schedule, what runs,
// what failed, and the alarms last, where they are seen.
func (a *App) backupFooter(doc *restapi.BackupDocument) string {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, " %s: %s\n", name, plain.OneLine(text))
		}
	}
	line("Repository cannot be read", doc.Error)
	line("Archive", archiveRange(doc.Archive))
	line("Archiving", a.archivingText(doc.Archive, doc.Member))
	line("WAL on disk", diskText(doc.Archive, doc.Member))
	for _, p := range doc.Schedule {
		line("Next "+p.Type, a.planText(p))
	}
	line("Made by", makerText(doc))
	if doc.Pending != "" {
		line("Asked for", doc.Pending+", not begun yet")
	}
	if r := doc.Running; r != nil {
		line("Running", fmt.Sprintf("%s on %s since %s %s", r.Type, r.Member, a.clockText(r.Started), barText(r.Progress)))
	}
	if l := doc.Last; l != nil && l.Error != "" {
		line("Last attempt FAILED", fmt.Sprintf("%s on %s at %s: %s", l.Type, l.Member, a.clockText(l.Ended), l.Error))
	}
	for _, alarm := range doc.Alarms {
		line("ALARM", alarm)
	}
	return b.String()
}

func archiveRange(s restapi.ArchiveState) string {
	if s.Min == "" && s.Max == "" {
		return "no WAL in the repository"
	}
	return rangeText(s.Min, s.Max)
}

func (a *App) archivingText(s restapi.ArchiveState, member string) string {
	text := fmt.Sprintf("%d segments wait on %s", s.ReadyFiles, member)
	if s.ReadyFiles == 0 {
		text = fmt.Sprintf("nothing waits on %s", member)
	}
	if s.ReadyFiles > 0 && s.OldestReady > 0 {
		text += ", the oldest for " + spanText(seconds(s.OldestReady))
	}
	if s.LastArchived != "" {
		text += ", last archived " + s.LastArchived
		if !s.LastTime.IsZero() {
			text += fmt.Sprintf(" %s ago", spanText(a.Now().Sub(s.LastTime)))
		}
	}
	if s.Failing {
		text += fmt.Sprintf(", FAILING at %s (%d failures, the last at %s)", s.LastFailed, s.FailedCount, a.clockText(s.LastFailTime))
	}
	return text
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func diskText(s restapi.ArchiveState, member string) string {
	if s.WALBytes == 0 && s.WALFreeBytes == 0 {
		return ""
	}
	return fmt.Sprintf("%s in pg_wal of %s, %s free there", byteText(s.WALBytes), member, byteText(s.WALFreeBytes))
}

func (a *App) planText(p restapi.BackupPlan) string {
	if p.Next.IsZero() {
		return fmt.Sprintf("never (%s)", p.Cron)
	}
	return fmt.Sprintf("%s (in %s; %s)", a.clockText(p.Next), spanText(p.Next.Sub(a.Now())), p.Cron)
}

func makerText(doc *restapi.BackupDocument) string {
	switch {
	case doc.Runner == "" && doc.From == "":
		return ""
	case doc.Runner == "":
		return fmt.Sprintf("nobody at present (from: %s)", doc.From)
	}
	return fmt.Sprintf("%s (from: %s)", doc.Runner, doc.From)
}

// checkText prints the items of a check, one per line.
func checkText(check *restapi.BackupCheck) string {
	width := 0
	for _, item := range check.Items {
		width = max(width, len(item.Name))
	}
	var b strings.Builder
	for _, item := range check.Items {
		verdict := "ok"
		if !item.OK {
			verdict = "NOT OK"
		}
		line := fmt.Sprintf("  %-6s  %-*s  %s", verdict, width, item.Name, plain.OneLine(item.Text))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}
