package detector

import (
	"math/bits"
	"net/netip"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// bytesFloor is from which on bytes sent are told.
const bytesFloor = 1 << 20

// roundBytes rounds down to a power of four, and to 0 below bytesFloor: a behaviour is
// judged again each time that it has sent four times as much.
func roundBytes(n uint64) uint64 {
	if n < bytesFloor {
		return 0
	}
	return 1 << ((bits.Len64(n) - 1) &^ 1)
}

// applications are the names of what the first bytes of a flow are.
var applications = map[sallyportv1.Application]string{
	sallyportv1.Application_APPLICATION_TLS:            "tls",
	sallyportv1.Application_APPLICATION_QUIC:           "quic",
	sallyportv1.Application_APPLICATION_DNS_OVER_TLS:   "dns-over-tls",
	sallyportv1.Application_APPLICATION_DNS_OVER_HTTPS: "dns-over-https",
	sallyportv1.Application_APPLICATION_DNS_OVER_QUIC:  "dns-over-quic",
}

// egress returns the behaviour of a flow, nil for one that is none.
func egress(s *scopes, by *sallyportv1.Process, f *sallyportv1.Flow) *sallyportv1.Behaviour {
	if d := f.GetDirection(); d == sallyportv1.Direction_DIRECTION_INBOUND || d == sallyportv1.Direction_DIRECTION_LISTENING {
		return nil
	}
	address, ok := netip.AddrFromSlice(f.GetDestinationAddress())
	if !ok {
		return nil
	}
	address = address.Unmap()
	b := &sallyportv1.Behaviour{
		Kind:           kindEgress,
		Program:        program(by),
		Address:        address.String(),
		Port:           f.GetDestinationPort(),
		Domain:         domainName(f.GetDomain()),
		AddressScope:   s.of(address),
		Protocol:       f.GetProtocol().Name(),
		Application:    applications[f.GetApplication()],
		ServerName:     domainName(f.GetServerName()),
		EncryptedHello: f.GetEncryptedHello(),
	}
	b.Target = b.GetDomain()
	if b.GetTarget() == "" {
		b.Target = b.GetAddress()
	}
	return b
}

func domainName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// sender is who sent where in which step.
type sender struct {
	Step     string `json:"step"`
	Program  string `json:"program"`
	Target   string `json:"target"`
	Port     uint32 `json:"port"`
	Protocol string `json:"protocol"`
}

// maxVolumes bounds for how many senders bytes are added up.
const maxVolumes = 4096

// send adds bytes of a flow to what the behaviour's sender has sent before, and says so
// in the behaviour.
func (x *execution) send(step string, b *sallyportv1.Behaviour, n uint64) {
	k := sender{step, b.GetProgram(), b.GetTarget(), b.GetPort(), b.GetProtocol()}
	total, known := x.volumes[k]
	if n == 0 && !known {
		return
	}
	if !known && len(x.volumes) >= maxVolumes {
		b.BytesSent = roundBytes(n)
		return
	}
	total += n
	x.volumes[k] = total
	b.BytesSent = roundBytes(total)
}
