package agent

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/dns/dnsmessage"
)

func wire(t testing.TB, m dnsmessage.Message) []byte {
	t.Helper()
	data, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ask makes a question from a name and a type.
func ask(name string, qtype dnsmessage.Type) dnsmessage.Question {
	return dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: qtype, Class: dnsmessage.ClassINET}
}

func resource(owner string, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner + "."), Class: dnsmessage.ClassINET, TTL: 60}, Body: body,
	}
}

// address makes an A or AAAA record.
func address(owner, addr string) dnsmessage.Resource {
	a := netip.MustParseAddr(addr)
	if a.Is4() {
		return resource(owner, &dnsmessage.AResource{A: a.As4()})
	}
	return resource(owner, &dnsmessage.AAAAResource{AAAA: a.As16()})
}

func cname(owner, to string) dnsmessage.Resource {
	return resource(owner, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to + ".")})
}

// dname makes a DNAME record, which package dnsmessage knows as bytes only.
func dname(owner, to string) dnsmessage.Resource {
	var data []byte
	for label := range strings.SplitSeq(to, ".") {
		data = append(append(data, byte(len(label))), label...)
	}
	return resource(owner, &dnsmessage.UnknownResource{Type: typeDNAME, Data: append(data, 0)})
}

// service makes the body of an SVCB or HTTPS record.
func service(priority uint16, target string, hints ...string) dnsmessage.SVCBResource {
	r := dnsmessage.SVCBResource{Priority: priority, Target: dnsmessage.MustNewName(target + ".")}
	r.SetParam(dnsmessage.SVCParamALPN, []byte("\x02h2"))
	r.SetParam(dnsmessage.SVCParamECH, []byte("configuration"))
	for _, hint := range hints {
		a := netip.MustParseAddr(hint)
		key := dnsmessage.SVCParamIPv6Hint
		if a.Is4() {
			key = dnsmessage.SVCParamIPv4Hint
		}
		old, _ := r.GetParam(key)
		r.SetParam(key, append(old, a.AsSlice()...))
	}
	return r
}

func https(owner string, body dnsmessage.SVCBResource) dnsmessage.Resource {
	return resource(owner, &dnsmessage.HTTPSResource{SVCBResource: body})
}

func opt(t testing.TB, code dnsmessage.RCode) dnsmessage.Resource {
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(1232, code, true); err != nil {
		t.Fatal(err)
	}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: []byte("cookie..")}}}}
}

func response(questions []dnsmessage.Question, answers, additionals []dnsmessage.Resource) dnsmessage.Message {
	return dnsmessage.Message{
		Header: dnsmessage.Header{ID: 7, Response: true}, Questions: questions, Answers: answers, Additionals: additionals,
	}
}

type (
	questions = []dnsmessage.Question
	resources = []dnsmessage.Resource
)

