package bpf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary play other programs: SALLYPORT_BPF_PLAY names one
// of plays.
func TestMain(m *testing.M) {
	if name := os.Getenv("SALLYPORT_BPF_PLAY"); name != "" {
		play, ok := plays[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such play:", name)
			os.Exit(99)
		}
		if err := play(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, name+":", err)
			os.Exit(98)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play is a command that runs this test binary as one of plays.
func play(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "SALLYPORT_BPF_PLAY="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// recorder reads a sensor into memory.
type recorder struct {
	*Sensor
	t *testing.T

	mu      sync.Mutex
	records []Record
	grown   chan struct{}
	ended   chan struct{}
}

func openSensor(t *testing.T, cfg Config) *Sensor {
	t.Helper()
	s, err := Open(cfg)
	var unsupported *UnsupportedError
	if errors.As(err, &unsupported) && os.Getenv("SALLYPORT_REQUIRE_ALL") != "1" {
		t.Skip("skipped: " + err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func record(t *testing.T, cfg Config) *recorder {
	t.Helper()
	r := &recorder{Sensor: openSensor(t, cfg), t: t, grown: make(chan struct{}, 1), ended: make(chan struct{})}
	go r.read()
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		<-r.ended
	})
	return r
}

func (r *recorder) read() {
	defer close(r.ended)
	for {
		rec, err := r.Read()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			r.t.Errorf("read: %v", err)
			return
		}
		switch x := rec.(type) {
		case *Exec:
			x.Arguments = bytes.Clone(x.Arguments)
		case *Environment:
			x.Data = bytes.Clone(x.Data)
		case *DNS:
			x.Payload = bytes.Clone(x.Payload)
		case *Payload:
			x.Data = bytes.Clone(x.Data)
		}
		r.mu.Lock()
		r.records = append(r.records, rec)
		r.mu.Unlock()
		select {
		case r.grown <- struct{}{}:
		default:
		}
	}
}

func (r *recorder) all() []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records[:len(r.records):len(r.records)]
}

// await returns the records of one type that match, once there are n of them.
func await[T Record](t *testing.T, r *recorder, n int, what string, match func(T) bool) []T {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		found := matching(r, match)
		if len(found) >= n {
			return found
		}
		select {
		case <-r.grown:
		case <-deadline:
			for _, x := range r.all() {
				if _, ok := x.(T); ok {
					t.Logf("%T%+v", x, x)
				}
			}
			t.Fatalf("%s: %d of %d came", what, len(found), n)
		}
	}
}

func matching[T Record](r *recorder, match func(T) bool) []T {
	var found []T
	for _, rec := range r.all() {
		if x, ok := rec.(T); ok && match(x) {
			found = append(found, x)
		}
	}
	return found
}

func (r *recorder) exitOf(t *testing.T, pid int) *Exit {
	t.Helper()
	return await(t, r, 1, fmt.Sprintf("exit of %d", pid), func(e *Exit) bool { return int(e.PID) == pid })[0]
}

func (r *recorder) execsOf(pid int) []*Exec {
	return matching(r, func(e *Exec) bool { return int(e.PID) == pid })
}

func run(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// inNetwork runs f in a network namespace of its own, whose loopback is up.
func inNetwork(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and with it its namespace.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			done <- fmt.Errorf("set loopback up: %w: %s", err, out)
			return
		}
		defer close(done)
		f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestReadEndsAfterClose(t *testing.T) {
	s := openSensor(t, Config{})
	pid := run(t, exec.Command("/bin/true"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	exited := false
	for {
		rec, err := s.Read()
		if errors.Is(err, os.ErrClosed) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := rec.(*Exit); ok && int(e.PID) == pid {
			exited = true
		}
	}
	if !exited {
		t.Error("what was in the ring before Close was not read")
	}
	if _, err := s.Read(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second read after the end: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := s.WatchTLS("/proc/self/exe", 0, ConventionGo, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("function watched after the end: %v, want %v", err, os.ErrClosed)
	}
}

func TestCloseWakesReader(t *testing.T) {
	s := openSensor(t, Config{ReadDelay: time.Hour})
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Read(); err != nil {
				ended <- err
				return
			}
		}
	}()
	time.Sleep(50 * time.Millisecond)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the reader sleeps on")
	}
}

// TestLost floods a tiny ring that nobody reads, and then counts.
func TestLost(t *testing.T) {
	s := openSensor(t, Config{not: objectHooks | functionHooks, RingBytes: 16 << 10})
	target := exec.Command("sleep", "60")
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Process.Kill(); _ = target.Wait() }()
	const calls = 2000
	cmd := play(t, "vm-read-often", fmt.Sprint(target.Process.Pid), fmt.Sprint(calls))
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	lost, err := s.Lost()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	read := 0
	for {
		rec, err := s.Read()
		if errors.Is(err, os.ErrClosed) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := rec.(*Access); ok && int(a.PID) == cmd.Process.Pid {
			read++
		}
	}
	sum := read + int(lost["access"])
	t.Logf("%d read, %d lost", read, lost["access"])
	// Others on the machine may have lost a few, too.
	if lost["access"] == 0 || sum < calls || sum > calls+calls/10 {
		t.Errorf("%d read and %d lost of %d", read, lost["access"], calls)
	}
	for _, name := range kindNames {
		if _, ok := lost[name]; !ok {
			t.Errorf("no count for %s", name)
		}
	}
}

// TestMissed has a program of the sensor be asked to run while it runs.
func TestMissed(t *testing.T) {
	s := openSensor(t, Config{})
	missed := func() uint64 {
		lost, err := s.Lost()
		if err != nil {
			t.Fatal(err)
		}
		return lost["missed"]
	}
	before := missed()
	// It is called when a program prints, and prints.
	prints := asm.Instructions{
		asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, -8), asm.Mov.Imm(asm.R2, 8),
		asm.FnTracePrintk.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return(),
	}
	program := func(kind ebpf.ProgramType) *ebpf.Program {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, Instructions: prints, License: "GPL"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
	again := program(ebpf.RawTracepoint)
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "bpf_trace_printk", Program: again})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s.attaching.Lock()
	s.programs = append(s.programs, again)
	s.attaching.Unlock()
	if _, _, err := program(ebpf.SocketFilter).Test(make([]byte, 14)); err != nil {
		t.Fatal(err)
	}
	if n := missed() - before; n == 0 {
		t.Error("a run that the kernel left out is not counted")
	}
}

