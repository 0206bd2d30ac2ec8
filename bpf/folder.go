package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File systems change folders, and tmpfs files, in ways that no tracepoint sees: those
// that matter are marked with fanotify(7). It costs nothing elsewhere. It names a
// process by its number only; the identity is looked up at once, also among those
// that have just ended.
type folders struct {
	entries int // group that names entries of folders
	opens   int // group that gives opened files, for /proc
	wake    *os.File
	reading sync.WaitGroup

	mu      sync.Mutex
	paths   map[string]string // by handle
	workers map[uint32]int    // open folders below /proc, by PID
}

// What is told of a folder's entries and of /proc.
const (
	entryEvents = unix.FAN_CREATE | unix.FAN_MOVED_TO | unix.FAN_MOVED_FROM | unix.FAN_DELETE | unix.FAN_ONDIR
	openEvents  = unix.FAN_OPEN | unix.FAN_EVENT_ON_CHILD
	// On a file system in memory, whose files no tracepoint sees being read.
	memoryEvents = unix.FAN_OPEN | unix.FAN_MODIFY | unix.FAN_EVENT_ON_CHILD
)

// openFolders starts to listen; tell is called for each record. The error wraps
// ErrCannotWatch where the kernel or the privileges do not allow it.
func openFolders(lookup func(pid uint32) (process, bool), tell func(Record)) (_ *folders, err error) {
	f := &folders{entries: -1, opens: -1, paths: map[string]string{}, workers: map[uint32]int{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.entries, err = unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_MARKS|unix.FAN_REPORT_DFID_NAME, unix.O_RDONLY); err != nil {
		return nil, fmt.Errorf("%w: fanotify: %w", ErrCannotWatch, err)
	}
	if f.opens, err = unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("%w: fanotify: %w", ErrCannotWatch, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("watch folders: %w", err)
	}
	f.wake = w
	f.reading.Go(func() {
		defer func() { _ = r.Close() }()
		f.read(int(r.Fd()), lookup, tell)
	})
	return f, nil
}

func (f *folders) close() error {
	var errs []error
	if f.wake != nil {
		errs = append(errs, f.wake.Close())
		f.reading.Wait()
	}
	for _, fd := range []int{f.entries, f.opens} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fd := range f.workers {
		errs = append(errs, unix.Close(fd))
	}
	f.workers = map[uint32]int{}
	return errors.Join(errs...)
}

// watchFolder reports what comes into a folder or leaves it, and, on a file system in
// memory, which of its files are opened or written.
func (f *folders) watchFolder(path string) error {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		return fmt.Errorf("watch folder: %w", &os.PathError{Op: "name_to_handle_at", Path: path, Err: err})
	}
	mask := uint64(entryEvents)
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return fmt.Errorf("watch folder: %w", &os.PathError{Op: "statfs", Path: path, Err: err})
	}
	if fs.Type == unix.TMPFS_MAGIC {
		mask |= memoryEvents
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// Known before the first event of it can come.
	f.paths[handleKey(handle.Type(), handle.Bytes())] = path
	if err := unix.FanotifyMark(f.entries, unix.FAN_MARK_ADD|unix.FAN_MARK_ONLYDIR, mask, unix.AT_FDCWD, path); err != nil {
		return fmt.Errorf("watch folder: %w", &os.PathError{Op: "fanotify_mark", Path: path, Err: err})
	}
	return nil
}

// unwatchFolder undoes watchFolder.
func (f *folders) unwatchFolder(path string) error {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil // the mark went with the folder
	}
	if err != nil {
		return fmt.Errorf("unwatch folder: %w", &os.PathError{Op: "name_to_handle_at", Path: path, Err: err})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.paths, handleKey(handle.Type(), handle.Bytes()))
	mask := uint64(entryEvents | memoryEvents)
	err = unix.FanotifyMark(f.entries, unix.FAN_MARK_REMOVE|unix.FAN_MARK_ONLYDIR, mask, unix.AT_FDCWD, path)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unwatch folder: %w", &os.PathError{Op: "fanotify_mark", Path: path, Err: err})
	}
	return nil
}

func handleKey(kind int32, handle []byte) string {
	return strconv.Itoa(int(kind)) + ":" + string(handle)
}

