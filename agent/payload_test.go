package agent

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// TestFirstBytes plays a step whose programs say in several ways where they want to go.
func TestFirstBytes(t *testing.T) {
	k := observe(t)
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				// Long enough to have heard all, as a server that answers later.
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				for b := make([]byte, 4096); ; {
					if _, err := c.Read(b); err != nil {
						_ = c.Close()
						return
					}
				}
			}()
		}
	}()
	resolver, err := net.Listen("tcp", "127.0.0.87:53")
	if err != nil {
		t.Fatal(err)
	}
	names := &dns.Server{Listener: resolver, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(127, 0, 0, 5)}}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = names.ActivateAndServe() }()
	defer func() { _ = names.Shutdown() }()
	packet, err := filepath.Abs("testdata/quic-initial.bin")
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	worker := filepath.Join(dir, "Runner.Worker")
	copyFile(t, "/bin/bash", worker)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	script := filepath.Join(dir, "step.py")
	if err := os.WriteFile(script, []byte(`
import socket, ssl, struct, sys, time
port, packet = int(sys.argv[1]), sys.argv[2]
def hello(name):
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    c = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try: c.do_handshake()
    except ssl.SSLWantReadError: pass
    return out.read()
def send(*parts, to="127.0.0.1"):
    s = socket.create_connection((to, port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for p in parts:
        s.sendall(p)
        time.sleep(0.05)
    s.close()
h = hello("whole.example.test"); send(h)
h = hello("split.example.test"); send(h[:4], h[4:60], h[60:])
h = hello("single.example.test"); send(*[h[i:i+1] for i in range(8)], h[8:])
h = hello("later.example.test"); send(b"EHLO x\r\nSTARTTLS\r\n", h)
h = hello("dns.google"); send(h)
send(b"GET / HTTP/1.1\r\n\r\n" + hello("hidden.example.test"))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.sendto(open(packet, "rb").read(), ("127.0.0.1", 4433))
u.sendto(b"\xc3" * 1200, ("127.0.0.1", 4434))
q = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\x03tcp\x07example\x04test\x00" + struct.pack(">HH", 1, 1)
d = socket.create_connection(("127.0.0.87", 53))
m = struct.pack(">H", len(q)) + q
d.sendall(m[:1]); time.sleep(0.05); d.sendall(m[1:])
d.recv(4096); d.close()
time.sleep(0.1)
send(b"hello", to="127.0.0.5")
`), 0o600); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "work.sh")
	if err := os.WriteFile(work, []byte(`GITHUB_ACTION=go GITHUB_REPOSITORY=acme/bytes GITHUB_RUN_ID=1 GITHUB_JOB=build /usr/bin/python3 `+script+" "+port+" "+packet+"\ntrue\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), worker, work).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	var got, asked, led []string
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		ended := false
		got, asked, led = nil, nil, nil
		for _, s := range k.events(t) {
			if s.at.GetRepository() != "acme/bytes" {
				continue
			}
			ended = ended || s.GetJobEnded() != nil
			if f := s.GetFlow(); f.GetPhase() == sallyportv1.FlowPhase_FLOW_PHASE_IDENTIFIED {
				got = append(got, f.ServerName+" "+strings.ToLower(strings.TrimPrefix(f.Application.String(), "APPLICATION_")))
			}
			if d := s.GetDnsExchange(); d != nil {
				asked = append(asked, d.Name+" "+d.Type+" "+d.ResponseCode)
			}
			if f := s.GetFlow(); f.GetPhase() == sallyportv1.FlowPhase_FLOW_PHASE_ENDED && f.GetDomain() != "" {
				led = append(led, f.Domain)
			}
		}
		if ended {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the job did not end")
		}
	}
	want := []string{
		"whole.example.test tls", "split.example.test tls", "single.example.test tls", "later.example.test tls",
		"dns.google dns_over_https", "quic.example.test quic",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if want := []string{"tcp.example.test A NOERROR"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if want := []string{"tcp.example.test"}; !slices.Equal(led, want) {
		t.Errorf("flows with a name: %q, want %q", led, want)
	}
}

// TestInOrder cuts a stream into pieces and gives them in any order, some twice.
func TestInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		whole := make([]byte, 1+random.IntN(3000))
		for i := range whole {
			whole[i] = byte(random.Uint32())
		}
		base := random.Uint32()
		var pieces []piece
		for at := 0; at < len(whole); {
			n := 1 + random.IntN(min(200, len(whole)-at))
			from := max(0, at-random.IntN(20)) // retransmitted together with what is before
			pieces = append(pieces, piece{base + uint32(from), whole[from : at+n]})
			at += n
		}
		first := pieces[0]
		for range 5 {
			pieces = append(pieces, pieces[random.IntN(len(pieces))])
		}
		random.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		var o inOrder
		o.add(first.sequence, first.data)
		for _, p := range pieces {
			o.add(p.sequence, p.data)
		}
		if !slices.Equal(o.data, whole) {
			t.Fatalf("%d of %d bytes", len(o.data), len(whole))
		}
	}
}
