package agent

import (
	"container/list"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// dnsMessage is what the agent keeps of a DNS message.
type dnsMessage struct {
	id       uint16
	response bool
	code     string
	name     string
	qtype    string
	// addresses and canonicalNames come from the answers.
	addresses      []netip.Addr
	canonicalNames []string
}

// maxAnswers bounds how many resource records of an answer are read.
const maxAnswers = 256

// parseDNS reads a DNS message (RFC 1035). A message that is cut short or broken
// behind its question gives what was read until there; the error is about one whose
// question cannot be read. Names are lower case, without a trailing dot, and have
// foreign bytes escaped.
func parseDNS(data []byte) (dnsMessage, error) {
	var p dnsmessage.Parser
	header, err := p.Start(data)
	if err != nil {
		return dnsMessage{}, fmt.Errorf("read DNS header: %w", err)
	}
	q, err := p.Question()
	if err != nil {
		return dnsMessage{}, fmt.Errorf("read DNS question: %w", err)
	}
	m := dnsMessage{
		id: header.ID, response: header.Response,
		name: domainName(q.Name), qtype: recordType(q.Type), code: responseCode(header.RCode),
	}
	if header.Response && p.SkipAllQuestions() == nil {
		for n := 0; n < maxAnswers && m.readAnswer(&p); n++ {
		}
	}
	return m, nil
}

// readAnswer adds the next answer to the message and says whether there may be
// more. What was read before a damaged answer counts: resolvers use it too.
func (m *dnsMessage) readAnswer(p *dnsmessage.Parser) bool {
	h, err := p.AnswerHeader()
	if err != nil {
		return false
	}
	switch h.Type {
	case dnsmessage.TypeA:
		r, err := p.AResource()
		if err != nil {
			return false
		}
		m.addresses = append(m.addresses, netip.AddrFrom4(r.A))
	case dnsmessage.TypeAAAA:
		r, err := p.AAAAResource()
		if err != nil {
			return false
		}
		m.addresses = append(m.addresses, netip.AddrFrom16(r.AAAA).Unmap())
	case dnsmessage.TypeCNAME:
		r, err := p.CNAMEResource()
		if err != nil {
			return false
		}
		m.canonicalNames = append(m.canonicalNames, domainName(r.CNAME))
	default:
		return p.SkipAnswer() == nil
	}
	return true
}

func domainName(n dnsmessage.Name) string {
	return text(strings.ToLower(strings.TrimSuffix(n.String(), ".")))
}

func recordType(t dnsmessage.Type) string {
	switch t {
	case 35:
		return "NAPTR"
	case 43:
		return "DS"
	case 48:
		return "DNSKEY"
	case 64:
		return "SVCB"
	case 65:
		return "HTTPS"
	case 10:
		return "NULL"
	default:
		if s, ok := strings.CutPrefix(t.String(), "Type"); ok {
			return s
		}
		return fmt.Sprintf("TYPE%d", uint16(t))
	}
}

var responseCodes = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}

func responseCode(c dnsmessage.RCode) string {
	if int(c) < len(responseCodes) {
		return responseCodes[c]
	}
	return fmt.Sprintf("RCODE%d", uint16(c))
}

// answerPatience is how long a question waits for its answer.
const answerPatience = 5 * time.Second

// maxQuestions bounds how many questions wait for an answer.
const maxQuestions = 8192

type questionKey struct {
	process uint64
	server  netip.AddrPort
	port    uint16
	id      uint16
	name    string
	qtype   string
}

type question struct {
	key   questionKey
	asker *process
	asked uint64 // boot time
	entry *list.Element
}

// questionTable holds the questions that wait for an answer.
type questionTable struct {
	byKey map[questionKey]*question
	order list.List // of *question, oldest first
}

func newQuestionTable() *questionTable {
	return &questionTable{byKey: make(map[questionKey]*question)}
}

func (t *questionTable) ask(q *question) (pushedOut *question) {
	if _, repeated := t.byKey[q.key]; repeated {
		return nil // asked again: the first time counts
	}
	if len(t.byKey) >= maxQuestions {
		pushedOut = t.order.Front().Value.(*question)
		t.remove(pushedOut)
	}
	q.entry = t.order.PushBack(q)
	t.byKey[q.key] = q
	return pushedOut
}

func (t *questionTable) answer(k questionKey) *question {
	q := t.byKey[k]
	if q != nil {
		t.remove(q)
	}
	return q
}

func (t *questionTable) remove(q *question) {
	t.order.Remove(q.entry)
	delete(t.byKey, q.key)
}

func (t *questionTable) unansweredSince(boot uint64) []*question {
	var due []*question
	for e := t.order.Front(); e != nil; e = t.order.Front() {
		q := e.Value.(*question)
		if q.asked >= boot {
			break
		}
		t.remove(q)
		due = append(due, q)
	}
	return due
}

func (a *Agent) dns(r *bpf.DNS) {
	m, err := parseDNS(r.Payload)
	if err != nil || m.response != r.Response {
		a.metrics.foreignDNS.Inc()
		return
	}
	p := a.actor(r.Head())
	key := questionKey{r.Process, r.Server, r.Port, m.id, m.name, m.qtype}
	if !r.Response {
		if old := a.questions.ask(&question{key: key, asker: p, asked: r.Time}); old != nil {
			a.emitUnanswered(old)
		}
		return
	}
	q := a.questions.answer(key)
	if q == nil {
		// Nobody asked: whoever sent it wants to give an address a name.
		a.metrics.foreignDNS.Inc()
		return
	}
	for _, address := range m.addresses {
		a.names.learn(q.asker, key.process, address, m.name, r.Time)
	}
	exchange := &sallyportv1.DnsExchange{
		Name: m.name, Type: m.qtype, ResponseCode: m.code, CanonicalNames: m.canonicalNames,
		DurationNano: r.Time - min(q.asked, r.Time),
	}
	for _, address := range m.addresses {
		exchange.Addresses = append(exchange.Addresses, address.AsSlice())
	}
	a.emitExchange(q, exchange, r.Time)
}

func (a *Agent) emitUnanswered(q *question) {
	a.emitExchange(q, &sallyportv1.DnsExchange{Name: q.key.name, Type: q.key.qtype}, q.asked)
}

func (a *Agent) emitExchange(q *question, x *sallyportv1.DnsExchange, boot uint64) {
	x.ServerAddress = q.key.server.Addr().AsSlice()
	x.ServerPort = uint32(q.key.server.Port())
	a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(boot),
		Body:         &sallyportv1.Event_DnsExchange{DnsExchange: x},
	}, q.asker, q.asker.attributed(), "dns")
}
