package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsMessage is what the agent keeps of a DNS message (RFC 1035; multicast DNS, RFC
// 6762, and LLMNR, RFC 4795, have the same form).
type dnsMessage struct {
	id        uint16
	response  bool
	code      string
	questions []dnsQuestion
	// untold is how many questions there are behind maxMessageQuestions.
	untold int
	// records of an answer: those that lead to addresses or further names, and of others
	// that they are there.
	records []dnsRecord
}

// dnsQuestion is a name, in the form that readName gives, and a type as a mnemonic.
type dnsQuestion struct{ name, qtype string }

// dnsRecord is a resource record as far as it says where a name leads: to an address,
// or to another name, or (bare) only that there is a record.
type dnsRecord struct {
	owner   string
	rtype   dnsmessage.Type
	address netip.Addr
	target  string
	leads   bool // to target
	// additional says that it stood in the additional section.
	additional bool
}

const (
	// maxMessageQuestions bounds how many questions of one message are told. A datagram
	// that the kernel side hands over whole holds fewer.
	maxMessageQuestions = 512
	// maxAnswers bounds how many records of an answer that lead somewhere are kept, how
	// many of those that do not, and how many addresses are given to its questions.
	maxAnswers = 256
	// maxPointers bounds the compression pointers in one name: of 127 labels at most,
	// each can come after one.
	maxPointers = 128
	// maxName bounds a name in octets, with the length of each label and the root
	// (RFC 1035, 2.3.4).
	maxName = 255
)

// Types that package dnsmessage has no constants for.
const (
	typeNULL   dnsmessage.Type = 10
	typeNAPTR  dnsmessage.Type = 35
	typeDNAME  dnsmessage.Type = 39
	typeDS     dnsmessage.Type = 43
	typeDNSKEY dnsmessage.Type = 48
)

var errMalformed = errors.New("cut short or malformed")

// dnsHeader is the size of a message's header in bytes.
const dnsHeader = 12

// parseDNS reads a DNS message. A message that is cut short or broken behind its
// first question gives what was read until there; the error is about one whose header
// or first question cannot be read. An answer need not repeat its question.
//
// Its cost is bounded by the size of the message, not by the counts in its header: it
// is walked once, and what is kept of it is bounded, too. It does not go by
// dnsmessage.Parser, which refuses a message for a dot inside a label: services of
// multicast DNS have such names, and who tunnels data through names may.
func parseDNS(data []byte) (dnsMessage, error) {
	if len(data) < dnsHeader {
		return dnsMessage{}, fmt.Errorf("read DNS header: %w", errMalformed)
	}
	flags := binary.BigEndian.Uint16(data[2:])
	m := dnsMessage{id: binary.BigEndian.Uint16(data), response: flags&0x8000 != 0, code: responseCode(flags & 15)}
	at, ok := m.readQuestions(data, int(binary.BigEndian.Uint16(data[4:])))
	if !ok && len(m.questions) == 0 {
		return dnsMessage{}, fmt.Errorf("read DNS question: %w", errMalformed)
	}
	if ok && m.response {
		m.readRecords(data, at)
	}
	return m, nil
}

// readQuestions returns where the records begin, and whether they can be found.
func (m *dnsMessage) readQuestions(data []byte, count int) (at int, ok bool) {
	at = dnsHeader
	for range count {
		var name string
		var behind int
		if len(m.questions) < maxMessageQuestions {
			name, behind, ok = readName(data, at)
		} else {
			behind, ok = skipName(data, at)
		}
		if !ok || len(data)-behind < 4 {
			return at, false
		}
		at = behind + 4
		if len(m.questions) == maxMessageQuestions {
			m.untold++
			continue
		}
		// The class is not looked at; multicast DNS asks with it for a unicast answer.
		qtype := dnsmessage.Type(binary.BigEndian.Uint16(data[behind:]))
		m.questions = append(m.questions, dnsQuestion{name, recordType(qtype)})
	}
	return at, true
}

// Sections of a message behind the questions.
const (
	sectionAnswers = iota
	sectionAuthorities
	sectionAdditional
)

// recordCount counts the records that are kept.
type recordCount struct{ leading, bare int }

// readRecords reads the records from an offset on. What comes before a damaged one
// counts: resolvers use it too.
func (m *dnsMessage) readRecords(data []byte, at int) {
	var kept recordCount
	for section, offset := range []int{6, 8, 10} { // of the counts of answers, authorities, additional
		for range binary.BigEndian.Uint16(data[offset:]) {
			var ok bool
			if at, ok = m.readRecord(data, at, section, &kept); !ok {
				return
			}
		}
	}
}

// readRecord reads the record at an offset and returns the one behind it. A record
// whose body is malformed is passed over.
func (m *dnsMessage) readRecord(data []byte, at, section int, kept *recordCount) (behind int, ok bool) {
	ownerAt := at
	if at, ok = skipName(data, at); !ok || len(data)-at < 10 {
		return 0, false
	}
	// Nor is the class here: multicast DNS marks with it what replaces older records.
	rtype := dnsmessage.Type(binary.BigEndian.Uint16(data[at:]))
	extended := data[at+4]
	body := at + 10
	behind = body + int(binary.BigEndian.Uint16(data[at+8:]))
	if behind > len(data) {
		return 0, false
	}
	if section == sectionAdditional && rtype == dnsmessage.TypeOPT {
		// RFC 6891, 6.1.3: the upper bits of the code.
		if code := uint16(extended)<<4 | binary.BigEndian.Uint16(data[2:])&15; code > 15 {
			m.code = responseCode(code)
		}
	}
	if section == sectionAuthorities || kept.leading >= maxAnswers {
		return behind, true
	}
	r := dnsRecord{rtype: rtype, additional: section == sectionAdditional}
	var hints []netip.Addr
	switch rtype {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		if address, ok := netip.AddrFromSlice(data[body:behind]); ok {
			r.address = address.Unmap()
		}
	case dnsmessage.TypeCNAME, typeDNAME, dnsmessage.TypePTR:
		r.leadTo(data[:behind], body)
	case dnsmessage.TypeMX:
		r.leadTo(data[:behind], body+2)
	case dnsmessage.TypeSRV:
		r.leadTo(data[:behind], body+6)
	case dnsmessage.TypeSVCB, dnsmessage.TypeHTTPS:
		hints = r.readService(data[:behind], body)
	default:
		// What else a record holds is not kept. A TXT record may hold a secret.
	}
	if !r.address.IsValid() && !r.leads && len(hints) == 0 {
		// That there is one tells which questions of multicast DNS are answered.
		if kept.bare >= maxAnswers || section != sectionAnswers {
			return behind, true
		}
		kept.bare++
	}
	if r.owner, _, ok = readName(data, ownerAt); !ok {
		return behind, true
	}
	if r.address.IsValid() || r.leads || len(hints) == 0 {
		m.records = append(m.records, r)
		if r.address.IsValid() || r.leads {
			kept.leading++
		}
	}
	for _, hint := range hints[:min(len(hints), maxAnswers-kept.leading)] {
		m.records = append(m.records, dnsRecord{owner: r.owner, rtype: rtype, address: hint, additional: r.additional})
		kept.leading++
	}
	return behind, true
}

// leadTo reads the name that a record leads to; data ends with the record.
func (r *dnsRecord) leadTo(data []byte, at int) {
	r.target, _, r.leads = readName(data, at)
}

// readService reads the body of an SVCB or HTTPS record (RFC 9460, 2.2): the name that
// it leads to, and the addresses that it hints at. data ends with the record.
func (r *dnsRecord) readService(data []byte, body int) (hints []netip.Addr) {
	if len(data)-body < 2 {
		return nil
	}
	alias := binary.BigEndian.Uint16(data[body:]) == 0
	target, at, ok := readName(data, body+2)
	if !ok {
		return nil
	}
	// The root stands for the owner, or for no service at all.
	r.target, r.leads = target, target != ""
	if alias {
		return nil // of an alias parameters do not count (2.4.2)
	}
	for len(data)-at >= 4 {
		key := dnsmessage.SVCParamKey(binary.BigEndian.Uint16(data[at:]))
		size := int(binary.BigEndian.Uint16(data[at+2:]))
		at += 4
		if size > len(data)-at {
			break
		}
		switch key {
		case dnsmessage.SVCParamIPv4Hint:
			hints = appendAddresses(hints, data[at:at+size], 4)
		case dnsmessage.SVCParamIPv6Hint:
			hints = appendAddresses(hints, data[at:at+size], 16)
		default:
		}
		at += size
	}
	return hints
}

// appendAddresses adds addresses of a width in bytes, maxAnswers at most.
func appendAddresses(to []netip.Addr, list []byte, width int) []netip.Addr {
	for address := range slices.Chunk(list, width) {
		if a, ok := netip.AddrFromSlice(address); ok && len(address) == width && len(to) < maxAnswers {
			to = append(to, a.Unmap())
		}
	}
	return to
}

// skipName returns the offset behind the name at an offset.
func skipName(data []byte, at int) (behind int, ok bool) {
	for size := 1; at < len(data); {
		n := int(data[at])
		switch {
		case n == 0:
			return at + 1, true
		case n&0xc0 == 0xc0:
			if at+2 > len(data) {
				return 0, false
			}
			return at + 2, true
		case n&0xc0 != 0:
			return 0, false
		}
		at += 1 + n
		if size += 1 + n; size > maxName {
			return 0, false
		}
	}
	return 0, false
}

// readName reads the name at an offset and returns the offset behind it. The name is
// lower case (of ASCII only, as names are compared: RFC 4343), without a trailing dot,
// and empty for the root; a dot or backslash inside a label stands behind a backslash,
// and bytes that are no UTF-8 are \xNN. Pointers may point anywhere in the message, as
// resolvers let them.
func readName(data []byte, at int) (name string, behind int, ok bool) {
	var buffer [2 * maxName]byte
	out := buffer[:0]
	size, pointers := 1, 0
	for at < len(data) {
		n := int(data[at])
		at++
		switch {
		case n == 0:
			if pointers == 0 {
				behind = at
			}
			return text(string(out)), behind, true
		case n&0xc0 == 0xc0:
			if at >= len(data) {
				return "", 0, false
			}
			if pointers == 0 {
				behind = at + 1
			}
			if pointers++; pointers > maxPointers {
				return "", 0, false
			}
			at = n&0x3f<<8 | int(data[at])
			continue
		case n&0xc0 != 0:
			return "", 0, false
		}
		if n > len(data)-at {
			return "", 0, false
		}
		if size += 1 + n; size > maxName {
			return "", 0, false
		}
		if len(out) > 0 {
			out = append(out, '.')
		}
		for _, c := range data[at : at+n] {
			switch {
			case c == '.' || c == '\\':
				out = append(out, '\\', c)
			case 'A' <= c && c <= 'Z':
				out = append(out, c|0x20)
			default:
				out = append(out, c)
			}
		}
		at += n
	}
	return "", 0, false
}

func recordType(t dnsmessage.Type) string {
	switch t {
	case typeNULL:
		return "NULL"
	case typeNAPTR:
		return "NAPTR"
	case typeDNAME:
		return "DNAME"
	case typeDS:
		return "DS"
	case typeDNSKEY:
		return "DNSKEY"
	default:
		if s, ok := strings.CutPrefix(t.String(), "Type"); ok {
			return s
		}
		return fmt.Sprintf("TYPE%d", uint16(t))
	}
}

var responseCodes = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}

func responseCode(c uint16) string {
	if int(c) < len(responseCodes) {
		return responseCodes[c]
	}
	return fmt.Sprintf("RCODE%d", c)
}
