package detector

import (
	"math/bits"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

const (
	// maxNames bounds the names that an execution remembers; further ones count as new.
	maxNames = 8192
	// encodedRun is how many letters and digits in a row look like data.
	encodedRun = 24
)

// question is who asks in which step for what kind of names.
type question struct {
	Step    string `json:"step"`
	Program string `json:"program"`
	Target  string `json:"target"`
	Type    string `json:"type"`
	Server  string `json:"server"`
}

// asked is the names that were asked for.
type asked struct {
	Names   map[uint64]bool `json:"names"`
	More    uint32          `json:"more,omitempty"` // counted without their names
	Encoded uint32          `json:"encoded,omitempty"`
}

// lookup returns the behaviour of a question for a name.
func (x *execution) lookup(s *scopes, step string, by *sallyportv1.Process, d *sallyportv1.DnsExchange) *sallyportv1.Behaviour {
	name := domainName(d.GetName())
	b := &sallyportv1.Behaviour{
		Kind: kindLookup, Program: program(by), Target: registered(name), Domain: name,
		QuestionType: questionType(d.GetType()), Port: d.GetServerPort(),
	}
	if server, ok := netip.AddrFromSlice(d.GetServerAddress()); ok {
		b.Address, b.AddressScope = server.Unmap().String(), s.of(server)
	}
	q := question{step, b.GetProgram(), b.GetTarget(), b.GetQuestionType(), b.GetAddress()}
	a := x.asked[q]
	if a == nil {
		a = &asked{Names: make(map[uint64]bool)}
		x.asked[q] = a
	}
	if h := keyHash(name); !a.Names[h] {
		if x.names < maxNames {
			a.Names[h] = true
			x.names++
		} else {
			a.More++
		}
		if encoded(strings.TrimSuffix(name, b.GetTarget())) {
			a.Encoded++
		}
	}
	b.Names, b.EncodedNames = powerOfTwo(uint32(len(a.Names))+a.More), powerOfTwo(a.Encoded)
	return b
}

// questionType is one for all that ask for addresses.
func questionType(t string) string {
	switch t {
	case "AAAA", "HTTPS", "SVCB":
		return "A"
	}
	return t
}

// registered returns the domain that somebody has registered, below which names cost
// nothing.
func registered(name string) string {
	for _, reverse := range []string{"in-addr.arpa", "ip6.arpa"} {
		if strings.HasSuffix(name, "."+reverse) {
			return reverse
		}
	}
	if domain, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return domain
	}
	return name
}

// encoded says whether a name's part looks like data.
func encoded(part string) bool {
	for label := range strings.SplitSeq(part, ".") {
		run, digits := 0, false
		for i := range len(label) {
			if !word(label[i]) {
				run, digits = 0, false
				continue
			}
			run++
			digits = digits || label[i] <= '9'
			if run >= encodedRun && digits {
				return true
			}
		}
	}
	return false
}

// powerOfTwo rounds down to a power of two.
func powerOfTwo(n uint32) uint32 {
	if n == 0 {
		return 0
	}
	return 1 << (bits.Len32(n) - 1)
}

// worthLearning says whether a baseline holds a lookup: only what is not the ordinary
// question for an address at the machine's resolver. Where programs send is learned from
// what they send.
func worthLearning(b *sallyportv1.Behaviour) bool {
	return b.GetQuestionType() != "A" || b.GetAddressScope() == scopePublic
}
