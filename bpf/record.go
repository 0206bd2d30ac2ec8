package bpf

import (
	"fmt"
	"net/netip"
)

// Record is one thing that the kernel side reported: *Fork, *Exec, *Environment,
// *Exit, *Flow, *DNS, *Payload, *Access, *File,
// *Privilege, *Cgroup or *Plaintext. Its byte slices are valid until the next
// Sensor.Read.
type Record interface{ Head() *Header }

// Header is common to all records.
type Header struct {
	// Time of the event: CLOCK_BOOTTIME in nanoseconds.
	Time uint64
	// Process is the identity of the process that did it (see Fork and Exec).
	// Zero if unknown, as for a packet whose socket was opened before the
	// sensor was attached by a process that has ended.
	Process uint64
	// PID is the thread group identifier in the first PID namespace.
	PID uint32
	// UID of the process.
	UID uint32
}

// Head returns the header itself.
func (h *Header) Head() *Header { return h }

// Fork reports a new process (not a thread). Header.Process is the child.
//
// Identities are made in the kernel: boot time in nanoseconds at the fork or exec
// with the low ten bits replaced by the CPU. They are unique until the machine
// boots and ordered by time.
type Fork struct {
	Header
	// Parent is the identity of the process that forked.
	Parent uint64
	// ParentPID is its thread group identifier.
	ParentPID uint32
	// Comm is the child's task name.
	Comm string
}

// Exec reports that a process runs a new program: from here on its identity is
// Header.Process. It is also how the sensor reports, at its start, the processes
// that are running already (Found is true then; their identity is made of their
// start time).
type Exec struct {
	Header
	// Previous is the identity that the process had before (its fork's, or its
	// last exec's). Zero for found processes.
	Previous uint64
	// Parent is the identity of the parent process at the time of the exec, 0 if
	// unknown.
	Parent uint64
	// ParentPID is its thread group identifier.
	ParentPID uint32
	// GID of the process.
	GID uint32
	// Started is the boot time in nanoseconds at which the process (not this
	// program) started.
	Started uint64
	// Found is true for a process that was running before the sensor. What such a
	// record says is as /proc has it now; for steps, Environment records made of
	// /proc/PID/environ come before it.
	Found bool
	// Worker is true for a process that is a runner's worker (Config.Workers):
	// its children are steps.
	Worker bool
	// Step is true for the first program run by a child of a worker. Its
	// Environment records come right before it.
	Step bool
	// Container is true for a program that runs in another control group (of version 2)
	// than its parent, outside of steps: the first one of a container, or what
	// `docker exec` starts; and for those that take its place in the same process. Its
	// Environment records come right before it. A service that systemd starts is the same.
	Container bool
	// Cgroup is the identifier of its control group, of version 2: the inode number of
	// its folder. 0 if not known.
	Cgroup uint64
	// EUID is the effective user; not set for found processes.
	EUID uint32
	// Capabilities are the effective ones; not set for found processes.
	Capabilities Capabilities
	// Inode and Device (major << 20 | minor) are those of the program's file, and Changed
	// is its time of change in nanoseconds since 1970. 0 if not known.
	Inode   uint64
	Device  uint32
	Changed uint64
	// Deleted is true if no folder has the program's file any more, or never had.
	Deleted bool
	// InMemory is true if, besides, it is on no disk: memfd_create(2) and the like.
	InMemory bool
	// Script is true if Filename is a script whose first line names the program.
	Script bool
	// Comm is the task name after the exec.
	Comm string
	// Filename is the path given to exec (bprm->filename).
	Filename string
	// Executable is the path of mm->exe_file as walked in the kernel, empty if the
	// walk was cut off.
	Executable string
	// Arguments holds the arguments, each ended by a zero byte, cut at MaxArguments
	// bytes.
	Arguments []byte
	// ArgumentsSize is their full size in bytes.
	ArgumentsSize uint32
	// WorkingDirectory as walked in the kernel, empty if the walk was cut off.
	WorkingDirectory string
	// Stdin, Stdout: what the descriptors 0 and 1 led to.
	Stdin, Stdout Descriptor
	// ArgumentPipe is what descriptor 63 led to if it is a pipe: bash's process
	// substitution passes pipes as /dev/fd/63.
	ArgumentPipe Descriptor
}

// Descriptor is what an open file descriptor leads to. A zero Mode means closed.
type Descriptor struct {
	// Mode is the inode's i_mode (file type and permissions).
	Mode uint32
	// Inode number.
	Inode uint64
}

// Environment carries a piece of the environment of a step's first program,
// taken from its memory at its exec, before the program ran its first
// instruction. Pieces come in order, right before the Exec record of the same
// process (records of other processes may lie between). It holds secrets: extract the GITHUB_ and RUNNER_ variables and drop
// the rest.
type Environment struct {
	Header
	// Offset of Data in the environment.
	Offset uint32
	// Size of the whole environment in bytes; it is cut at MaxEnvironment.
	Size uint32
	// Data holds NAME=value strings, each ended by a zero byte; a string may go on
	// in the next piece.
	Data []byte
}

