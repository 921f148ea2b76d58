package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// editByHand lets the user change the document as YAML in an editor.
func (a *App) editByHand(ctx context.Context, cluster string, e edit) (edit, error) {
	editor, err := a.editor()
	if err != nil {
		return e, err
	}
	draft, err := os.CreateTemp("", strings.ReplaceAll(cluster, "/", "_")+"-config-*.yaml")
	if err != nil {
		return e, fmt.Errorf("make a file to edit: %w", err)
	}
	name := draft.Name()
	_, err = draft.WriteString(yamlBlock(e.before))
	if err := errors.Join(err, draft.Close()); err != nil {
		_ = os.Remove(name)
		return e, fmt.Errorf("make a file to edit: %w", err)
	}
	if err := a.interact(ctx, append(editor, name), nil); err != nil {
		_ = os.Remove(name)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return e, refuse("Editor exited with return code %d", exit.ExitCode())
		}
		return e, err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return e, fmt.Errorf("read what was edited: %w", err)
	}
	e.draft, e.text = name, string(text)
	if e.after, err = settings(text, name); err != nil {
		return e, fmt.Errorf("%w; your text is kept in this file", err)
	}
	return e, nil
}

// editor finds $EDITOR, which may have arguments, or the usual programs.
func (a *App) editor() ([]string, error) {
	if words := strings.Fields(a.getenv("EDITOR")); len(words) > 0 {
		return words, nil
	}
	for _, name := range []string{"editor", "vi"} {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path}, nil
		}
	}
	return nil, refuse("EDITOR environment variable is not set. editor or vi are not available")
}

// interact runs a program that talks to the user; input, if given, is what it
// reads.
func (a *App) interact(ctx context.Context, command []string, input *strings.Reader) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	// Ctrl-C goes to the program too, which knows better what to do with it.
	cmd.Cancel = func() error { return nil }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.In, a.Out, a.Err
	if input != nil {
		cmd.Stdin = input
	}
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return errAborted
	case err != nil:
		return fmt.Errorf("run %s: %w", command[0], err)
	}
	return nil
}

// showDiff prints what changes; on a terminal in colour and page by page.
func (a *App) showDiff(ctx context.Context, before, after string) error {
	diff, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: diffLines(before), B: diffLines(after), Context: 3})
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	text := "--- \n+++ \n" + diff
	if diff == "" {
		text = ""
	}
	if !a.Terminal {
		a.printf("%s", text)
		return nil
	}
	text = coloured(text)
	pager := a.pager()
	if pager == nil {
		a.printf("%s", text)
		return nil
	}
	return a.interact(ctx, pager, strings.NewReader(text))
}

// diffLines splits a text into lines with their breaks; breaks at its end count
// as one.
func diffLines(text string) []string {
	lines := strings.SplitAfter(strings.TrimRight(text, "\n")+"\n", "\n")
	return lines[:len(lines)-1]
}

// pager finds $PAGER, less or more; nil when there is none.
func (a *App) pager() []string {
	if words := strings.Fields(a.getenv("PAGER")); len(words) > 0 {
		if _, err := exec.LookPath(words[0]); err == nil {
			return pagerCommand(words)
		}
	}
	for _, name := range []string{"less", "more"} {
		if path, err := exec.LookPath(name); err == nil {
			return pagerCommand([]string{path})
		}
	}
	return nil
}

// pagerCommand has less show colours, and end at once where a page is enough.
func pagerCommand(words []string) []string {
	if filepath.Base(words[0]) == "less" && len(words) == 1 {
		return append(words, "-FRX")
	}
	return words
}

// coloured marks what is gone and what is new, by terminal codes.
func coloured(diff string) string {
	var b strings.Builder
	for _, line := range diffLines(diff) {
		code := ""
		switch {
		case strings.HasPrefix(line, "---"), strings.HasPrefix(line, "+++"):
			code = "\x1b[1m"
		case strings.HasPrefix(line, "@@"):
			code = "\x1b[36m"
		case strings.HasPrefix(line, "-"):
			code = "\x1b[31m"
		case strings.HasPrefix(line, "+"):
			code = "\x1b[32m"
		}
		if code == "" {
			b.WriteString(line)
			continue
		}
		b.WriteString(code + strings.TrimSuffix(line, "\n") + "\x1b[0m\n")
	}
	return b.String()
}
