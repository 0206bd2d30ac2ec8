package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// inNetwork runs f in a network namespace of its own, whose loopback is up, takes
// multicasts, and has the addresses 192.0.2.0/24.
func inNetwork(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and with it its namespace.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		const up = "ip link set lo up multicast on && ip addr add 192.0.2.0/24 dev lo && ip route add 224.0.0.0/4 dev lo"
		if out, err := exec.Command("bash", "-c", up).CombinedOutput(); err != nil {
			done <- fmt.Errorf("set loopback up: %w: %s", err, out)
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func listen(address string) (net.PacketConn, error) {
	return net.ListenPacket("udp4", address)
}

// serveNames answers on a socket until the test ends. Answers are NOERROR.
func serveNames(t *testing.T, c net.PacketConn, answer func(q dns.Question) []dns.RR) {
	server := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = answer(q.Question[0])
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = c.Close() })
}

func record(t *testing.T, s string) dns.RR {
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Error(err)
	}
	return rr
}

// serveMulticast answers questions for printer.local as multicast DNS has it: to
// everybody, without the question, with more than was asked for.
func serveMulticast(t *testing.T, c *net.UDPConn) {
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		for b := make([]byte, 1500); ; {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(b[:n]) != nil || q.Response {
				continue
			}
			m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}}
			m.Answer = []dns.RR{record(t, "bystander.local. 120 IN A 192.0.2.66"), record(t, "printer.local. 120 IN A 192.0.2.10")}
			m.Extra = []dns.RR{record(t, `printer.local. 120 IN TXT "paper=a4"`)}
			for _, rr := range m.Answer {
				rr.Header().Class |= 0x8000
			}
			out, err := m.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = c.WriteTo(out, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
		}
	}()
}

// asksEverybody is a step that asks for printer.local from the port of multicast DNS,
// then connects to what it was told.
const asksEverybody = `
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 5353))
group = socket.inet_aton("224.0.0.251")
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4sii", group, 0, 1))
s.settimeout(5)
s.sendto(bytes(4) + b"\0\1" + bytes(6) + b"\7printer\5local\0" + struct.pack(">HH", 1, 0x8001), ("224.0.0.251", 5353))
while s.recv(1500)[2] & 0x80 == 0: pass
for address in ("192.0.2.10", "192.0.2.66"):
    socket.socket().connect_ex((address, 9))
`

// TestStubResolver plays jobs on a machine whose resolver is one on loopback, as
// systemd-resolved is, that asks a server for names on the way.
func TestStubResolver(t *testing.T) {
	k := observe(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	copyFile(t, "/bin/bash", filepath.Join(dir, "Runner.Worker"))
	write("resolv.conf", "nameserver 127.0.0.53\noptions edns0\n")
	write("look.py", "import socket, sys\nfor a in socket.getaddrinfo(sys.argv[1], 9, type=socket.SOCK_STREAM): socket.socket().connect_ex(a[4])\n")
	write("link.py", asksEverybody)
	const step = "GITHUB_ACTION=a GITHUB_RUN_ID=1 GITHUB_JOB=build GITHUB_REPOSITORY=acme/resolver-"
	first := write("first.sh", "mount --bind DIR/resolv.conf /etc/resolv.conf\n"+
		step+"one python3 DIR/look.py www.example.test\n"+
		step+"one python3 DIR/look.py 192.0.2.7\n"+
		step+"one python3 DIR/link.py\ntrue\n")
	second := write("second.sh", step+"two python3 DIR/look.py 192.0.2.7\ntrue\n")

	inNetwork(t, func() error {
		upstream, err := listen("192.0.2.53:53")
		if err != nil {
			return err
		}
		stub, err := listen("127.0.0.53:53")
		if err != nil {
			return err
		}
		toUpstream, err := net.Dial("udp4", "192.0.2.53:53")
		if err != nil {
			return err
		}
		lo, err := net.InterfaceByName("lo")
		if err != nil {
			return err
		}
		link, err := net.ListenMulticastUDP("udp4", lo, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
		if err != nil {
			return err
		}
		serveMulticast(t, link)
		serveNames(t, upstream, func(q dns.Question) []dns.RR {
			if q.Qtype != dns.TypeA {
				return nil
			}
			return []dns.RR{record(t, q.Name+" 60 IN A 192.0.2.7")}
		})
		t.Cleanup(func() { _ = toUpstream.Close() })
		serveNames(t, stub, func(q dns.Question) []dns.RR {
			if q.Qtype != dns.TypeA {
				return nil
			}
			alias := record(t, q.Name+" 60 IN CNAME edge.example.test.")
			ask := new(dns.Msg).SetQuestion("edge.example.test.", q.Qtype)
			got, _, err := new(dns.Client).ExchangeWithConn(ask, &dns.Conn{Conn: toUpstream})
			if err != nil {
				t.Error(err)
				return nil
			}
			return append([]dns.RR{alias}, got.Answer...)
		})
		for _, script := range []string{first, second} {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			cmd := exec.CommandContext(ctx, filepath.Join(dir, "Runner.Worker"), script)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			out, err := cmd.CombinedOutput()
			cancel()
			if err != nil {
				return fmt.Errorf("%s: %w: %s", script, err, out)
			}
		}
		return nil
	})

	var named, asked []string
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		ended := 0
		named, asked = nil, nil
		for _, e := range k.events(t) {
			if !strings.HasPrefix(e.at.GetRepository(), "acme/resolver-") {
				continue // of others on this machine
			}
			if f := e.GetFlow(); f.GetPhase() == sallyportv1.FlowPhase_FLOW_PHASE_ENDED && f.GetDestinationPort() == 9 && f.GetProtocol() == sallyportv1.Protocol_PROTOCOL_TCP {
				source := strings.ToLower(strings.TrimPrefix(f.DomainSource.String(), "DOMAIN_SOURCE_"))
				named = append(named, strings.Join([]string{e.at.GetRepository(), net.IP(f.DestinationAddress).String(), f.Domain, source}, " "))
			}
			if x := e.GetDnsExchange(); x != nil {
				asked = append(asked, strings.Join(append([]string{x.Name, x.Type, x.ResponseCode, net.IP(x.ServerAddress).String()}, x.CanonicalNames...), " "))
			}
			if e.GetJobEnded() != nil {
				ended++
			}
		}
		if ended == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d jobs of 2 ended", ended)
		}
	}
	if want := []string{
		"acme/resolver-one 192.0.2.7 www.example.test process", "acme/resolver-one 192.0.2.7 www.example.test job",
		"acme/resolver-one 192.0.2.10 printer.local process", "acme/resolver-one 192.0.2.66  unspecified",
		"acme/resolver-two 192.0.2.7 www.example.test host",
	}; !slices.Equal(named, want) {
		t.Errorf("connections\n%s\nwant\n%s", strings.Join(named, "\n"), strings.Join(want, "\n"))
	}
	slices.Sort(asked) // A and AAAA are asked for at once
	if want := []string{
		"printer.local A NOERROR 224.0.0.251",
		"www.example.test A NOERROR 127.0.0.53 edge.example.test", "www.example.test AAAA NOERROR 127.0.0.53",
	}; !slices.Equal(asked, want) {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
}
