// Package program finds, in ELF files of programs and libraries, the functions that
// encrypt what a process sends: OpenSSL's and GnuTLS's by their symbols, Go's by the
// table that every Go program carries, stripped or not. Files come from whoever runs a
// job: nothing in them is trusted, memory is bounded, and no file is mapped.
package program

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Library is what encrypts.
type Library int

// Libraries.
const (
	OpenSSL Library = iota + 1 // or a descendant, wherever it is linked in
	GnuTLS
	Node // OpenSSL within Node.js
	Go   // crypto/tls
)

// Function is one that takes a connection, an address and a size.
type Function struct {
	// Offset in the file, in bytes.
	Offset uint64
	// Library that it belongs to.
	Library Library
}

// symbols are the functions of C libraries, and the name that tells Node.js.
var symbols = map[string]Library{"SSL_write": OpenSSL, "SSL_write_ex": OpenSSL, "gnutls_record_send": GnuTLS}

const nodeSymbol = "napi_module_register"

// goFunction is Go's.
const goFunction = "crypto/tls.(*Conn).Write"

// ErrMalformed is wrapped by errors that say that a file is no ELF file that a kernel of
// this machine would run.
var ErrMalformed = errors.New("malformed ELF file")

// Functions returns the functions that encrypt, none for most files. Errors wrap
// ErrMalformed unless reading failed.
func Functions(file io.ReaderAt) (found []Function, err error) {
	defer func() {
		// debug/elf is not made for files that somebody hostile wrote.
		if x := recover(); x != nil {
			found, err = nil, fmt.Errorf("%w: %v", ErrMalformed, x)
		}
	}()
	f, err := elf.NewFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if f.Class != elf.ELFCLASS64 || f.ByteOrder != binary.LittleEndian {
		return nil, nil // no uprobes there
	}
	if offset, ok, err := goOffset(f); err != nil {
		return nil, err
	} else if ok {
		found = append(found, Function{offset, Go})
	}
	for _, kind := range []elf.SectionType{elf.SHT_DYNSYM, elf.SHT_SYMTAB} {
		functions, err := symbolOffsets(f, f.SectionByType(kind))
		if err != nil {
			return nil, err
		}
		if len(functions) > 0 {
			return append(found, functions...), nil
		}
	}
	return found, nil
}

// fileOffset returns where in the file the code at an address is.
func fileOffset(f *elf.File, address uint64) (uint64, bool) {
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && address >= p.Vaddr && address-p.Vaddr < p.Filesz {
			return address - p.Vaddr + p.Off, true
		}
	}
	return 0, false
}

// window reads a part of a file piece by piece.
type window struct {
	from  io.ReaderAt
	size  uint64
	at    uint64
	bytes []byte
}

const windowSize = 256 << 10

func newWindow(from io.ReaderAt, size uint64) *window { return &window{from: from, size: size} }

// get returns n bytes at an offset, valid until the next call; n is at most windowSize.
func (w *window) get(offset, n uint64) ([]byte, error) {
	if offset > w.size || n > w.size-offset {
		return nil, fmt.Errorf("%w: %d bytes at %d of %d", ErrMalformed, n, offset, w.size)
	}
	if offset < w.at || offset+n > w.at+uint64(len(w.bytes)) {
		length := min(windowSize, w.size-offset)
		if uint64(cap(w.bytes)) < length {
			w.bytes = make([]byte, windowSize)
		}
		w.bytes = w.bytes[:length]
		if _, err := w.from.ReadAt(w.bytes, int64(offset)); err != nil && !errors.Is(err, io.EOF) {
			w.bytes = w.bytes[:0]
			return nil, fmt.Errorf("read ELF file: %w", err)
		}
		w.at = offset
	}
	return w.bytes[offset-w.at:][:n], nil
}

// find returns where in [from, to) the words stand.
func (w *window) find(from, to uint64, words []byte) (uint64, bool, error) {
	to = min(to, w.size)
	for offset := from; offset < to; {
		n := min(windowSize, to-offset)
		piece, err := w.get(offset, n)
		if err != nil {
			return 0, false, err
		}
		if i := bytes.Index(piece, words); i >= 0 {
			return offset + uint64(i), true, nil
		}
		if offset+n == to || n <= uint64(len(words)) {
			break
		}
		offset += n - uint64(len(words))
	}
	return 0, false, nil
}

