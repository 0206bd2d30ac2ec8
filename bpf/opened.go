package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The passes of the program found_sockets (enum opened_pass in opened.h).
const (
	openedList uint32 = iota
	openedListening
	openedConnected
)

// openedSize is sizeof(struct opened) in opened.h.
const openedSize = 40

// openSocket is one that was there before the sensor.
type openSocket struct {
	process, cookie        uint64
	pid, localPID, uid, fd uint32
	ownTable               bool
}

// enterSockets enters the sockets that are open already, with the processes that have them.
func (s *Sensor) enterSockets() error {
	if slices.Contains(s.lacks, lacksOpened) {
		return nil // there is no program for it
	}
	list, err := s.openSockets()
	if err != nil {
		return fmt.Errorf("list open sockets: %w", err)
	}
	if err := s.prepare(list); err != nil {
		return fmt.Errorf("enter open sockets: %w", err)
	}
	if !canReach() {
		s.lacks = append(s.lacks, lacksOpened)
	}
	for _, pass := range []uint32{openedListening, openedConnected} {
		if _, err := s.passSockets(pass); err != nil {
			return fmt.Errorf("enter open connections: %w", err)
		}
	}
	return nil
}

// canReach says whether the descriptors of other users' processes can be had.
func canReach() bool {
	if !capable(unix.CAP_SYS_PTRACE) {
		return false
	}
	scope, err := readNumber("/proc/sys/kernel/yama/ptrace_scope")
	return err != nil || scope < 3 // there need not be Yama
}

func (s *Sensor) passSockets(pass uint32) ([]byte, error) {
	if err := s.objects.OpenedPass.Set(pass); err != nil {
		return nil, err
	}
	l, err := link.AttachIter(link.IterOptions{Program: s.objects.FoundSockets})
	if err != nil {
		return nil, attachError(s.objects.FoundSockets, err)
	}
	return readIterator(l)
}

func (s *Sensor) openSockets() ([]openSocket, error) {
	b, err := s.passSockets(openedList)
	if err != nil {
		return nil, err
	}
	var list []openSocket
	for ; len(b) >= openedSize; b = b[openedSize:] {
		c := &cursor{b: b[:openedSize]}
		list = append(list, openSocket{
			process: c.u64(), cookie: c.u64(), pid: c.u32(), localPID: c.u32(), uid: c.u32(), fd: c.u32(), ownTable: c.u32() != 0,
		})
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes left", ErrMalformed, len(b))
	}
	return list, nil
}

// prepare has the kernel make the cookies of sockets that have none, and notes the owners of those
// that are in no table of their own. Both go by a descriptor of the socket, which is had for a
// moment: what a process does with its own changes nothing of that. What has ended meanwhile is
// passed over, and so is what this machine does not let us reach.
func (s *Sensor) prepare(list []openSocket) error {
	slices.SortStableFunc(list, func(a, b openSocket) int { return int(a.localPID) - int(b.localPID) })
	pid, process := uint32(0), -1
	defer func() {
		if process >= 0 {
			_ = unix.Close(process) // only a handle
		}
	}()
	for _, o := range list {
		if o.localPID == 0 || o.ownTable && o.cookie != 0 {
			continue // of another PID namespace, or nothing is left to do
		}
		if o.localPID != pid {
			if process >= 0 {
				_ = unix.Close(process) // only a handle
			}
			pid = o.localPID
			var err error
			if process, err = unix.PidfdOpen(int(pid), 0); err != nil {
				process = -1 // it has ended
			}
		}
		if process < 0 {
			continue
		}
		fd, err := unix.PidfdGetfd(process, int(o.fd), 0)
		if err != nil {
			continue
		}
		err = s.own(fd, o)
		_ = unix.Close(fd) // only a handle
		if err != nil {
			return err
		}
	}
	return nil
}

// own notes whose a socket is.
func (s *Sensor) own(fd int, o openSocket) error {
	if o.ownTable {
		_, _ = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE) // no socket any more
		return nil
	}
	value := make([]byte, s.objects.Sockets.ValueSize())
	binary.LittleEndian.PutUint64(value, o.process)
	binary.LittleEndian.PutUint32(value[8:], o.pid)
	binary.LittleEndian.PutUint32(value[12:], o.uid)
	switch err := s.objects.Sockets.Update(int32(fd), value, ebpf.UpdateNoExist); {
	case err == nil, errors.Is(err, ebpf.ErrKeyExist): // it has been used since the hooks are there
		return nil
	case errors.Is(err, unix.ENOTSOCK), errors.Is(err, unix.EBADF), errors.Is(err, unix.ENOMEM): // another file by now, or the socket's memory is used up
		return nil
	default:
		return fmt.Errorf("note the owner of a socket: %w", err)
	}
}
