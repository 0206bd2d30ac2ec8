package agent

import (
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"slices"

	"github.com/sallyport-ci/sallyport/agent/hello"
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

const (
	// maxStreams bounds the flows whose payload is being gathered.
	maxStreams = 4096
	// maxStream bounds what is gathered of one direction of a flow, in bytes: the
	// longest DNS message behind its length.
	maxStream = 2 + math.MaxUint16
	// maxPending bounds the pieces that wait for one before them.
	maxPending = 64
)

// inOrder puts the pieces of one direction of a TCP flow into order.
type inOrder struct {
	begun   bool
	next    uint32 // sequence of the byte behind data
	data    []byte
	pending []piece
}

type piece struct {
	sequence uint32
	data     []byte
}

// add takes a piece and returns what is there without gaps; the caller takes from it
// with drop. The first piece is held to be the beginning.
func (o *inOrder) add(sequence uint32, data []byte) []byte {
	if !o.begun {
		o.begun, o.next = true, sequence
	}
	o.pending = append(o.pending, piece{sequence, data})
	for grown := true; grown; {
		grown = false
		for i, p := range o.pending {
			behind := int32(o.next - p.sequence) // bytes of it that are known
			if behind < 0 {
				continue
			}
			if int(behind) < len(p.data) && len(o.data) < maxStream {
				o.data = append(o.data, p.data[behind:]...)
				o.next = p.sequence + uint32(len(p.data))
			}
			o.pending = slices.Delete(o.pending, i, i+1)
			grown = true
			break
		}
	}
	if len(o.pending) > maxPending {
		o.pending = nil
	}
	// What waits points into memory of the reader.
	for i := range o.pending {
		o.pending[i].data = slices.Clone(o.pending[i].data)
	}
	return o.data
}

func (o *inOrder) drop(n int) { o.data = append(o.data[:0], o.data[n:]...) }

// gathered is the payload of a flow as far as it is needed.
type gathered struct {
	sent, received inOrder
	quic           hello.QUIC
	done           bool
}

func (a *Agent) payload(r *bpf.Payload) {
	f := a.flows[r.Flow]
	if f == nil {
		return // it has ended, or began before the agent
	}
	if f.payload == nil {
		if a.gathering >= maxStreams {
			return
		}
		a.gathering++
		f.payload = &gathered{}
	}
	g := f.payload
	switch r.Use {
	case bpf.PayloadTLS:
		if g.done {
			return
		}
		h, err := hello.ParseTLS(g.sent.add(r.Sequence, r.Data))
		a.identify(r, f, h, err, sallyportv1.Application_APPLICATION_TLS)
	case bpf.PayloadQUIC:
		if g.done {
			return
		}
		h, err := g.quic.Add(r.Data)
		a.identify(r, f, h, err, sallyportv1.Application_APPLICATION_QUIC)
	case bpf.PayloadDNS:
		direction := &g.sent
		if r.Received {
			direction = &g.received
		}
		// RFC 1035, 4.2.2: each message behind its length.
		data := direction.add(r.Sequence, r.Data)
		rest := data
		for len(rest) >= 2 {
			size := int(binary.BigEndian.Uint16(rest))
			if len(rest) < 2+size {
				break
			}
			a.dns(&bpf.DNS{
				Header: r.Header, Response: r.Received, Server: f.destination, Port: f.source.Port(),
				Payload: rest[2 : 2+size], Size: uint32(size),
			})
			rest = rest[2+size:]
		}
		// At once: dropping each of many small messages would move what is behind them.
		direction.drop(len(data) - len(rest))
	}
}

// identify tells what the first bytes of a flow are, once they are all there.
func (a *Agent) identify(r *bpf.Payload, f *flow, h hello.Hello, err error, as sallyportv1.Application) {
	if errors.Is(err, hello.ErrShort) && len(f.payload.sent.data) < maxStream {
		if h.ServerName == "" {
			return // more will come
		}
		err = nil // the name is what matters, and the rest may never come
	}
	f.payload.done, f.payload.sent = true, inOrder{}
	if err != nil {
		return
	}
	a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(r.Time),
		Body: &sallyportv1.Event_Flow{Flow: &sallyportv1.Flow{
			Id: r.Flow, Direction: sallyportv1.Direction_DIRECTION_OUTBOUND, Phase: sallyportv1.FlowPhase_FLOW_PHASE_IDENTIFIED, Protocol: f.protocol,
			SourceAddress: f.source.Addr().AsSlice(), SourcePort: uint32(f.source.Port()),
			DestinationAddress: f.destination.Addr().AsSlice(), DestinationPort: uint32(f.destination.Port()),
			Domain: f.domain, DomainSource: f.domainSource, StartTimeUnixNano: a.wall(f.started),
			ServerName: a.redactor.domain(text(h.ServerName), f.process.secrets()), EncryptedHello: h.Encrypted, Application: application(as, h, f.destination.Port()),
		}},
	}, f.process, f.process.attributed(), "flow")
}

//go:embed resolvers.json
var resolverList []byte

// resolvers are server names of public resolvers that speak DNS over HTTPS.
var resolvers = func() map[string]bool {
	var names []string
	if err := json.Unmarshal(resolverList, &names); err != nil {
		panic(err) // a test reads them
	}
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}()

func application(as sallyportv1.Application, h hello.Hello, port uint16) sallyportv1.Application {
	quic := as == sallyportv1.Application_APPLICATION_QUIC
	switch {
	case port == 853 && quic:
		return sallyportv1.Application_APPLICATION_DNS_OVER_QUIC
	case port == 853:
		return sallyportv1.Application_APPLICATION_DNS_OVER_TLS
	case resolvers[h.ServerName]:
		return sallyportv1.Application_APPLICATION_DNS_OVER_HTTPS
	}
	return as
}
