package agent

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/bpf"
)

// lookups plays what processes ask, are answered and connect to.
type lookups struct {
	t *testing.T
	*script
	*kept
	flows uint64
}

// asker is a process of lookups.
type asker uint64

func newLookups(t *testing.T) *lookups {
	s := newScript()
	return &lookups{t: t, script: s, kept: act(t, s)}
}

// start runs a program below another one, or below none.
func (l *lookups) start(n int) asker {
	p := asker(n << 10)
	l.tell(&bpf.Exec{Header: bpf.Header{Process: uint64(p), PID: uint32(n)}, Executable: "/bin/program"})
	return p
}

const resolver, group, llmnr = "192.0.2.53:53", "224.0.0.251:5353", "224.0.0.252:5355"

func (l *lookups) dns(p asker, server string, port uint16, m dnsmessage.Message) {
	data := wire(l.t, m)
	l.tell(&bpf.DNS{
		Header: bpf.Header{Process: uint64(p)}, Response: m.Response, Server: netip.MustParseAddrPort(server), Port: port,
		Payload: data, Size: uint32(len(data)),
	})
}

func asking(id uint16, q ...dnsmessage.Question) dnsmessage.Message {
	return dnsmessage.Message{Header: dnsmessage.Header{ID: id}, Questions: q}
}

func answering(id uint16, q questions, answers ...dnsmessage.Resource) dnsmessage.Message {
	m := response(q, answers, nil)
	m.ID = id
	return m
}

// exchanges returns what was told until everything waiting has been.
func (l *lookups) exchanges() (told []string) {
	l.pass(2 * answerPatience)
	// Told in the order of what waits: this one last.
	end := l.start(1 << 20)
	l.dns(end, resolver, 1, asking(1, ask("end.invalid", dnsmessage.TypeA)))
	l.pass(2 * answerPatience)
	l.await(l.t, l.script, "end", func(e seen) bool { return e.GetDnsExchange().GetName() == "end.invalid" })
	for _, e := range l.events(l.t) {
		x := e.GetDnsExchange()
		if x == nil || x.Name == "end.invalid" {
			continue
		}
		s := []string{x.Name, x.Type, x.ResponseCode}
		for _, a := range x.Addresses {
			addr, _ := netip.AddrFromSlice(a)
			s = append(s, addr.String())
		}
		told = append(told, strings.Join(append(s, x.CanonicalNames...), " "))
	}
	return told
}

// connect returns the name of a connection, and whose look-up gave it.
func (l *lookups) connect(p asker, address string) string {
	l.flows++
	id := l.flows
	l.tell(&bpf.Flow{
		Header: bpf.Header{Process: uint64(p)}, ID: id, State: bpf.FlowStarted, Protocol: 6, Direction: bpf.FlowOutbound,
		Source: netip.MustParseAddrPort("192.0.2.1:40000"), Destination: netip.AddrPortFrom(netip.MustParseAddr(address), 443),
	})
	f := l.await(l.t, l.script, "flow", func(e seen) bool { return e.GetFlow().GetId() == id }).GetFlow()
	if f.Domain == "" {
		return ""
	}
	return f.Domain + " " + strings.ToLower(strings.TrimPrefix(f.DomainSource.String(), "DOMAIN_SOURCE_"))
}

func (l *lookups) named(p asker, address, want string) {
	l.t.Helper()
	if got := l.connect(p, address); got != want {
		l.t.Errorf("a connection to %s is to %q, want %q", address, got, want)
	}
}

// foreign says how many messages were none, or answers to no question.
func (l *lookups) foreign(want float64) {
	l.t.Helper()
	families, err := l.metrics.Gather()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sallyport_agent_foreign_dns_total" {
			if got := f.GetMetric()[0].GetCounter().GetValue(); got != want {
				l.t.Errorf("%v foreign messages, want %v", got, want)
			}
			return
		}
	}
	l.t.Error("foreign messages are not counted")
}