// Exit reports that a process (its last thread) ended.
type Exit struct {
	Header
	// Code is the exit code, 0 to 255.
	Code uint8
	// Signal that ended it, 0 if none.
	Signal uint8
	// Worker is true if the process was a runner's worker.
	Worker bool
}

// FlowState says what happened to a flow.
type FlowState uint8

// States of a flow, in order.
const (
	FlowStarted FlowState = 1 // first packet or connect
	FlowActive  FlowState = 2 // still open, reported about every minute
	FlowEnded   FlowState = 3 // closed, refused, timed out, or the socket closed
	FlowFound   FlowState = 5 // a TCP connection, or a socket that listens, that was open before the sensor
	FlowUsed    FlowState = 4 // another process than began it, the record's, sent on it
)

// FlowDirection says who began a flow.
type FlowDirection uint8

// Directions of a flow.
const (
	FlowOutbound  FlowDirection = 1 // this machine
	FlowInbound   FlowDirection = 2 // another machine; only TCP, and not through loopback
	FlowListening FlowDirection = 3 // nobody: a TCP socket that listens, until it is closed
)

// Flow reports a TCP connection opened from this machine or a UDP flow (one
// socket, one remote address and port, begun by a datagram from here). A connect
// call that fails before a packet is made (no route, for instance) is none.
// Connections that were open before the sensor are not reported, UDP flows from
// their next datagram on.
type Flow struct {
	Header
	// ID is unique until the machine boots.
	ID uint64
	// State says what happened.
	State FlowState
	// Protocol is the number in the IP header: IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, …
	// Those but TCP and UDP are of raw or ping sockets, and have no ports unless SCTP;
	// TCP that a raw socket sends is a flow of datagrams, too.
	Protocol uint8
	// Source and Destination; IPv4-mapped addresses are given as IPv4. The source
	// port of a TCP flow's first record is 0 unless the process bound one: the kernel
	// takes it after the connection was begun.
	Source, Destination netip.AddrPort
	// Sent and Received are payload bytes since the flow's last record.
	Sent, Received uint64
	// Started is the boot time in nanoseconds of the flow's first record.
	Started uint64
	// Direction says who began it. An inbound flow is of the process that listens; of
	// one that listens only Source is set.
	Direction FlowDirection
	// Established is true if a TCP handshake was completed.
	Established bool
	// Errno is the socket's error at its end (ECONNREFUSED, ETIMEDOUT, …), 0 if none.
	Errno uint16
}

// DNS reports a datagram to or from UDP port 53, or a question to or an answer from the
// ports of multicast DNS (5353) and LLMNR (5355), with the identity of the process that
// asked, or of each that hears an answer meant for several. On loopback the port that the process gave to connect or sendto
// counts, since a container's resolver sits behind a translated one. What a socket
// bound to port 53 answers is not reported.
type DNS struct {
	Header
	// Response is true for a datagram received, false for one sent.
	Response bool
	// Server is the remote address and port.
	Server netip.AddrPort
	// Port is the local port.
	Port uint16
	// Payload is the DNS message, cut at MaxDNS bytes.
	Payload []byte
	// Size is its full size.
	Size uint32
}

// PayloadUse is what a payload is handed over for.
type PayloadUse uint8

// What payloads are handed over for.
const (
	PayloadTLS  PayloadUse = 1 // the first record of a TLS client
	PayloadQUIC PayloadUse = 2 // a datagram that begins as a QUIC client's first ones do
	PayloadDNS  PayloadUse = 3 // DNS over TCP, both ways
)

// Payload carries a piece of what a flow carries: MaxPayload bytes at most. Pieces of a
// TCP flow may come twice, and out of order, as segments do.
type Payload struct {
	Header
	// Flow is the flow's ID.
	Flow uint64
	// Sequence is TCP's, of the first byte.
	Sequence uint32
	// Use says what it is.
	Use PayloadUse
	// Received is true for what came in.
	Received bool
	// Data is the piece.
	Data []byte
}

// AccessKind is a way to reach into another process.
type AccessKind uint8

// Ways to reach into another process.
const (
	AccessMem     AccessKind = 1 // opened /proc/PID/mem
	AccessMaps    AccessKind = 2 // opened /proc/PID/maps, smaps
	AccessEnviron AccessKind = 3 // opened /proc/PID/environ
	AccessPtrace  AccessKind = 4 // PTRACE_ATTACH or PTRACE_SEIZE
	AccessVMRead  AccessKind = 5 // process_vm_readv
	AccessVMWrite AccessKind = 6 // process_vm_writev
)