// watchWorker reports who opens a worker's map of memory, which the kernel gives
// without locking that memory.
func (f *folders) watchWorker(pid uint32) error {
	path := "/proc/" + strconv.FormatUint(uint64(pid), 10)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watch worker: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	if err := unix.FanotifyMark(f.opens, unix.FAN_MARK_ADD, openEvents, fd, "."); err != nil {
		return errors.Join(fmt.Errorf("watch worker: %w", &os.PathError{Op: "fanotify_mark", Path: path, Err: err}), unix.Close(fd))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if before, ok := f.workers[pid]; ok {
		_ = unix.Close(before) // it was for another process of that number
	}
	f.workers[pid] = fd
	return nil
}

// forgetWorker lets go of a worker that has ended.
func (f *folders) forgetWorker(pid uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fd, ok := f.workers[pid]; ok {
		// Gone with the process where the kernel has dropped the folder already.
		_ = unix.FanotifyMark(f.opens, unix.FAN_MARK_REMOVE, openEvents, fd, ".")
		_ = unix.Close(fd)
		delete(f.workers, pid)
	}
}

func (f *folders) read(wake int, lookup func(uint32) (process, bool), tell func(Record)) {
	buffer := make([]byte, 64<<10)
	polled := []unix.PollFd{{Fd: int32(wake), Events: unix.POLLIN}, {Fd: int32(f.entries), Events: unix.POLLIN}, {Fd: int32(f.opens), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(polled, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for i, group := range []int{f.entries, f.opens} {
			if polled[i+1].Revents == 0 {
				continue
			}
			n, err := unix.Read(group, buffer)
			if err != nil {
				continue // EAGAIN
			}
			f.events(buffer[:n], lookup, tell)
		}
		if polled[0].Revents != 0 {
			return
		}
	}
}

func (f *folders) events(b []byte, lookup func(uint32) (process, bool), tell func(Record)) {
	const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
	for len(b) >= size {
		m := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&b[0]))
		length := int(m.Event_len)
		if length < size || length > len(b) {
			return
		}
		event := b[:length]
		b = b[length:]
		pid := uint32(m.Pid)
		p, ok := lookup(pid)
		h := Header{Time: bootTime(), Process: p.ID, PID: pid, UID: p.EUID}
		if m.Fd >= 0 {
			if r := opened(int(m.Fd), h, lookup); r != nil && ok {
				tell(r)
			}
			continue
		}
		if !ok || p.Flags&(processStep|processChild) == 0 {
			continue
		}
		if r := f.entry(event[m.Metadata_len:], m.Mask, h); r != nil {
			tell(r)
		}
	}
}

// opened makes a record of a file below /proc that was opened.
func opened(fd int, h Header, lookup func(uint32) (process, bool)) Record {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	_ = unix.Close(fd)
	path = strings.TrimSuffix(path, " (deleted)") // the worker has ended
	if err != nil || filepath.Base(path) != "maps" {
		return nil
	}
	target, err := strconv.ParseUint(filepath.Base(filepath.Dir(path)), 10, 32)
	if err != nil || uint32(target) == h.PID {
		return nil
	}
	worker, _ := lookup(uint32(target))
	return &Access{Header: h, Kind: AccessMaps, Target: worker.ID, TargetPID: uint32(target), TargetWorker: true}
}

// Information records of an event (include/uapi/linux/fanotify.h).
const (
	infoDirectoryAndName = 2
	infoHeader           = 4
	infoFileSystem       = 8
	infoHandleHeader     = 8
)

// entry makes a record of what happened to an entry of a watched folder.
func (f *folders) entry(info []byte, mask uint64, h Header) Record {
	for len(info) >= infoHeader {
		length := int(binary.NativeEndian.Uint16(info[2:]))
		if length < infoHeader || length > len(info) {
			return nil
		}
		record := info[:length]
		info = info[length:]
		if record[0] != infoDirectoryAndName || length < infoHeader+infoFileSystem+infoHandleHeader {
			continue
		}
		handle := record[infoHeader+infoFileSystem:]
		size, kind := int(binary.NativeEndian.Uint32(handle)), int32(binary.NativeEndian.Uint32(handle[4:]))
		if infoHandleHeader+size > len(handle) {
			return nil
		}
		f.mu.Lock()
		folder, ok := f.paths[handleKey(kind, handle[infoHandleHeader:infoHandleHeader+size])]
		f.mu.Unlock()
		if !ok {
			return nil
		}
		name, _, _ := strings.Cut(string(handle[infoHandleHeader+size:]), "\x00")
		r := &File{Header: h, Path: filepath.Join(folder, name), Whole: true}
		switch {
		case mask&(unix.FAN_CREATE|unix.FAN_MOVED_TO) != 0:
			r.Access = FileEntered
		case mask&(unix.FAN_DELETE|unix.FAN_MOVED_FROM) != 0:
			r.Access = FileLeft
		case mask&unix.FAN_MODIFY != 0:
			r.Access = FileWrite
		case mask&unix.FAN_ONDIR != 0:
			return nil // listed
		default:
			r.Access = FileRead
		}
		return r
	}
	return nil
}

// process is an entry of the kernel's table of processes (lineage.h).
type process struct {
	ID           uint64
	Flags        uint32
	EUID         uint32
	Capabilities uint64
	UserNS       uint64
	Nsproxy      uint64
}

// lookup finds a process by its number, also if it has just ended.
func (s *Sensor) lookup(pid uint32) (process, bool) {
	var p process
	if s.objects.Processes.Lookup(pid, &p) != nil && s.objects.Ended.Lookup(pid, &p) != nil {
		return process{}, false
	}
	return p, true
}

// bootTime is the present time by the clock of the records.
func bootTime() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return uint64(now.Nano())
}
