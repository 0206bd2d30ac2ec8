package gitindex

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.test"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func repository(t testing.TB, options ...string) string {
	t.Helper()
	dir := t.TempDir()
	git(t, dir, append([]string{"init", "-q"}, options...)...)
	for _, path := range []string{"a", "b/c", "b/cc", "b/" + strings.Repeat("long", 50), "ümlaut", "z z"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(path), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", ".")
	return dir
}

func TestParse(t *testing.T) {
	for version, hash := range map[string]string{"2": "sha1", "3": "sha1", "4": "sha1", "4 ": "sha256"} {
		t.Run(version+hash, func(t *testing.T) {
			dir := repository(t, "--object-format="+hash)
			size := map[string]int{"sha1": 20, "sha256": 32}[hash]
			if strings.TrimSpace(version) == "3" { // needs a flag that version 2 lacks
				git(t, dir, "update-index", "--skip-worktree", "a")
			} else {
				git(t, dir, "update-index", "--index-version", strings.TrimSpace(version))
			}
			data, err := os.ReadFile(filepath.Join(dir, ".git/index"))
			if err != nil {
				t.Fatal(err)
			}
			entries, more, err := Parse(data, size, 100)
			if err != nil || more {
				t.Fatal(err, more)
			}
			var got []string
			for _, e := range entries {
				got = append(got, e.Path)
				var st unix.Stat_t
				if err := unix.Stat(filepath.Join(dir, e.Path), &st); err != nil {
					t.Fatal(err)
				}
				if e.Changed != uint64(st.Ctim.Nano()) || e.Modified != uint64(st.Mtim.Nano()) || e.Inode != uint32(st.Ino) || e.Size != uint32(st.Size) {
					t.Errorf("%+v, want %v %v", e, time.Unix(st.Ctim.Unix()), st.Ino)
				}
			}
			want := strings.Split(strings.TrimSuffix(git(t, dir, "ls-files", "-z", ":!link"), "\x00"), "\x00")
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			if first, more, err := Parse(data, size, 2); err != nil || !more || len(first) != 2 {
				t.Errorf("with a limit of 2: %d, %t, %v", len(first), more, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	dir := repository(f)
	for _, version := range []string{"2", "4"} {
		git(f, dir, "update-index", "--index-version", version)
		data, err := os.ReadFile(filepath.Join(dir, ".git/index"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, _, err := Parse(data, 20, 1000)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Error(err)
		}
		if len(entries) > 1000 {
			t.Errorf("%d entries", len(entries))
		}
	})
}
