package detector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
)

// story is a job told to a detector.
type story struct {
	js       jetstream.JetStream
	encoder  *stream.Encoder
	batch    *sallyportv1.EventBatch // of the run that is told
	sequence uint64
	process  uint64
	now      int64
	stop     func()
}

// tell starts a detector on an embedded NATS server.
func tell(t *testing.T) *story {
	t.Helper()
	server, err := natsserver.Start(natsserver.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	s := &story{sequence: 1, process: 100, now: time.Now().Add(-time.Hour).UnixNano()}
	if s.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	if err := stream.Declare(t.Context(), s.js, stream.Limits{}); err != nil {
		t.Fatal(err)
	}
	if s.encoder, err = stream.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *story) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	policies, problems, err := LoadPolicies(ctx, "")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	d, err := New(ctx, Config{JetStream: s.js, Policies: policies, RunsNeeded: 5, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// begin begins the telling of a run.
func (s *story) begin(run, event string) {
	s.process += 1000
	s.batch = &sallyportv1.EventBatch{
		AgentId: "agent-1", Epoch: 1, FirstSequence: s.sequence, Hostname: "h",
		Processes: []*sallyportv1.Process{{Id: s.process, Pid: 7, Executable: "/opt/runner/bin/Runner.Worker"}},
	}
	s.add(s.step(run, event, ""), 1, &sallyportv1.Event{Body: &sallyportv1.Event_JobStarted{JobStarted: &sallyportv1.JobStarted{}}})
}

// step returns the index of a step's attribution.
func (s *story) step(run, event, step string) uint32 {
	a := &sallyportv1.Attribution{
		Repository: "acme/shop", Workflow: "CI", RunId: run, RunAttempt: 1, Job: "build", ExecutionId: fmt.Sprintf("%016s", run),
		Step: step, Event: event, Ref: "refs/heads/main",
	}
	if event == "" {
		first := s.batch.Attributions[0]
		a = proto.CloneOf(first)
		a.Step = step
	}
	s.batch.Attributions = append(s.batch.Attributions, a)
	return uint32(len(s.batch.Attributions))
}

// program adds a program below the worker and returns its index.
func (s *story) program(name string) uint32 {
	s.process++
	s.batch.Processes = append(s.batch.Processes, &sallyportv1.Process{
		Id: s.process, ParentId: s.batch.Processes[0].Id, Pid: uint32(s.process), Executable: "/usr/bin/" + name, Arguments: []string{name},
	})
	return uint32(len(s.batch.Processes))
}

func (s *story) add(attribution, process uint32, e *sallyportv1.Event) {
	s.now += int64(time.Millisecond)
	e.TimeUnixNano, e.Attribution, e.Process = uint64(s.now), attribution, process
	s.batch.Events = append(s.batch.Events, e)
	s.sequence++
}

func (s *story) execute(attribution, process uint32) {
	s.add(attribution, process, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}})
}

func (s *story) connect(step, program, target, port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	f := &sallyportv1.Flow{
		Id: s.sequence, Phase: sallyportv1.FlowPhase_FLOW_PHASE_STARTED, Protocol: sallyportv1.Protocol_PROTOCOL_TCP,
		DestinationPort: uint32(n), Domain: target, DomainSource: sallyportv1.DomainSource_DOMAIN_SOURCE_PROCESS,
		DestinationAddress: []byte{198, 51, 100, 7},
	}
	if a, err := netip.ParseAddr(target); err == nil {
		f.Domain, f.DomainSource, f.DestinationAddress = "", 0, a.AsSlice()
	}
	at, p := s.step("", "", step), s.program(program)
	s.execute(at, p)
	s.add(at, p, &sallyportv1.Event{Body: &sallyportv1.Event_Flow{Flow: f}})
	return nil
}

func (s *story) pipe(step, writer, reader string) {
	at, w, r := s.step("", "", step), s.program(writer), s.program(reader)
	end := &sallyportv1.Descriptor{Kind: sallyportv1.DescriptorKind_DESCRIPTOR_KIND_PIPE, Inode: s.process}
	s.batch.Processes[w-1].StandardOutput, s.batch.Processes[r-1].StandardInput = end, end
	s.execute(at, w)
	s.execute(at, r)
}

func (s *story) read(step, program, what string) {
	kind := sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM
	if what == "maps" {
		kind = sallyportv1.AccessKind_ACCESS_KIND_PROC_MAPS
	}
	at, p := s.step("", "", step), s.program(program)
	s.execute(at, p)
	s.add(at, p, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessAccess{ProcessAccess: &sallyportv1.ProcessAccess{
		Kind: kind, Target: 1, TargetIsWorker: true,
	}}})
}

