package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFindCgroup2(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(file, []byte(`22 27 0:21 / /proc rw,relatime - proc proc rw
33 32 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
40 32 0:29 /docker/abc /part rw,relatime - cgroup2 cgroup2 rw
41 32 0:29 / /with\040blank rw,relatime shared:7 master:1 - cgroup2 cgroup2 rw,nsdelegate
`), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := findCgroup2(file)
	if err != nil || path != "/with blank" {
		t.Errorf("%q, %v", path, err)
	}
	if path, err := findCgroup2(os.DevNull); err != nil || path != "" {
		t.Errorf("%q, %v", path, err)
	}
	if _, err := findCgroup2(file + "-not"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestCgroupRootMustBeCgroup2(t *testing.T) {
	_, err := openCgroupRoot(t.TempDir())
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) {
		t.Error(err)
	}
}

func TestPrivateCgroup2(t *testing.T) {
	if os.Getuid() != 0 && os.Getenv("SALLYPORT_REQUIRE_ALL") != "1" {
		t.Skip("skipped: not root")
	}
	root, err := mountCgroup2()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(root.fd, &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Errorf("%x, %v", st.Type, err)
	}
	if err := root.close(); err != nil {
		t.Error(err)
	}
}

func FuzzCgroup2Mount(f *testing.F) {
	f.Add(`41 32 0:29 / /with\040blank rw shared:7 - cgroup2 cgroup2 rw`)
	f.Add(" - cgroup2 ")
	f.Add(`1 2 3 / \ - cgroup2 x`)
	f.Fuzz(func(t *testing.T, line string) {
		if path, ok := cgroup2Mount(line); ok && path == "" {
			t.Errorf("%q has no mount point", line)
		}
	})
}
