package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// cgroupRoot is an open folder: the root of the cgroup2 hierarchy.
type cgroupRoot struct{ fd int }

// initialCgroupNamespace is the inode of the machine's first cgroup namespace
// (include/linux/proc_ns.h, PROC_CGROUP_INIT_INO).
const initialCgroupNamespace = "cgroup:[4026531835]"

// openCgroupRoot opens the given folder, or the mount of cgroup2 in
// /proc/self/mountinfo, or a private mount that nobody else sees and that goes when
// it is closed.
func openCgroupRoot(path string) (*cgroupRoot, error) {
	if path == "" {
		// Another namespace's root is a branch of the tree: most would go unseen.
		ns, err := os.Readlink("/proc/self/ns/cgroup")
		if err == nil && ns != initialCgroupNamespace {
			return nil, &UnsupportedError{
				Missing: "the machine's own cgroup namespace (in a container, share the host's: docker run --cgroupns=host)",
				Kernel:  kernelRelease(),
			}
		}
		if path, err = findCgroup2("/proc/self/mountinfo"); err != nil {
			return nil, err
		}
	}
	if path == "" {
		return mountCgroup2()
	}
	fd, err := unix.Open(path, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup root %s: %w", path, err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return nil, errors.Join(fmt.Errorf("look at cgroup root %s: %w", path, err), unix.Close(fd))
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, errors.Join(
			&UnsupportedError{Missing: "cgroup2 at " + path, Kernel: kernelRelease()},
			unix.Close(fd))
	}
	return &cgroupRoot{fd: fd}, nil
}

// findCgroup2 returns where the whole cgroup2 hierarchy is mounted, "" if nowhere.
func findCgroup2(mountinfo string) (path string, err error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return "", fmt.Errorf("find cgroup2: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if path, ok := cgroup2Mount(lines.Text()); ok {
			return path, nil
		}
	}
	return "", lines.Err()
}

// cgroup2Mount reads a line of mountinfo (proc_pid_mountinfo(5)):
//
//	36 35 98:0 /root /mount/point rw,noatime master:1 - cgroup2 source rw
func cgroup2Mount(line string) (string, bool) {
	mount, filesystem, ok := strings.Cut(line, " - ")
	if !ok || !strings.HasPrefix(filesystem, "cgroup2 ") {
		return "", false
	}
	fields := strings.Fields(mount)
	if len(fields) < 5 || fields[3] != "/" {
		return "", false
	}
	return unescapeMount(fields[4]), true
}

// unescapeMount undoes the octal escapes of blanks, tabs, newlines and backslashes.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func mountCgroup2() (*cgroupRoot, error) {
	dir, err := os.MkdirTemp("", "sallyport-cgroup2-")
	if err != nil {
		return nil, fmt.Errorf("mount cgroup2: %w", err)
	}
	if err := unix.Mount("none", dir, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, errors.Join(
			&UnsupportedError{Missing: "cgroup2 (neither mounted nor to be mounted)", Kernel: kernelRelease(), Err: err},
			os.Remove(dir))
	}
	fd, err := unix.Open(filepath.Clean(dir), unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	// The open folder keeps the file system; the mount itself is in nobody's way.
	err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir))
	if err != nil {
		return nil, fmt.Errorf("mount cgroup2 at %s: %w", dir, err)
	}
	return &cgroupRoot{fd: fd}, nil
}

func (c *cgroupRoot) attach(program *ebpf.Program, at ebpf.AttachType) (link.Link, error) {
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: c.fd, Program: program, Attach: at})
	if err != nil {
		return nil, attachError(program, err)
	}
	return l, nil
}

// of returns the identifier of the control group of a process, whose folder below /proc
// is dir. 0 if it has ended.
func (c *cgroupRoot) of(dir string) uint64 {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		var st unix.Stat_t
		if unix.Fstatat(c.fd, "."+path, &st, 0) == nil {
			return st.Ino
		}
	}
	return 0
}

// findCgroups makes a Cgroup record of each group that is there.
func (s *Sensor) findCgroups(root *cgroupRoot) error {
	base := "/proc/self/fd/" + strconv.Itoa(root.fd) + "/"
	return filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has just gone
		}
		if err != nil {
			return fmt.Errorf("list control groups: %w", err)
		}
		if !entry.IsDir() {
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			s.tellFound(&Cgroup{Header: Header{Time: bootTime()}, ID: st.Ino, Path: "/" + strings.TrimPrefix(path, base)})
		}
		return nil
	})
}

func (c *cgroupRoot) close() error {
	if err := unix.Close(c.fd); err != nil {
		return fmt.Errorf("close cgroup root: %w", err)
	}
	return nil
}
