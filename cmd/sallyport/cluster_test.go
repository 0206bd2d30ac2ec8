package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/sallyport-ci/sallyport/cmd/internal/process"
	"github.com/sallyport-ci/sallyport/stream"
)

// runNATSServer is nats-server, as far as its tests need it: it ends with its standard
// input, so that it does not outlive a test that is killed.
func runNATSServer() int {
	options, err := natsserver.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ContinueOnError), os.Args[1:], func() {}, func() {}, func() {})
	if err != nil {
		fmt.Fprintln(os.Stderr, "nats-server:", err)
		return 1
	}
	s, err := natsserver.NewServer(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nats-server:", err)
		return 1
	}
	s.ConfigureLogger()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	s.Start()
	s.WaitForShutdown()
	return 0
}

// child runs this test binary as another program.
func child(t *testing.T, name string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = append([]string{name}, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}, env...)
	return cmd
}

// cluster is three servers that run with the files in deployments/nats, and what an
// operator has made for them.
type cluster struct {
	t       *testing.T
	dir     string
	env     []string
	servers []*clusterServer
}

type clusterServer struct {
	name string
	addr string
	env  []string
	cmd  *exec.Cmd
	log  string
}

// The roles of deployments/nats/permissions.conf; each has a seed NAME.nk.
var clusterUsers = map[string]string{
	"declare": "NKEY_DECLARE", "ingest": "NKEY_INGEST", "detector": "NKEY_DETECTOR", "notify": "NKEY_NOTIFY", "server": "NKEY_SERVER", "checks": "NKEY_CHECKS",
	"runner-1": "NKEY_AGENT_RUNNER_1", "sys": "NKEY_SYS",
}

// newCluster does what docs/cluster.md says, steps 1 to 3.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	c.certificates()
	for user, variable := range clusterUsers {
		c.env = append(c.env, variable+"="+c.nkey(user))
	}
	ports := freePorts(t, 6)
	var routes []string
	for _, p := range ports[3:] {
		routes = append(routes, fmt.Sprintf(`"nats-route://127.0.0.1:%d"`, p))
	}
	for i := range 3 {
		name := fmt.Sprintf("nats-%d", i+1)
		s := &clusterServer{name: name, addr: fmt.Sprintf("127.0.0.1:%d", ports[i]), log: c.path(name + ".log")}
		s.env = append([]string{
			"NATS_NAME=" + name,
			fmt.Sprintf(`NATS_LISTEN="%s"`, s.addr),
			fmt.Sprintf(`NATS_CLUSTER_LISTEN="127.0.0.1:%d"`, ports[3+i]),
			"NATS_ROUTES=[" + strings.Join(routes, ", ") + "]",
			fmt.Sprintf(`NATS_CERT="%s"`, c.path("server.pem")),
			fmt.Sprintf(`NATS_KEY="%s"`, c.path("server.key")),
			fmt.Sprintf(`NATS_CA="%s"`, c.path("ca.pem")),
			fmt.Sprintf(`NATS_STORE="%s"`, c.path(name)),
			"NATS_MAX_STORE=2GB",
		}, c.env...)
		c.servers = append(c.servers, s)
		c.start(s)
	}
	return c
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) start(s *clusterServer) {
	c.t.Helper()
	c.startWith(s, filepath.Join("..", "..", "deployments", "nats", "nats-server.conf"))
}

func (c *cluster) startWith(s *clusterServer, conf string) {
	c.t.Helper()
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	cmd := child(c.t, "nats-server", s.env, "-c", conf)
	cmd.Stdout, cmd.Stderr = out, out
	if _, err := cmd.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	s.cmd = cmd
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if c.t.Failed() {
			text, _ := os.ReadFile(s.log)
			c.t.Logf("log of %s:\n%s", s.name, lastLines(string(text), 30))
		}
	})
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// kill is what the kernel does when memory runs out.
func (c *cluster) kill(s *clusterServer) {
	c.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	_ = s.cmd.Wait()
}

// urls are the addresses of all servers, as one flag takes them.
func (c *cluster) urls() string {
	var all []string
	for _, s := range c.servers {
		all = append(all, "tls://"+s.addr)
	}
	return strings.Join(all, ",")
}

// user is how a user of the cluster connects.
func (c *cluster) user(name string) *process.NATS {
	return &process.NATS{URL: c.urls(), Creds: c.path(name + ".nk"), CA: c.path("ca.pem")}
}

// connect connects as a user, as a part of Sallyport does. refused takes what NATS
// refuses.
func (c *cluster) connect(name, inbox string) (nc *nats.Conn, js jetstream.JetStream, refused chan error) {
	c.t.Helper()
	nc, err := c.user(name).Connect("test "+name, inbox, slog.New(slog.DiscardHandler))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	refused = make(chan error, 1024)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case refused <- err:
		default:
		}
	})
	eventually(c.t, time.Minute, func() error { return process.Connected(nc) })
	if js, err = jetstream.New(nc); err != nil {
		c.t.Fatal(err)
	}
	return nc, js, refused
}

// nkey makes a user's key and returns its public half.
func (c *cluster) nkey(user string) string {
	c.t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		c.t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(c.path(user+".nk"), seed, 0o600); err != nil {
		c.t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		c.t.Fatal(err)
	}
	return public
}

