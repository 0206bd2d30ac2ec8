package agent

import (
	"net/netip"
	"slices"
	"testing"
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

func answerMessage(t testing.TB) []byte {
	name := func(s string) dnsmessage.Name { return dnsmessage.MustNewName(s) }
	head := func(s string) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: name(s), Class: dnsmessage.ClassINET, TTL: 60}
	}
	return wire(t, dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, Response: true},
		Questions: []dnsmessage.Question{{Name: name("WWW.example.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{
			{Header: head("www.example.test."), Body: &dnsmessage.CNAMEResource{CNAME: name("edge.example.test.")}},
			{Header: head("edge.example.test."), Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}}},
			{Header: head("edge.example.test."), Body: &dnsmessage.TXTResource{TXT: []string{"ignored"}}},
			{Header: head("edge.example.test."), Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::7").As16()}},
		},
	})
}

func TestParseDNS(t *testing.T) {
	data := answerMessage(t)
	m, err := parseDNS(data)
	if err != nil {
		t.Fatal(err)
	}
	addresses := []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
	if m.name != "www.example.test" || m.qtype != "A" || m.code != "NOERROR" || !m.response || m.id != 7 ||
		!slices.Equal(m.addresses, addresses) || !slices.Equal(m.canonicalNames, []string{"edge.example.test"}) {
		t.Errorf("%+v", m)
	}
	// What came before the cut counts.
	cut, err := parseDNS(data[:len(data)-20])
	if err != nil || !slices.Equal(cut.addresses, addresses[:1]) {
		t.Errorf("cut: %+v, %v", cut, err)
	}
	// A name that points at itself.
	loop := []byte{0, 7, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}
	if m, err := parseDNS(loop); err == nil {
		t.Errorf("a loop of pointers: %+v", m)
	}
}

func FuzzParseDNS(f *testing.F) {
	data := answerMessage(f)
	f.Add(data)
	f.Add(data[:len(data)-5])
	f.Add([]byte{0, 7, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseDNS(data)
		if err != nil {
			return
		}
		for _, s := range append(m.canonicalNames, m.name, m.qtype, m.code) {
			if !utf8.ValidString(s) {
				t.Errorf("%q is not UTF-8", s)
			}
		}
		if len(m.addresses)+len(m.canonicalNames) > maxAnswers {
			t.Errorf("%d answers", len(m.addresses)+len(m.canonicalNames))
		}
	})
}
