// Package hello reads what a client says first: the server name in TLS and QUIC.
package hello

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// Hello is what a TLS ClientHello says of where the client wants to go.
type Hello struct {
	// ServerName as the client gave it, lower case, without a trailing dot; empty if it
	// gave none.
	ServerName string
	// Protocols that the client offers (ALPN), for instance "h2".
	Protocols []string
	// Encrypted says that the true ClientHello is encrypted (ECH) and this is the outer
	// one. Clients also send such an extension with nothing in it, so that those
	// which use it do not stand out: then it is true as well.
	Encrypted bool
}

// ErrNotHello is wrapped by all errors: the bytes are no ClientHello.
var ErrNotHello = errors.New("not a TLS ClientHello")

// ErrShort says that more bytes are needed.
var ErrShort = fmt.Errorf("%w yet: it goes on", ErrNotHello)

// Record and message types, extensions (RFC 8446, RFC 9849).
const (
	recordHandshake     = 22
	messageClientHello  = 1
	extensionServerName = 0
	extensionProtocols  = 16
	extensionEncrypted  = 0xfe0d
	nameHost            = 0
)

// maxMessage bounds a ClientHello, in bytes; TLS itself allows 16 MiB.
const maxMessage = 64 << 10

// ParseTLS reads a ClientHello from the first bytes of a TLS connection, which may lie
// in several records. ErrShort says that it goes on behind data; what was read until
// there is returned with it.
func ParseTLS(data []byte) (Hello, error) {
	var message []byte
	for s := cryptobyte.String(data); ; {
		var kind uint8
		var version uint16
		var fragment cryptobyte.String
		if s.Empty() {
			return parseMessage(message)
		}
		if !s.ReadUint8(&kind) || kind != recordHandshake {
			return Hello{}, ErrNotHello
		}
		whole := true
		if rest := s; s.ReadUint16(&version) && version>>8 == 3 {
			if !s.ReadUint16LengthPrefixed(&fragment) {
				// The record goes on behind the data.
				whole = false
				if !rest.Skip(4) {
					return Hello{}, ErrShort
				}
				fragment = rest
			}
		} else if len(rest) >= 2 {
			return Hello{}, ErrNotHello
		} else {
			return Hello{}, ErrShort
		}
		message = append(message, fragment...)
		if h, err := parseMessage(message); !whole || !errors.Is(err, ErrShort) {
			return h, err
		}
	}
}

// parseMessage reads a ClientHello message.
func parseMessage(message []byte) (h Hello, err error) {
	s := cryptobyte.String(message)
	var kind uint8
	var length uint32
	if !s.ReadUint8(&kind) {
		return h, ErrShort
	}
	if kind != messageClientHello {
		return h, ErrNotHello
	}
	if !s.ReadUint24(&length) {
		return h, ErrShort
	}
	if length > maxMessage {
		return h, ErrNotHello
	}
	short := len(s) < int(length)
	if !short {
		s = s[:length]
	}
	// What is wrong in a message that is all there is wrong; else it may go on.
	wrong := ErrNotHello
	if short {
		wrong = ErrShort
	}
	var session, suites, compressions cryptobyte.String
	if !s.Skip(2+32) || !s.ReadUint8LengthPrefixed(&session) || !s.ReadUint16LengthPrefixed(&suites) || !s.ReadUint8LengthPrefixed(&compressions) {
		return h, wrong
	}
	if s.Empty() && !short {
		return h, nil // a client without extensions
	}
	var all uint16
	if !s.ReadUint16(&all) {
		return h, wrong
	}
	for !s.Empty() {
		var extension uint16
		var body cryptobyte.String
		if !s.ReadUint16(&extension) || !s.ReadUint16LengthPrefixed(&body) {
			return h, wrong
		}
		if err := h.extension(extension, body); err != nil {
			return Hello{}, err
		}
	}
	if short {
		return h, ErrShort
	}
	return h, nil
}

func (h *Hello) extension(kind uint16, body cryptobyte.String) error {
	switch kind {
	case extensionServerName:
		var list, name cryptobyte.String
		var of uint8
		if !body.ReadUint16LengthPrefixed(&list) {
			return ErrNotHello
		}
		for !list.Empty() {
			if !list.ReadUint8(&of) || !list.ReadUint16LengthPrefixed(&name) {
				return ErrNotHello
			}
			if of == nameHost && h.ServerName == "" {
				h.ServerName = strings.ToLower(strings.TrimSuffix(string(name), "."))
			}
		}
	case extensionProtocols:
		var list, name cryptobyte.String
		if !body.ReadUint16LengthPrefixed(&list) {
			return ErrNotHello
		}
		for !list.Empty() {
			if !list.ReadUint8LengthPrefixed(&name) {
				return ErrNotHello
			}
			h.Protocols = append(h.Protocols, string(slices.Clone(name)))
		}
	case extensionEncrypted:
		h.Encrypted = true
	}
	return nil
}
