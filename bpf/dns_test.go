package bpf

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// TestDNS asks a server on loopback, in a network namespace where port 53 is free.
func TestDNS(t *testing.T) {
	r := record(t, Config{})
	question := bytes.Repeat([]byte("q"), 40)
	inNetwork(t, func() {
		server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 53), Port: 53})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = server.Close() }()
		for _, size := range []int{100, 512, 513, 1500, 4000} {
			cmd := exec.Command("bash", "-c", `exec 3<>/dev/udp/127.0.0.53/53; printf %s "$1" >&3; head -c 1 <&3 >/dev/null`, "-", string(question))
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return
			}
			b := make([]byte, 100)
			n, from, err := server.ReadFrom(b)
			if err != nil || !bytes.Equal(b[:n], question) {
				t.Errorf("asked %q: %v", b[:n], err)
				return
			}
			answer := bytes.Repeat([]byte("a"), size)
			if _, err := server.WriteTo(answer, from); err != nil {
				t.Error(err)
				return
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			pid := cmd.Process.Pid
			messages := await(t, r, 2, "question and answer", func(d *DNS) bool { return int(d.PID) == pid })
			process := r.execsOf(pid)[0].Process
			for _, d := range messages {
				if d.Process != process || d.Server.String() != "127.0.0.53:53" || int(d.Port) != from.(*net.UDPAddr).Port {
					t.Errorf("%+v", d)
				}
			}
			q, a := messages[0], messages[1]
			if len(messages) != 2 || q.Response || !bytes.Equal(q.Payload, question) || int(q.Size) != len(question) {
				t.Errorf("question: %+v", q)
			}
			if !a.Response || !bytes.Equal(a.Payload, answer[:min(size, MaxDNS)]) || int(a.Size) != size {
				t.Errorf("answer of %d bytes: %d, size %d", size, len(a.Payload), a.Size)
			}
		}
	})
}

// translate sends connections to 127.0.0.11:53 to port 40053 of the same address, as
// a container's packet filter does for its resolver.
func translate(t *testing.T) {
	t.Helper()
	var port53, port40053 int32 = 53 << 8, 40053>>8 | 40053&0xff<<8
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:       ebpf.CGroupSockAddr,
		AttachType: ebpf.AttachCGroupInet4Connect,
		License:    "GPL",
		Instructions: asm.Instructions{
			// struct bpf_sock_addr: user_ip4 at 4, user_port at 24.
			asm.LoadMem(asm.R2, asm.R1, 4, asm.Word),
			asm.JNE.Imm32(asm.R2, 0x0b00007f, "pass"),
			asm.LoadMem(asm.R2, asm.R1, 24, asm.Word),
			asm.JNE.Imm32(asm.R2, port53, "pass"),
			asm.Mov.Imm32(asm.R2, port40053),
			asm.StoreMem(asm.R1, 24, asm.R2, asm.Word),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	root, err := openCgroupRoot("")
	if err != nil {
		t.Fatal(err)
	}
	l, err := root.attach(program, ebpf.AttachCGroupInet4Connect)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), root.close(), program.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestDNSTranslated: a container's resolver sits behind a translated port on
// loopback; the port that the process gave is 53.
func TestDNSTranslated(t *testing.T) {
	r := record(t, Config{})
	translate(t)
	inNetwork(t, func() {
		server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 11), Port: 40053})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = server.Close() }()
		ask := func(port string) int {
			cmd := exec.Command("bash", "-c", "echo question >/dev/udp/127.0.0.11/"+port)
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
			await(t, r, 1, "flow", func(f *Flow) bool { return int(f.PID) == cmd.Process.Pid && f.Destination.Port() == 40053 })
			return cmd.Process.Pid
		}
		pid := ask("53")
		q := await(t, r, 1, "question", func(d *DNS) bool { return int(d.PID) == pid })[0]
		if q.Response || q.Server.String() != "127.0.0.11:53" || string(q.Payload) != "question\n" {
			t.Errorf("%+v", q)
		}
		pid = ask("40053")
		if d := matching(r, func(d *DNS) bool { return int(d.PID) == pid }); len(d) != 0 {
			t.Errorf("a datagram to port 40053 is no question: %+v", d[0])
		}
	})
}