// end ends the run and publishes it in batches of a few events.
func (s *story) end(t *testing.T, reason sallyportv1.JobEndReason) {
	t.Helper()
	s.add(1, 1, &sallyportv1.Event{Body: &sallyportv1.Event_JobEnded{JobEnded: &sallyportv1.JobEnded{Reason: reason}}})
	for events := range slices.Chunk(s.batch.Events, 3) {
		b := proto.CloneOf(s.batch)
		b.Events = events
		s.publish(t, b)
		s.batch.FirstSequence += uint64(len(events))
	}
}

func (s *story) publish(t *testing.T, b *sallyportv1.EventBatch) {
	t.Helper()
	data, err := s.encoder.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.js.Publish(t.Context(), stream.EventSubject(b.AgentId), data); err != nil {
		t.Fatal(err)
	}
}

// judged waits until the detector has acknowledged everything, and returns the
// findings of a run as "policy step".
func (s *story) judged(t *testing.T, run string) (found []string) {
	t.Helper()
	s.waitDone(t)
	findings, err := s.js.Stream(t.Context(), stream.FindingsStream)
	if err != nil {
		t.Fatal(err)
	}
	state := findings.CachedInfo().State
	for n := state.FirstSeq; n <= state.LastSeq && n > 0; n++ {
		m, err := findings.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		f, err := stream.DecodeFinding(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if f.Attribution.RunId == run {
			found = append(found, f.Policy.Id+" "+f.Attribution.Step)
		}
	}
	slices.Sort(found)
	return found
}

func (s *story) waitDone(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		events, err := s.js.Stream(t.Context(), stream.EventsStream)
		if err != nil {
			t.Fatal(err)
		}
		c, err := events.Consumer(t.Context(), stream.DetectorConsumer)
		if err != nil {
			t.Fatal(err)
		}
		info := c.CachedInfo()
		if info.Delivered.Stream >= events.CachedInfo().State.LastSeq && info.NumAckPending == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the detector has not acknowledged: %+v", info)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// baseline waits until the job's baseline reads as told.
func (s *story) baseline(t *testing.T, want string) {
	t.Helper()
	baselines, err := OpenBaselines(t.Context(), s.js)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		b, err := baselines.Get(t.Context(), "acme/shop", "CI", "build")
		if errors.Is(err, ErrNoBaseline) {
			got = "none"
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		state := "learning"
		if b.Stable {
			state = "stable"
		}
		if got = fmt.Sprintf("%d %s %d", b.Runs, state, len(b.Endpoints)); got == want {
			return
		}
	}
	t.Fatalf("the baseline is %q, want %q", got, want)
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			scenario(t, file, string(text))
		})
	}
}

