package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// loads hears of eBPF programs that are loaded: the kernel tells of them through perf
// (perf_event_open(2), PERF_RECORD_BPF_EVENT), with the process, at no cost to
// anything else.
type loads struct {
	rings   []*perfRing
	wake    *os.File
	reading sync.WaitGroup
}

// perfRing is what one CPU tells.
type perfRing struct {
	fd     int
	memory []byte
}

const (
	perfPages = 8 // of data, behind the page that says where they begin and end

	// Bits of perf_event_attr and types of records (include/uapi/linux/perf_event.h).
	perfWatermark   = 1 << 14
	perfSampleIDAll = 1 << 18
	perfBPFEvent    = 1 << 30

	perfRecordBPFEvent = 18
	perfBPFProgLoad    = 1
	// header, type and flags, id, tag, then the sample identity: pid and tid.
	perfBPFEventSize = 8 + 2 + 2 + 4 + 8 + 8

	// Offsets in struct perf_event_mmap_page.
	perfDataHead = 1024
	perfDataTail = 1032
)

// openLoads starts to listen; it returns nil where the kernel or the privileges do not
// allow it.
func openLoads(lookup func(pid uint32) (process, bool), tell func(Record)) (_ *loads, err error) {
	l := &loads{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	attributes := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY,
		Sample_type: unix.PERF_SAMPLE_TID,
		Bits:        perfWatermark | perfSampleIDAll | perfBPFEvent,
		Wakeup:      1,
	}
	attributes.Size = uint32(unsafe.Sizeof(attributes))
	possible, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("hear of eBPF programs: %w", err)
	}
	for cpu := range possible {
		fd, err := unix.PerfEventOpen(&attributes, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if errors.Is(err, unix.ENODEV) {
			continue // offline
		}
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
			return nil, l.close()
		}
		if err != nil {
			return nil, fmt.Errorf("hear of eBPF programs: perf_event_open: %w", err)
		}
		ring := &perfRing{fd: fd}
		l.rings = append(l.rings, ring)
		if ring.memory, err = unix.Mmap(fd, 0, (1+perfPages)*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
			return nil, fmt.Errorf("hear of eBPF programs: map ring: %w", err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("hear of eBPF programs: %w", err)
	}
	l.wake = w
	l.reading.Go(func() {
		defer func() { _ = r.Close() }()
		l.read(int(r.Fd()), lookup, tell)
	})
	return l, nil
}

func (l *loads) close() error {
	var errs []error
	if l.wake != nil {
		errs = append(errs, l.wake.Close())
		l.reading.Wait()
	}
	for _, ring := range l.rings {
		if ring.memory != nil {
			errs = append(errs, unix.Munmap(ring.memory))
		}
		errs = append(errs, unix.Close(ring.fd))
	}
	l.rings = nil
	return errors.Join(errs...)
}

// read tells of what comes until the other end of wake is closed.
func (l *loads) read(wake int, lookup func(uint32) (process, bool), tell func(Record)) {
	fds := []unix.PollFd{{Fd: int32(wake), Events: unix.POLLIN}}
	for _, ring := range l.rings {
		fds = append(fds, unix.PollFd{Fd: int32(ring.fd), Events: unix.POLLIN})
	}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if fds[0].Revents != 0 {
			return
		}
		for _, ring := range l.rings {
			ring.drain(func(record []byte) {
				if r := loaded(record, lookup); r != nil {
					tell(r)
				}
			})
		}
	}
}

// drain calls f with each record that is in the ring.
func (r *perfRing) drain(f func(record []byte)) {
	page := os.Getpagesize()
	head := atomic.LoadUint64((*uint64)(unsafe.Pointer(&r.memory[perfDataHead])))
	tail := (*uint64)(unsafe.Pointer(&r.memory[perfDataTail]))
	data := r.memory[page:]
	at := atomic.LoadUint64(tail)
	for head-at >= 8 {
		// Records are multiples of eight bytes: a header never wraps around.
		header := data[at%uint64(len(data)):]
		size := uint64(binary.NativeEndian.Uint16(header[6:]))
		if size < 8 || size > head-at {
			at = head
			break
		}
		record := make([]byte, size)
		n := copy(record, header)
		copy(record[n:], data)
		f(record)
		at += size
	}
	atomic.StoreUint64(tail, at)
	runtime.KeepAlive(r)
}

// loaded makes a record of an eBPF program that was loaded by somebody else.
func loaded(record []byte, lookup func(uint32) (process, bool)) Record {
	if binary.NativeEndian.Uint32(record) != perfRecordBPFEvent || len(record) < perfBPFEventSize ||
		binary.NativeEndian.Uint16(record[8:]) != perfBPFProgLoad {
		return nil
	}
	pid := binary.NativeEndian.Uint32(record[24:])
	if int(pid) == os.Getpid() {
		return nil
	}
	p, _ := lookup(pid)
	r := &Privilege{Header: Header{Time: bootTime(), Process: p.ID, PID: pid, UID: p.EUID}, Kind: PrivilegeBPF}
	// It may be gone already.
	if program, err := ebpf.NewProgramFromID(ebpf.ProgramID(binary.NativeEndian.Uint32(record[12:]))); err == nil {
		if info, err := program.Info(); err == nil {
			r.Name = info.Type.String() + " " + info.Name
		}
		_ = program.Close() // only looked at
	}
	return r
}
