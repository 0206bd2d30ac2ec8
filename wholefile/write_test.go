package wholefile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-ci/sallyport/wholefile"
)

func TestWrite(t *testing.T) {
	for _, write := range []func(string, fs.FileMode, ...[]byte) error{wholefile.Write, wholefile.Sync} {
		dir := t.TempDir()
		name := filepath.Join(dir, "x")
		for _, mode := range []fs.FileMode{0o600, 0o644, 0o755} {
			if err := write(name, mode, []byte("a\n"), []byte("b\n")); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(name)
			info, statErr := os.Stat(name)
			if err != nil || statErr != nil || string(text) != "a\nb\n" || info.Mode() != mode {
				t.Errorf("%q, %v, %v, %v", text, info, err, statErr)
			}
		}
		// What cannot be put in place leaves what was there, and nothing else.
		if err := os.MkdirAll(filepath.Join(dir, "folder", "in"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := write(filepath.Join(dir, "folder"), 0o600, []byte("x")); err == nil {
			t.Error("a folder was replaced")
		}
		if err := write(filepath.Join(dir, "none", "x"), 0o600); err == nil {
			t.Error("a folder was made")
		}
		if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) != 0 {
			t.Errorf("%v, %v", left, err)
		}
	}
}