func scenario(t *testing.T, file, text string) {
	s, run := tell(t), ""
	var want []string
	check := func(n int) {
		if want == nil {
			return
		}
		want = slices.DeleteFunc(want, func(w string) bool { return w == "none" })
		slices.Sort(want)
		if got := s.judged(t, run); !slices.Equal(got, want) {
			t.Errorf("%s:%d: findings of run %s are %q, want %q", file, n, run, got, want)
		}
		want = nil
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		n := i + 1
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if words[0] != "expect" {
			check(n)
		}
		var err error
		switch sentence := words[0] + " " + strconv.Itoa(len(words)-1); sentence {
		case "run 1":
			run = words[1]
			s.begin(run, "push")
		case "run 2":
			run = words[1]
			s.begin(run, words[2])
		case "connect 4":
			err = s.connect(words[1], words[2], words[3], words[4])
		case "pipe 3":
			s.pipe(words[1], words[2], words[3])
		case "read 4":
			s.read(words[1], words[2], words[3])
		case "end 0":
			s.end(t, sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED)
		case "stopped 0":
			s.end(t, sallyportv1.JobEndReason_JOB_END_REASON_AGENT_STOPPED)
		case "expect 1", "expect 2":
			want = append(want, strings.Join(words[1:], " "))
		case "baseline 3":
			s.baseline(t, strings.Join(words[1:], " "))
		default:
			err = errors.New("no such sentence: see testdata/README.md")
		}
		if err != nil {
			t.Fatalf("%s:%d: %s: %v", file, n, line, err)
		}
	}
	check(len(lines))
}

// TestRestartInTheMiddle: a detector that is replaced between two batches of a run
// neither forgets nor repeats, and a message that is none is kept apart.
func TestRestartInTheMiddle(t *testing.T) {
	s := tell(t)
	s.begin("1", "push")
	s.pipe("setup", "curl", "bash")
	half := proto.CloneOf(s.batch)
	s.publish(t, half)
	s.waitDone(t)
	s.stop()
	if _, err := s.js.Publish(t.Context(), stream.EventSubject("agent-1"), []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	s.publish(t, half) // again, as an agent that heard no answer would
	s.batch.FirstSequence += uint64(len(half.Events))
	s.batch.Events = nil
	s.pipe("setup", "curl", "bash") // the same behaviour: not told twice
	s.read("setup", "python3", "mem")
	s.end(t, sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED)
	if got, want := s.judged(t, "1"), []string{"pipe_to_interpreter setup", "process_memory_read setup"}; !slices.Equal(got, want) {
		t.Errorf("findings %q, want %q", got, want)
	}
	dead, err := s.js.Stream(t.Context(), stream.DeadLettersStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := dead.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// TestPolicyThatDoesNotCompile: it is named with its line, the others go on, and
// mending it is enough.
func TestPolicyThatDoesNotCompile(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.rego")
	if err := os.WriteFile(bad, []byte("package sallyport.policies.bad\n\nviolation contains message if {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, problems, err := LoadPolicies(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "bad.rego:") {
		t.Fatalf("problems %v, want one with bad.rego and a line", problems)
	}
	e, err := NewEngine(EngineConfig{Policies: p, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := &story{sequence: 1}
	s.begin("1", "push")
	s.pipe("setup", "curl", "bash")
	if f, err := e.Apply(t.Context(), s.batch); err != nil || len(f) != 1 {
		t.Errorf("findings %v, %v, want the one of the policies that are well", f, err)
	}
}

// FuzzApply: no batch that a decoder lets through makes the engine fail.
func FuzzApply(f *testing.F) {
	p, _, err := LoadPolicies(context.Background(), "")
	if err != nil {
		f.Fatal(err)
	}
	s := &story{sequence: 1}
	s.begin("1", "push")
	if err := s.connect("a", "curl", "x.example.test", "443"); err != nil {
		f.Fatal(err)
	}
	s.pipe("a", "curl", "bash")
	s.read("b", "python3", "mem")
	seed, err := proto.Marshal(s.batch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	encoder, err := stream.NewEncoder()
	if err != nil {
		f.Fatal(err)
	}
	decoder, err := stream.NewDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := new(sallyportv1.EventBatch)
		if proto.Unmarshal(data, b) != nil {
			return
		}
		wire, err := encoder.Encode(nil, b)
		if err != nil {
			return
		}
		checked := new(sallyportv1.EventBatch)
		if decoder.Decode(wire, checked) != nil {
			return
		}
		e, err := NewEngine(EngineConfig{Policies: p, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Apply(t.Context(), checked); err != nil {
			t.Error(err)
		}
		if again, err := e.Apply(t.Context(), checked); err != nil || len(again) > 0 {
			t.Errorf("applied again: %v, %v", again, err)
		}
	})
}