func (l *lookups) told(want ...string) {
	l.t.Helper()
	if got := l.exchanges(); !slices.Equal(got, want) {
		l.t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSeveralQuestions(t *testing.T) {
	l := newLookups(t)
	p := l.start(1)
	q := questions{ask("a.example.test", dnsmessage.TypeA), ask("B.example.test", dnsmessage.TypeAAAA), ask("c.example.test", dnsmessage.TypeTXT)}
	l.dns(p, resolver, 4000, asking(1, q...))
	l.dns(p, resolver, 4000, answering(1, q, address("b.example.test", "2001:db8::1"), address("a.example.test", "192.0.2.1")))
	// A server that knows of one question only repeats that.
	l.dns(p, resolver, 4000, asking(2, q[0], q[2]))
	l.dns(p, resolver, 4000, answering(2, q[:1], address("a.example.test", "192.0.2.2")))
	// One that knows of none says so without any.
	l.dns(p, resolver, 4000, asking(3, q[2], q[0]))
	l.dns(p, resolver, 4000, dnsmessage.Message{Header: dnsmessage.Header{ID: 3, Response: true, RCode: dnsmessage.RCodeFormatError}})
	// An answer to another message.
	l.dns(p, resolver, 4000, answering(4, q[:1], address("a.example.test", "192.0.2.66")))
	l.dns(p, resolver, 4000, asking(5, q[:1]...))
	l.dns(p, resolver, 4000, answering(5, questions{ask("other.example.test", dnsmessage.TypeA)}, address("a.example.test", "192.0.2.66")))
	l.dns(p, resolver, 4000, asking(6)) // asks nothing
	l.named(p, "192.0.2.1", "a.example.test process")
	l.named(p, "2001:db8::1", "b.example.test process")
	l.named(p, "192.0.2.2", "a.example.test process")
	l.named(p, "192.0.2.66", "")
	l.foreign(3)
	l.told(
		"a.example.test A NOERROR 192.0.2.1", "b.example.test AAAA NOERROR 2001:db8::1", "c.example.test TXT NOERROR",
		"a.example.test A NOERROR 192.0.2.2",
		"c.example.test TXT FORMERR", "a.example.test A FORMERR",
		"c.example.test TXT ", "a.example.test A ",
	)
}

// TestNameFirstAsked: whatever names are on the way, a connection has the one that the
// program asked for.
func TestNameFirstAsked(t *testing.T) {
	l := newLookups(t)
	p := l.start(1)
	for i, c := range answerCases {
		if len(c.questions) != 1 {
			continue
		}
		id := uint16(i)
		m := response(c.questions, c.answers, c.additional)
		m.ID = id
		l.dns(p, resolver, 4000, asking(id, c.questions...))
		l.dns(p, resolver, 4000, m)
		name, _, _ := strings.Cut(c.want[0], " ")
		_, to, _ := strings.Cut(c.want[0], ": ")
		to, _, _ = strings.Cut(to, ";")
		for _, address := range strings.Fields(to) {
			l.named(p, address, name+" process")
		}
	}
}

// TestTXT: that it was asked is told, what the answer says is not.
func TestTXT(t *testing.T) {
	l := newLookups(t)
	p := l.start(1)
	q := questions{ask("token.example.test", dnsmessage.TypeTXT)}
	l.dns(p, resolver, 4000, asking(1, q...))
	l.dns(p, resolver, 4000, answering(1, q, resource("token.example.test", &dnsmessage.TXTResource{TXT: []string{"very-secret"}})))
	l.told("token.example.test TXT NOERROR")
	l.kept.mu.Lock()
	defer l.kept.mu.Unlock()
	for _, b := range l.batches {
		if data, err := proto.Marshal(b); err != nil || bytes.Contains(data, []byte("very-secret")) {
			t.Errorf("what the record said is in %v, %v", b, err)
		}
	}
}

// replacing marks records as multicast DNS does where they replace older ones.
func replacing(m dnsmessage.Message) dnsmessage.Message {
	for _, section := range []resources{m.Answers, m.Additionals} {
		for i := range section {
			section[i].Header.Class |= 0x8000
		}
	}
	return m
}

// TestMulticastDNS: answers come from anybody, without a question, some records at a
// time, and to everybody.
func TestMulticastDNS(t *testing.T) {
	l := newLookups(t)
	p, other := l.start(1), l.start(2)
	unicast := ask("Printer.local", dnsmessage.TypeA)
	unicast.Class |= 0x8000 // an answer to the asker alone will do
	service := ask("_ipp._tcp.local", dnsmessage.TypePTR)
	l.dns(p, group, 5353, asking(0, unicast, ask("printer.local", dnsmessage.TypeAAAA), service, ask("none.local", dnsmessage.TypeA), ask("printer.local", dnsmessage.TypeTXT)))
	l.dns(p, group, 5353, asking(0, unicast)) // once more, as is the custom

	answer := answering(0, nil,
		resource("_ipp._tcp.local", &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("one._ipp._tcp.local.")}),
		address("printer.local", "192.0.2.10"), address("bystander.local", "192.0.2.66"),
		resource("printer.local", &dnsmessage.TXTResource{TXT: []string{"paper=a4"}}))
	answer.Additionals = resources{
		resource("one._ipp._tcp.local", &dnsmessage.SRVResource{Port: 631, Target: dnsmessage.MustNewName("one.local.")}),
		address("one.local", "192.0.2.11"), address("printer.local", "2001:db8::10"), address("bystander.local", "192.0.2.67"),
	}
	l.dns(p, "192.0.2.10:5353", 5353, replacing(answer))
	// The other process hears it as well, having asked nothing.
	l.dns(other, "192.0.2.10:5353", 5353, replacing(answer))
	// Another machine has the service, too; and the first one says so again.
	l.dns(p, "192.0.2.12:5353", 5353, replacing(answering(0, nil,
		resource("_ipp._tcp.local", &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("two._ipp._tcp.local.")}),
		resource("two._ipp._tcp.local", &dnsmessage.SRVResource{Port: 631, Target: dnsmessage.MustNewName("two.local.")}),
		address("two.local", "192.0.2.12"))))
	l.dns(p, "192.0.2.10:5353", 5353, replacing(answer))
	// Asked from a port of its own, and answered there.
	l.dns(p, "[ff02::fb]:5353", 4000, asking(77, ask("six.local", dnsmessage.TypeAAAA)))
	l.dns(p, "[2001:db8::6]:5353", 4000, answering(77, questions{ask("six.local", dnsmessage.TypeAAAA)}, address("six.local", "2001:db8::6")))
	// Asked from a port of its own, and answered to everybody.
	l.dns(p, group, 4001, asking(78, ask("seven.local", dnsmessage.TypeA)))
	l.dns(p, "192.0.2.14:5353", 5353, answering(0, nil, address("seven.local", "192.0.2.14")))
	// Told by somebody unasked.
	l.dns(p, "192.0.2.66:5353", 5353, replacing(answering(0, nil, address("github.example.test", "192.0.2.66"))))

	l.named(p, "192.0.2.10", "printer.local process")
	l.named(p, "2001:db8::10", "printer.local process")
	l.named(p, "192.0.2.11", "_ipp._tcp.local process")
	l.named(p, "192.0.2.12", "_ipp._tcp.local process")
	l.named(p, "2001:db8::6", "six.local process")
	l.named(p, "192.0.2.14", "seven.local process")
	l.named(p, "192.0.2.66", "")
	l.named(p, "192.0.2.67", "")
	l.foreign(0) // all hear what others are answered
	l.named(other, "192.0.2.10", "printer.local host")
	// Too late.
	l.pass(2 * answerPatience)
	l.await(t, l.script, "question without an answer", func(e seen) bool { return e.GetDnsExchange().GetName() == "none.local" })
	l.dns(p, "192.0.2.13:5353", 5353, answering(0, nil, address("printer.local", "192.0.2.13")))
	l.named(p, "192.0.2.13", "")
	l.told(
		"printer.local A NOERROR 192.0.2.10", "printer.local AAAA NOERROR 2001:db8::10", "_ipp._tcp.local PTR NOERROR 192.0.2.11", "printer.local TXT NOERROR",
		"_ipp._tcp.local PTR NOERROR 192.0.2.12", "six.local AAAA NOERROR 2001:db8::6",
		"seven.local A NOERROR 192.0.2.14",
		"none.local A ",
	)
	for _, e := range l.events(t) {
		if x := e.GetDnsExchange(); x.GetName() == "printer.local" && x.GetServerPort() != 5353 ||
			x.GetName() == "six.local" && !bytes.Equal(x.ServerAddress, netip.MustParseAddr("ff02::fb").AsSlice()) {
			t.Errorf("%v", x)
		}
	}
}

