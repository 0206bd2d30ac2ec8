package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/agent/httphead"
	"github.com/sallyport-ci/sallyport/agent/program"
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// DefaultRequestHosts are the hosts whose requests are told of unless an operator says
// otherwise: what a job asks of GitHub shows which permissions it needs.
func DefaultRequestHosts() []string {
	return []string{"api.github.com", "github.com", "uploads.github.com"}
}

// RequestHosts turns what an operator gave into Config.RequestHosts: "none" alone is no
// host.
func RequestHosts(given []string) []string {
	if len(given) == 1 && given[0] == "none" {
		return nil
	}
	return given
}

// libraryNames are the files of TLS libraries that are looked into when a job's process
// reads one, wherever it is.
var libraryNames = map[string]bool{
	"libssl.so.3": true, "libssl.so.1.1": true, "libssl.so.1.0.0": true, "libssl.so.10": true, "libgnutls.so.30": true,
}

// libraryFolders are where a machine has them, below its root.
var libraryFolders = []string{"lib/*-linux-gnu", "usr/lib/*-linux-gnu", "usr/lib64", "usr/lib", "usr/local/lib", "usr/local/lib64"}

const (
	// maxLooking bounds how many files may wait to be looked into, maxLooked how many
	// are remembered, and maxTapped in how many a function is watched at a time.
	maxLooking = 1 << 10
	maxLooked  = 1 << 14
	maxTapped  = 512
	// maxConnections bounds how many connections are followed at a time, of all processes.
	maxConnections = 512
	// maxRequestPath bounds a path in bytes.
	maxRequestPath = 1 << 10
)

// looking is a file of a program or a library that may encrypt.
type looking struct {
	key  fileKey
	pid  uint32
	path string // on the machine
	exe  bool   // it is what the process runs
	root string // if set, a root folder with libraries to look for
}

// requests finds the functions that encrypt in what jobs run, and reads the heads of
// HTTP requests from what goes into them.
type requests struct {
	a       *Agent
	hosts   []string
	waiting chan looking

	// Guarded by a.mu.
	looked  map[version]bool
	streams int

	tapped []io.Closer // of work alone, eldest first
}

func newRequests(a *Agent, hosts []string) (*requests, error) {
	r := &requests{a: a, waiting: make(chan looking, maxLooking), looked: make(map[version]bool)}
	for _, h := range hosts {
		h = strings.ToLower(strings.TrimSpace(h))
		if h == "" || strings.ContainsAny(h, "/: ") || strings.Contains(strings.TrimPrefix(h, "*."), "*") {
			return nil, fmt.Errorf("host of requests %q: neither a name nor *. with a name", h)
		}
		r.hosts = append(r.hosts, h)
	}
	return r, nil
}

func (q *requests) on() bool { return len(q.hosts) > 0 && q.a.cfg.Watcher != nil }

// wanted says whether requests to a host are told.
func (q *requests) wanted(host string) bool {
	for _, h := range q.hosts {
		if suffix, ok := strings.CutPrefix(h, "*"); h == host || ok && strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// watchLibraries watches for processes of jobs that read a TLS library.
func (q *requests) watchLibraries() error {
	if !q.on() || !q.a.cfg.Watcher.CanWatch() {
		return nil
	}
	var errs []error
	for name := range libraryNames {
		errs = append(errs, q.a.cfg.Watcher.WatchName(name, bpf.WatchedRead))
	}
	return errors.Join(errs...)
}

// look has a file looked into, once for each version. a.mu is held.
func (q *requests) look(l looking, changed uint64) {
	v := version{l.key, changed}
	if !q.on() || q.looked[v] || l.key.inode == 0 {
		return
	}
	if len(q.looked) >= maxLooked {
		clear(q.looked)
	}
	select {
	case q.waiting <- l:
		q.looked[v] = true
	default: // at the next process that runs it
	}
}

// enter looks for libraries in the root folder of a container's process.
func (q *requests) enter(pid uint32) {
	if !q.on() {
		return
	}
	select {
	case q.waiting <- looking{root: "/proc/" + strconv.FormatUint(uint64(pid), 10) + "/root"}:
	default: // what they read is seen by name
	}
}

// library says whether a file is a TLS library, and has it looked into. a.mu is held.
func (q *requests) library(r *bpf.File) bool {
	if r.Access != bpf.FileRead || r.Whole || !libraryNames[filepath.Base(r.Path)] {
		return false
	}
	q.look(looking{key: fileKey{r.Inode, r.Device}, pid: r.PID, path: q.a.files.mounts.path(r.Device, r.Path)}, 0)
	return true
}

func (q *requests) work(stop <-chan struct{}) {
	defer func() {
		for _, l := range q.tapped {
			_ = l.Close() // the sensor goes, too
		}
	}()
	if q.on() {
		q.tapRoot(q.a.cfg.MachineRoot)
	}
	for {
		select {
		case <-stop:
			return
		case l := <-q.waiting:
			if l.root != "" {
				q.tapRoot(l.root)
				continue
			}
			f, err := l.open()
			if err != nil {
				q.a.log.Debug("a program that may encrypt is gone", "path", l.path, "error", err)
				continue
			}
			q.tap(f, l.path)
			_ = f.Close() // only read
		}
	}
}

// tapRoot watches the libraries below a root folder, the machine's or a container's:
// processes that run already may have loaded them. Links lead nowhere else.
func (q *requests) tapRoot(root string) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		q.a.log.Debug("a root folder is gone", "path", root, "error", err)
		return
	}
	defer func() { _ = unix.Close(fd) }()
	for _, folder := range libraryFolders {
		folders, err := filepath.Glob(filepath.Join(root, folder))
		if err != nil {
			continue
		}
		for _, folder := range folders {
			for name := range libraryNames {
				path := filepath.Join(folder, name)
				below, err := filepath.Rel(root, path)
				if err != nil {
					continue
				}
				file, err := unix.Openat2(fd, below, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
				if err != nil {
					continue // most are not there
				}
				q.tapOnce(os.NewFile(uintptr(file), path), path)
			}
		}
	}
}

// tapOnce watches a library that was not looked into before, and closes the file.
func (q *requests) tapOnce(f *os.File, path string) {
	defer func() { _ = f.Close() }() // only read
	var stat unix.Stat_t
	if unix.Fstat(int(f.Fd()), &stat) != nil {
		return
	}
	v := version{keyOf(&stat), 0}
	q.a.mu.Lock()
	before := q.looked[v]
	q.looked[v] = true
	q.a.mu.Unlock()
	if !before {
		q.tap(f, path)
	}
}

// open opens the very file: through the process where its path leads elsewhere.
func (l *looking) open() (*os.File, error) {
	proc := "/proc/" + strconv.FormatUint(uint64(l.pid), 10)
	paths := []string{l.path}
	if l.exe {
		paths = []string{proc + "/exe", l.path}
	} else if mapped := mappedFile(proc, l.key.inode); mapped != "" {
		paths = append(paths, mapped)
	}
	var failed error
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		var stat unix.Stat_t
		if err = unix.Fstat(int(f.Fd()), &stat); err == nil && stat.Ino != l.key.inode {
			err = errOtherFile
		}
		if err == nil {
			return f, nil
		}
		failed = errors.Join(failed, err, f.Close())
	}
	return nil, failed
}

