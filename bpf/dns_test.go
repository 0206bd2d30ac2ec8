package bpf

import (
	"bytes"
	"errors"
	"net"
	"os/exec"
	"testing"

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

// translate sends connections to 127.0.0.11:53 to port 5353 of the same address, as
// a container's packet filter does for its resolver.
func translate(t *testing.T) {
	t.Helper()
	var port53, port5353 int32 = 53 << 8, 5353>>8 | 5353&0xff<<8
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
			asm.Mov.Imm32(asm.R2, port5353),
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
		server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 11), Port: 5353})
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
			await(t, r, 1, "flow", func(f *Flow) bool { return int(f.PID) == cmd.Process.Pid && f.Destination.Port() == 5353 })
			return cmd.Process.Pid
		}
		pid := ask("53")
		q := await(t, r, 1, "question", func(d *DNS) bool { return int(d.PID) == pid })[0]
		if q.Response || q.Server.String() != "127.0.0.11:53" || string(q.Payload) != "question\n" {
			t.Errorf("%+v", q)
		}
		pid = ask("5353")
		if d := matching(r, func(d *DNS) bool { return int(d.PID) == pid }); len(d) != 0 {
			t.Errorf("a datagram to port 5353 is no question: %+v", d[0])
		}
	})
}
