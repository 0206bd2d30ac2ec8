package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/sallyport-ci/sallyport/wholefile"
)

// secretFile returns the secret in a file, and makes one where there is none. The
// file is the owner's alone.
func secretFile(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err == nil {
		if secret := strings.TrimSpace(string(data)); secret != "" {
			return secret, nil
		}
		return "", fmt.Errorf("read secret: %s is empty; remove it and a new one is made", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read secret: %w", err)
	}
	secret := rand.Text()
	if err := writePrivate(path, secret+"\n"); err != nil {
		return "", err
	}
	return secret, nil
}

// writePrivate replaces a file that only its owner may read, at once and whole.
func writePrivate(path, text string) error {
	if err := wholefile.Sync(path, 0o600, []byte(text)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