// mappedFile returns a path to the file with an inode number that a process has mapped.
func mappedFile(proc string, inode uint64) string {
	f, err := os.Open(proc + "/maps")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	wanted := strconv.FormatUint(inode, 10)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 7f1c-7f1d r--p 00000000 fe:00 246997 /usr/lib/libssl.so.3
		fields := strings.Fields(lines.Text())
		if len(fields) >= 6 && fields[4] == wanted {
			return proc + "/map_files/" + fields[0]
		}
	}
	return ""
}

// tap watches the functions of a file that encrypt.
func (q *requests) tap(f *os.File, path string) {
	functions, err := program.Functions(f)
	if err != nil {
		q.a.log.Debug("a program cannot be looked into", "path", path, "error", err)
	}
	for _, function := range functions {
		convention := bpf.ConventionC
		if function.Library == program.Go {
			convention = bpf.ConventionGo
		}
		l, err := q.a.cfg.Watcher.WatchTLS("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), function.Offset, convention, uint64(function.Library))
		if errors.Is(err, os.ErrClosed) {
			return // the agent stops
		}
		if err != nil {
			q.a.log.Warn("requests of a program are not seen", "path", path, "error", err)
			continue
		}
		q.tapped = append(q.tapped, l)
		if len(q.tapped) > maxTapped {
			_ = q.tapped[0].Close() // a program that was new long ago
			q.tapped = q.tapped[1:]
		}
	}
}

// plaintext reads on in what a process writes to a connection.
func (a *Agent) plaintext(r *bpf.Plaintext) {
	p := a.processes.get(r.Process)
	if p.attributed() == nil || !a.requests.on() {
		return
	}
	s := p.streams[r.Connection]
	if s == nil {
		if !r.Begins || a.requests.streams >= maxConnections {
			return
		}
		if p.streams == nil {
			p.streams = make(map[uint64]*httphead.Stream)
		}
		s = &httphead.Stream{}
		p.streams[r.Connection] = s
		a.requests.streams++
	}
	ignore := false
	for _, request := range s.Write(r.Data, r.Size) {
		if !a.requests.wanted(request.Host) {
			ignore = true
			continue
		}
		path := request.Path
		if len(path) > maxRequestPath {
			path = path[:maxRequestPath]
		}
		a.actor(r.Head())
		a.emit(&sallyportv1.Event{
			TimeUnixNano: a.wall(r.Time),
			Body: &sallyportv1.Event_HttpRequest{HttpRequest: &sallyportv1.HttpRequest{
				Method: request.Method, Host: request.Host, Path: a.redactor.words(text(path), p.secrets()), Version: request.Version,
				Library: sallyportv1.TlsLibrary(r.Library),
			}},
		}, p, p.at, "request")
	}
	if ignore || s.Lost() {
		if err := a.cfg.Watcher.IgnoreTLS(r.Process, r.Connection); err != nil {
			a.log.Debug("a connection goes on being looked at", "error", err)
		}
		delete(p.streams, r.Connection)
		a.requests.streams--
	}
}

// forget drops what was followed of a process that ends.
func (q *requests) forget(p *process) {
	q.streams -= len(p.streams)
	p.streams = nil
}
