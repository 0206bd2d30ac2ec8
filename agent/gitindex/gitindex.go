// Package gitindex reads which files git has checked out (gitformat-index(5)).
package gitindex

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Entry is one file of an index.
type Entry struct {
	// Path from the top of the work tree.
	Path string
	// Changed and Modified are the file's times of change and modification in
	// nanoseconds since 1970, modulo 2^32 seconds, when git last looked at it.
	Changed, Modified uint64
	// Inode and Size are the lower 32 bits of the file's.
	Inode, Size uint32
}

// ErrMalformed is wrapped by all errors of Parse.
var ErrMalformed = errors.New("malformed git index")

const (
	headerSize   = 12
	statSize     = 40
	flagsSize    = 2
	extendedFlag = 0x4000
	nameMask     = 0xfff
	regularFile  = 0o100000
	typeMask     = 0o170000
	maxPath      = 4096 // Linux opens none longer
)

// Parse returns the regular files of an index of version 2, 3 or 4 whose objects are
// named by hashSize bytes (20 for SHA-1, 32 for SHA-256). At most limit of them: the
// second value says whether there are more.
func Parse(data []byte, hashSize, limit int) (entries []Entry, more bool, err error) {
	if len(data) < headerSize || string(data[:4]) != "DIRC" {
		return nil, false, fmt.Errorf("%w: no DIRC at the beginning", ErrMalformed)
	}
	version, count := binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])
	if version < 2 || version > 4 {
		return nil, false, fmt.Errorf("%w: version %d", ErrMalformed, version)
	}
	rest, previous := data[headerSize:], ""
	for i := range count {
		fixed := statSize + hashSize + flagsSize
		if len(rest) < fixed {
			return nil, false, fmt.Errorf("%w: it ends in entry %d of %d", ErrMalformed, i, count)
		}
		stat, flags := rest[:statSize], binary.BigEndian.Uint16(rest[statSize+hashSize:])
		if flags&extendedFlag != 0 {
			fixed += 2
		}
		if len(rest) < fixed {
			return nil, false, fmt.Errorf("%w: it ends in entry %d of %d", ErrMalformed, i, count)
		}
		path, size, err := name(rest[fixed:], fixed, version, int(flags&nameMask), previous)
		if err != nil {
			return nil, false, fmt.Errorf("%w: entry %d of %d: %w", ErrMalformed, i, count, err)
		}
		rest, previous = rest[fixed+size:], path
		if binary.BigEndian.Uint32(stat[24:])&typeMask != regularFile {
			continue // a link, or another repository
		}
		if len(entries) >= limit {
			return entries, true, nil
		}
		entries = append(entries, Entry{
			Path: path, Changed: nanoseconds(stat), Modified: nanoseconds(stat[8:]),
			Inode: binary.BigEndian.Uint32(stat[20:]), Size: binary.BigEndian.Uint32(stat[36:]),
		})
	}
	return entries, false, nil
}

func nanoseconds(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint32(b))*1e9 + uint64(binary.BigEndian.Uint32(b[4:]))
}

// name reads an entry's path and says how many bytes it and its padding take.
func name(b []byte, fixed int, version uint32, length int, previous string) (string, int, error) {
	if version == 4 {
		drop, n := uint64(0), 0
		for {
			if n >= len(b) || n > 8 {
				return "", 0, errors.New("bad prefix")
			}
			c := b[n]
			n++
			drop |= uint64(c & 0x7f)
			if c&0x80 == 0 {
				break
			}
			drop = (drop + 1) << 7
		}
		end := bytes.IndexByte(b[n:], 0)
		if end < 0 || drop > uint64(len(previous)) || len(previous)-int(drop)+end > maxPath {
			return "", 0, errors.New("bad prefix")
		}
		return strings.Clone(previous[:len(previous)-int(drop)]) + string(b[n:n+end]), n + end + 1, nil
	}
	end := bytes.IndexByte(b, 0)
	if end < 0 || end > maxPath || (length < nameMask && end != length) {
		return "", 0, errors.New("its name does not end")
	}
	// One to eight zeros, so that the entry is a multiple of eight bytes.
	size := (fixed+end+8)&^7 - fixed
	if size > len(b) {
		return "", 0, errors.New("its padding does not end")
	}
	return string(b[:end]), size, nil
}