// answerCases are answers, and what they say to each of their questions: addresses and
// canonical names.
var answerCases = []struct {
	name                string
	questions           questions
	answers, additional resources
	want                []string
}{
	{
		"one question", questions{ask("WWW.example.test", dnsmessage.TypeA)},
		resources{address("www.example.test", "192.0.2.7")}, nil,
		[]string{"www.example.test A: 192.0.2.7;"},
	},
	{
		"chain of names, not in order", questions{ask("www.example.test", dnsmessage.TypeA)},
		resources{cname("cdn.example.test", "edge.example.test"), address("edge.example.test", "192.0.2.7"), cname("www.example.test", "cdn.example.test")}, nil,
		[]string{"www.example.test A: 192.0.2.7; cdn.example.test edge.example.test"},
	},
	{
		"chain that bites its tail", questions{ask("a.example.test", dnsmessage.TypeA)},
		resources{cname("a.example.test", "b.example.test"), cname("b.example.test", "a.example.test"), address("b.example.test", "192.0.2.7")}, nil,
		[]string{"a.example.test A: 192.0.2.7; b.example.test"},
	},
	{
		"two families to one question", questions{ask("www.example.test", dnsmessage.TypeA)},
		resources{address("www.example.test", "192.0.2.7"), address("www.example.test", "2001:db8::7"), address("www.example.test", "192.0.2.7")}, nil,
		[]string{"www.example.test A: 192.0.2.7 2001:db8::7;"},
	},
	{
		"several questions", questions{ask("a.example.test", dnsmessage.TypeA), ask("b.example.test", dnsmessage.TypeA), ask("a.example.test", dnsmessage.TypeAAAA), ask("none.example.test", dnsmessage.TypeA)},
		resources{
			address("edge.example.test", "192.0.2.2"), address("a.example.test", "192.0.2.1"),
			address("a.example.test", "2001:db8::1"), cname("b.example.test", "edge.example.test"),
		}, nil,
		[]string{"a.example.test A: 192.0.2.1;", "b.example.test A: 192.0.2.2; edge.example.test", "a.example.test AAAA: 2001:db8::1;", "none.example.test A:;"},
	},
	{
		"several types", questions{ask("a.example.test", dnsmessage.TypeTXT), ask("a.example.test", dnsmessage.TypeHTTPS), ask("a.example.test", dnsmessage.TypeA), ask("a.example.test", dnsmessage.TypeALL)},
		resources{address("a.example.test", "192.0.2.1"), https("a.example.test", service(1, "b.example.test", "192.0.2.2")), resource("a.example.test", &dnsmessage.TXTResource{TXT: []string{"text"}})},
		resources{address("b.example.test", "2001:db8::2")},
		[]string{
			"a.example.test TXT:; b.example.test", "a.example.test HTTPS: 192.0.2.2; b.example.test",
			"a.example.test A: 192.0.2.1; b.example.test", "a.example.test ALL: 192.0.2.1 192.0.2.2 2001:db8::2; b.example.test",
		},
	},
	{
		"of another name", questions{ask("a.example.test", dnsmessage.TypeA), ask("b.example.test", dnsmessage.TypeA)},
		resources{address("other.example.test", "192.0.2.9"), cname("another.example.test", "further.example.test")}, nil,
		[]string{"a.example.test A: 192.0.2.9; further.example.test", "b.example.test A:;"},
	},
	{
		"DNAME with the CNAME that it means", questions{ask("x.old.example.test", dnsmessage.TypeA)},
		resources{dname("old.example.test", "new.example.test"), cname("x.old.example.test", "x.new.example.test"), address("x.new.example.test", "192.0.2.7")}, nil,
		[]string{"x.old.example.test A: 192.0.2.7; x.new.example.test"},
	},
	{
		"DNAME alone", questions{ask("y.x.old.example.test", dnsmessage.TypeA), ask("b.example.test", dnsmessage.TypeA)},
		resources{address("b.example.test", "192.0.2.8"), dname("old.example.test", "new.example.test"), address("y.x.new.example.test", "192.0.2.7")}, nil,
		[]string{"y.x.old.example.test A: 192.0.2.7; y.x.new.example.test", "b.example.test A: 192.0.2.8;"},
	},
	{
		"HTTPS of the name itself", questions{ask("www.example.test", dnsmessage.TypeHTTPS)},
		resources{https("www.example.test", service(1, "", "192.0.2.1", "192.0.2.2", "2001:db8::1"))}, nil,
		[]string{"www.example.test HTTPS: 192.0.2.1 192.0.2.2 2001:db8::1;"},
	},
	{
		"HTTPS of another name, behind a chain", questions{ask("www.example.test", dnsmessage.TypeHTTPS)},
		resources{cname("www.example.test", "cdn.example.test"), https("cdn.example.test", service(1, "pool.example.test", "192.0.2.1"))},
		resources{address("pool.example.test", "192.0.2.3"), address("pool.example.test", "192.0.2.1"), address("other.example.test", "192.0.2.9")},
		[]string{"www.example.test HTTPS: 192.0.2.1 192.0.2.3; cdn.example.test pool.example.test"},
	},
	{
		"HTTPS that is an alias: parameters do not count", questions{ask("example.test", dnsmessage.TypeHTTPS)},
		resources{https("example.test", service(0, "pool.example.test", "192.0.2.1"))}, resources{address("pool.example.test", "192.0.2.3")},
		[]string{"example.test HTTPS: 192.0.2.3; pool.example.test"},
	},
	{
		"SVCB", questions{ask("_dns.resolver.example.test", dnsmessage.TypeSVCB)},
		resources{resource("_dns.resolver.example.test", func() *dnsmessage.SVCBResource { r := service(1, "dns.example.test", "2001:db8::53"); return &r }())}, nil,
		[]string{"_dns.resolver.example.test SVCB: 2001:db8::53; dns.example.test"},
	},
	{
		"SRV with the addresses of its host", questions{ask("_xmpp._tcp.example.test", dnsmessage.TypeSRV)},
		resources{resource("_xmpp._tcp.example.test", &dnsmessage.SRVResource{Priority: 1, Weight: 2, Port: 3, Target: dnsmessage.MustNewName("im.example.test.")})},
		resources{address("im.example.test", "192.0.2.5"), address("ns.example.test", "192.0.2.9")},
		[]string{"_xmpp._tcp.example.test SRV: 192.0.2.5;"},
	},
	{
		"MX with the addresses of its host", questions{ask("example.test", dnsmessage.TypeMX)},
		resources{resource("example.test", &dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName("mx.example.test.")})},
		resources{address("mx.example.test", "192.0.2.25"), address("mx.example.test", "2001:db8::25")},
		[]string{"example.test MX: 192.0.2.25 2001:db8::25;"},
	},
	{
		"addresses of name servers are not the name's", questions{ask("example.test", dnsmessage.TypeNS)},
		resources{resource("example.test", &dnsmessage.NSResource{NS: dnsmessage.MustNewName("ns.example.test.")})},
		resources{address("ns.example.test", "192.0.2.9")},
		[]string{"example.test NS:;"},
	},
}

