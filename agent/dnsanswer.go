package agent

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsAnswer is what a message says to one question.
type dnsAnswer struct {
	addresses      []netip.Addr
	canonicalNames []string
	names          map[string]bool // that the question leads to, itself included
}

// answersTo gives each question the records that belong to its name, or to a name that
// it leads to. An address is one of the question of its type; where that was not asked,
// of the first that leads to it.
//
// What belongs to no question goes to the first one if strays is set: many resolvers
// (musl's and Go's among them) do not look at whose name an address is given. Of the
// additional section nothing does.
func (m *dnsMessage) answersTo(questions []dnsQuestion, strays bool) []dnsAnswer {
	answers := make([]dnsAnswer, len(questions))
	if len(questions) == 0 {
		return answers
	}
	z := m.zone()
	names := maxAnswers // left to be followed, in all
	for i, q := range questions {
		answers[i].follow(z, q.name, &names)
	}
	left := maxAnswers // addresses that may be given, in all
	give := func(a *dnsAnswer, address netip.Addr) {
		if left > 0 && !slices.Contains(a.addresses, address) {
			a.addresses = append(a.addresses, address)
			left--
		}
	}
	for n := range m.records {
		r := &m.records[n]
		given, first := false, -1
		for i := range answers {
			if !answers[i].names[r.owner] {
				continue
			}
			if first < 0 {
				first = i
			}
			if r.address.IsValid() && r.answers(questions[i].qtype) {
				give(&answers[i], r.address)
				given = true
			}
		}
		stray := first < 0 && strays && !r.additional
		switch {
		case r.address.IsValid() && first >= 0 && !given:
			give(&answers[first], r.address)
		case r.address.IsValid() && stray:
			give(&answers[0], r.address)
		case stray && r.isAlias() && !slices.Contains(answers[0].canonicalNames, r.target):
			answers[0].canonicalNames = append(answers[0].canonicalNames, r.target)
		}
	}
	return answers
}

// answers says whether a record is of the type that a question asks for.
func (r *dnsRecord) answers(qtype string) bool {
	return qtype == "ALL" || recordType(r.rtype) == qtype
}

// isAlias says whether a record leads to a canonical name: what its owner stands for,
// unlike a mail exchange or the host of a service.
func (r *dnsRecord) isAlias() bool {
	if !r.leads || r.target == r.owner {
		return false
	}
	switch r.rtype {
	case dnsmessage.TypeCNAME, dnsmessage.TypeSVCB, dnsmessage.TypeHTTPS:
		return true
	default:
		return false
	}
}

// zone is where the names of a message lead.
type zone struct {
	byOwner    map[string][]*dnsRecord
	delegation map[string]string // DNAME: a name below the key is one below the value
}

func (m *dnsMessage) zone() zone {
	z := zone{byOwner: make(map[string][]*dnsRecord), delegation: make(map[string]string)}
	for i := range m.records {
		switch r := &m.records[i]; {
		case r.rtype == typeDNAME && r.leads:
			if _, twice := z.delegation[r.owner]; !twice {
				z.delegation[r.owner] = r.target
			}
		case r.leads:
			z.byOwner[r.owner] = append(z.byOwner[r.owner], r)
		}
	}
	return z
}

// follow goes all ways from a name, as long as names are left.
func (a *dnsAnswer) follow(z zone, name string, left *int) {
	a.names = map[string]bool{name: true}
	lead := func(queue []string, to string, alias bool) []string {
		if a.names[to] || *left <= 0 {
			return queue
		}
		*left--
		a.names[to] = true
		if alias {
			a.canonicalNames = append(a.canonicalNames, to)
		}
		return append(queue, to)
	}
	for queue := []string{name}; len(queue) > 0; queue = queue[1:] {
		at, next := queue[0], queue
		renamed := false
		for _, r := range z.byOwner[at] {
			next = lead(next, r.target, r.isAlias())
			renamed = renamed || r.rtype == dnsmessage.TypeCNAME
		}
		if to, ok := z.renamed(at); ok && !renamed {
			// Servers add the CNAME that a DNAME means (RFC 6672, 3.1); one may not.
			next = lead(next, to, true)
		}
		queue = next
	}
}

// renamed returns what a DNAME makes of a name below its owner.
func (z zone) renamed(name string) (string, bool) {
	if len(z.delegation) == 0 {
		return "", false
	}
	for parent := parentOf(name); parent != ""; parent = parentOf(parent) {
		if target, ok := z.delegation[parent]; ok {
			renamed := strings.TrimSuffix(strings.TrimSuffix(name, parent)+target, ".")
			return renamed, len(renamed) < 4*maxName // no name is longer, with all of it escaped
		}
	}
	return "", false
}

// parentOf cuts the first label from a name as readName gives it.
func parentOf(name string) string {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '.':
			return name[i+1:]
		}
	}
	return ""
}

// answered says whether a message of multicast DNS, where answers stand alone, answers
// a question. What it adds unasked to one answer may be another one.
func (m *dnsMessage) answered(q dnsQuestion) bool {
	return slices.ContainsFunc(m.records, func(r dnsRecord) bool {
		return r.owner == q.name && (r.rtype == dnsmessage.TypeCNAME || r.answers(q.qtype))
	})
}
