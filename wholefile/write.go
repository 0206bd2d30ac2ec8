package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces a file by one with parts one after another, and with a mode whatever the umask.
// It does not wait for the disk: after a loss of power the file may be empty.
func Write(name string, mode fs.FileMode, parts ...[]byte) error {
	return write(name, mode, parts, func(*os.File) error { return nil })
}

// Sync is Write that waits until the text is on the disk.
func Sync(name string, mode fs.FileMode, parts ...[]byte) error {
	return write(name, mode, parts, (*os.File).Sync)
}

func write(name string, mode fs.FileMode, parts [][]byte, sync func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err == nil {
			_, err = f.Write(part)
		}
	}
	if err == nil && mode != 0o600 {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
