package bpf

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// DefaultWorkers are the task names of the workers of known runners: GitHub's own
// and act.
var DefaultWorkers = []string{"Runner.Worker", "act"}

// Config configures a Sensor. The zero value is a good one.
type Config struct {
	// Workers are the task names (at most 15 bytes, as in /proc/PID/comm) of
	// programs whose children are steps. At most 64. DefaultWorkers if nil; give an
	// empty list to have none.
	Workers []string
	// RingBytes is the size of the ring buffer, rounded up to a power of two of at
	// least a page. 4 MiB if zero.
	RingBytes int
	// CgroupRoot is where the root of the cgroup2 hierarchy is mounted. If empty it
	// is found in /proc/self/mountinfo, and mounted privately if it is nowhere.
	CgroupRoot string
	// ReadDelay is the longest time a record waits in the ring before Read returns
	// it, unless much is waiting. 50 ms if zero.
	ReadDelay time.Duration
	// FlowInterval is the time after which an open flow is reported again. One
	// minute if zero.
	FlowInterval time.Duration
	// FlowIdle is the time without a datagram after which a UDP flow has ended. One
	// minute if zero.
	FlowIdle time.Duration

	// not are hooks that are not chosen, though the kernel may have them.
	not hooks
	// spoil changes the programs: for tests of kernels that refuse some.
	spoil func(*ebpf.CollectionSpec)
}

func (c Config) withDefaults() Config {
	if c.Workers == nil {
		c.Workers = DefaultWorkers
	}
	if c.RingBytes <= 0 {
		c.RingBytes = 4 << 20
	}
	size := os.Getpagesize()
	for size < c.RingBytes {
		size <<= 1
	}
	c.RingBytes = size
	if c.ReadDelay <= 0 {
		c.ReadDelay = 50 * time.Millisecond
	}
	if c.FlowInterval <= 0 {
		c.FlowInterval = time.Minute
	}
	if c.FlowIdle <= 0 {
		c.FlowIdle = time.Minute
	}
	return c
}

// Sensor is the set of loaded programs and the ring that they write to. Read is for
// one goroutine; the other methods may be called from any.
type Sensor struct {
	objects sensorObjects
	hooks   hooks // for files and memory
	lacks   []string
	watch   watch
	folders *folders // nil where folders cannot be watched
	loads   *loads   // nil where the kernel does not tell of eBPF programs
	links   []link.Link

	// What Damage compares with.
	holding     sync.Mutex
	holds       []hold
	workerNames [][16]byte
	self        struct {
		pid uint32 // 0 if not known
		id  uint64
	}

	reader    *ringbuf.Reader
	raw       ringbuf.Record
	readDelay time.Duration
	lastRead  uint64 // time of the last record from the ring
	drained   bool   // the ring is empty for good
	released  bool

	found struct {
		sync.Mutex
		records []Record
	}
	late     lateRecords
	catchUps catchUps

	sweeping     sync.WaitGroup
	stopSweeping chan struct{}
	sweepErr     error // read after sweeping has ended

	// Held for reading while a program is being attached, which takes long, or looked at:
	// programs are released after that.
	attaching  sync.RWMutex
	programs   []*ebpf.Program // nil when they are released
	missedRuns uint64          // when they were
	closing    atomic.Bool
	closeOnce  sync.Once
	closeErr   error
}

// Open loads the programs, attaches them machine-wide and looks up the processes
// that are running already: they are the first records that Read returns.
//
// It needs root (or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_PTRACE), a kernel
// with BTF, and cgroup2. Where something is missing the error is an
// *UnsupportedError. It neither needs nor mounts tracefs or bpffs: all tracepoints
// are attached through BTF and nothing is pinned.
func Open(cfg Config) (*Sensor, error) {
	cfg = cfg.withDefaults()
	if err := checkMachine(); err != nil {
		return nil, err
	}
	// Only kernels before 5.11 charge maps to RLIMIT_MEMLOCK; later ones need nothing.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, &UnsupportedError{Missing: "CAP_SYS_RESOURCE (to lock memory for BPF maps)", Err: err}
	}
	// The kernel's types take long to decode: once for all, and while the programs are read. An error
	// comes again when they are asked for.
	types := btf.NewCache()
	var decoding sync.WaitGroup
	decoding.Go(func() { _, _ = types.Kernel() })
	defer decoding.Wait()
	for {
		s, by, err := open(cfg, types)
		if err == nil || by == 0 || by == callHooks {
			return s, err
		}
		// Many kernels do not let programs be attached to functions, and one may have changed what
		// the programs at others read: what is seen by the next ones is better than nothing.
		cfg.not |= by
	}
}