// TestProof: most of the time until the sensor is there the kernel spends on proving its programs
// safe. A branch too many where ways part, or a function that is proved anew for each call, shows
// here.
func TestProof(t *testing.T) {
	s := openSensor(t, Config{})
	const most = 60_000 // 88,000 before such were sought, 36,000 after, on Linux 6.18
	var sum uint32
	for _, p := range s.programs {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, ok := info.VerifiedInstructions()
		if !ok {
			t.Skip("this kernel does not say")
		}
		if sum += n; n > most/10 {
			t.Logf("%s: %d", info.Name, n)
		}
	}
	if t.Logf("%d instructions looked at", sum); sum == 0 || sum > most {
		t.Errorf("more than %d", most)
	}
}

// TestChoice: the object loads on kernels that lack hooks, and others step in for them.
func TestChoice(t *testing.T) {
	here := openSensor(t, Config{}).hooks // or skips
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	kernel := &kernelHooks{types: types}
	for _, c := range []struct {
		missing []string
		not     hooks
		chosen  hooks
		lacks   []string
	}{
		{nil, 0, objectHooks, nil},
		{nil, objectHooks | functionHooks, callHooks, []string{lacksFiles, lacksMemory}},
		{[]string{"mm_filemap_get_pages"}, 0, functionHooks, []string{lacksMemory}},
		{[]string{"mmap_lock_acquire_returned", "module_load"}, 0, functionHooks, []string{lacksMemory, lacksModules}},
		{[]string{"mm_filemap_get_pages", "filemap_splice_read", "io_uring_complete"}, 0, functionHooks, []string{lacksMemory}},
		{[]string{"mm_filemap_get_pages", "sock_send_length"}, 0, functionHooks, []string{lacksMemory}},
		{[]string{"sock_send_length"}, 0, objectHooks, []string{lacksSends}},
		{[]string{"mm_filemap_get_pages", "filemap_read"}, 0, callHooks, []string{lacksFiles, lacksMemory}},
		{[]string{"writeback_mark_inode_dirty"}, 0, callHooks, []string{lacksFiles, lacksMemory}},
	} {
		spec, err := loadSensor()
		if err != nil {
			t.Fatal(err)
		}
		if err := configure(spec, Config{}.withDefaults()); err != nil {
			t.Fatal(err)
		}
		hookOf := map[string]string{}
		for name, program := range spec.Programs {
			hookOf[name] = program.AttachTo
		}
		// A kernel without modules lacks that hook in each case.
		if !kernel.has(spec.Programs[sensorProgModuleLoaded]) && !slices.Contains(c.missing, "module_load") {
			c.missing, c.lacks = append(c.missing, "module_load"), append(c.lacks, lacksModules)
		}
		chosen, lacks := choose(spec, c.not, func(p *ebpf.ProgramSpec) bool { return !slices.Contains(c.missing, p.AttachTo) })
		if chosen != c.chosen || !slices.Equal(lacks, c.lacks) {
			t.Errorf("without %q hooks %d are chosen, want %d; lacking %q, want %q", c.missing, chosen, c.chosen, lacks, c.lacks)
		}
		loads := true
		for _, program := range choosable {
			p := spec.Programs[program.name]
			loads = loads && kernel.has(p)
			isBlank := len(p.Instructions) == 2 && p.AttachTo == "sched_process_exit"
			want := program.by&chosen == 0 || slices.Contains(c.missing, hookOf[program.name])
			if slices.Contains(sendFunctions, program.name) {
				want = want || !slices.Contains(c.missing, "sock_send_length")
			}
			if isBlank != want {
				t.Errorf("without %q program %s is blank: %t", c.missing, program.name, isBlank)
			}
		}
		if !loads || chosen != callHooks && chosen != here {
			continue // this kernel lacks hooks that it was said to have, or refuses them
		}
		var objects sensorObjects
		if err := spec.LoadAndAssign(&objects, nil); err != nil {
			t.Fatalf("without %q: %v", c.missing, err)
		}
		if err := objects.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRefused: a kernel that refuses a program costs that program and what it tells, or the hooks
// that it belongs to, where others can step in. Of any other it is an error.
func TestRefused(t *testing.T) {
	here := openSensor(t, Config{}) // it can run here
	ofFiles := map[hooks]string{objectHooks: sensorProgFileRead, functionHooks: sensorProgEnterRead}[here.hooks]
	for _, c := range []struct {
		program string
		lacks   []string // nil if the sensor cannot run
	}{
		{sensorProgFoundSockets, []string{lacksOpened}},
		{sensorProgSocketSent, []string{lacksSends}},
		{ofFiles, []string{lacksMemory}},
		{sensorProgTcpState, nil},
	} {
		if c.program == "" {
			continue // there are no hooks for files here, so none step in
		}
		s, err := Open(Config{spoil: func(spec *ebpf.CollectionSpec) {
			// It reads what nobody wrote.
			spec.Programs[c.program].Instructions = asm.Instructions{asm.Mov.Reg(asm.R0, asm.R5), asm.Return()}
		}})
		var unsupported *UnsupportedError
		if c.lacks == nil {
			if !errors.As(err, &unsupported) {
				t.Errorf("without %s: %v", c.program, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("without %s: %v", c.program, err)
			continue
		}
		lacks := s.Lacks()
		if s.hooks == here.hooks && c.program == ofFiles || !slices.ContainsFunc(c.lacks, func(what string) bool { return slices.Contains(lacks, what) }) {
			t.Errorf("without %s it lacks %q", c.program, lacks)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestClock(t *testing.T) {
	r := record(t, Config{})
	before := time.Now()
	pid := run(t, exec.Command("/bin/true"))
	e := r.exitOf(t, pid)
	boot, offset, err := r.Clock()
	if err != nil {
		t.Fatal(err)
	}
	if boot < e.Time {
		t.Errorf("the clock says %d after an event at %d", boot, e.Time)
	}
	at := time.Unix(0, int64(e.Time)+offset)
	if at.Before(before.Add(-time.Millisecond)) || at.After(time.Now().Add(time.Millisecond)) {
		t.Errorf("exit at %v, ran from %v", at, before)
	}
}

func TestUnsupportedWithoutPrivilege(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: not root, so there is nothing to drop")
	}
	cmd := play(t, "open")
	cmd.SysProcAttr = &unix.SysProcAttr{Credential: &unixCredential}
	// The binary must be readable by others.
	path := filepath.Join(t.TempDir(), "open")
	copyBinary(t, path)
	cmd.Path = path
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil {
		t.Fatal("opened without privilege")
	}
	if !strings.Contains(stderr.String(), "unsupported: ") || !strings.Contains(stderr.String(), "CAP_BPF") {
		t.Errorf("said %q", stderr.String())
	}
}

func copyBinary(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(path); dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLacks prints what this kernel does not give, for test/kernels; a kernel of 6.12 or
// later lacks nothing but modules, if it was built without.
func TestLacks(t *testing.T) {
	s := openSensor(t, Config{})
	lacks := s.Lacks()
	for _, what := range lacks {
		t.Log("lacks: " + what)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	if major > 6 || major == 6 && minor >= 12 {
		if len(lacks) > 1 || len(lacks) == 1 && lacks[0] != lacksModules {
			t.Errorf("%q", lacks)
		}
	}
}

// TestCatchUp: when it has returned all has been read that happened before, however long records
// may wait in the ring; and it ends with its context, and with the sensor.
func TestCatchUp(t *testing.T) {
	r := record(t, Config{ReadDelay: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for range 25 {
				cmd := exec.Command("true")
				if err := cmd.Run(); err != nil {
					t.Error(err)
					return
				}
				if err := r.CatchUp(ctx); err != nil {
					t.Error(err)
					return
				}
				if len(matching(r, func(e *Exit) bool { return int(e.PID) == cmd.Process.Pid })) != 1 {
					t.Errorf("the end of %d has not been read", cmd.Process.Pid)
				}
			}
		})
	}
	asking.Wait()
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := r.CatchUp(over); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := r.CatchUp(ctx); err != nil {
		t.Error(err)
	}
}

// TestNoRoomForProcesses: a process that the table of processes has no room for counts as lost.
func TestNoRoomForProcesses(t *testing.T) {
	running, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	s := openSensor(t, Config{spoil: func(spec *ebpf.CollectionSpec) {
		spec.Maps[sensorMapProcesses].MaxEntries = uint32(len(running)) + 32
	}})
	const forks = 200
	script := fmt.Sprintf("for i in $(seq %d); do sleep 5 & done; kill $(jobs -p)", forks)
	if out, err := exec.Command("bash", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lost, err := s.Lost()
	if err != nil {
		t.Fatal(err)
	}
	if lost["fork"] == 0 || lost["fork"] > 2*forks {
		t.Errorf("%d lost of %d for which there was no room", lost["fork"], forks)
	}
}