// certificates makes ca.pem, server.pem and server.key.
func (c *cluster) certificates() {
	c.t.Helper()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(c.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			c.t.Fatal(err)
		}
		return k
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	authorityKey, serverKey := key(), key()
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		c.t.Fatal(err)
	}
	write("ca.pem", "CERTIFICATE", der)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "nats.example.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
	}
	if der, err = x509.CreateCertificate(rand.Reader, server, authority, serverKey.Public(), authorityKey); err != nil {
		c.t.Fatal(err)
	}
	write("server.pem", "CERTIFICATE", der)
	if der, err = x509.MarshalPKCS8PrivateKey(serverKey); err != nil {
		c.t.Fatal(err)
	}
	write("server.key", "PRIVATE KEY", der)
}

func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// declare is step 4: `sallyport declare` as administrator.
func (c *cluster) declare(args ...string) string {
	c.t.Helper()
	cmd := child(c.t, "sallyport", nil, append([]string{
		"declare", "--nats", c.urls(), "--nats-ca", c.path("ca.pem"), "--nats-creds", c.path("declare.nk"),
	}, args...)...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("sallyport declare: %v\n%s%s", err, out, complaints.String())
	}
	return string(out)
}

// partProcess is a part of Sallyport that runs apart.
type partProcess struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan struct{}

	mu        sync.Mutex
	log       []string
	out       strings.Builder
	addresses map[string]string // by what listens there: address, rest, grpc
}

// run starts a part as step 5 says.
func (c *cluster) run(part string, args ...string) *partProcess {
	c.t.Helper()
	p := &partProcess{t: c.t, name: part, done: make(chan struct{}), addresses: make(map[string]string)}
	p.cmd = child(c.t, "sallyport", []string{
		"SALLYPORT_NATS=" + c.urls(), "SALLYPORT_NATS_CA=" + c.path("ca.pem"), "SALLYPORT_NATS_CREDS=" + c.path(part+".nk"),
		"SALLYPORT_DECLARE=false", "SALLYPORT_METRICS=127.0.0.1:0", "SALLYPORT_JSON=true",
	}, append([]string{part}, args...)...)
	log, err := p.cmd.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for s := bufio.NewScanner(log); s.Scan(); {
			var line map[string]any
			_ = json.Unmarshal(s.Bytes(), &line)
			p.mu.Lock()
			p.log = append(p.log, s.Text())
			for _, key := range []string{"address", "rest", "grpc", "webhooks"} {
				if a, ok := line[key].(string); ok {
					p.addresses[key] = a
				}
			}
			p.mu.Unlock()
		}
	})
	reading.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.out.WriteString(s.Text() + "\n")
			p.mu.Unlock()
		}
	})
	go func() {
		reading.Wait()
		_ = p.cmd.Wait()
		close(p.done)
	}()
	c.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if c.t.Failed() {
			c.t.Logf("log of %s:\n%s", part, lastLines(strings.Join(p.log, "\n"), 30))
		}
	})
	return p
}

func (p *partProcess) address(what string) string {
	p.t.Helper()
	var a string
	eventually(p.t, time.Minute, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if a = p.addresses[what]; a == "" {
			return fmt.Errorf("%s does not say its %s:\n%s", p.name, what, strings.Join(p.log, "\n"))
		}
		return nil
	})
	return a
}

func (p *partProcess) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// get asks over HTTP beside the metrics.
func (p *partProcess) get(path string) (code int, body string, err error) {
	answer, err := http.Get("http://" + p.address("address") + path)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

func (p *partProcess) waitReady() {
	p.t.Helper()
	eventually(p.t, 90*time.Second, func() error {
		code, body, err := p.get("/readyz")
		if err != nil || code != http.StatusOK {
			return fmt.Errorf("%s: /readyz says %d %w\n%s", p.name, code, err, body)
		}
		return nil
	})
}

// stop stops it in order.
func (p *partProcess) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.t.Fatalf("%s does not stop", p.name)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Errorf("%s stopped with exit code %d:\n%s", p.name, code, lastLines(strings.Join(p.log, "\n"), 10))
	}
}

func eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", limit, err)
		}
	}
}

// leader returns the server that leads a stream.
func (c *cluster) leader(js jetstream.JetStream, name string) *clusterServer {
	c.t.Helper()
	var found *clusterServer
	eventually(c.t, time.Minute, func() error {
		s, err := js.Stream(c.t.Context(), name)
		if err != nil {
			return err
		}
		for _, server := range c.servers {
			if cluster := s.CachedInfo().Cluster; cluster != nil && server.name == cluster.Leader {
				found = server
				return nil
			}
		}
		return fmt.Errorf("stream %s has no leader", name)
	})
	return found
}

// waitWhole waits until every replica of every stream is there and has heard of all.
func (c *cluster) waitWhole(js jetstream.JetStream) {
	c.t.Helper()
	eventually(c.t, 90*time.Second, func() error {
		for _, name := range []string{
			stream.EventsStream, stream.FindingsStream, stream.DeadLettersStream,
			"KV_" + stream.IngestBucket, "KV_" + stream.DetectorBucket, "KV_" + stream.NotifyBucket, "KV_" + stream.BaselinesBucket,
		} {
			s, err := js.Stream(c.t.Context(), name)
			if err != nil {
				return fmt.Errorf("stream %s: %w", name, err)
			}
			info := s.CachedInfo().Cluster
			if info == nil || info.Leader == "" || len(info.Replicas) != 2 {
				return fmt.Errorf("stream %s is not on three servers: %+v", name, info)
			}
			for _, r := range info.Replicas {
				if !r.Current || r.Offline {
					return fmt.Errorf("stream %s: %+v", name, *r)
				}
			}
		}
		return nil
	})
}
