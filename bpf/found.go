package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Flags of a process, as in lineage.h.
const (
	processWorker = 1
	processChild  = 2
	processStep   = 4
	processFound  = 8
)

// foundSize is sizeof(struct found) in process.h.
const foundSize = 64

// found is a running process, as the iterator reports it.
type found struct {
	id, parent, started                       uint64
	pid, parentPID, uid, gid, flags, localPID uint32
	comm                                      string
}

// scan lists all running processes, and enters those into the kernel's table of which
// no hook has heard.
func (s *Sensor) scan() ([]found, error) {
	l, err := link.AttachIter(link.IterOptions{Program: s.objects.FoundProcesses})
	if err != nil {
		return nil, attachError(s.objects.FoundProcesses, err)
	}
	b, err := readIterator(l)
	if err != nil {
		return nil, fmt.Errorf("list running processes: %w", err)
	}
	var list []found
	for ; len(b) >= foundSize; b = b[foundSize:] {
		c := &cursor{b: b[:foundSize]}
		list = append(list, found{
			id: c.u64(), parent: c.u64(), started: c.u64(),
			pid: c.u32(), parentPID: c.u32(), uid: c.u32(), gid: c.u32(), flags: c.u32(), localPID: c.u32(),
			comm: c.comm(),
		})
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("list running processes: %w: %d bytes left", ErrMalformed, len(b))
	}
	return list, nil
}

func readIterator(l *link.Iter) ([]byte, error) {
	r, err := l.Open()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close(), l.Close())
}

// findProcesses makes an Exec record of each process that ran before the sensor,
// parents before children.
func (s *Sensor) findProcesses(root *cgroupRoot) error {
	list, err := s.scan()
	if err != nil {
		return err
	}
	// A child is younger than its parent unless it was adopted, by an elder: then
	// the order does not matter, but every record must come once.
	sort.SliceStable(list, func(i, j int) bool { return list[i].started < list[j].started })
	list = slices.DeleteFunc(list, func(f found) bool { return f.flags&processFound == 0 })
	list = append(list, missingParents(list)...)
	byID := make(map[uint64]*found, len(list))
	for i := range list {
		byID[list[i].id] = &list[i]
		if int(list[i].localPID) == os.Getpid() {
			s.self.pid, s.self.id = list[i].pid, list[i].id
		}
	}
	reported := make(map[uint64]bool, len(list))
	var report func(f *found)
	report = func(f *found) {
		if reported[f.id] {
			return
		}
		reported[f.id] = true
		parent := byID[f.parent]
		if parent != nil {
			report(parent)
		}
		s.reportFound(f, parent, root)
	}
	for i := range list {
		report(&list[i])
	}
	return nil
}

// Self returns the identity of the sensor's own process, 0 if that is in another PID
// namespace than the one it looked into.
func (s *Sensor) Self() uint64 { return s.self.id }

// initialPIDNamespace is the inode of the machine's first PID namespace
// (include/linux/proc_ns.h, PROC_PID_INIT_INO).
const initialPIDNamespace = "pid:[4026531836]"