// symbolOffsets finds the functions in a table of symbols.
func symbolOffsets(f *elf.File, table *elf.Section) ([]Function, error) {
	if table == nil || int(table.Link) >= len(f.Sections) {
		return nil, nil
	}
	strings := f.Sections[table.Link]
	names := newWindow(strings, strings.FileSize)
	wanted := map[uint32]Library{}
	for name, library := range symbols {
		at, ok, err := names.find(0, names.size, []byte("\x00"+name+"\x00"))
		if err != nil {
			return nil, err
		}
		if ok {
			wanted[uint32(at+1)] = library
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	_, node, err := names.find(0, names.size, []byte("\x00"+nodeSymbol+"\x00"))
	if err != nil {
		return nil, err
	}
	var found []Function
	entries := newWindow(table, table.FileSize)
	for at := uint64(0); at+elf.Sym64Size <= entries.size; at += elf.Sym64Size {
		e, err := entries.get(at, elf.Sym64Size)
		if err != nil {
			return nil, err
		}
		library, ok := wanted[binary.LittleEndian.Uint32(e)]
		defined := binary.LittleEndian.Uint16(e[6:]) != 0
		if !ok || !defined || elf.ST_TYPE(e[4]) != elf.STT_FUNC {
			continue
		}
		if offset, ok := fileOffset(f, binary.LittleEndian.Uint64(e[8:])); ok {
			if node && library == OpenSSL {
				library = Node
			}
			found = append(found, Function{offset, library})
		}
	}
	return found, nil
}

// Magic numbers of Go's table of functions (runtime/symtab.go): of Go 1.18 and 1.19,
// and of later versions.
const (
	goMagic118 = 0xfffffff0
	goMagic120 = 0xfffffff1
)

// goOffset finds crypto/tls's function in a Go program. The table (runtime.pclntab) is:
// a header of eight bytes; numbers of functions and files; the address of the code;
// the offsets of names, compilation units, files, tables and functions. There, for each
// function, two numbers of 32 bits: its code's offset, and where more is said of it,
// first of all, behind the code's offset again, where its name is.
func goOffset(f *elf.File) (uint64, bool, error) {
	section := f.Section(".gopclntab")
	if section == nil {
		section = f.Section(".data.rel.ro.gopclntab") // of position-independent programs
	}
	if section == nil {
		return 0, false, nil
	}
	const headerSize = 8 + 8*8
	functions := newWindow(section, section.FileSize)
	header, err := functions.get(0, headerSize)
	if err != nil {
		return 0, false, err
	}
	if magic := binary.LittleEndian.Uint32(header); (magic != goMagic118 && magic != goMagic120) || header[7] != 8 {
		return 0, false, nil
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(header[8+8*i:]) }
	count, textStart, names, namesEnd, table := word(0), word(2), word(3), word(4), word(7)
	if textStart == 0 {
		// Since Go 1.26 the linker leaves it out.
		text := f.Section(".text")
		if text == nil {
			return 0, false, nil
		}
		textStart = text.Addr
	}
	at, ok, err := functions.find(names, namesEnd, []byte("\x00"+goFunction+"\x00"))
	if err != nil || !ok {
		return 0, false, err
	}
	name := uint32(at + 1 - names)
	more := newWindow(section, section.FileSize)
	for i := range count {
		entry, err := functions.get(table+8*i, 8)
		if err != nil {
			return 0, false, err
		}
		code, said := binary.LittleEndian.Uint32(entry), binary.LittleEndian.Uint32(entry[4:])
		info, err := more.get(table+uint64(said), 8)
		if err != nil {
			return 0, false, err
		}
		if binary.LittleEndian.Uint32(info[4:]) == name {
			offset, ok := fileOffset(f, textStart+uint64(code))
			return offset, ok, nil
		}
	}
	return 0, false, nil
}
