// Command manual writes the manual pages of pghactl, one for each command, into
// a directory. It is its own program, so that pghactl carries no formatter.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra/doc"

	"github.com/pgha/pgha/internal/ctl"
	"github.com/pgha/pgha/internal/version"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manual DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of the manual: %w", err)
	}
	root := ctl.Command()
	root.DisableAutoGenTag = true // the same source gives the same pages
	header := &doc.GenManHeader{Section: "1", Source: "pgha " + version.Version(), Manual: "pghactl"}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return fmt.Errorf("write the manual: %w", err)
	}
	return nil
}
