package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/pgha/pgha/internal/configgen"
	"github.com/pgha/pgha/internal/plain"
)

// GenerateSample writes a configuration to begin with to a file, or to stdout
// when path is empty (wire contract §7.1). It returns the exit code.
func GenerateSample(ctx context.Context, path string, environ []string, stdout, stderr io.Writer) int {
	text, err := configgen.Sample(ctx, environ)
	return deliver(path, text, err, stdout, stderr)
}

// Generate does the same from what a running server says.
func Generate(ctx context.Context, path, dsn string, environ []string, stdout, stderr io.Writer) int {
	var ask func() (string, error)
	if term.IsTerminal(int(os.Stdin.Fd())) {
		ask = func() (string, error) {
			fmt.Fprint(stderr, "Please enter the user password: ")
			text, err := term.ReadPassword(int(os.Stdin.Fd()))
			fmt.Fprintln(stderr)
			return string(text), err
		}
	}
	text, err := configgen.FromServer(ctx, dsn, environ, ask)
	return deliver(path, text, err, stdout, stderr)
}

// deliver writes the file readable for its owner alone: there may be a password
// in it. An existing file is never overwritten.
func deliver(path string, text []byte, err error, stdout, stderr io.Writer) int {
	if err == nil && path != "" {
		err = create(path, text)
	} else if err == nil {
		_, err = stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(stderr, "error: "+err.Error())
		return 1
	}
	return 0
}

func create(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists already; remove it, or choose another name", path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, plain.Connection(err))
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path) // half of it would be taken for a configuration, and be in the way of the next attempt
	}
	return err
}