// Access reports that a process reached into another process (never itself), once for
// each kind and target. Where the kernel lets the sensor look at memory itself
// (Linux 6.12 and later) that is what was read or written, by whatever call; AccessMaps
// then means smaps, pagemap and numa_maps, and maps only as far as the kernel locks
// memory for it. Elsewhere it is files that were opened, every time, and ptrace and
// process_vm calls whether they worked or not.
type Access struct {
	Header
	// Kind says how.
	Kind AccessKind
	// Target is the identity of the process reached into, 0 if unknown.
	Target uint64
	// TargetPID is its thread group identifier in the first PID namespace, 0 if the
	// number that a container's process gave could not be told.
	TargetPID uint32
	// TargetWorker is true if the target is a runner's worker.
	TargetWorker bool
}

// FileAccess is what was done to a file or folder.
type FileAccess uint8

// What was done.
const (
	FileRead    FileAccess = 1 // its content was read, or mapped
	FileWrite   FileAccess = 2 // its content, size or attributes were changed
	FileEntered FileAccess = 3 // it came into a watched folder: made, linked or moved there
	FileLeft    FileAccess = 4 // it left a watched folder: removed or moved away
)

// File reports what a process below a worker did to a watched file (Sensor.WatchName,
// WatchFile, WatchFolder): reads and writes once for each file and process.
type File struct {
	Header
	// Inode and Device (major << 20 | minor) are those of the file system that keeps the
	// file: below an overlay that of the layer. Zero for what is known of a folder.
	Inode  uint64
	Device uint32
	// Access says what was done.
	Access FileAccess
	// Watched says by which of its bits the file is watched, none for what is known of
	// a folder.
	Watched Watched
	// Path from the root of its file system, empty if it was longer than MaxPath.
	Path string
	// Whole says that Path is a path of this machine: below a folder as it was given to
	// WatchFolder.
	Whole bool
}

// PrivilegeKind is a way to gain privileges or to use them.
type PrivilegeKind uint8

// Kinds of privileges.
const (
	PrivilegeGained     PrivilegeKind = 1 // capabilities, or the user root, that the process did not have
	PrivilegeNamespaces PrivilegeKind = 2 // it is in other namespaces than its parent
	PrivilegeModule     PrivilegeKind = 3 // it loaded a kernel module
	PrivilegeBPF        PrivilegeKind = 4 // it loaded an eBPF program
	PrivilegeSignal     PrivilegeKind = 5 // it sent a signal to the process that opened the Sensor
	PrivilegePackets    PrivilegeKind = 6 // it sent by a packet or XDP socket
)

// Privilege reports what took a privilege. Gained and Namespaces are told when the
// process next forks, runs a program or ends; Packets once for each program.
type Privilege struct {
	Header
	// Kind says what.
	Kind PrivilegeKind
	// Gained are the capabilities, of PrivilegeGained, and EUIDBefore and EUID the
	// effective users before and after.
	Gained           Capabilities
	EUIDBefore, EUID uint32
	// Namespaces are those of PrivilegeNamespaces.
	Namespaces Namespaces
	// Signal is the number, of PrivilegeSignal.
	Signal uint8
	// Name of the module or of the eBPF program, if known.
	Name string
}

// Cgroup reports a control group of version 2: a new one, one that was there when the
// sensor was opened, or one that goes.
type Cgroup struct {
	Header
	// ID is its identifier, as in Exec.
	ID uint64
	// Path from the root of the hierarchy.
	Path string
	// Removed is true for one that goes. Its number may be used again.
	Removed bool
}

// Capabilities is a set of capabilities, one bit for each number (capabilities(7)).
type Capabilities uint64

// capabilityNames are in the order of their numbers (include/uapi/linux/capability.h).
var capabilityNames = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// Names returns the names, in the order of the numbers; "CAP_n" for one that is newer
// than this program.
func (c Capabilities) Names() []string {
	var names []string
	for i := range 64 {
		switch {
		case c&(1<<i) == 0:
		case i < len(capabilityNames):
			names = append(names, capabilityNames[i])
		default:
			names = append(names, fmt.Sprintf("CAP_%d", i))
		}
	}
	return names
}

// Namespaces is a set of kinds of namespaces.
type Namespaces uint8

// namespaceNames are in the order of the bits, as in /proc/PID/ns.
var namespaceNames = [...]string{"uts", "ipc", "mnt", "pid", "net", "time", "cgroup", "user"}

// Names returns the names as in /proc/PID/ns.
func (n Namespaces) Names() []string {
	var names []string
	for i, name := range namespaceNames {
		if n&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Limits of what a record carries.
const (
	MaxArguments   = 8 << 10   // bytes of arguments
	MaxEnvironment = 256 << 10 // bytes of environment, in pieces
	MaxDNS         = 1500      // bytes of a DNS message
	MaxPath        = 1024      // bytes of a path
)
