package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by the errors of records that are not as record.h lays
// them out: the object and this package do not belong together.
var ErrMalformed = errors.New("malformed kernel record")

// Kinds of records, as in record.h.
const (
	kindFork        = 1
	kindExec        = 2
	kindEnvironment = 3
	kindExit        = 4
	kindFlow        = 5
	kindDNS         = 6
	kindAccess      = 7
	kindFile        = 8
	kindPayload     = 9
	kindPrivilege   = 10
	kindCgroup      = 11
	kindPlaintext   = 12
)

var kindNames = map[int]string{
	kindFork:        "fork",
	kindExec:        "exec",
	kindEnvironment: "environment",
	kindExit:        "exit",
	kindFlow:        "flow",
	kindDNS:         "dns",
	kindAccess:      "access",
	kindFile:        "file",
	kindPayload:     "payload",
	kindPrivilege:   "privilege",
	kindCgroup:      "cgroup",
	kindPlaintext:   "plaintext",
}

// cursor reads fields one after another; what lies behind the end reads as zero and
// marks the record as short.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) bytes(n int) []byte {
	if n > len(c.b) {
		c.short = true
		c.b = nil
		return make([]byte, n)
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) u8() uint8   { return c.bytes(1)[0] }
func (c *cursor) u16() uint16 { return binary.LittleEndian.Uint16(c.bytes(2)) }
func (c *cursor) u32() uint32 { return binary.LittleEndian.Uint32(c.bytes(4)) }
func (c *cursor) u64() uint64 { return binary.LittleEndian.Uint64(c.bytes(8)) }

// comm is a task name: 16 bytes, ended by a zero byte.
func (c *cursor) comm() string {
	name, _, _ := bytes.Cut(c.bytes(16), []byte{0})
	return string(name)
}

func (c *cursor) header() (kind uint32, h Header) {
	kind = c.u32()
	c.u32()
	h = Header{Time: c.u64(), Process: c.u64(), PID: c.u32(), UID: c.u32()}
	return kind, h
}

func (c *cursor) descriptor() Descriptor {
	d := Descriptor{Inode: c.u64(), Mode: c.u32()}
	c.u32()
	return d
}

// decode decodes one record. Byte slices of the result point into b. Errors wrap
// ErrMalformed.
func decode(b []byte) (Record, error) {
	c := &cursor{b: b}
	kind, h := c.header()
	var r Record
	switch kind {
	case kindFork:
		f := &Fork{Header: h, Parent: c.u64(), ParentPID: c.u32()}
		c.u32()
		f.Comm = c.comm()
		r = f
	case kindExec:
		r = decodeExec(c, h)
	case kindEnvironment:
		r = &Environment{Header: h, Offset: c.u32(), Size: c.u32(), Data: c.b}
	case kindExit:
		r = decodeExit(c, h)
	case kindFlow:
		r = decodeFlow(c, h)
	case kindDNS:
		r = decodeDNS(c, h)
	case kindAccess:
		r = &Access{Header: h, Target: c.u64(), TargetPID: c.u32(), Kind: AccessKind(c.u8()), TargetWorker: c.u8() != 0}
		c.bytes(2)
	case kindFile:
		r = decodeFile(c, h)
	case kindPayload:
		p := &Payload{Header: h, Flow: c.u64(), Sequence: c.u32()}
		length := c.u16()
		p.Use, p.Received = PayloadUse(c.u8()), c.u8() != 0
		p.Data = c.bytes(int(length))
		r = p
	case kindPrivilege:
		r = decodePrivilege(c, h)
	case kindCgroup:
		g := &Cgroup{Header: h, ID: c.u64()}
		length := c.u32()
		g.Removed = c.u32() != 0
		g.Path = string(c.bytes(int(length)))
		r = g
	case kindPlaintext:
		p := &Plaintext{Header: h, Connection: c.u64(), Library: c.u64(), Size: c.u64()}
		length := c.u32()
		p.Begins = c.u32() != 0
		p.Data = c.bytes(int(length))
		r = p
	default:
		return nil, fmt.Errorf("%w: kind %d, %d bytes", ErrMalformed, kind, len(b))
	}
	if c.short {
		return nil, fmt.Errorf("%w: %s of %d bytes is too short", ErrMalformed, kindNames[int(kind)], len(b))
	}
	return r, nil
}

// Flags of exec and exit records, as in record.h.
const (
	execWorker    = 1
	execStep      = 2
	execDeleted   = 4
	execInMemory  = 8
	execScript    = 16
	execContainer = 32
	exitWorker    = 1
)

func decodeExec(c *cursor, h Header) *Exec {
	e := &Exec{Header: h, Previous: c.u64(), Parent: c.u64(), Started: c.u64(), ParentPID: c.u32(), GID: c.u32()}
	flags := c.u32()
	e.Worker = flags&execWorker != 0
	e.Step = flags&execStep != 0
	e.Deleted = flags&execDeleted != 0
	e.InMemory = flags&execInMemory != 0
	e.Script = flags&execScript != 0
	e.Container = flags&execContainer != 0
	e.ArgumentsSize = c.u32()
	filename, executable, directory, arguments := c.u16(), c.u16(), c.u16(), c.u16()
	e.Stdin, e.Stdout, e.ArgumentPipe = c.descriptor(), c.descriptor(), c.descriptor()
	if e.ArgumentPipe.Mode&modeType != modePipe {
		e.ArgumentPipe = Descriptor{}
	}
	e.Inode, e.Changed, e.Device, e.EUID = c.u64(), c.u64(), c.u32(), c.u32()
	e.Capabilities, e.Cgroup = Capabilities(c.u64()), c.u64()
	e.Comm = c.comm()
	e.Filename = string(c.bytes(int(filename)))
	e.Executable = string(c.bytes(int(executable)))
	e.WorkingDirectory = string(c.bytes(int(directory)))
	e.Arguments = c.bytes(int(arguments))
	return e
}

func decodeExit(c *cursor, h Header) *Exit {
	e := &Exit{Header: h, Code: c.u8(), Signal: c.u8()}
	e.Worker = c.u8()&exitWorker != 0
	c.bytes(5)
	return e
}

func decodePrivilege(c *cursor, h Header) *Privilege {
	p := &Privilege{Header: h, Gained: Capabilities(c.u64()), EUIDBefore: c.u32(), EUID: c.u32()}
	number := c.u32()
	p.Kind = PrivilegeKind(c.u8())
	c.bytes(3)
	name, _, _ := bytes.Cut(c.bytes(56), []byte{0})
	p.Name = string(name)
	switch p.Kind {
	case PrivilegeNamespaces:
		p.Namespaces = Namespaces(number)
	case PrivilegeSignal:
		p.Signal = uint8(number)
	default: // the number says nothing
	}
	return p
}

func decodeFile(c *cursor, h Header) *File {
	f := &File{Header: h, Inode: c.u64(), Device: c.u32(), Watched: Watched(c.u32())}
	length := c.u16()
	f.Access = FileAccess(c.u8())
	c.bytes(5)
	f.Path = string(c.bytes(int(length)))
	return f
}

// File types in i_mode (include/uapi/linux/stat.h).
const (
	modeType = 0o170000
	modePipe = 0o010000
)