// TestLLMNR: asked of everybody on the link, answered by one of them.
func TestLLMNR(t *testing.T) {
	l := newLookups(t)
	p := l.start(1)
	q := questions{ask("nas", dnsmessage.TypeA)}
	l.dns(p, llmnr, 4000, asking(9, q...))
	l.dns(p, "192.0.2.20:5355", 4000, answering(8, q, address("nas", "192.0.2.66")))
	l.dns(p, "192.0.2.20:5355", 4001, answering(9, q, address("nas", "192.0.2.66")))
	l.dns(p, "192.0.2.20:5355", 4000, answering(9, q, address("nas", "192.0.2.20")))
	l.named(p, "192.0.2.20", "nas process")
	l.named(p, "192.0.2.66", "")
	l.told("nas A NOERROR 192.0.2.20")
}

// TestWhoseName: of several who looked an address up, the process itself counts first,
// then its job, then the machine.
func TestWhoseName(t *testing.T) {
	l := newLookups(t)
	step := func(worker, pid int, repository string) asker {
		l.tell(&bpf.Environment{
			Header: bpf.Header{Process: uint64(pid) << 10}, Data: []byte("GITHUB_REPOSITORY=" + repository + "\x00GITHUB_RUN_ID=1\x00GITHUB_JOB=build\x00"),
		})
		l.tell(&bpf.Exec{
			Header: bpf.Header{Process: uint64(pid) << 10, PID: uint32(pid)}, Parent: uint64(worker) << 10, ParentPID: uint32(worker),
			Executable: "/bin/step", Step: true,
		})
		return asker(pid << 10)
	}
	for _, worker := range []int{1, 2} {
		l.tell(&bpf.Exec{Header: bpf.Header{Process: uint64(worker) << 10, PID: uint32(worker)}, Worker: true, Executable: "/opt/Runner.Worker"})
	}
	stub, one, two, foreign := l.start(3), step(1, 10, "acme/one"), step(1, 11, "acme/one"), step(2, 20, "acme/two")
	look := func(p asker, server, name, to string) {
		q := questions{ask(name, dnsmessage.TypeA)}
		l.dns(p, server, 4000, asking(1, q...))
		l.dns(p, server, 4000, answering(1, q, address(name, to)))
	}
	// A stub resolver on loopback asks a server, and may follow names on its own.
	q := questions{ask("www.example.test", dnsmessage.TypeA)}
	l.dns(one, "127.0.0.53:53", 4000, asking(1, q...))
	look(stub, resolver, "edge.example.test", "192.0.2.7")
	l.dns(one, "127.0.0.53:53", 4000, answering(1, q, cname("www.example.test", "edge.example.test"), address("edge.example.test", "192.0.2.7")))
	look(stub, resolver, "later.example.test", "192.0.2.7")
	l.named(one, "192.0.2.7", "www.example.test process")
	l.named(two, "192.0.2.7", "www.example.test job")
	l.named(foreign, "192.0.2.7", "later.example.test host")
	look(two, "127.0.0.11:53", "own.example.test", "192.0.2.7")
	l.named(two, "192.0.2.7", "own.example.test process")
	l.named(one, "192.0.2.7", "www.example.test process")
	l.named(foreign, "192.0.2.7", "own.example.test host")
}