// open also returns the hooks that it chose, 0 if it did not come so far.
func open(cfg Config, types *btf.Cache) (*Sensor, hooks, error) {
	spec, err := loadSensor()
	if err != nil {
		return nil, 0, fmt.Errorf("read embedded BPF object: %w", err)
	}
	if err := configure(spec, cfg); err != nil {
		return nil, 0, err
	}
	if cfg.spoil != nil {
		cfg.spoil(spec)
	}
	s := &Sensor{readDelay: cfg.ReadDelay}
	if err := s.load(spec, cfg, types); err != nil {
		return nil, s.hooks, loadError(err)
	}
	if err := s.start(cfg); err != nil {
		return nil, s.hooks, errors.Join(err, s.detach(), s.release(), s.objects.sensorMaps.Close())
	}
	return s, s.hooks, nil
}

func configure(spec *ebpf.CollectionSpec, cfg Config) error {
	threads, err := readNumber("/proc/sys/kernel/threads-max")
	if err != nil {
		return fmt.Errorf("size the table of processes: %w", err)
	}
	spec.Maps[sensorMapProcesses].MaxEntries = uint32(min(max(threads, 1<<12), 1<<22))
	spec.Maps[sensorMapRecords].MaxEntries = uint32(cfg.RingBytes)
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return fmt.Errorf("read boot time: %w", err)
	}
	for name, value := range map[string]any{
		sensorVarWakeBytes:    uint32(min(256<<10, cfg.RingBytes/4)),
		sensorVarFirstFlow:    uint64(now.Nano()),
		sensorVarFlowInterval: uint64(cfg.FlowInterval),
		sensorVarFlowIdle:     uint64(cfg.FlowIdle),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// Lacks says what this kernel, or these privileges, do not let the sensor see that others
// do (docs/kernels.md).
func (s *Sensor) Lacks() []string {
	lacks := slices.Clone(s.lacks)
	if s.loads == nil {
		lacks = append(lacks, lacksBPF)
	}
	if s.folders == nil {
		lacks = append(lacks, lacksFolders)
	}
	slices.Sort(lacks)
	return lacks
}

// load loads the programs that this kernel has hooks for.
func (s *Sensor) load(spec *ebpf.CollectionSpec, cfg Config, types *btf.Cache) error {
	all, err := types.Kernel()
	if err != nil {
		return err
	}
	kernel := &kernelHooks{types: all}
	s.hooks, s.lacks = choose(spec, cfg.not, kernel.has)
	if kernel.err != nil {
		return kernel.err
	}
	if err := spec.Variables[sensorVarObjects].Set(s.hooks == objectHooks); err != nil {
		return fmt.Errorf("set %s: %w", sensorVarObjects, err)
	}
	var dropped []string
	s.programs, dropped, err = load(spec, types, &s.objects)
	for _, name := range dropped {
		s.lacks = append(s.lacks, droppable[name])
	}
	return err
}

func readNumber(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

func (s *Sensor) start(cfg Config) (err error) {
	if err := s.enterWorkers(cfg.Workers); err != nil {
		return err
	}
	if s.reader, err = ringbuf.NewReader(s.objects.Records); err != nil {
		return fmt.Errorf("map ring buffer: %w", err)
	}
	s.reader.SetDeadline(time.Now().Add(s.readDelay))
	for _, program := range []*ebpf.Program{
		s.objects.ProcessExit,
		s.objects.ProcessFork,
		s.objects.ProcessExec,
	} {
		if err := s.attachTracing(program); err != nil {
			return err
		}
	}
	root, err := openCgroupRoot(cfg.CgroupRoot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.close()) }()
	for _, program := range []*ebpf.Program{s.objects.CgroupMade, s.objects.CgroupRemoved} {
		if err := s.attachTracing(program); err != nil {
			return err
		}
	}
	if err := s.findCgroups(root); err != nil {
		return err
	}
	if err := s.findProcesses(root); err != nil {
		return err
	}
	if err := s.attachNetwork(root); err != nil {
		return err
	}
	if s.CanWatch() {
		if err := s.openWatch(); err != nil {
			return err
		}
		if s.folders, err = openFolders(s.lookup, s.tellLate); err != nil && !errors.Is(err, ErrCannotWatch) {
			return err
		}
	}
	for _, program := range append(s.hooks.chosen(&s.objects.sensorPrograms), s.objects.SignalSent) {
		if err := s.attachTracing(program); err != nil {
			return err
		}
	}
	if s.loads, err = openLoads(s.lookup, s.tellLate); err != nil {
		return err
	}
	s.startSweeping(cfg)
	return nil
}

func (s *Sensor) attachTracing(program *ebpf.Program) error {
	l, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err != nil {
		return attachError(program, err)
	}
	s.keep(programName(program), l)
	return nil
}

func programName(program *ebpf.Program) string {
	info, err := program.Info()
	if err != nil {
		return program.String()
	}
	return info.Name
}

func (s *Sensor) enterWorkers(names []string) error {
	for _, name := range names {
		var comm [16]byte
		if name == "" || len(name) >= len(comm) {
			return fmt.Errorf("worker name %q: must have 1 to 15 bytes", name)
		}
		copy(comm[:], name)
		if err := s.objects.Workers.Put(comm, uint8(1)); err != nil {
			return fmt.Errorf("enter worker name %q: %w", name, err)
		}
		if !slices.Contains(s.workerNames, comm) {
			s.workerNames = append(s.workerNames, comm)
		}
	}
	return nil
}

// Clock returns the present time by the clock of the records, CLOCK_BOOTTIME in
// nanoseconds, and what to add to it to have Unix time in nanoseconds. The two
// clocks cannot be read at once: the offset is the best of a few tries, good to a
// microsecond on a machine that is not overloaded. It is safe for concurrent use.
func (s *Sensor) Clock() (boot uint64, offset int64, err error) {
	best := int64(math.MaxInt64)
	for range 3 {
		var before, wall, after unix.Timespec
		if err := errors.Join(
			unix.ClockGettime(unix.CLOCK_BOOTTIME, &before),
			unix.ClockGettime(unix.CLOCK_REALTIME, &wall),
			unix.ClockGettime(unix.CLOCK_BOOTTIME, &after),
		); err != nil {
			return 0, 0, fmt.Errorf("read clocks: %w", err)
		}
		boot = uint64(after.Nano())
		if d := after.Nano() - before.Nano(); d < best {
			best = d
			offset = wall.Nano() - (before.Nano() + d/2)
		}
	}
	return boot, offset, nil
}

// Lost counts the records that did not fit into the ring (or, for environments,
// could not be read) since Open, by kind: "fork", "exec", "environment", "exit",
// "flow", "dns", "access", "file", "payload", "privilege", "cgroup",
// "plaintext". Every kind is there, and "missed": how often a program did not run because
// it had been interrupted on that CPU, as preemptible kernels do, and what it would have
// told, if anything, is not known.
func (s *Sensor) Lost() (map[string]uint64, error) {
	lost := make(map[string]uint64, len(kindNames))
	for kind, name := range kindNames {
		var each []uint64
		if err := s.objects.Lost.Lookup(uint32(kind), &each); err != nil {
			return nil, fmt.Errorf("read lost %s records: %w", name, err)
		}
		lost[name] = 0
		for _, n := range each {
			lost[name] += n
		}
	}
	missed, err := s.missed()
	if err != nil {
		return nil, err
	}
	lost["missed"] = missed
	return lost, nil
}

// missed counts the runs of programs that the kernel left out.
func (s *Sensor) missed() (uint64, error) {
	s.attaching.RLock()
	defer s.attaching.RUnlock()
	if s.programs == nil {
		return s.missedRuns, nil
	}
	return s.countMissed()
}

func (s *Sensor) countMissed() (n uint64, err error) {
	for _, program := range s.programs {
		stats, err := program.Stats()
		if err != nil {
			return 0, fmt.Errorf("read how often %s was left out: %w", programName(program), err)
		}
		n += stats.RecursionMisses
	}
	return n, nil
}

// Read returns the next record in the order in which the kernel wrote them, and
// blocks until there is one. After Close it returns what was left in the ring and
// then os.ErrClosed. A record that cannot be decoded gives an error that wraps
// ErrMalformed; the next Read goes on behind it.
func (s *Sensor) Read() (Record, error) {
	if r := s.nextFound(); r != nil {
		s.noteWorker(r)
		return r, nil
	}
	if s.drained {
		return s.end()
	}
	if r := s.late.next(s.lastRead); r != nil {
		return r, nil
	}
	for {
		err := s.reader.ReadInto(&s.raw)
		switch {
		case err == nil:
			r, err := decode(s.raw.RawSample)
			if err == nil {
				s.noteWorker(r)
				s.lastRead = r.Head().Time
			}
			return r, err
		case errors.Is(err, os.ErrDeadlineExceeded):
			if r := s.nextFound(); r != nil {
				s.noteWorker(r)
				return r, nil
			}
			if r := s.late.next(math.MaxUint64); r != nil {
				return r, nil
			}
			s.reader.SetDeadline(time.Now().Add(s.readDelay))
		case errors.Is(err, ringbuf.ErrFlushed):
			if s.closing.Load() {
				s.drained = true
				return s.end()
			}
			r := s.late.next(math.MaxUint64)
			// While there is something beside the ring it is not empty.
			if r != nil && s.catchUps.any() || r == nil && s.catchUps.emptied() {
				if err := s.reader.Flush(); err != nil {
					return nil, fmt.Errorf("wake reader: %w", err)
				}
			}
			if r != nil {
				return r, nil
			}
		case errors.Is(err, os.ErrClosed):
			return nil, os.ErrClosed
		default:
			return nil, fmt.Errorf("read ring buffer: %w", err)
		}
	}
}

// end returns what is left beside the ring, and then releases all.
func (s *Sensor) end() (Record, error) {
	if r := s.late.next(math.MaxUint64); r != nil {
		return r, nil
	}
	if s.released {
		return nil, os.ErrClosed
	}
	s.released = true
	for s.catchUps.emptied() { // nothing comes any more
	}
	if err := s.release(); err != nil {
		return nil, err
	}
	return nil, os.ErrClosed
}

// Close detaches all programs: nothing is recorded any more. Records that are in the
// ring stay readable; Read releases the memory when it has returned the last one.
func (s *Sensor) Close() error {
	s.closeOnce.Do(func() {
		s.closeErr = s.detach()
		s.closing.Store(true)
		if err := s.reader.Flush(); err != nil && !errors.Is(err, os.ErrClosed) {
			s.closeErr = errors.Join(s.closeErr, fmt.Errorf("wake reader: %w", err))
		}
	})
	return s.closeErr
}

func (s *Sensor) detach() error {
	var errs []error
	if s.stopSweeping != nil {
		close(s.stopSweeping)
		s.sweeping.Wait()
		errs = append(errs, s.sweepErr)
	}
	if s.folders != nil {
		errs = append(errs, s.folders.close())
	}
	if s.loads != nil {
		errs = append(errs, s.loads.close())
	}
	s.holding.Lock()
	defer s.holding.Unlock()
	s.holds = nil
	for _, l := range s.links {
		if err := l.Close(); err != nil {
			errs = append(errs, fmt.Errorf("detach program: %w", err))
		}
	}
	s.links = nil
	return errors.Join(errs...)
}

// release frees the ring and the programs. The maps stay, so that Lost can be asked to
// the end; they go with the Sensor.
func (s *Sensor) release() error {
	s.closing.Store(true) // it may never have been open
	s.attaching.Lock()
	defer s.attaching.Unlock()
	var err error
	s.missedRuns, err = s.countMissed()
	s.programs = nil
	err = errors.Join(err, s.objects.sensorPrograms.Close(), s.watch.close())
	if s.reader != nil {
		err = errors.Join(err, s.reader.Close())
	}
	if err != nil {
		return fmt.Errorf("release ring buffer and programs: %w", err)
	}
	return nil
}

// noteWorker follows workers as they come and go. Where calls are looked at, those that
// open a worker's files are seen already.
func (s *Sensor) noteWorker(r Record) {
	if s.folders == nil || s.hooks != objectHooks {
		return
	}
	switch r := r.(type) {
	case *Exec:
		if r.Worker {
			// A worker that has ended already has nothing left to look into.
			_ = s.folders.watchWorker(r.PID)
		}
	case *Exit:
		if r.Worker {
			s.folders.forgetWorker(r.PID)
		}
	}
}

// tellLate has Read return a record as soon as it has read what is in the ring.
func (s *Sensor) tellLate(r Record) {
	s.late.add(r)
	_ = s.reader.Flush() // it fails when the reader is closed, and nobody reads
}

// lateRecords are records that did not come through the ring. Each is given behind
// those of the ring that are older: what it refers to is known then.
type lateRecords struct {
	mu      sync.Mutex
	records []Record
}

func (l *lateRecords) add(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
}

// next returns the next record that is not younger than a time, or nil.
func (l *lateRecords) next(before uint64) Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) == 0 || l.records[0].Head().Time > before {
		return nil
	}
	r := l.records[0]
	l.records = slices.Delete(l.records, 0, 1)
	return r
}