// missingParents makes up for the processes that the iterator passes over though
// others name them as parents: the first process, on some machines, and those of
// outer PID namespaces.
func missingParents(list []found) []found {
	known := make(map[uint64]bool, len(list))
	for _, f := range list {
		known[f.id] = true
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	outermost := err == nil && ns == initialPIDNamespace
	var missing []found
	for _, f := range list {
		if f.parent == 0 || known[f.parent] {
			continue
		}
		known[f.parent] = true
		parent := found{id: f.parent, started: f.parent &^ 1023, pid: f.parentPID}
		if outermost {
			parent.localPID = f.parentPID
			if b, err := os.ReadFile(filepath.Join("/proc", strconv.FormatUint(uint64(f.parentPID), 10), "comm")); err == nil {
				parent.comm = string(bytes.TrimSuffix(b, []byte("\n")))
			}
		}
		missing = append(missing, parent)
	}
	return missing
}

// root may be nil: the process was reported before.
func (s *Sensor) reportFound(f *found, parent *found, root *cgroupRoot) {
	e := &Exec{
		Header:    Header{Time: f.started, Process: f.id, PID: f.pid, UID: f.uid},
		Parent:    f.parent,
		ParentPID: f.parentPID,
		GID:       f.gid,
		Started:   f.started,
		Found:     true,
		Worker:    f.flags&processWorker != 0,
		Step:      f.flags&processStep != 0 && parent != nil && parent.flags&processWorker != 0,
		Comm:      f.comm,
	}
	var records []Record
	if f.localPID != 0 {
		dir := filepath.Join("/proc", strconv.FormatUint(uint64(f.localPID), 10))
		e.readProc(dir)
		if root != nil {
			e.Cgroup = root.of(dir)
		}
		if e.Step {
			records = foundEnvironment(e.Header, dir)
		}
	}
	records = append(records, e)
	s.tellFound(records...)
}

func (s *Sensor) tellFound(records ...Record) {
	s.found.Lock()
	defer s.found.Unlock()
	s.found.records = append(s.found.records, records...)
}

// readProc adds what /proc tells. The process may have ended: then it stays empty.
func (e *Exec) readProc(dir string) {
	if path, err := os.Readlink(filepath.Join(dir, "exe")); err == nil {
		e.Executable = path
		e.Filename = path
	}
	var st unix.Stat_t
	if unix.Stat(filepath.Join(dir, "exe"), &st) == nil {
		e.Inode, e.Device, e.Changed = st.Ino, unix.Major(st.Dev)<<20|unix.Minor(st.Dev), uint64(st.Ctim.Nano())
	}
	if path, err := os.Readlink(filepath.Join(dir, "cwd")); err == nil {
		e.WorkingDirectory = path
	}
	if b, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil {
		e.ArgumentsSize = uint32(len(b))
		e.Arguments = b[:min(len(b), MaxArguments)]
	}
	e.Stdin = foundDescriptor(filepath.Join(dir, "fd/0"))
	e.Stdout = foundDescriptor(filepath.Join(dir, "fd/1"))
	if d := foundDescriptor(filepath.Join(dir, "fd/63")); d.Mode&modeType == modePipe {
		e.ArgumentPipe = d
	}
}

func foundDescriptor(path string) Descriptor {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return Descriptor{}
	}
	return Descriptor{Mode: st.Mode, Inode: st.Ino}
}

// foundEnvironment takes the environment of a step that ran before the sensor from
// /proc: as good as can be had, though the program may have written over it.
func foundEnvironment(h Header, dir string) []Record {
	b, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil || len(b) == 0 {
		return nil
	}
	size := uint32(len(b))
	b = bytes.Clone(b[:min(len(b), MaxEnvironment)])
	return []Record{&Environment{Header: h, Size: size, Data: b}}
}

func (s *Sensor) nextFound() Record {
	s.found.Lock()
	defer s.found.Unlock()
	if len(s.found.records) == 0 {
		return nil
	}
	r := s.found.records[0]
	s.found.records[0] = nil
	s.found.records = s.found.records[1:]
	if len(s.found.records) == 0 {
		s.found.records = nil
	}
	return r
}

// Watch makes a running process (an identifier in the caller's PID namespace) a
// worker: what it starts from now on are steps. It is reported again as an Exec
// with Found and Worker set. A process below a step can not become a worker.
func (s *Sensor) Watch(pid int) error {
	list, err := s.scan()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	for i := range list {
		f := &list[i]
		if int(f.localPID) != pid {
			continue
		}
		var p process
		if err := s.objects.Processes.Lookup(f.pid, &p); err != nil {
			return fmt.Errorf("watch process %d: %w", pid, err)
		}
		if p.Flags&processStep != 0 {
			return fmt.Errorf("watch process %d: it is below a step", pid)
		}
		p.Flags |= processWorker
		if err := s.objects.Processes.Update(f.pid, &p, ebpf.UpdateExist); err != nil {
			return fmt.Errorf("watch process %d: %w", pid, err)
		}
		f.flags = p.Flags
		f.id = p.ID
		s.reportFound(f, nil, nil)
		return nil
	}
	return fmt.Errorf("watch process %d: %w", pid, os.ErrProcessDone)
}
