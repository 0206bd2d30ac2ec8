package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var unixCredential = syscall.Credential{Uid: 65534, Gid: 65534}

// plays are the programs that the test binary can be.
var plays = map[string]func(args []string) error{
	"open":          playOpen,
	"worker":        playWorker,
	"thread-exec":   playThreadExec,
	"vm-read-often": playVMReadOften,
	"access":        playAccess,
	"tcp":           playTCP,
	"open-before":   playOpenBefore,
	"udp":           playUDP,
	"link-dns":      playLinkDNS,
	"raw":           playRaw,
	"file":          playFile,
	"without":       playWithout,
	"lacks":         playLacks,
}

func playOpen([]string) error {
	s, err := Open(Config{})
	var unsupported *UnsupportedError
	if errors.As(err, &unsupported) {
		return fmt.Errorf("unsupported: %w", err)
	}
	if err != nil {
		return err
	}
	return s.Close()
}

// playWorker runs each argument by a shell, one after another, as a runner's worker
// runs steps, with an environment of its own.
func playWorker(args []string) error {
	for _, script := range args {
		cmd := exec.Command("/bin/sh", "-c", script)
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, "SALLYPORT_BPF_PLAY=") {
				cmd.Env = append(cmd.Env, v)
			}
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}

// playThreadExec runs a program from a thread that is not the leader.
func playThreadExec(args []string) error {
	failed := make(chan error)
	for {
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == unix.Getpid() {
				// The leader: keep it busy, another thread is to do it.
				time.Sleep(time.Second)
				failed <- nil
				return
			}
			failed <- syscall.Exec(args[0], args, []string{})
		}()
		if err := <-failed; err != nil {
			return err
		}
	}
}

func vmCall(number uintptr, pid int) error {
	var b [8]byte
	local := unix.Iovec{Base: &b[0], Len: 8}
	remote := unix.RemoteIovec{Base: 0x1000, Len: 8}
	_, _, errno := unix.Syscall6(number, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if errno != 0 && errno != unix.EFAULT {
		return errno
	}
	return nil
}

func playVMReadOften(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for range n {
		if err := vmCall(unix.SYS_PROCESS_VM_READV, pid); err != nil {
			return err
		}
	}
	return nil
}

// playAccess reaches into the process args[1] in the way args[0].
func playAccess(args []string) error {
	runtime.LockOSThread()
	pid, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	open := func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, _ = f.Read(make([]byte, 64)) // there is nothing at the beginning of mem
		return f.Close()
	}
	proc := "/proc/" + args[1]
	switch args[0] {
	case "mem", "maps", "smaps", "environ":
		return open(proc + "/" + args[0])
	case "thread":
		return open(proc + "/task/" + args[1] + "/mem")
	case "relative":
		if err := os.Chdir(proc); err != nil {
			return err
		}
		return open("mem")
	case "link":
		link := args[2]
		if err := os.Symlink(proc+"/mem", link); err != nil {
			return err
		}
		return open(link)
	case "io_uring":
		return ringOpen(proc + "/mem")
	case "openat2":
		fd, err := unix.Openat2(unix.AT_FDCWD, proc+"/mem", &unix.OpenHow{Flags: unix.O_RDONLY})
		if err != nil {
			return err
		}
		_, _ = unix.Read(fd, make([]byte, 64))
		return unix.Close(fd)
	case "mount":
		if err := unix.Mount("proc", args[2], "proc", 0, ""); err != nil {
			return err
		}
		return errors.Join(open(args[2]+"/"+args[1]+"/mem"), unix.Unmount(args[2], 0))
	case "self":
		return errors.Join(open("/proc/self/mem"), open("/proc/self/maps"), open("/proc/self/environ"),
			open("/proc/"+args[1]+"/status"))
	case "attach":
		if err := unix.PtraceAttach(pid); err != nil {
			return err
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
			return err
		}
		return unix.PtraceDetach(pid)
	case "seize":
		if err := unix.PtraceSeize(pid); err != nil {
			return err
		}
		if err := unix.PtraceInterrupt(pid); err != nil {
			return err
		}
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		return err
	case "read":
		return vmCall(unix.SYS_PROCESS_VM_READV, pid)
	case "write":
		return vmCall(unix.SYS_PROCESS_VM_WRITEV, pid)
	}
	return fmt.Errorf("no such access: %s", args[0])
}

// playTCP connects to args[0], sends args[1] bytes and reads to the end.
func playTCP(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	if _, err := c.Write(make([]byte, n)); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		return err
	}
	return c.Close()
}

