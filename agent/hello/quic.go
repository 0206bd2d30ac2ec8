package hello

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// QUIC reads a ClientHello from the Initial packets of one QUIC client. Their keys are
// made of what the packets say openly (RFC 9001, 5.2).
type QUIC struct {
	message []byte          // as far as it is complete
	parts   map[int][]byte  // beyond, by offset
	keys    map[string]*key // by version and destination connection
}

type key struct {
	protect cipher.Block
	open    cipher.AEAD
	iv      []byte
}

// ErrNotQUIC says that a datagram is no Initial packet of a version that is known.
var ErrNotQUIC = fmt.Errorf("%w: no QUIC Initial packet", ErrNotHello)

// Versions (RFC 9000, RFC 9369).
const (
	version1 = 1
	version2 = 0x6b3343cf
)

// Salts and labels by version: the only things that differ (RFC 9369, 3.3).
var versions = map[uint32]struct {
	salt    []byte
	prefix  string
	initial byte // type of an Initial packet in the first byte's bits 4 and 5
}{
	version1: {[]byte{0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a}, "quic ", 0x00},
	version2: {[]byte{0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9}, "quicv2 ", 0x10},
}

const (
	sampleSize    = 16
	maxPacketNum  = 4
	maxConnection = 20
	maxParts      = 32
)

// Add takes a datagram of the client. It returns the ClientHello when it is complete,
// ErrShort while it goes on, and ErrNotQUIC for what is none of it.
func (q *QUIC) Add(datagram []byte) (Hello, error) {
	found := false
	for len(datagram) > 0 {
		rest, err := q.packet(datagram)
		if err != nil {
			break // padding, or a packet of another kind: only Initial packets come first
		}
		found, datagram = true, rest
	}
	if !found {
		return Hello{}, ErrNotQUIC
	}
	return parseMessage(q.message)
}

// packet reads one Initial packet and returns what lies behind it.
func (q *QUIC) packet(b []byte) (rest []byte, err error) {
	s := cryptobyte.String(b)
	var first uint8
	var version uint32
	var destination, source cryptobyte.String
	if !s.ReadUint8(&first) || !s.ReadUint32(&version) || !s.ReadUint8LengthPrefixed(&destination) || !s.ReadUint8LengthPrefixed(&source) {
		return nil, ErrNotQUIC
	}
	v, ok := versions[version]
	if !ok || first&0xf0 != 0xc0|v.initial || len(destination) > maxConnection {
		return nil, ErrNotQUIC
	}
	token, ok := readVarint(&s)
	if !ok || token > uint64(len(s)) || !s.Skip(int(token)) {
		return nil, ErrNotQUIC
	}
	length, ok := readVarint(&s)
	if !ok || length > uint64(len(s)) || length < maxPacketNum+sampleSize {
		return nil, ErrNotQUIC
	}
	header, payload := b[:len(b)-len(s)], []byte(s[:length])
	k, err := q.key(version, destination)
	if err != nil {
		return nil, err
	}

	// Header protection (RFC 9001, 5.4).
	var mask [aes.BlockSize]byte
	k.protect.Encrypt(mask[:], payload[maxPacketNum:maxPacketNum+sampleSize])
	first ^= mask[0] & 0x0f
	size := int(first&3) + 1
	opened := append(append([]byte{}, header...), payload[:size]...)
	opened[0] = first
	var number uint64
	for i := range size {
		opened[len(header)+i] ^= mask[1+i]
		number = number<<8 | uint64(opened[len(header)+i])
	}
	nonce := append([]byte{}, k.iv...)
	for i := range 8 {
		nonce[len(nonce)-1-i] ^= byte(number >> (8 * i))
	}
	frames, err := k.open.Open(nil, nonce, payload[size:], opened)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotQUIC, err)
	}
	q.frames(frames)
	return s[length:], nil
}

// frames keeps what the CRYPTO frames of a packet carry (RFC 9000, 19).
func (q *QUIC) frames(b []byte) {
	for s := cryptobyte.String(b); !s.Empty(); {
		kind, ok := readVarint(&s)
		if !ok {
			return
		}
		switch kind {
		case 0, 1: // PADDING, PING
		case 2, 3: // ACK
			var counts [4]uint64 // largest, delay, ranges, first range
			for i := range counts {
				if counts[i], ok = readVarint(&s); !ok {
					return
				}
			}
			more := counts[2] * 2
			if kind == 3 {
				more += 3
			}
			for range min(more, uint64(len(b))) {
				if _, ok = readVarint(&s); !ok {
					return
				}
			}
		case 6: // CRYPTO
			offset, ok1 := readVarint(&s)
			length, ok2 := readVarint(&s)
			var data []byte
			if !ok1 || !ok2 || length > uint64(len(s)) || !s.ReadBytes(&data, int(length)) {
				return
			}
			q.crypto(offset, data)
		default: // CONNECTION_CLOSE and what has no place here
			return
		}
	}
}

func (q *QUIC) crypto(offset uint64, data []byte) {
	if offset > maxMessage || len(q.parts) >= maxParts {
		return
	}
	if q.parts == nil {
		q.parts = make(map[int][]byte)
	}
	if len(data) > len(q.parts[int(offset)]) {
		q.parts[int(offset)] = data
	}
	for grown := true; grown; {
		grown = false
		for at, part := range q.parts {
			if at <= len(q.message) && at+len(part) > len(q.message) {
				q.message = append(q.message, part[len(q.message)-at:]...)
				grown = true
			}
		}
	}
}

func readVarint(s *cryptobyte.String) (uint64, bool) {
	if s.Empty() {
		return 0, false
	}
	var b []byte
	if !s.ReadBytes(&b, 1<<((*s)[0]>>6)) {
		return 0, false
	}
	var whole [8]byte
	copy(whole[8-len(b):], b)
	whole[8-len(b)] &= 0x3f
	return binary.BigEndian.Uint64(whole[:]), true
}

// key returns the client's keys for Initial packets (RFC 9001, 5.2; RFC 9369, 3.3).
func (q *QUIC) key(version uint32, destination []byte) (*key, error) {
	id := fmt.Sprintf("%d %x", version, destination)
	if k := q.keys[id]; k != nil {
		return k, nil
	}
	v := versions[version]
	initial, err := hkdf.Extract(sha256.New, destination, v.salt)
	if err != nil {
		return nil, err
	}
	client, err := expand(initial, "client in", sha256.Size)
	if err != nil {
		return nil, err
	}
	secret, err1 := expand(client, v.prefix+"key", 16)
	iv, err2 := expand(client, v.prefix+"iv", 12)
	protection, err3 := expand(client, v.prefix+"hp", 16)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	k := &key{iv: iv}
	if k.open, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	if k.protect, err = aes.NewCipher(protection); err != nil {
		return nil, err
	}
	if q.keys == nil {
		q.keys = make(map[string]*key)
	}
	q.keys[id] = k
	return k, nil
}

// expand is HKDF-Expand-Label (RFC 8446, 7.1).
func expand(secret []byte, label string, length int) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint16(uint16(length))
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("tls13 " + label)) })
	b.AddUint8(0)
	return hkdf.Expand(sha256.New, secret, string(b.BytesOrPanic()), length)
}
