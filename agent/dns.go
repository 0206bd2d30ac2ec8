package agent

import (
	"net/netip"
	"slices"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

func (a *Agent) dns(r *bpf.DNS) {
	m, err := parseDNS(r.Payload)
	if err != nil || m.response != r.Response || !m.response && len(m.questions) == 0 {
		a.metrics.foreignDNS.Inc()
		return
	}
	a.metrics.untoldQuestions.Add(float64(m.untold))
	if r.Response {
		a.dnsAnswer(r, &m)
	} else {
		a.dnsQuestions(r, &m)
	}
}

func (a *Agent) dnsQuestions(r *bpf.DNS, m *dnsMessage) {
	key := exactKey(r, m.id)
	if r.Server.Addr().IsMulticast() {
		key = linkKey(r, m.id)
	}
	p := a.actor(r.Head())
	for _, q := range m.questions {
		if old := a.questions.ask(&question{dnsQuestion: q, key: key, server: r.Server, asker: p, asked: r.Time}); old != nil {
			a.emitUnanswered(old)
		}
	}
}

func (a *Agent) dnsAnswer(r *bpf.DNS, m *dnsMessage) {
	waiting := a.questions.answeredBy(r, m)
	if len(waiting) == 0 {
		// Nobody asked: whoever sent it wants to give an address a name. On multicast DNS
		// everybody hears what others are answered.
		if r.Server.Port() != portMDNS {
			a.metrics.foreignDNS.Inc()
		}
		return
	}
	questions := make([]dnsQuestion, len(waiting))
	for i, q := range waiting {
		questions[i] = q.dnsQuestion
	}
	for i, answer := range m.answersTo(questions, !waiting[0].openToMore()) {
		a.emitAnswer(r, m, waiting[i], answer)
	}
}

func (a *Agent) emitAnswer(r *bpf.DNS, m *dnsMessage, q *question, answer dnsAnswer) {
	// The name first asked is what the program means, whatever names are on the way.
	for _, address := range answer.addresses {
		a.names.learn(q.asker, q.key.process, address, q.name, r.Time)
	}
	if q.openToMore() {
		// Others may answer as well. What is told twice is left out.
		known := func(address netip.Addr) bool { return slices.Contains(q.told, address) }
		answer.addresses = slices.DeleteFunc(answer.addresses, known)
		if q.answered && (len(answer.addresses) == 0 || len(q.told) >= maxAnswers) {
			return
		}
		q.answered, q.told = true, append(q.told, answer.addresses...)
	} else {
		a.questions.remove(q)
	}
	exchange := &sallyportv1.DnsExchange{
		Name: q.name, Type: q.qtype, ResponseCode: m.code, CanonicalNames: answer.canonicalNames,
		DurationNano: r.Time - min(q.asked, r.Time),
	}
	for _, address := range answer.addresses {
		exchange.Addresses = append(exchange.Addresses, address.AsSlice())
	}
	a.emitExchange(q, exchange, r.Time)
}

// emitUnanswered tells a question that waits no longer.
func (a *Agent) emitUnanswered(q *question) {
	if !q.answered {
		a.emitExchange(q, &sallyportv1.DnsExchange{Name: q.name, Type: q.qtype}, q.asked)
	}
}

func (a *Agent) emitExchange(q *question, x *sallyportv1.DnsExchange, boot uint64) {
	x.Name = a.redactor.domain(x.GetName(), q.asker.secrets())
	x.CanonicalNames = slices.Clone(x.GetCanonicalNames())
	for i, name := range x.GetCanonicalNames() {
		x.CanonicalNames[i] = a.redactor.domain(name, q.asker.secrets())
	}
	x.ServerAddress = q.server.Addr().AsSlice()
	x.ServerPort = uint32(q.server.Port())
	a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(boot),
		Body:         &sallyportv1.Event_DnsExchange{DnsExchange: x},
	}, q.asker, q.asker.attributed(), "dns")
}
