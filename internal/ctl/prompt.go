package ctl

import (
	"context"
	"errors"
	"io"
	"strings"
)

// ask prints "label [preset]: " and returns the line typed, or preset for an
// empty one.
func (a *App) ask(ctx context.Context, label, preset string) (string, error) {
	a.printf("%s [%s]: ", label, preset)
	line, err := a.readLine(ctx)
	if err != nil || line != "" {
		return line, err
	}
	return preset, nil
}

// demand prints "label: " until a line is typed; there is no preset.
func (a *App) demand(ctx context.Context, label string) (string, error) {
	for {
		a.printf("%s: ", label)
		line, err := a.readLine(ctx)
		if err != nil || line != "" {
			return line, err
		}
	}
}

// confirm asks until the answer is yes or no; an empty one is no.
func (a *App) confirm(ctx context.Context, question string) (bool, error) {
	for {
		a.printf("%s [y/N]: ", question)
		line, err := a.readLine(ctx)
		if err != nil {
			return false, err
		}
		switch strings.ToLower(line) {
		case "y", "yes":
			return true, nil
		case "n", "no", "":
			return false, nil
		}
		a.printf("Error: invalid input\n")
	}
}

// readLine returns the next line without blanks around it; errAborted when
// there is none, or when ctx ends first. In that case the read stays behind
// until the process ends: there is no other way to leave a terminal's read.
func (a *App) readLine(ctx context.Context) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := a.input.ReadString('\n')
		done <- result{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", errAborted
	case r := <-done:
		if r.err != nil && !(errors.Is(r.err, io.EOF) && r.line != "") {
			return "", errAborted
		}
		return strings.TrimSpace(r.line), nil
	}
}
