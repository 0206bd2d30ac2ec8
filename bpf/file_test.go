package bpf

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFolders: what comes into a folder and leaves it, by whom.
func TestFolders(t *testing.T) {
	r := record(t, Config{})
	onFileSystems(t, func(t *testing.T, dir string) {
		for _, c := range []struct {
			how, script string
			want        []string
		}{
			{"new", "echo x > hooks/new", []string{"enter new"}},
			{"moved in", "echo x > c; mv c hooks/c", []string{"enter c"}},
			{"replaced", "cp hooks/a b; mv b hooks/a", []string{"enter a"}},
			{"linked in", "ln src.c hooks/l", []string{"enter l"}},
			{"removed", "rm hooks/a", []string{"leave a"}},
			{"moved out", "mv hooks/a z", []string{"leave a"}},
			{"folder", "mkdir hooks/sub", []string{"enter sub"}},
			{"elsewhere", "echo x > q; cat src.c; ls hooks", nil},
		} {
			t.Run(c.how, func(t *testing.T) {
				sub := filepath.Join(dir, fmt.Sprintf("%q", c.how))
				for _, name := range []string{"hooks/a", "src.c"} {
					write(t, filepath.Join(sub, name), name+" of "+c.how)
				}
				if err := r.WatchFolder(filepath.Join(sub, "hooks")); err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, what := range touched(t, r, "'"+sub+"'", "{ "+c.script+"; } >/dev/null 2>&1; true") {
					// On tmpfs reads and writes are told, too.
					if strings.HasPrefix(what, "enter ") || strings.HasPrefix(what, "leave ") {
						got = append(got, what)
					}
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		}
	})
}

// TestFolderInMemory: reads of and writes to files of a watched folder, where the
// kernel keeps them in memory only.
func TestFolderInMemory(t *testing.T) {
	r := record(t, Config{})
	dir := filepath.Join(inMemory(t), "secrets")
	write(t, filepath.Join(dir, "token"), "secret")
	if err := r.WatchFolder(dir); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{
		"cat secrets/token":           "read token",
		"ls secrets":                  "",
		"truncate -s 1 secrets/token": "write token",
	} {
		got := touched(t, r, dir+"/..", script+" >/dev/null")
		if strings.HasPrefix(script, "truncate") {
			// The kernel tells opening and changing in one event or in two.
			got = slices.DeleteFunc(got, func(what string) bool { return what == "read token" })
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
}

func inMemory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// onFileSystems runs a test in a folder of the root file system and of a tmpfs.
func onFileSystems(t *testing.T, test func(t *testing.T, dir string)) {
	t.Run("root", func(t *testing.T) { test(t, t.TempDir()) })
	t.Run("tmpfs", func(t *testing.T) { test(t, inMemory(t)) })
}

// touched runs a script as a step in dir and returns what was reported of it, as
// "access name", in order.
func touched(t *testing.T, r *recorder, dir, script string) (names []string) {
	t.Helper()
	// What is told of folders comes in order, but behind the ring: the last is awaited.
	last := filepath.Join(t.TempDir(), "last")
	if r.folders != nil {
		if err := r.WatchFolder(filepath.Dir(last)); err != nil {
			t.Fatal(err)
		}
		script += "\n: >'" + last + "'"
	}
	play := `play() { SALLYPORT_BPF_PLAY=file '` + os.Args[0] + `' "$@"; }`
	cmd := worker(t, "Runner.Worker", play+"\ncd "+dir+" || exit\n"+script)
	// A change is told from the one before by the clock, which ticks every 4 to 10 ms.
	time.Sleep(20 * time.Millisecond)
	pid := run(t, cmd)
	r.exitOf(t, pid)
	if r.folders != nil {
		await(t, r, 1, "the last of a folder", func(f *File) bool { return f.Path == last && f.Access == FileEntered })
	}
	below := map[uint64]bool{}
	for _, x := range r.execsOf(pid) {
		below[x.Process] = true
	}
	what := map[FileAccess]string{FileRead: "read", FileWrite: "write", FileEntered: "enter", FileLeft: "leave"}
	for _, rec := range r.all() {
		switch x := rec.(type) {
		case *Fork:
			below[x.Process] = below[x.Process] || below[x.Parent]
		case *Exec:
			below[x.Process] = below[x.Process] || below[x.Previous] || below[x.Parent]
		case *File:
			if below[x.Process] && x.Path != last {
				names = append(names, what[x.Access]+" "+filepath.Base(x.Path))
			}
		}
	}
	return names
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadsByName(t *testing.T) {
	r := record(t, Config{})
	for name, what := range map[string]Watched{"secret.key": WatchedRead, ".vault": WatchedChildRead} {
		if err := r.WatchName(name, what); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, c := range []struct{ how, script, want string }{
		{"cat", "cat secret.key", "read secret.key"},
		{"nothing", "cat other.key; stat secret.key; test -r secret.key; mv secret.key secret.key", ""},
		{"below a folder", "cat .vault/any", "read any"},
		{"moved", "mv secret.key moved; cat moved", ""}, // watched by its name only
		{"link made to mislead", "ln secret.key harmless; cat harmless", "read secret.key"},
		{"symbolic link", "ln -s secret.key soft; cat soft", "read secret.key"},
		{"mapped", "play map secret.key", "read secret.key"},
		{"sendfile", "play sendfile secret.key", "read secret.key"},
		{"splice", "play splice secret.key", "read secret.key"},
		{"copy_file_range", "play copy secret.key", "read secret.key"},
		{"in a mount namespace", "unshare -m sh -c 'mkdir -p m; mount --bind . m; cat m/secret.key'", "read secret.key"},
		{"twice", "cat secret.key secret.key secret.key", "read secret.key"},
	} {
		t.Run(c.how, func(t *testing.T) {
			sub := filepath.Join(dir, fmt.Sprintf("%q", c.how))
			write(t, filepath.Join(sub, "secret.key"), "key of "+c.how)
			write(t, filepath.Join(sub, "other.key"), "other of "+c.how)
			write(t, filepath.Join(sub, ".vault/any"), "any of "+c.how)
			got := touched(t, r, "'"+sub+"'", "{ "+c.script+"; } >/dev/null 2>&1; true")
			want := []string{c.want}
			if c.want == "" {
				want = nil
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestWrites(t *testing.T) {
	r := record(t, Config{})
	for name, what := range map[string]Watched{"profile.sh": WatchedWrite, "hooks.d": WatchedChildWrite} {
		if err := r.WatchName(name, what); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, c := range []struct {
		how, script string
		want        []string
	}{
		{"append", "echo x >> profile.sh", []string{"write profile.sh"}},
		{"read only", "cat profile.sh hooks.d/a src.c; ls hooks.d; find .", nil},
		{"truncate", "truncate -s 1 profile.sh", []string{"write profile.sh"}},
		{"new file in folder", "echo x > hooks.d/b", []string{"write b"}},
		{"by inode", "echo x >> src.c", []string{"write src.c"}},
		{"by inode, mapped", "play write-map src.c", []string{"write src.c"}},
		{"by inode, copy_file_range", "play copy-into src.c", []string{"write src.c"}},
		{"by inode, splice", "play splice-into src.c", []string{"write src.c"}},
		{"by inode, another link", "ln src.c link; echo x >> link", []string{"write"}},
		// As soon as that time is set, in the same tick of the clock.
		{"accessed in the future", "mkdir new; play write-ahead new/profile.sh", []string{"write profile.sh"}},
		{"unwatched", "echo x > other; mkdir d; touch d/x", nil},
	} {
		t.Run(c.how, func(t *testing.T) {
			sub := filepath.Join(dir, fmt.Sprintf("%q", c.how))
			for _, name := range []string{"profile.sh", "hooks.d/a", "src.c", "other"} {
				write(t, filepath.Join(sub, name), name+" of "+c.how)
			}
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(sub, "src.c"), &st); err != nil {
				t.Fatal(err)
			}
			if err := r.WatchFile(&st, WatchedWrite); err != nil {
				t.Fatal(err)
			}
			got := touched(t, r, "'"+sub+"'", "{ "+c.script+"; } >/dev/null 2>&1; true")
			slices.Sort(got)
			got = slices.Compact(got)
			if len(c.want) == 1 && len(got) == 1 && filepath.Base(c.want[0]) == c.want[0] {
				got[0] = got[0][:len(c.want[0])] // of several names, any
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestFilesOfOthers: what happens outside of steps is not reported.
func TestFilesOfOthers(t *testing.T) {
	r := record(t, Config{})
	if err := r.WatchName("secret.key", WatchedRead); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "secret.key")
	write(t, path, "secret")
	pid := run(t, exec.Command("cat", path))
	r.exitOf(t, pid)
	if got := matching(r, func(f *File) bool { return int(f.PID) == pid }); len(got) > 0 {
		t.Errorf("%+v", got[0])
	}
}

// TestManyWatchedAtOnce: the kernel's stock of memory for tables runs out for a moment.
func TestManyWatchedAtOnce(t *testing.T) {
	s := openSensor(t, Config{})
	for n := range uint64(30_000) {
		if err := s.WatchFile(&unix.Stat_t{Ino: 1<<40 + n, Dev: 1}, WatchedWrite); err != nil {
			t.Fatalf("file %d: %v", n, err)
		}
	}
	for n := range 1000 {
		if err := s.WatchName(strconv.Itoa(n), WatchedRead); err != nil {
			t.Fatalf("name %d: %v", n, err)
		}
	}
}