// TestPipelined: several messages in one piece of a TCP stream, the last of which ends
// in the next one, and one as long as a message can be.
func TestPipelined(t *testing.T) {
	l := newLookups(t)
	p := l.start(1)
	l.tell(&bpf.Flow{
		Header: bpf.Header{Process: uint64(p)}, ID: 100, State: bpf.FlowStarted, Protocol: 6, Direction: bpf.FlowOutbound,
		Source: netip.MustParseAddrPort("192.0.2.1:40000"), Destination: netip.MustParseAddrPort(resolver),
	})
	stream := func(messages ...[]byte) (out []byte) {
		for _, m := range messages {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(m))), m...)
		}
		return out
	}
	send := func(received bool, data []byte, cut int) {
		sequence := uint32(0)
		for _, piece := range [][]byte{data[:cut], data[cut:]} {
			l.tell(&bpf.Payload{Header: bpf.Header{Process: uint64(p)}, Flow: 100, Sequence: sequence, Use: bpf.PayloadDNS, Received: received, Data: piece})
			sequence += uint32(len(piece))
		}
	}
	q := func(name string) questions { return questions{ask(name, dnsmessage.TypeA)} }
	asked := stream(wire(t, asking(1, q("a.example.test")...)), wire(t, asking(2, q("b.example.test")...)), wire(t, asking(3, q("c.example.test")...)))
	send(false, asked, len(asked)-10)
	longest := wire(t, answering(3, q("c.example.test"), address("c.example.test", "192.0.2.3")))
	longest = append(longest, make([]byte, 0xffff-len(longest))...)
	before := stream(wire(t, answering(2, q("b.example.test"), address("b.example.test", "192.0.2.2"))))
	behind := stream(wire(t, answering(1, q("a.example.test"), address("a.example.test", "192.0.2.1"))))
	// Cut where 64 KiB of the longest are there, with its length.
	send(true, slices.Concat(before, stream(longest), behind), len(before)+1<<16)
	l.named(p, "192.0.2.1", "a.example.test process")
	l.named(p, "192.0.2.2", "b.example.test process")
	l.named(p, "192.0.2.3", "c.example.test process")
	l.told("b.example.test A NOERROR 192.0.2.2", "c.example.test A NOERROR 192.0.2.3", "a.example.test A NOERROR 192.0.2.1")
}

// TestManyQuestions: who asks more than can wait is told of nevertheless, and what is
// beyond the bound of one message is counted.
func TestManyQuestions(t *testing.T) {
	l := newLookups(t)
	p := l.start(1)
	var q questions
	for i := range maxMessageQuestions + 8 {
		q = append(q, ask("n"+strings.Repeat("x", i%50)+".example.test", dnsmessage.Type(i+1000)))
	}
	for id := range uint16(maxQuestions/maxMessageQuestions + 2) {
		l.dns(p, resolver, 4000, asking(id, q...))
	}
	l.pass(2 * answerPatience)
	want := (maxQuestions/maxMessageQuestions + 2) * maxMessageQuestions
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		l.pass(50 * time.Millisecond)
		got := 0
		for _, e := range l.events(t) {
			if e.GetDnsExchange() != nil {
				got++
			}
		}
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d questions were told", got, want)
		}
	}
}
