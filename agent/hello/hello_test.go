package hello

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"flag"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the packet for other tests")

// clientHello returns what Go's own TLS client says first.
func clientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = tls.Client(client, config).HandshakeContext(ctx) // nobody answers
		client.Close()
	}()
	b := make([]byte, 8192)
	n, err := server.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestParseTLS(t *testing.T) {
	data := clientHello(t, &tls.Config{ServerName: "Registry.Example.Test", NextProtos: []string{"h2", "http/1.1"}})
	want := Hello{ServerName: "registry.example.test", Protocols: []string{"h2", "http/1.1"}}
	same := func(h Hello) bool {
		return h.ServerName == want.ServerName && slices.Equal(h.Protocols, want.Protocols) && h.Encrypted == want.Encrypted
	}
	h, err := ParseTLS(data)
	if err != nil || !same(h) {
		t.Errorf("%+v, %v", h, err)
	}
	// Cut anywhere, it is short, and then complete.
	for n := range data {
		if _, err := ParseTLS(data[:n]); !errors.Is(err, ErrShort) {
			t.Fatalf("%d of %d bytes: %v", n, len(data), err)
		}
	}
	// One message in records of seven bytes each.
	var records []byte
	for part := range slices.Chunk(data[5:], 7) {
		records = append(records, 22, 3, 1, 0, byte(len(part)))
		records = append(records, part...)
	}
	if h, err := ParseTLS(records); err != nil || !same(h) {
		t.Errorf("in records: %+v, %v", h, err)
	}
	for _, other := range []string{"GET / HTTP/1.1\r\n", "\x16\x03\x01\x00\x04\x02\x00\x00\x00", "SSH-2.0-x", "\x16\x02\x00"} {
		if _, err := ParseTLS([]byte(other)); !errors.Is(err, ErrNotHello) || errors.Is(err, ErrShort) {
			t.Errorf("%q: %v", other, err)
		}
	}
}

func TestNoServerName(t *testing.T) {
	h, err := ParseTLS(clientHello(t, &tls.Config{InsecureSkipVerify: true})) //nolint:gosec // nobody is spoken to
	if err != nil || h.ServerName != "" {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestQUIC reads Initial packets of both versions with what Go's QUIC client says.
func TestQUIC(t *testing.T) {
	for _, name := range []string{"1", "2"} {
		packet := initialPacket(t, name, "quic.example.test")
		var q QUIC
		h, err := q.Add(packet)
		if err != nil || h.ServerName != "quic.example.test" || !slices.Equal(h.Protocols, []string{"h3"}) {
			t.Errorf("version %s: %+v, %v", name, h, err)
		}
	}
	var q QUIC
	if _, err := q.Add(bytes.Repeat([]byte{0xc3}, 1200)); !errors.Is(err, ErrNotQUIC) {
		t.Errorf("noise: %v", err)
	}
}

func TestKeysOfRFC9001(t *testing.T) {
	// RFC 9001, appendix A.1.
	connection, _ := hex.DecodeString("8394c8f03e515708")
	var q QUIC
	k, err := q.key(version1, connection)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(k.iv); got != "fa044b2f42a3fd3b46fb255c" {
		t.Errorf("iv %s", got)
	}
	// The sample and mask of appendix A.2.
	sample, _ := hex.DecodeString("d1b1c98dd7689fb8ec11d242b123dc9b")
	var mask [16]byte
	k.protect.Encrypt(mask[:], sample)
	if got := hex.EncodeToString(mask[:5]); got != "437b9aec36" {
		t.Errorf("mask %s", got)
	}
}

// initialPacket makes an Initial packet as a client does, in two CRYPTO frames in the
// wrong order.
func initialPacket(t testing.TB, version, name string) []byte {
	t.Helper()
	message := quicHello(t, name)
	var frames []byte
	half := len(message) / 2
	frame := func(offset int, data []byte) {
		frames = append(frames, 6, byte(0x40|offset>>8), byte(offset), byte(0x40|len(data)>>8), byte(len(data)))
		frames = append(frames, data...)
	}
	frames = append(frames, 1, 0)
	frame(half, message[half:])
	frame(0, message[:half])
	frames = append(frames, make([]byte, max(0, 1162-len(frames)))...)

	number := map[string]uint32{"1": version1, "2": version2}[version]
	connection := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	var q QUIC
	k, err := q.key(number, connection)
	if err != nil {
		t.Fatal(err)
	}
	length := 2 + len(frames) + 16
	header := []byte{0xc1 | versions[number].initial, byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number), 8}
	header = append(append(header, connection...), 0, 0, byte(0x40|length>>8), byte(length), 0, 2)
	nonce := append([]byte{}, k.iv...)
	nonce[11] ^= 2
	packet := append([]byte{}, header...)
	packet = k.open.Seal(packet, nonce, frames, header)
	var mask [16]byte
	at := len(header) - 2
	k.protect.Encrypt(mask[:], packet[at+4:at+20])
	packet[0] ^= mask[0] & 0x0f
	packet[at] ^= mask[1]
	packet[at+1] ^= mask[2]
	return packet
}

// quicHello is the message that Go's QUIC client says first.
func quicHello(t testing.TB, name string) []byte {
	t.Helper()
	c := tls.QUICClient(&tls.QUICConfig{TLSConfig: &tls.Config{ServerName: name, NextProtos: []string{"h3"}, MinVersion: tls.VersionTLS13}})
	c.SetTransportParameters([]byte{})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for {
		e := c.NextEvent()
		if e.Kind == tls.QUICWriteData {
			return slices.Clone(e.Data)
		}
		if e.Kind == tls.QUICNoEvent {
			t.Fatal("no hello")
		}
	}
}

func FuzzParseTLS(f *testing.F) {
	f.Add(clientHello(f, &tls.Config{ServerName: "a.example.test"}))
	f.Add([]byte("\x16\x03\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ParseTLS(data)
		if err != nil && !errors.Is(err, ErrNotHello) {
			t.Error(err)
		}
		if strings.ToLower(h.ServerName) != h.ServerName {
			t.Errorf("%q", h.ServerName)
		}
	})
}

func FuzzQUIC(f *testing.F) {
	f.Add(initialPacket(f, "1", "a.example.test"), initialPacket(f, "2", "b.example.test"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var q QUIC
		for _, datagram := range [][]byte{a, b, a} {
			if _, err := q.Add(datagram); err != nil && !errors.Is(err, ErrNotHello) {
				t.Error(err)
			}
		}
		q.frames(a)
		q.frames(b)
	})
}

// TestPacketForOthers keeps the packet that the agent's tests send.
func TestPacketForOthers(t *testing.T) {
	const file = "../testdata/quic-initial.bin"
	if *update {
		if err := os.WriteFile(file, initialPacket(t, "1", "quic.example.test"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	packet, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var q QUIC
	if h, err := q.Add(packet); err != nil || h.ServerName != "quic.example.test" {
		t.Errorf("%+v, %v", h, err)
	}
}
