package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
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

// askHidden prints "label: " and reads a line that a terminal does not show.
func (a *App) askHidden(ctx context.Context, label string) (string, error) {
	file, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return a.demand(ctx, label)
	}
	before, err := term.GetState(int(file.Fd()))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", strings.ToLower(label), err)
	}
	// Left by Ctrl-C, ReadPassword would leave the terminal without echo.
	defer func() { _ = term.Restore(int(file.Fd()), before) }()
	a.printf("%s: ", label)
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := term.ReadPassword(int(file.Fd()))
		done <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", errAborted
	case r := <-done:
		a.printf("\n")
		if r.err != nil {
			return "", errAborted
		}
		return string(r.text), nil
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