// TestLinkDNS asks everybody on the link: multicast DNS from its own port, so that all
// who listen there hear the answer, and LLMNR from another one.
func TestLinkDNS(t *testing.T) {
	r := record(t, Config{})
	question, answer := append(make([]byte, 12), "question"...), append(make([]byte, 12), "answer"...)
	answer[2] = 0x84
	for _, c := range []struct {
		name, group string
		from        string // group: the asker's own socket is one of those that hear all
	}{
		{"mdns 4", "224.0.0.251:5353", "group"},
		{"mdns 6", "[ff02::fb%lo]:5353", "group"},
		{"mdns from a port of its own", "224.0.0.251:5353", "port"},
		{"llmnr 4", "224.0.0.252:5355", "port"},
		{"llmnr 6", "[ff02::1:3%lo]:5355", "port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inNetwork(t, func() {
				if out, err := exec.Command("bash", "-c", "ip link set lo multicast on && ip route add 224.0.0.0/4 dev lo && ip -6 route add local ff00::/8 dev lo table local").CombinedOutput(); err != nil {
					t.Errorf("let loopback multicast: %v: %s", err, out)
					return
				}
				server, err := listenGroup(c.group)
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = server.Close() }()
				cmd := play(t, "link-dns", c.group, c.from, "question")
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				b := make([]byte, 100)
				_ = server.SetReadDeadline(time.Now().Add(5 * time.Second))
				n, from, err := server.ReadFromUDPAddrPort(b)
				if err != nil || !bytes.Equal(b[:n], question) {
					t.Errorf("asked %q: %v", b[:n], err)
					return
				}
				to := from
				if c.from == "group" {
					to = netip.MustParseAddrPort(c.group)
				}
				// Whoever asks on, from the port of those who answer, is no answer.
				for _, m := range [][]byte{question, answer} {
					if _, err := server.WriteToUDPAddrPort(m, to); err != nil {
						t.Error(err)
						return
					}
				}
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
				pid := cmd.Process.Pid
				group := netip.MustParseAddrPort(c.group)
				messages := await(t, r, 2, "question and answer", func(d *DNS) bool { return int(d.PID) == pid })
				if len(messages) != 2 {
					t.Errorf("%d messages", len(messages))
					return
				}
				q, a := messages[0], messages[1]
				if q.Response || q.Server != netip.AddrPortFrom(group.Addr().WithZone(""), group.Port()) || !bytes.Equal(q.Payload, question) || q.Port != from.Port() {
					t.Errorf("question: %+v", q)
				}
				if !a.Response || a.Server.Port() != group.Port() || !bytes.Equal(a.Payload, answer) || a.Port != from.Port() {
					t.Errorf("answer: %+v", a)
				}
				// The one who answers asked nothing; what it sends is no question.
				for _, d := range matching(r, func(d *DNS) bool { return int(d.PID) == os.Getpid() }) {
					if !d.Response && bytes.Equal(d.Payload, answer) {
						t.Errorf("an answer that was sent: %+v", d)
					}
				}
			})
		})
	}
}

func listenGroup(group string) (*net.UDPConn, error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, err
	}
	address, err := net.ResolveUDPAddr("udp", group)
	if err != nil {
		return nil, err
	}
	return net.ListenMulticastUDP("udp", lo, address)
}

// playLinkDNS sends to a group, from a socket of the group or from another one, and
// waits for an answer: GROUP group|port QUESTION, which stands behind an empty header.
func playLinkDNS(args []string) error {
	to, err := net.ResolveUDPAddr("udp", args[0])
	if err != nil {
		return err
	}
	var c *net.UDPConn
	if args[1] == "group" {
		c, err = listenGroup(args[0])
	} else {
		c, err = net.ListenUDP("udp", nil)
	}
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(append(make([]byte, 12), args[2]...), to); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	for b := make([]byte, 100); ; {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if n > 2 && b[2]&0x80 != 0 {
			return c.Close()
		}
	}
}