func says(m dnsMessage) []string {
	var said []string
	for i, answer := range m.answersTo(m.questions, true) {
		s := m.questions[i].name + " " + m.questions[i].qtype + ":"
		for _, a := range answer.addresses {
			s += " " + a.String()
		}
		said = append(said, strings.TrimSuffix(s+"; "+strings.Join(answer.canonicalNames, " "), " "))
	}
	return said
}

func TestAnswers(t *testing.T) {
	for _, c := range answerCases {
		t.Run(c.name, func(t *testing.T) {
			// With and without EDNS(0), which stands before what is to be found.
			for _, additional := range []resources{c.additional, slices.Insert(slices.Clone(c.additional), 0, opt(t, 0))} {
				m, err := parseDNS(wire(t, response(c.questions, c.answers, additional)))
				if err != nil {
					t.Fatal(err)
				}
				if got := says(m); !slices.Equal(got, c.want) || m.id != 7 || !m.response || m.code != "NOERROR" {
					t.Errorf("%q, want %q; %+v", got, c.want, m)
				}
			}
		})
	}
}

// TestParseDNSDamaged: what came before the damage counts, and what comes behind a
// record that is malformed within its bounds.
func TestParseDNSDamaged(t *testing.T) {
	q := questions{ask("www.example.test", dnsmessage.TypeA)}
	two := resources{address("www.example.test", "192.0.2.7"), address("www.example.test", "192.0.2.8")}
	data := wire(t, response(q, two, nil))
	for cut, want := range map[int]string{
		0: "192.0.2.7 192.0.2.8", 1: "192.0.2.7", 15: "192.0.2.7", 17: "", 30: "",
	} {
		m, err := parseDNS(data[:len(data)-cut])
		if want != "" {
			want = " " + want
		}
		if got := says(m); err != nil || !slices.Equal(got, []string{"www.example.test A:" + want + ";"}) {
			t.Errorf("cut by %d: %q, %v", cut, got, err)
		}
	}
	for _, body := range []dnsmessage.UnknownResource{
		{Type: dnsmessage.TypeA, Data: []byte{1, 2, 3, 4, 5}},
		{Type: dnsmessage.TypeAAAA, Data: []byte{1}},
		{Type: dnsmessage.TypeCNAME, Data: []byte{0xc0}},
		{Type: dnsmessage.TypeMX, Data: []byte{1}},
		{Type: dnsmessage.TypeSRV, Data: []byte{1, 2, 3, 4, 5, 6}},
		{Type: dnsmessage.TypeHTTPS, Data: []byte{0}},
		{Type: dnsmessage.TypeHTTPS, Data: []byte{0, 1, 0, 0, 4, 0, 9, 1}},
		{Type: dnsmessage.TypeHTTPS, Data: []byte{0, 1, 0, 0, 4, 0, 3, 1, 2, 3}},
		{Type: dnsmessage.TypeHTTPS, Data: []byte{0, 1, 3, 'a'}},
	} {
		m, err := parseDNS(wire(t, response(q, slices.Insert(slices.Clone(two), 0, resource("www.example.test", &body)), nil)))
		if got := says(m); err != nil || !slices.Equal(got, []string{"www.example.test A: 192.0.2.7 192.0.2.8;"}) {
			t.Errorf("behind type %v, %v: %q, %v", body.Type, body.Data, got, err)
		}
	}
	// An error may come without the question.
	if m, err := parseDNS(wire(t, dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true, RCode: dnsmessage.RCodeFormatError}})); err != nil || m.code != "FORMERR" {
		t.Errorf("%+v, %v", m, err)
	}
	for name, data := range map[string][]byte{
		"header that is cut":               data[:11],
		"name that points at itself":       append(header(1, 0), 0xc0, 12, 0, 1, 0, 1),
		"names that point at each other":   append(header(1, 0), 0xc0, 14, 0xc0, 12, 0, 1),
		"name that grows by its own label": append(header(1, 0), 1, 'a', 0xc0, 12, 0, 1, 0, 1),
		"pointer behind the end":           append(header(1, 0), 0xff, 0xff, 0, 1, 0, 1),
		"kind of label that is reserved":   append(header(1, 0), 0x41, 'a', 0, 0, 1, 0, 1),
		"name of 256 octets":               append(header(1, 0), append(bytes.Repeat([]byte{1, 'a'}, 128), 0, 0, 1, 0, 1)...),
	} {
		if m, err := parseDNS(data); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// header makes the header of a response.
func header(questions, answers byte) []byte {
	return []byte{0, 7, 0x80, 0, 0, questions, 0, answers, 0, 0, 0, 0}
}

// TestNames: nothing that a name can carry hides it, and no two names look the same.
func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"\x04WwWZ\x07EXAMPLE\x04test\x00":                 "wwwz.example.test",
		"\x0bPrinter 2.0\x04_ipp\x05local\x00":            `printer 2\.0._ipp.local`,
		"\x04a\\.b\x04test\x00":                           `a\\\.b.test`,
		"\x03\xff\x80.\x04test\x00":                       `\xff\x80\..test`,
		"\x04k\xc3\x84K\x04test\x00":                      "kÄk.test",
		"\x00":                                            "",
		strings.Repeat("\x01a", 127) + "\x00":             strings.TrimSuffix(strings.Repeat("a.", 127), "."),
		"\x3f" + strings.Repeat("x", 63) + "\x04test\x00": strings.Repeat("x", 63) + ".test",
	} {
		data := append(append(header(1, 0), in...), 0, 16, 0, 1)
		data[2] = 0
		m, err := parseDNS(data)
		if err != nil || len(m.questions) != 1 || m.questions[0] != (dnsQuestion{want, "TXT"}) || m.response {
			t.Errorf("%q: %+v, %v, want %q", in, m, err, want)
		}
	}
	// A pointer behind each label, forwards and backwards: more than package dnsmessage
	// follows, and no more than a name has room for.
	data := append(header(2, 0), 0xc0, 24, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1)
	for range 120 {
		next := len(data) + 4
		data = append(data, 1, 'a', 0xc0|byte(next>>8), byte(next))
	}
	m, err := parseDNS(append(data, 0))
	want := dnsQuestion{strings.TrimSuffix(strings.Repeat("a.", 120), "."), "A"}
	if err != nil || !slices.Equal(m.questions, []dnsQuestion{want, want}) {
		t.Errorf("%+v, %v", m.questions, err)
	}
}

