package agent

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// loadHolder returns the random id of this installation, making it at the first
// start. It is kept beside the data directory, so that no base backup copies it
// and a reboot does not lose it; in the runtime directory where that place
// cannot be written.
func loadHolder(dataDir, runDir string) (string, error) {
	places := []string{filepath.Clean(dataDir) + ".pgha.holder", filepath.Join(runDir, "holder")}
	for _, path := range places {
		if text, err := os.ReadFile(path); err == nil {
			if id := strings.TrimSpace(string(text)); len(id) == 32 {
				return id, nil
			}
		}
	}
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", fmt.Errorf("make an installation id: %w", err)
	}
	id := hex.EncodeToString(raw[:])
	var err error
	for _, path := range places {
		if err = writeNew(path, id+"\n"); err == nil {
			return id, nil
		}
	}
	return "", fmt.Errorf("keep the installation id: %w; make %s writable for this user", err, filepath.Dir(places[0]))
}

// writeNew writes a small file durably, under a temporary name first.
func writeNew(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".pgha-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
