package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Watched says what is watched of a file or folder.
type Watched uint32

// What may be watched, as in watch.h.
const (
	WatchedRead       Watched = 1  // reads of the file
	WatchedWrite      Watched = 2  // writes to the file
	WatchedChildRead  Watched = 4  // reads of files in the folder, by name only
	WatchedChildWrite Watched = 8  // writes to files in the folder, by name only
	WatchedInodeRead  Watched = 16 // reads of this very file, whatever its name (WatchReads)
)

// Sizes, as in watch.h.
const (
	nameSize        = 32
	nameBits        = 1 << 12
	inodeBits       = 1 << 20
	maxWatchedFiles = 262144
	hashMultiplier  = 0x9e3779b97f4a7c15
)

// getVersion is FS_IOC_GETVERSION (include/uapi/linux/fs.h): a number that files which had
// one inode number after the other differ in.
const getVersion = 0x80087601

// MaxWatchedName is how many bytes a watched name may have.
const MaxWatchedName = nameSize - 1

// ErrCannotWatch says that this kernel lacks the hooks to watch files, or refuses them.
var ErrCannotWatch = errors.New("this kernel cannot watch files")

// watch is user space's side of watch.h.
type watch struct {
	mu      sync.Mutex
	filters []byte // shared with the kernel
	files   map[watchedInode]watchedFile
}

type watchedInode struct {
	Number   uint64
	Device   uint32
	Reserved uint32
}

type watchedFile struct {
	Changed    uint64
	Watched    uint32
	Generation uint32
}

func (s *Sensor) openWatch() error {
	const size = (nameBits + inodeBits) / 8
	b, err := unix.Mmap(s.objects.Filters.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map filters of watched files: %w", err)
	}
	s.watch.filters, s.watch.files = b, make(map[watchedInode]watchedFile)
	return nil
}

func (w *watch) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.filters == nil {
		return nil
	}
	b := w.filters
	w.filters = nil
	if err := unix.Munmap(b); err != nil {
		return fmt.Errorf("unmap filters of watched files: %w", err)
	}
	return nil
}

// set sets a bit of a filter. Bits are never taken back: one too many costs a look-up.
func (w *watch) set(offset, bit int) {
	at := w.filters[(offset+bit)/64*8:]
	binary.NativeEndian.PutUint64(at, binary.NativeEndian.Uint64(at)|1<<(bit%64))
}

func nameBit(name string) int {
	var first [8]byte
	copy(first[:], name)
	return int(((binary.LittleEndian.Uint64(first[:]) ^ uint64(len(name))) * hashMultiplier) >> (64 - 12))
}

func inodeBit(i watchedInode) int {
	return int(((i.Number ^ uint64(i.Device)) * hashMultiplier) >> (64 - 20))
}

// put enters an entry into a table whose memory the kernel allocates as it is needed: from
// a small stock, which many entries one after another use up faster than it is filled.
// Until it is, the kernel says that there is no memory.
func put(table *ebpf.Map, key, value any) error {
	for wait := 20 * time.Microsecond; ; wait *= 2 {
		err := table.Put(key, value)
		if !errors.Is(err, unix.ENOMEM) || wait > 100*time.Millisecond {
			return err
		}
		time.Sleep(wait)
	}
}

// CanWatch says whether files can be watched.
func (s *Sensor) CanWatch() bool { return s.hooks != callHooks }

// WatchName watches all files or folders of a name of 1 to MaxWatchedName bytes,
// wherever they are. What was watched of the name before stays. It is safe for
// concurrent use.
func (s *Sensor) WatchName(name string, what Watched) error {
	if name == "" || len(name) > MaxWatchedName {
		return fmt.Errorf("watch files named %q: a name has 1 to %d bytes", name, MaxWatchedName)
	}
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if s.watch.filters == nil {
		return ErrCannotWatch
	}
	var key [nameSize]byte
	copy(key[:], name)
	var before uint32
	if err := s.objects.WatchedNames.Lookup(key, &before); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("watch files named %q: %w", name, err)
	}
	if err := put(s.objects.WatchedNames, key, before|uint32(what)); err != nil {
		return fmt.Errorf("watch files named %q: %w", name, err)
	}
	s.watch.set(0, nameBit(name))
	return nil
}