// TestExtendedCode: EDNS(0) holds the upper bits of the response code.
func TestExtendedCode(t *testing.T) {
	q := questions{ask("www.example.test", dnsmessage.TypeA)}
	m, err := parseDNS(wire(t, response(q, nil, resources{opt(t, 0x10)}))) // BADVERS
	if err != nil || m.code != "RCODE16" {
		t.Errorf("%q, %v", m.code, err)
	}
}

// hostileMessages are as large as messages over TCP can be, and made to cost.
func hostileMessages() map[string][]byte {
	fill := func(head []byte, unit string) []byte {
		return append(head, strings.Repeat(unit, (0xffff-len(head))/len(unit))...)
	}
	full := func() []byte {
		return []byte{0, 7, 0x80, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	none := func() []byte { return []byte{0, 7, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }
	// 128 labels at most; and 126 pointers, each to the one before.
	long := strings.Repeat("\x01\xff", 126) + "\x00"
	ladder := []byte(long)
	for range 126 {
		to := 12 + len(ladder) - 2
		if len(ladder) == len(long) {
			to = 12
		}
		ladder = append(ladder, 0xc0|byte(to>>8), byte(to))
	}
	last := 12 + len(ladder) - 2
	rung := string([]byte{0xc0 | byte(last>>8), byte(last)})
	question := append([]byte{0, 7, 0x80, 0, 0, 1, 0xff, 0xff, 0, 0, 0xff, 0xff}, append([]byte(long), 0, 1, 0, 1)...)
	hints := append(question[:len(question):len(question)], 0xc0, 12, 0, 65, 0, 1, 0, 0, 0, 0)
	hints = binary.BigEndian.AppendUint16(hints, 0xffff-uint16(len(hints))-2)
	hints = append(hints, 0, 1, 0, 0, 4)
	hints = binary.BigEndian.AppendUint16(hints, 0xffff-uint16(len(hints))-2)
	// Questions that all lead to the same addresses.
	shared := []byte{0, 7, 0x80, 0, 2, 0, 1, 0, 0, 0, 0, 0}
	for i := range 512 {
		shared = append(shared, 2, 'a'+byte(i&15), 'a'+byte(i>>4), 0, 0, 255, 0, 1)
	}
	for i := range 128 {
		shared = append(shared, 2, 'a'+byte(i&15), 'a'+byte(i>>4), 0, 0, 5, 0, 1, 0, 0, 0, 0, 0, 3, 1, 'z', 0)
		shared = append(shared, 1, 'z', 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, byte(i))
	}
	return map[string][]byte{
		"questions":           fill(full(), "\x00\x00\x01\x00\x01"),
		"questions by ladder": fill(append(full(), ladder...), rung+"\x00\x01\x00\x01"),
		"records":             fill(none(), "\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00"),
		"addresses":           fill(bytes.Clone(question), "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\xc0\x00\x02\x01"),
		"aliases":             fill(bytes.Clone(question), "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x00\x00\x04\x01a\xc0\x0c"),
		"hints":               fill(hints, "\xc0\x00\x02\x01"),
		"shared":              shared,
		"DNAME that grows":    append([]byte{0, 7, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0}, "\x01x\x01a\x00\x00\x01\x00\x01\x01a\x00\x00\x27\x00\x01\x00\x00\x00\x00\x00\x05\x01b\x01a\x00"...),
	}
}

// TestHostileDNS: what a message costs is bounded, whatever it says of itself.
func TestHostileDNS(t *testing.T) {
	for name, data := range hostileMessages() {
		t.Run(name, func(t *testing.T) {
			const rounds = 20
			var took time.Duration
			allocated := testing.AllocsPerRun(rounds, func() {
				began := time.Now()
				if m, err := parseDNS(data); err == nil {
					checkBounds(t, m)
				}
				took += time.Since(began)
			})
			t.Logf("%d bytes: %v, %.0f allocations", len(data), took/(rounds+1), allocated)
			// Some hundred times what it takes, for machines that are slow and busy.
			if took/(rounds+1) > time.Second || allocated > 20*maxMessageQuestions {
				t.Errorf("%d bytes: %v, %.0f allocations", len(data), took/(rounds+1), allocated)
			}
		})
	}
}

func checkBounds(t *testing.T, m dnsMessage) {
	t.Helper()
	if len(m.questions) > maxMessageQuestions || len(m.records) > 2*maxAnswers {
		t.Errorf("%d questions, %d records", len(m.questions), len(m.records))
	}
	check := func(s string) {
		if !utf8.ValidString(s) || len(s) > 4*maxName {
			t.Errorf("%q is no name", s)
		}
	}
	for _, strays := range []bool{true, false} {
		addresses, names := 0, 0
		for i, answer := range m.answersTo(m.questions, strays) {
			check(m.questions[i].name)
			addresses += len(answer.addresses)
			names += len(answer.canonicalNames)
			for _, s := range answer.canonicalNames {
				check(s)
			}
		}
		if addresses > maxAnswers || names > 2*maxAnswers {
			t.Errorf("%d addresses, %d canonical names", addresses, names)
		}
	}
	for _, q := range m.questions {
		m.answered(q)
	}
}

func FuzzParseDNS(f *testing.F) {
	for _, c := range answerCases {
		data := wire(f, response(c.questions, c.answers, append(slices.Clone(c.additional), opt(f, 0x10))))
		f.Add(data)
		f.Add(data[:len(data)-5])
		// As multicast DNS has it: no question, records that replace older ones.
		alone := response(nil, slices.Clone(c.answers), c.additional)
		for i := range alone.Answers {
			alone.Answers[i].Header.Class |= 0x8000
		}
		f.Add(wire(f, alone))
	}
	for _, data := range hostileMessages() {
		f.Add(data[:min(len(data), 2000)])
	}
	f.Add(append(header(1, 1), 0xc0, 12, 0, 1, 0, 1))
	f.Add(append(header(1, 0), "\x0bPrinter 2.0\x04_ipp\x05local\x00\x00\x10\x80\x01"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := parseDNS(data); err == nil {
			checkBounds(t, m)
		}
	})
}
