package install

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// folder is a folder that somebody else than root may own, and change while root works
// in it. It is opened once; every name in it is a single one, resolved below the open
// folder and never followed if it is a link: what root writes lands in this folder, in a
// file that root has just made there, or nowhere.
type folder struct {
	path string
	file *os.File
	// uid and gid own it.
	uid, gid uint32
}

// errHostile is wrapped by errors that say that a file is not one that root may use.
var errHostile = errors.New("is not a plain file of the runner's owner")

// openFolder opens a folder by a path in which no link may be: one that was resolved
// before, and is another by now if there is.
func openFolder(path string) (*folder, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := &folder{path: path, file: os.NewFile(uintptr(fd), path)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, errors.Join(fmt.Errorf("stat %s: %w", path, err), f.file.Close())
	}
	f.uid, f.gid = st.Uid, st.Gid
	return f, nil
}

func (f *folder) fd() int { return int(f.file.Fd()) }

func (f *folder) Close() error { return f.file.Close() }

// has says whether a name is there, whatever it is.
func (f *folder) has(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(f.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// runner says whether the folder is a runner's, configured or not yet.
func (f *folder) runner() bool {
	return (f.has("run.sh") || f.has("runsvc.sh")) && (f.has(".runner") || f.has("config.sh"))
}

// content is a file as it was read.
type content struct {
	data     []byte
	mode     uint32
	uid, gid uint32
	// inode and changed tell whether it is still the same.
	inode   uint64
	changed unix.Timespec
	// missing is true if there is no such file.
	missing bool
}

// maxEnv bounds a runner's `.env`, in bytes.
const maxEnv = 1 << 20

// read reads a small file of the folder's owner or of root. It never waits (a pipe), and
// refuses what has a second name: that may be a file of somebody else's, by a hard link.
func (f *folder) read(name string) (content, error) {
	fd, err := unix.Openat(f.fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return content{missing: true, mode: 0o600, uid: f.uid, gid: f.gid}, nil
	}
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return content{}, fmt.Errorf("%s/%s %w", f.path, name, errHostile)
	}
	if err != nil {
		return content{}, &os.PathError{Op: "open", Path: f.path + "/" + name, Err: err}
	}
	file := os.NewFile(uintptr(fd), name)
	defer func() { _ = file.Close() }() // only read
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return content{}, fmt.Errorf("stat %s/%s: %w", f.path, name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || (st.Uid != f.uid && st.Uid != 0) {
		return content{}, fmt.Errorf("%s/%s %w", f.path, name, errHostile)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxEnv+1))
	if err != nil {
		return content{}, fmt.Errorf("read %s/%s: %w", f.path, name, err)
	}
	if len(data) > maxEnv {
		return content{}, fmt.Errorf("%s/%s is larger than %d bytes", f.path, name, maxEnv)
	}
	return content{data: data, mode: st.Mode & 0o777, uid: st.Uid, gid: st.Gid, inode: st.Ino, changed: st.Ctim}, nil
}

// errChanged says that somebody else has written the file meanwhile.
var errChanged = errors.New("was changed meanwhile by somebody else")

// replace puts data in the place of a file that was read, with the same owner and mode,
// at once or not at all. A link or a pipe that has taken the name since is not followed
// or opened: the name itself is given to the new file.
func (f *folder) replace(name string, was content, data []byte) error {
	if bytes.Equal(data, was.data) && !was.missing {
		return nil
	}
	temporary := ".sallyport-" + rand.Text()
	fd, err := unix.Openat(f.fd(), temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("make a file in %s: %w", f.path, err)
	}
	file := os.NewFile(uintptr(fd), temporary)
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	// By the open file: its name may be another file's by now.
	if err == nil {
		err = unix.Fchown(fd, int(was.uid), int(was.gid))
	}
	if err == nil {
		err = unix.Fchmod(fd, was.mode)
	}
	err = errors.Join(err, file.Close())
	if err == nil && !f.unchanged(name, was) {
		err = errChanged
	}
	if err == nil {
		err = unix.Renameat(f.fd(), temporary, f.fd(), name)
	}
	if err != nil {
		_ = unix.Unlinkat(f.fd(), temporary, 0) // the first error counts
		return fmt.Errorf("write %s/%s: %w", f.path, name, err)
	}
	return unix.Fsync(f.fd())
}

func (f *folder) unchanged(name string, was content) bool {
	var st unix.Stat_t
	err := unix.Fstatat(f.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if was.missing {
		return errors.Is(err, unix.ENOENT)
	}
	return err == nil && st.Ino == was.inode && st.Ctim == was.changed
}

// remove takes a file that was read away.
func (f *folder) remove(name string, was content) error {
	if !f.unchanged(name, was) {
		return fmt.Errorf("remove %s/%s: %w", f.path, name, errChanged)
	}
	if err := unix.Unlinkat(f.fd(), name, 0); err != nil {
		return fmt.Errorf("remove %s/%s: %w", f.path, name, err)
	}
	return unix.Fsync(f.fd())
}
