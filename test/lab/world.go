package lab

import (
	"context"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// childVariable tells this program to be the world: the namespaces belong to the
// process that serves in them.
const childVariable = "SALLYPORT_LAB_WORLD"

// resolver is on a private address, as in a cloud's network.
const resolver = "10.53.0.53"

// hosts are the names of the world. All addresses are reserved for documentation.
var hosts = map[string][]string{
	"registry.example.test":  {"198.51.100.10"},
	"cache.example.test":     {"198.51.100.11", "2001:db8::11"},
	"telemetry.example.test": {"198.51.100.12"},
	"mirror.example.test":    {"198.51.100.13"},
	"gist.example.test":      {"203.0.113.66"},
	"collect.example.test":   {"203.0.113.67"},
}

// BareAddress is an address of the world that no name leads to.
const BareAddress = "203.0.113.99"

// MetadataAddress is where clouds answer with an instance's credentials.
const MetadataAddress = "169.254.169.254"

//go:embed pages
var pages embed.FS

// BeWorld is called first in main or TestMain: in the process that Open starts it
// serves until its standard input closes and ends the program. In any other
// process it does nothing.
func BeWorld() {
	if os.Getenv(childVariable) == "" {
		return
	}
	if err := world(); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func world() error {
	if err := addresses(); err != nil {
		return err
	}
	if err := resolveHere(); err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", net.JoinHostPort(resolver, "53"))
	if err != nil {
		return fmt.Errorf("listen for questions: %w", err)
	}
	web, err := net.Listen("tcp", ":80")
	if err != nil {
		return fmt.Errorf("listen for requests: %w", err)
	}
	failed := make(chan error, 2)
	names := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(answer)}
	site := &http.Server{Handler: http.HandlerFunc(serve), ReadHeaderTimeout: 5 * time.Second}
	go func() { failed <- names.ActivateAndServe() }()
	go func() { failed <- site.Serve(web) }()
	closed := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		closed <- err
	}()
	fmt.Println("ready")
	select {
	case err := <-failed:
		return err
	case err := <-closed:
		return err
	}
}

// addresses gives the namespace its addresses: all on the loopback interface, so
// that traffic stays inside while none of them is a loopback address.
func addresses() error {
	commands := []string{"link set lo up", "address add " + resolver + "/32 dev lo",
		"address add " + BareAddress + "/32 dev lo", "address add " + MetadataAddress + "/32 dev lo"}
	for _, list := range hosts {
		for _, a := range list {
			addr := netip.MustParseAddr(a)
			command := fmt.Sprintf("address add %s/%d dev lo", a, addr.BitLen())
			if addr.Is6() {
				command += " nodad"
			}
			commands = append(commands, command)
		}
	}
	for _, c := range commands {
		if out, err := exec.CommandContext(context.Background(), "ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, out)
		}
	}
	return nil
}

// resolveHere makes programs in the mount namespace ask the world's resolver.
func resolveHere() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	dir, err := os.MkdirTemp("", "sallyport-lab-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is mounted stays
	for path, text := range map[string]string{
		"/etc/resolv.conf":   "nameserver " + resolver + "\noptions timeout:1 attempts:1\n",
		"/etc/nsswitch.conf": "hosts: files dns\n",
	} {
		file := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", file, err)
		}
		target, err := filepath.EvalSymlinks(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // the C library's defaults then: 127.0.0.1 and DNS
		}
		if err != nil {
			return fmt.Errorf("find %s: %w", path, err)
		}
		if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", target, err)
		}
	}
	return nil
}

// loopingName is one that the world answers with a name that points to itself.
const loopingName = "loop.example.test"

// answer answers questions for the names of the world.
func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	for _, question := range q.Question {
		name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
		if name == loopingName {
			_, _ = w.Write(loop(m)) // who asked has gone
			return
		}
		list, ok := hosts[name]
		if !ok {
			m.Rcode = dns.RcodeNameError
			continue
		}
		for _, a := range list {
			addr := netip.MustParseAddr(a)
			head := dns.RR_Header{Name: question.Name, Class: dns.ClassINET, Ttl: 60}
			switch {
			case question.Qtype == dns.TypeA && addr.Is4():
				head.Rrtype = dns.TypeA
				m.Answer = append(m.Answer, &dns.A{Hdr: head, A: net.IP(addr.AsSlice())})
			case question.Qtype == dns.TypeAAAA && addr.Is6():
				head.Rrtype = dns.TypeAAAA
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: head, AAAA: net.IP(addr.AsSlice())})
			}
		}
	}
	_ = w.WriteMsg(m) // who asked has gone
}

// serve answers requests to every address of the world.
func serve(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a client that breaks off has its reasons
	if page, err := pages.ReadFile("pages/" + r.Host + r.URL.Path); err == nil {
		_, _ = w.Write(page)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// loop returns the reply with one answer, whose name is a pointer to that pointer.
func loop(reply *dns.Msg) []byte {
	packed, err := reply.Pack()
	if err != nil {
		return nil
	}
	binary.BigEndian.PutUint16(packed[6:], 1) // answers
	at := uint16(len(packed))
	packed = binary.BigEndian.AppendUint16(packed, 0xc000|at)
	return append(packed, 0, byte(dns.TypeA), 0, dns.ClassINET, 0, 0, 0, 60, 0, 4, 198, 51, 100, 13)
}
