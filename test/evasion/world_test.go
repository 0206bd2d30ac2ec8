package evasion

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/agent"
	"github.com/sallyport-ci/sallyport/agent/watchlist"
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// world is what all tricks share: the agent, and the folder of their programs.
type world struct {
	sensor *watched
	sink   *sink
	dir    string
	stop   func() error

	mu       sync.Mutex
	programs map[string]*program
	run      int // numbers the steps, and with them their addresses
}

var shared struct {
	once  sync.Once
	world *world
	err   error
}

// theWorld starts the agent, once for the package.
func theWorld(t *testing.T) *world {
	t.Helper()
	shared.once.Do(func() { shared.world, shared.err = newWorld() })
	var unsupported *bpf.UnsupportedError
	if errors.As(shared.err, &unsupported) && os.Getenv("SALLYPORT_REQUIRE_ALL") == "" {
		t.Skip("skipped: " + unsupported.Missing)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.world
}

func TestMain(m *testing.M) {
	code := m.Run()
	if w := shared.world; w != nil {
		err := w.stop()
		for _, p := range w.programs { // of which not all are waited for when few tricks are tried
			<-p.ready
		}
		if err := errors.Join(err, os.RemoveAll(w.dir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// newWorld wires sensor and agent as cmd/sallyport-agent does.
func newWorld() (*world, error) {
	sensor, err := bpf.Open(bpf.Config{ReadDelay: 5 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	w := &world{sensor: &watched{Sensor: sensor, files: map[watchedFile]bool{}, folders: map[string]bool{}}, programs: map[string]*program{}}
	w.sink = &sink{byJob: map[string][]event{}}
	list := watchlist.Default()
	a, err := agent.New(agent.Config{
		AgentID: "evasion", Hostname: "h", Version: "v",
		Source: sensor, Watcher: w.sensor, WatchList: list, Sink: w.sink, OnlyAttributed: true,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return nil, errors.Join(err, sensor.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	w.stop = func() error {
		cancel()
		return <-done
	}
	if w.dir, err = os.MkdirTemp("", "evasion"); err != nil {
		return nil, errors.Join(err, w.stop())
	}
	if err := os.WriteFile(filepath.Join(w.dir, "tool"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		return nil, errors.Join(err, w.stop())
	}
	w.compileAll(ctx)
	// More than once, if homes come and go meanwhile.
	if err := until(func() bool { return w.sensor.namesWatched() >= len(list.Names()) }); err != nil {
		return nil, errors.Join(fmt.Errorf("%d of %d names of the watch list are watched: %w", w.sensor.namesWatched(), len(list.Names()), err), w.stop())
	}
	return w, nil
}

var errTooLate = errors.New("too late")

// until waits until something holds.
func until(holds func() bool) error {
	for deadline := time.Now().Add(15 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errTooLate
		}
	}
	return nil
}

// watched is the sensor, and remembers what the agent has it watch.
type watched struct {
	*bpf.Sensor

	mu      sync.Mutex
	names   int
	files   map[watchedFile]bool
	folders map[string]bool
}

// watchedFile tells a file from others that had its number before: they are changed at
// other times.
type watchedFile struct {
	device, inode uint64
	changed       int64
}

func identify(stat *unix.Stat_t) watchedFile {
	return watchedFile{stat.Dev, stat.Ino, stat.Ctim.Nano()}
}

func (w *watched) WatchName(name string, what bpf.Watched) error {
	err := w.Sensor.WatchName(name, what)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names++
	return err
}

func (w *watched) WatchFile(stat *unix.Stat_t, what bpf.Watched) error {
	err := w.Sensor.WatchFile(stat, what)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[identify(stat)] = true
	return err
}

func (w *watched) WatchReads(path string) error {
	err := w.Sensor.WatchReads(path)
	var stat unix.Stat_t
	if err != nil || unix.Stat(path, &stat) != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[identify(&stat)] = true
	return nil
}

func (w *watched) WatchFolder(path string) error {
	err := w.Sensor.WatchFolder(path)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.folders[path] = true
	return err
}

func (w *watched) namesWatched() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.names
}

// watches says whether a file or folder is watched.
func (w *watched) watches(path string) bool {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.folders[path] || w.files[identify(&stat)]
}

// event is an event with what its batch says of it.
type event struct {
	*sallyportv1.Event
	process   *sallyportv1.Process
	ancestors []*sallyportv1.Process // parent first
	target    *sallyportv1.Process   // of an access
	at        *sallyportv1.Attribution
}

// sink keeps the events of each job.
type sink struct {
	mu    sync.Mutex
	byJob map[string][]event
}

func (s *sink) Publish(_ context.Context, b *sallyportv1.EventBatch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	byID := map[uint64]*sallyportv1.Process{}
	for _, p := range b.Processes {
		byID[p.Id] = p
	}
	for _, e := range b.Events {
		x := event{Event: e}
		if e.Attribution == 0 {
			continue
		}
		x.at = b.Attributions[e.Attribution-1]
		if e.Process > 0 {
			x.process = b.Processes[e.Process-1]
			for p := byID[x.process.ParentId]; p != nil; p = byID[p.ParentId] {
				x.ancestors = append(x.ancestors, p)
			}
		}
		if a := e.GetProcessAccess(); a != nil && a.Target > 0 {
			x.target = b.Processes[a.Target-1]
		}
		s.byJob[x.at.Job] = append(s.byJob[x.at.Job], x)
	}
	return nil
}

func (s *sink) events(job string) []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byJob[job]
}

// program is a compiled trick.
type program struct {
	ready chan struct{}
	path  string
	err   error
}

// flags that single programs need of the compiler.
var compilerFlags = map[string][]string{
	"preload.c": {"-shared", "-fPIC"},
}

// compileAll begins to compile the programs, one for each processor at a time, until ctx ends.
func (w *world) compileAll(ctx context.Context) {
	sources, err := filepath.Glob("programs/*.c")
	if err != nil {
		panic(err) // the pattern is malformed
	}
	turns := make(chan struct{}, runtime.NumCPU())
	for _, source := range sources {
		name := filepath.Base(source)
		p := &program{ready: make(chan struct{}), path: filepath.Join(w.dir, "bin", strings.TrimSuffix(name, ".c"))}
		w.programs[name] = p
		go func() {
			defer close(p.ready)
			turns <- struct{}{}
			defer func() { <-turns }()
			flags, ok := compilerFlags[name]
			if !ok {
				flags = []string{"-static"}
			}
			if p.err = os.MkdirAll(filepath.Dir(p.path), 0o755); p.err != nil {
				return
			}
			out, err := exec.CommandContext(ctx, "gcc", append([]string{"-Wall", "-pthread", "-o", p.path, source}, flags...)...).CombinedOutput()
			if err != nil {
				p.err = fmt.Errorf("compile %s: %w\n%s", source, err, out)
			}
		}()
	}
}

// find returns the path of a trick's program, made from a file of programs.
func (w *world) find(t *testing.T, name string) string {
	t.Helper()
	if p := w.programs[name]; p != nil {
		<-p.ready
		if p.err != nil {
			t.Fatal(p.err)
		}
		return p.path
	}
	path, err := filepath.Abs(filepath.Join("programs", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// next numbers a step.
func (w *world) next() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run++
	return w.run
}

// receiver answers everything with itself: TCP and UDP on one port of an address that no
// other step has, and on the same port of ::1.
func receiver(t *testing.T, address netip.Addr) (port uint16) {
	t.Helper()
	for range 100 {
		port = 0
		var open []func() error
		for _, at := range []string{"[::1]:%d", address.String() + ":%d"} {
			l, err := net.Listen("tcp", fmt.Sprintf(at, port))
			if err != nil {
				break
			}
			open = append(open, l.Close)
			port = l.Addr().(*net.TCPAddr).AddrPort().Port()
			p, err := net.ListenPacket("udp", fmt.Sprintf(at, port))
			if err != nil {
				break
			}
			open = append(open, p.Close)
			go echoStreams(l)
			go echoDatagrams(p, func(b []byte) []byte { return b })
		}
		closeAll := func() {
			for _, f := range open {
				_ = f()
			}
		}
		if len(open) == 4 {
			t.Cleanup(closeAll)
			return port
		}
		closeAll() // the port is somebody else's at one of the addresses
	}
	t.Fatal("no port is free")
	return 0
}

func echoStreams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 4096)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func echoDatagrams(p net.PacketConn, answer func([]byte) []byte) {
	b := make([]byte, 65536)
	for {
		n, from, err := p.ReadFrom(b)
		if err != nil {
			return
		}
		if a := answer(b[:n]); a != nil {
			_, _ = p.WriteTo(a, from)
		}
	}
}

// domain is the name that resolvers of the tests know an address by.
func domain(address netip.Addr) string {
	return hex.EncodeToString(address.AsSlice()) + ".example.test"
}

// answerDNS answers a question for an address with what stands in the name.
func answerDNS(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) == 0 {
		return nil
	}
	label, _, _ := strings.Cut(m.Questions[0].Name.String(), ".")
	address, err := hex.DecodeString(label)
	if err != nil || len(address) != 4 {
		return nil
	}
	m.Response = true
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60},
		Body:   &dnsmessage.AResource{A: [4]byte(address)},
	}}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// resolver answers questions over UDP and TCP on a port of an address.
func resolver(t *testing.T, address netip.AddrPort) {
	t.Helper()
	p, err := net.ListenPacket("udp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	go echoDatagrams(p, answerDNS)
	l, err := net.Listen("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				for n := 0; ; {
					read, err := c.Read(b[n:])
					if err != nil {
						return
					}
					n += read
					if n < 2 || n < 2+int(b[0])<<8+int(b[1]) {
						continue
					}
					a := answerDNS(b[2:n])
					_, _ = c.Write(append([]byte{byte(len(a) >> 8), byte(len(a))}, a...))
					n = 0
				}
			}()
		}
	}()
}