// playOpenBefore sends over a connection to itself, prints the port of its listener, and when its
// input ends sends once more.
func playOpenBefore([]string) error {
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil { // in a namespace of its own it is not
		return fmt.Errorf("set loopback up: %w: %s", err, out)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return err
	}
	a, err := l.Accept()
	if err != nil {
		return err
	}
	if _, err := c.Write([]byte("before")); err != nil {
		return err
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	if _, err := c.Write([]byte("after the sensor")); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, a); err != nil {
		return err
	}
	return errors.Join(c.Close(), a.Close(), l.Close())
}

// playUDP sends from one socket: "connected ADDRESS BYTES…" or "unconnected ADDRESS
// BYTES [ADDRESS BYTES]…", and waits for an answer to each datagram.
func playUDP(args []string) error {
	var c *net.UDPConn
	var err error
	send := func(b []byte, to string) error { _, err := c.Write(b); return err }
	if args[0] == "connected" {
		to, err := net.ResolveUDPAddr("udp", args[1])
		if err != nil {
			return err
		}
		if c, err = net.DialUDP("udp", nil, to); err != nil {
			return err
		}
	} else {
		if c, err = net.ListenUDP(args[0], nil); err != nil {
			return err
		}
		send = func(b []byte, to string) error {
			address, err := net.ResolveUDPAddr("udp", to)
			if err != nil {
				return err
			}
			_, err = c.WriteTo(b, address)
			return err
		}
	}
	buffer := make([]byte, 65536)
	for rest := args[1:]; len(rest) > 1; rest = rest[2:] {
		n, err := strconv.Atoi(rest[1])
		if err != nil {
			return err
		}
		if err := send(make([]byte, n), rest[0]); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, _, err := c.ReadFrom(buffer); err != nil {
			return err
		}
	}
	return c.Close()
}

// ringOpen opens a file by io_uring: a ring of one entry, mapped by hand
// (include/uapi/linux/io_uring.h).
func ringOpen(path string) error {
	type offsets struct {
		head, tail, mask, entries, flags, dropped, array, reserved uint32
		address                                                    uint64
	}
	type completionOffsets struct {
		head, tail, mask, entries, overflow, cqes, flags, reserved uint32
		address                                                    uint64
	}
	var params struct {
		entries, completions, flags, cpu, idle, features, queue uint32
		_                                                       [3]uint32
		submission                                              offsets
		completion                                              completionOffsets
	}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return fmt.Errorf("set ring up: %w", errno)
	}
	const submissionRing, completionRing, entries = 0, 0x8000000, 0x10000000
	mapped := func(offset int64, size int) ([]byte, error) {
		return unix.Mmap(int(fd), offset, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	sq, err := mapped(submissionRing, 4096)
	if err != nil {
		return err
	}
	cq, err := mapped(completionRing, 4096)
	if err != nil {
		return err
	}
	sqe, err := mapped(entries, 4096)
	if err != nil {
		return err
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	const openat = 18
	sqe[0] = openat
	cwd := int32(unix.AT_FDCWD)
	binary.LittleEndian.PutUint32(sqe[4:], uint32(cwd))
	binary.LittleEndian.PutUint64(sqe[16:], uint64(uintptr(unsafe.Pointer(name))))
	binary.LittleEndian.PutUint32(sq[params.submission.array:], 0)
	binary.LittleEndian.PutUint32(sq[params.submission.tail:], 1)
	const wait = 1
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, fd, 1, 1, wait, 0, 0); errno != 0 {
		return fmt.Errorf("enter ring: %w", errno)
	}
	runtime.KeepAlive(name)
	result := int32(binary.LittleEndian.Uint32(cq[params.completion.cqes+8:]))
	if result < 0 {
		return fmt.Errorf("open by ring: %w", unix.Errno(-result))
	}
	_, _ = unix.Read(int(result), make([]byte, 64))
	return nil
}

// playRaw sends one packet in the way args[0] to the address args[1].
func playRaw(args []string) error {
	to := netip.MustParseAddr(args[1])
	echo := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}
	switch args[0] {
	case "ping":
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		return unix.Sendto(fd, echo, 0, &unix.SockaddrInet4{Addr: to.As4()})
	case "raw":
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		return unix.Sendto(fd, echo, 0, &unix.SockaddrInet4{Addr: to.As4()})
	case "raw6":
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		return unix.Sendto(fd, []byte{128, 0, 0, 0, 0, 0, 0, 0}, 0, &unix.SockaddrInet6{Addr: to.As16()})
	case "tcp by hand":
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		packet := make([]byte, 40)
		packet[0], packet[8], packet[9] = 0x45, 64, unix.IPPROTO_TCP
		copy(packet[16:], to.AsSlice())
		binary.BigEndian.PutUint16(packet[20:], 1234)
		binary.BigEndian.PutUint16(packet[22:], 4321)
		packet[32], packet[33] = 5<<4, 2
		return unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: to.As4()})
	case "protocol 253":
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, 253)
		if err != nil {
			return err
		}
		return unix.Sendto(fd, []byte("data"), 0, &unix.SockaddrInet4{Addr: to.As4()})
	case "fast open":
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		err = unix.Sendto(fd, []byte("data"), unix.MSG_FASTOPEN, &unix.SockaddrInet4{Addr: to.As4(), Port: 4321})
		if errors.Is(err, unix.ECONNREFUSED) {
			return nil
		}
		return err
	case "sendmmsg":
		return sendmmsg(to)
	}
	return fmt.Errorf("no such packet: %s", args[0])
}

