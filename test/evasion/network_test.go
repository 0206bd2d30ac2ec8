package evasion

import (
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func needsX86() (missing string) {
	if runtime.GOARCH != "amd64" {
		return "32-bit door of x86"
	}
	return ""
}

// handOutConnections is a daemon that gives whoever asks for one a connection of its own.
func handOutConnections(t *testing.T, s *step) {
	l, err := net.Listen("unix", filepath.Join(s.dir, "daemon"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := net.Dial("tcp", s.replace.Replace("ADDRESS:PORT"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	file, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	connection := unix.UnixRights(int(file.Fd()))
	go func() {
		asker, err := l.Accept()
		if err != nil {
			return
		}
		_, _, _ = asker.(*net.UnixConn).WriteMsgUnix([]byte{0}, connection, nil)
		_ = asker.Close()
	}()
}

var networkTricks = []trick{
	{name: "TCP over IPv4", run: []string{"tcp4.c"}, want: []string{"tcp4 sent tcp ADDRESS:PORT"}},
	{name: "TCP over IPv6", run: []string{"tcp6.c"}, want: []string{"tcp6 sent tcp [::1]:PORT"}},
	{name: "TCP to a mapped address", run: []string{"tcp_mapped.c"}, want: []string{"tcp_mapped sent tcp ADDRESS:PORT"}},
	{name: "TCP Fast Open", run: []string{"fast_open.c"}, want: []string{"fast_open sent tcp ADDRESS:PORT"}},
	{name: "TCP Fast Open by option", run: []string{"fast_open_later.c"}, want: []string{"fast_open_later sent tcp ADDRESS:PORT"}},
	{name: "Multipath TCP", run: []string{"mptcp.c"}, want: []string{"mptcp sent tcp ADDRESS:PORT"}},
	{name: "connection given up at once", run: []string{"tcp_given_up.c"}, want: []string{"tcp_given_up sent tcp ADDRESS:PORT"}},
	{name: "TCP socket connected anew", run: []string{"tcp_again.c"}, want: []string{"tcp_again sent tcp 127.0.0.1:PORT", "tcp_again sent tcp ADDRESS:PORT"}},
	{name: "TCP without SYN", run: []string{"tcp_repair.c"}, want: []string{"tcp_repair sent tcp ADDRESS:PORT"}},
	{name: "TCP to itself", run: []string{"tcp_self.c"}, want: []string{"tcp_self sent tcp ADDRESS:9"}},
	{name: "UDP by sendto", run: []string{"udp_sendto.c"}, want: []string{"udp_sendto sent udp ADDRESS:PORT"}},
	{name: "UDP over IPv6", run: []string{"udp6.c"}, want: []string{"udp6 sent udp [::1]:PORT"}},
	{name: "UDP in segments", run: []string{"udp_segments.c"}, want: []string{"udp_segments sent udp ADDRESS:PORT"}},
	{name: "UDP by sendmsg", run: []string{"udp_sendmsg.c"}, want: []string{"udp_sendmsg sent udp ADDRESS:PORT"}},
	{name: "UDP by sendmmsg", run: []string{"udp_sendmmsg.c"}, want: []string{"udp_sendmmsg sent udp ADDRESS:PORT"}},
	{name: "UDP to a mapped address", run: []string{"udp_mapped.c"}, want: []string{"udp_mapped sent udp ADDRESS:PORT"}},
	{name: "UDP of a connected socket", run: []string{"udp_connected.c"}, want: []string{"udp_connected sent udp ADDRESS:PORT"}},
	{name: "UDP socket connected anew", run: []string{"udp_again.c"}, want: []string{"udp_again sent udp ADDRESS:PORT"}},
	{name: "UDP by splice", run: []string{"udp_splice.c"}, want: []string{"udp_splice sent udp ADDRESS:PORT"}},
	{name: "UDP-Lite", run: []string{"udplite.c"}, want: []string{"udplite sent 136 ADDRESS:0"}},
	{name: "TCP by io_uring", run: []string{"uring_connect.c"}, want: []string{"uring_connect sent tcp ADDRESS:PORT"}},
	{name: "UDP by io_uring", run: []string{"uring_sendmsg.c"}, want: []string{"uring_sendmsg sent udp ADDRESS:PORT"}},
	{name: "TCP by io_uring's own thread", run: []string{"uring_thread.c"}, want: []string{"uring_thread sent tcp ADDRESS:PORT"}},
	{name: "ICMP of a raw socket", run: []string{"raw_icmp.c"}, want: []string{"raw_icmp sent icmp ADDRESS:0"}},
	{name: "ICMP of a ping socket", run: []string{"ping_socket.c"}, want: []string{"ping_socket sent icmp ADDRESS:0"}},
	{name: "UDP packet made by hand", run: []string{"raw_udp.c"}, want: []string{"raw_udp sent udp ADDRESS:PORT"}},
	{name: "UDP packet behind an IPv6 extension", run: []string{"raw_udp6.c"}, want: []string{"raw_udp6 sent udp [::1]:PORT"}},
	{name: "TCP packet made by hand", run: []string{"raw_tcp.c"}, want: []string{"raw_tcp sent tcp ADDRESS:PORT"}},
	{name: "SCTP packet made by hand", run: []string{"raw_sctp.c"}, want: []string{"raw_sctp sent sctp ADDRESS:PORT"}},
	{name: "unknown protocol", run: []string{"raw_unknown.c"}, want: []string{"raw_unknown sent 253 ADDRESS:0"}},
	{
		name: "frame of a packet socket", run: []string{"packet_socket.c"}, want: []string{"packet_socket privilege packets"},
	},
	{
		name: "frame past the device's queue", run: []string{"packet_bypass.c"}, want: []string{"packet_bypass privilege packets"},
	},
	{
		name: "packet through a tunnel device", run: []string{"tun.c"}, want: []string{"tun sent *"},
		unseen: "What a process hands to a tunnel device (`/dev/net/tun`)",
	},
	{name: "tunnel that the kernel makes", run: []string{"vxlan.sh"}, want: []string{"python3 sent udp 198.51.100.2:9"}},
	{
		name: "other end of the kernel's tunnel", run: []string{"vxlan.sh"}, want: []string{"python3 sent udp ADDRESS:PORT"},
		unseen: "The packets that the kernel makes of what goes into a tunnel (VXLAN, WireGuard)",
	},
	{name: "connected socket inherited across exec", run: []string{"exec_socket.c"}, want: []string{"exec_socket sent udp ADDRESS:PORT"}},
	{name: "socket inherited across exec", run: []string{"exec_unconnected.c"}, want: []string{"exec_unconnected sent tcp ADDRESS:PORT"}},
	{name: "socket passed on", run: []string{"passed_socket.c"}, want: []string{"passed_socket sent udp ADDRESS:PORT"}},
	{name: "connection passed on", run: []string{"passed_connection.c"}, want: []string{"passed_connection sent tcp ADDRESS:PORT"}},
	{name: "connected UDP socket passed on", run: []string{"passed_udp.c"}, want: []string{"passed_udp sent udp ADDRESS:PORT"}},
	{name: "socket taken by pidfd_getfd", run: []string{"stolen_socket.c"}, want: []string{"stolen_socket sent udp ADDRESS:PORT"}},
	{name: "network namespace of its own", run: []string{"own_netns.c"}, want: []string{"own_netns sent udp ADDRESS:PORT"}},
	{name: "socket of another network namespace", run: []string{"other_netns.c"}, want: []string{"other_netns sent udp ADDRESS:PORT"}},
	{name: "two network namespaces", run: []string{"veth.sh"}, want: []string{"python3 sent tcp 198.51.100.1:PORT"}},
	{name: "cgroup of its own", run: []string{"own_cgroup.c"}, want: []string{"own_cgroup sent udp ADDRESS:PORT"}},
	{name: "born into another cgroup", run: []string{"into_cgroup.c"}, want: []string{"into_cgroup sent tcp ADDRESS:PORT"}},
	{name: "32-bit system calls", run: []string{"calls32.c"}, needs: needsX86, want: []string{"calls32 sent tcp ADDRESS:PORT"}},
	{name: "server that waits", run: []string{"server.c"}, want: []string{"server started listening tcp 198.51.100.7:PORT", "server started inbound tcp 198.51.100.7:PORT"}},
	{
		name: "answer of a UDP server", run: []string{"udp_answer.c"}, want: []string{"udp_answer sent udp ADDRESS:8"},
		unseen: "What a UDP server answers to those who sent to it first is no flow",
	},
	{
		name: "connection of a daemon", run: []string{"daemon.c"}, beside: handOutConnections, want: []string{"daemon used tcp ADDRESS:PORT"},
	},
	{name: "name looked up", run: []string{"name_own.c"}, want: []string{"name_own asked NAME A", "name_own sent tcp ADDRESS:PORT as NAME by process"}},
	{name: "name looked up by another process", run: []string{"name_other.c"}, want: []string{"name_other sent tcp ADDRESS:PORT as NAME by job"}},
	{name: "name looked up before exec", run: []string{"name_before_exec.c"}, want: []string{"name_before_exec sent tcp ADDRESS:PORT as NAME by process"}},
	{name: "DNS over TCP byte by byte", run: []string{"dns_tcp.c"}, want: []string{"dns_tcp asked NAME A", "dns_tcp sent tcp ADDRESS:PORT as NAME by process"}},
	{name: "DNS over TCP from port 53", run: []string{"dns_tcp.c", "53"}, want: []string{"dns_tcp asked NAME A", "dns_tcp sent tcp ADDRESS:PORT as NAME by process"}},
	{name: "DNS in mixed case", run: []string{"dns_mixed.c"}, want: []string{"dns_mixed asked NAME A", "dns_mixed sent tcp ADDRESS:PORT as NAME by process"}},
	{name: "DNS packet made by hand", run: []string{"dns_by_hand.c"}, want: []string{"dns_by_hand asked NAME A", "dns_by_hand sent tcp ADDRESS:PORT as NAME by process"}},
	{name: "DNS by a raw socket alone", run: []string{"dns_raw_answer.c"}, want: []string{"dns_raw_answer asked NAME A", "dns_raw_answer sent tcp ADDRESS:PORT as NAME by process"}},
	{name: "DNS question from port 53", run: []string{"dns_from_53.c"}, want: []string{"dns_from_53 asked NAME A", "dns_from_53 sent tcp ADDRESS:PORT as NAME by process"}},
	{
		name: "DNS on another port", run: []string{"dns_other_port.c"}, want: []string{"dns_other_port asked *"},
		unseen: "DNS on another port than 53",
	},
	{name: "ClientHello byte by byte", run: []string{"hello.py", "bytes"}, want: []string{"python3 said tls NAME"}},
	{name: "ClientHello in two segments", run: []string{"hello.py", "segments"}, want: []string{"python3 said tls NAME"}},
	{name: "ClientHello in two records", run: []string{"hello.py", "records"}, want: []string{"python3 said tls NAME"}},
	{name: "ClientHello after plain text", run: []string{"hello.py", "plain text"}, want: []string{"python3 said tls NAME"}},
	{name: "ClientHello in the first packet", run: []string{"hello.py", "first packet"}, want: []string{"python3 said tls NAME"}},
	{name: "ClientHello held back by MSG_MORE", run: []string{"hello.py", "more"}, want: []string{"python3 said tls NAME"}},
}
