package bpf

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"reflect"
	"testing"
)

// sample is a record of a kind: a head and n zero bytes.
func sample(kind uint32, n int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, kind)
	b = append(b, make([]byte, 28+n)...)
	return b
}

func TestDecodeMalformed(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, sample(0, 100), sample(99, 100), sample(kindFork, 0), sample(kindExec, 40),
		sample(kindExit, 0), sample(kindFlow, 20), sample(kindDNS, 3), sample(kindAccess, 8), sample(kindEnvironment, 7)} {
		if r, err := decode(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%x: %v, %v", b, r, err)
		}
	}
	// A length that points behind the end.
	b := sample(kindDNS, 32)
	b[32+16+8] = 1
	if r, err := decode(b); !errors.Is(err, ErrMalformed) {
		t.Errorf("%v, %v", r, err)
	}
}

func TestDecodeFlow(t *testing.T) {
	b := sample(kindFlow, 80)
	address := netip.MustParseAddr("::ffff:192.0.2.1").As16()
	copy(b[32+32+16:], address[:])
	binary.LittleEndian.PutUint16(b[32+32+34:], 443)
	r, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if f := r.(*Flow); f.Destination != netip.MustParseAddrPort("192.0.2.1:443") {
		t.Errorf("%+v", f)
	}
}

// TestLayout holds the decoder against the sizes that record.h asserts.
func TestLayout(t *testing.T) {
	for kind, size := range map[uint32]int{
		kindFork:        64,
		kindExec:        184,
		kindEnvironment: 40,
		kindExit:        40,
		kindFlow:        112,
		kindDNS:         64,
		kindAccess:      48,
		kindPrivilege:   112,
		kindCgroup:      48,
		kindPlaintext:   64,
	} {
		if _, err := decode(sample(kind, size-32)); err != nil {
			t.Errorf("%s of %d bytes: %v", kindNames[int(kind)], size, err)
		}
		if _, err := decode(sample(kind, size-33)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s of %d bytes: %v", kindNames[int(kind)], size-1, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for kind := uint32(0); kind <= 13; kind++ {
		f.Add(sample(kind, 0))
		f.Add(sample(kind, 112))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || r != nil {
				t.Errorf("%v, %v", r, err)
			}
			return
		}
		again, err := decode(b)
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%+v, then %+v (%v)", r, again, err)
		}
	})
}
