// Package httphead reads the heads of HTTP requests from what a client writes to a
// connection, of which it is shown the beginning of each write: method, host and path
// of HTTP/1 and HTTP/2. All else (queries, headers, bodies) is forgotten as soon as it
// has been passed over, but for HTTP/2's table of headers, which has to be kept to
// understand later ones, until the Stream is dropped.
package httphead

import (
	"bytes"
	"encoding/binary"
	"net/url"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// Request is the head of a request.
type Request struct {
	// Method, at most 16 capitals.
	Method string
	// Host, lower case, without a port.
	Host string
	// Path without query and fragment, as it was sent: it may hold any bytes but spaces
	// and controls.
	Path string
	// Version is "1.0", "1.1" or "2".
	Version string
}

// Stream is what one client writes to one connection. The zero value is ready. It is
// not safe for concurrent use.
type Stream struct {
	head    []byte // of an HTTP/1 request that is not whole yet
	two     *frames
	unclear bool // of HTTP/2: nothing more can be understood
}

const (
	// maxHead bounds the head of a request that is put together, in bytes.
	maxHead = 8 << 10
	// maxBlock bounds a block of HTTP/2 headers.
	maxBlock = 64 << 10
	preface  = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// Lost says that nothing more can be learned from the connection, unless it begins
// anew.
func (s *Stream) Lost() bool { return s.unclear }

// Write takes the beginning of a write of size bytes, and returns the requests whose
// heads it completes.
func (s *Stream) Write(data []byte, size uint64) []Request {
	if uint64(len(data)) > size {
		data = data[:size]
	}
	switch {
	case bytes.HasPrefix(data, []byte(preface)):
		*s = Stream{two: newFrames()}
		return s.frames(data[len(preface):], size-uint64(len(preface)))
	case isRequestLine(data):
		*s = Stream{}
		s.head = append(s.head, data...)
	case s.two != nil:
		return s.frames(data, size)
	case len(s.head) > 0:
		s.head = append(s.head, data...)
	default:
		return nil
	}
	whole := uint64(len(data)) < size || len(s.head) >= maxHead // as much as will be shown
	if i := bytes.Index(s.head, []byte("\r\n\r\n")); i >= 0 {
		s.head, whole = s.head[:i], true
	}
	if !whole {
		return nil
	}
	r, ok := parseHead(s.head)
	clear(s.head)
	s.head = nil
	if !ok {
		return nil
	}
	return []Request{r}
}

// isRequestLine says whether a head of HTTP/1 begins here.
func isRequestLine(data []byte) bool {
	line, _, ok := bytes.Cut(data, []byte("\r\n"))
	if !ok {
		// A long path may be all that is shown.
		method, target, ok := bytes.Cut(data, []byte(" "))
		return ok && isMethod(method) && len(target) > 0 && target[0] == '/' && !bytes.ContainsAny(target, " \r\n\x00")
	}
	method, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || !isMethod(method) {
		return false
	}
	i := bytes.LastIndexByte(rest, ' ')
	return i > 0 && bytes.HasPrefix(rest[i+1:], []byte("HTTP/1."))
}

func isMethod(m []byte) bool {
	if len(m) == 0 || len(m) > 16 {
		return false
	}
	for _, c := range m {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

func parseHead(head []byte) (Request, bool) {
	line, rest, _ := strings.Cut(string(head), "\r\n")
	fields := strings.Split(line, " ")
	if len(fields) < 2 {
		return Request{}, false
	}
	r := Request{Method: fields[0], Version: "1.1"}
	if len(fields) == 3 {
		r.Version = strings.TrimPrefix(fields[2], "HTTP/")
	}
	target := fields[1]
	if !strings.HasPrefix(target, "/") && target != "*" {
		u, err := url.Parse(target) // as a proxy gets it
		if err != nil || u.Host == "" {
			return Request{}, false
		}
		r.Host, target = u.Host, u.EscapedPath()
	}
	for h := range strings.SplitSeq(rest, "\r\n") {
		name, value, ok := strings.Cut(h, ":")
		if ok && strings.EqualFold(name, "host") && r.Host == "" {
			r.Host = strings.TrimSpace(value)
		}
	}
	return r.finish(target)
}

// finish fills in the rest, and says whether it is a request that can be told of.
func (r Request) finish(target string) (Request, bool) {
	if i := strings.IndexAny(target, "?#"); i >= 0 {
		target = target[:i]
	}
	r.Path = target
	r.Host = strings.ToLower(withoutPort(r.Host))
	if r.Host == "" || len(r.Host) > 255 || !isMethod([]byte(r.Method)) || (r.Version != "1.0" && r.Version != "1.1" && r.Version != "2") {
		return Request{}, false
	}
	for _, c := range []byte(r.Host) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune(".-_:[]", rune(c)) {
			return Request{}, false
		}
	}
	for _, c := range []byte(r.Path) {
		if c <= ' ' || c == 0x7f {
			return Request{}, false
		}
	}
	return r, true
}

func withoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.Contains(host[i:], "]") && strings.IndexByte(host, ':') == i {
		return host[:i]
	}
	if rest, ok := strings.CutPrefix(host, "["); ok { // [2001:db8::1]:443
		address, _, _ := strings.Cut(rest, "]")
		return address
	}
	return host
}

// frames reads HTTP/2 (RFC 9113).
type frames struct {
	decoder *hpack.Decoder
	header  []byte // of the frame in hand, until it is whole
	skip    uint64 // bytes of the frame in hand that do not matter
	want    int    // bytes of the frame in hand that belong to block
	ends    bool   // the frame in hand ends the block
	block   []byte
	trim    func([]byte) ([]byte, bool) // takes padding and priority off
	fields  map[string]string
}

// Types and flags of frames (RFC 9113, section 6).
const (
	frameHeader       = 9
	typeHeaders       = 1
	typeContinuation  = 9
	flagEndHeaders    = 4
	flagPadded        = 8
	flagPriority      = 32
	initialTable      = 4096
	maxTable          = 64 << 10
	maxFieldName      = 256
	maxHeaderListSize = 16 << 10
)

func newFrames() *frames {
	f := &frames{}
	f.decoder = hpack.NewDecoder(initialTable, func(h hpack.HeaderField) {
		switch h.Name {
		case ":method", ":path", ":authority", "host":
			if _, twice := f.fields[h.Name]; !twice && len(h.Value) <= maxHead {
				f.fields[h.Name] = h.Value
			}
		}
	})
	f.decoder.SetAllowedMaxDynamicTableSize(maxTable)
	f.decoder.SetMaxStringLength(maxHeaderListSize)
	return f
}

// frames reads on; it gives up where a frame of headers was not shown.
func (s *Stream) frames(data []byte, size uint64) (requests []Request) {
	f, unseen := s.two, size-uint64(len(data))
	for !s.unclear && len(data) > 0 {
		switch {
		case f.skip > 0:
			n := min(f.skip, uint64(len(data)))
			data = data[n:]
			f.skip -= n
		case f.want > 0:
			n := min(f.want, len(data))
			f.block = append(f.block, data[:n]...)
			data = data[n:]
			if f.want -= n; f.want == 0 {
				r, told, ok := f.endFrame()
				s.unclear = !ok
				if told {
					requests = append(requests, r)
				}
			}
		default:
			n := min(frameHeader-len(f.header), len(data))
			f.header = append(f.header, data[:n]...)
			data = data[n:]
			if len(f.header) == frameHeader && !f.beginFrame() {
				s.unclear = true
			}
		}
	}
	// What was not shown must not matter.
	if unseen > f.skip {
		s.unclear = true
	} else {
		f.skip -= unseen
	}
	if s.unclear {
		s.two = nil
	}
	return requests
}

func (f *frames) beginFrame() bool {
	length := int(f.header[0])<<16 | int(f.header[1])<<8 | int(f.header[2])
	kind, flags := f.header[3], f.header[4]
	f.header = f.header[:0]
	switch kind {
	case typeHeaders, typeContinuation:
		if length > maxBlock || len(f.block)+length > maxBlock || (kind == typeHeaders) != (len(f.block) == 0) {
			return false
		}
		f.ends = flags&flagEndHeaders != 0
		f.trim = nil
		if kind == typeHeaders {
			f.trim = func(b []byte) ([]byte, bool) { return trimHeaders(b, flags) }
		}
		f.want = length
		return length > 0
	default:
		f.skip = uint64(length)
		return true
	}
}

// trimHeaders takes padding and priority off the payload of a HEADERS frame.
func trimHeaders(b []byte, flags byte) ([]byte, bool) {
	padding := 0
	if flags&flagPadded != 0 {
		if len(b) < 1 {
			return nil, false
		}
		padding, b = int(b[0]), b[1:]
	}
	if flags&flagPriority != 0 {
		if len(b) < 5 {
			return nil, false
		}
		_ = binary.BigEndian.Uint32(b) // the stream that it depends on
		b = b[5:]
	}
	if padding > len(b) {
		return nil, false
	}
	return b[:len(b)-padding], true
}

// endFrame takes a frame of headers, and returns the request if it is the last one of
// its block.
func (f *frames) endFrame() (r Request, told, ok bool) {
	if f.trim != nil {
		if f.block, ok = f.trim(f.block); !ok {
			return Request{}, false, false
		}
	}
	if !f.ends {
		return Request{}, false, true
	}
	f.fields = make(map[string]string, 4)
	_, err := f.decoder.Write(f.block)
	if err == nil {
		err = f.decoder.Close()
	}
	clear(f.block)
	f.block = f.block[:0]
	if err != nil {
		return Request{}, false, false
	}
	host := f.fields[":authority"]
	if host == "" {
		host = f.fields["host"]
	}
	r, told = Request{Method: f.fields[":method"], Host: host, Version: "2"}.finish(f.fields[":path"])
	return r, told, true
}