// ErrTooMany says that as many files are watched as can be.
var ErrTooMany = errors.New("too many files are watched")

// WatchFile watches one file, as stat told of it, for WatchedWrite. It is safe for concurrent
// use.
func (s *Sensor) WatchFile(stat *unix.Stat_t, what Watched) error {
	return s.watchInode(stat, watchedFile{Changed: uint64(stat.Ctim.Nano()), Watched: uint32(what)})
}

// WatchReads watches who reads one file, whatever its name is by then. The error wraps
// ErrCannotWatch where its file system does not tell files apart that had one number one
// after the other. It is safe for concurrent use.
func (s *Sensor) WatchReads(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watch reads: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	defer func() { _ = unix.Close(fd) }()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("watch reads: %w", &os.PathError{Op: "fstat", Path: path, Err: err})
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("watch reads of %s: %w: it is no regular file", path, ErrCannotWatch)
	}
	generation, err := unix.IoctlGetUint32(fd, getVersion)
	if err != nil {
		return fmt.Errorf("watch reads of %s: %w: %w", path, ErrCannotWatch, err)
	}
	return s.watchInode(&stat, watchedFile{
		Changed: uint64(stat.Ctim.Nano()), Watched: uint32(WatchedInodeRead), Generation: generation,
	})
}

// watchInode watches a file for one thing more.
func (s *Sensor) watchInode(stat *unix.Stat_t, value watchedFile) error {
	key := inodeOf(stat)
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if s.watch.filters == nil {
		return ErrCannotWatch
	}
	before, known := s.watch.files[key]
	if len(s.watch.files) >= maxWatchedFiles && !known {
		return ErrTooMany
	}
	value.Watched |= before.Watched
	if value.Generation == 0 {
		value.Generation = before.Generation
	}
	if err := put(s.objects.WatchedInodes, key, value); err != nil {
		return fmt.Errorf("watch inode %d: %w", key.Number, err)
	}
	s.watch.files[key] = value
	s.watch.set(nameBits, inodeBit(key))
	return nil
}

// UnwatchFile undoes WatchFile.
func (s *Sensor) UnwatchFile(stat *unix.Stat_t) error {
	key := inodeOf(stat)
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	delete(s.watch.files, key)
	if err := s.objects.WatchedInodes.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("unwatch inode %d: %w", key.Number, err)
	}
	return nil
}

// inodeOf is a file as the kernel itself names it: stat packs the device otherwise.
func inodeOf(stat *unix.Stat_t) watchedInode {
	return watchedInode{Number: stat.Ino, Device: unix.Major(stat.Dev)<<20 | unix.Minor(stat.Dev)}
}

// WatchFolder reports what comes into a folder or leaves it, and, on a file system in
// memory, which of its files are opened or written. It is safe for concurrent use.
func (s *Sensor) WatchFolder(path string) error {
	if s.folders == nil {
		return ErrCannotWatch
	}
	return s.folders.watchFolder(path)
}

// UnwatchFolder undoes WatchFolder.
func (s *Sensor) UnwatchFolder(path string) error {
	if s.folders == nil {
		return ErrCannotWatch
	}
	return s.folders.unwatchFolder(path)
}

// Times returns how often a process has done to a file what f reports, so far; 0 if
// the kernel has forgotten it, or did not count (files of a folder).
func (s *Sensor) Times(f *File) (uint64, error) {
	key := struct {
		Process, Inode uint64
		Device, Access uint32
	}{f.Process, f.Inode, f.Device, uint32(f.Access)}
	var times uint64
	if err := s.objects.Touches.Lookup(key, &times); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, fmt.Errorf("count accesses to inode %d: %w", f.Inode, err)
	}
	return times, nil
}