func sendmmsg(to netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	name := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], 4321)
	data := []byte("data")
	iov := unix.Iovec{Base: &data[0], Len: 4}
	type message struct {
		head unix.Msghdr
		n    uint32
		_    uint32
	}
	all := [2]message{}
	for i := range all {
		all[i].head = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&name)), Namelen: unix.SizeofSockaddrInet4, Iov: &iov, Iovlen: 1}
	}
	_, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&all[0])), 2, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// playFile reads or writes the file args[1] in the way args[0]: such as leave no trace
// among the calls that read and write.
func playFile(args []string) error {
	flags := os.O_RDONLY
	if strings.HasSuffix(args[0], "-into") || args[0] == "write-map" {
		flags = os.O_RDWR
	}
	if args[0] == "write-ahead" {
		flags = os.O_RDWR | os.O_CREATE
	}
	f, err := os.OpenFile(args[1], flags, 0o600)
	if err != nil {
		return err
	}
	fd := int(f.Fd())
	other, err := os.OpenFile(args[1]+".other", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if _, err := other.WriteString("hello"); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	var n int
	var moved int64
	switch args[0] {
	case "map":
		var b []byte
		b, err = unix.Mmap(fd, 0, 5, unix.PROT_READ, unix.MAP_SHARED)
		if err == nil && b[0] != 0 {
			n = len(b)
		}
	case "write-map":
		var b []byte
		b, err = unix.Mmap(fd, 0, 5, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err == nil {
			n = copy(b, "hello")
			err = unix.Msync(b, unix.MS_SYNC)
		}
	case "write-ahead":
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, args[1], []unix.Timespec{{Sec: 4102444800}, {Nsec: unix.UTIME_OMIT}}, 0); err != nil {
			return err
		}
		n, err = unix.Write(fd, []byte("hello"))
	case "sendfile":
		n, err = unix.Sendfile(int(w.Fd()), fd, nil, 5)
	case "splice":
		moved, err = unix.Splice(fd, nil, int(w.Fd()), nil, 5, 0)
	case "copy":
		n, err = unix.CopyFileRange(fd, nil, int(other.Fd()), nil, 5, 0)
	case "copy-into":
		var from int64
		n, err = unix.CopyFileRange(int(other.Fd()), &from, fd, nil, 5, 0)
	case "splice-into":
		if _, err := w.WriteString("hello"); err != nil {
			return err
		}
		moved, err = unix.Splice(int(r.Fd()), nil, fd, nil, 5, 0)
	default:
		return fmt.Errorf("no such way: %s", args[0])
	}
	if n += int(moved); err == nil && n != 5 {
		err = fmt.Errorf("%d bytes", n)
	}
	return errors.Join(err, f.Close(), other.Close(), r.Close(), w.Close())
}

// playWithout goes on as "lacks" without some capabilities, by their numbers.
func playWithout(args []string) error {
	runtime.LockOSThread() // the bounding set is a thread's, and exec keeps it
	for _, arg := range args {
		capability, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil {
			return err
		}
	}
	if err := os.Setenv("SALLYPORT_BPF_PLAY", "lacks"); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", os.Args[:1], os.Environ())
}

// playLacks prints what a sensor with these privileges does not see.
func playLacks([]string) error {
	s, err := Open(Config{})
	var unsupported *UnsupportedError
	if errors.As(err, &unsupported) {
		fmt.Println("does not start")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(append([]string{"sees all"}, s.Lacks()...), "; "))
	return s.Close()
}
