package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// kept is a sink that keeps batches.
type kept struct {
	agent *Agent // of observe

	mu      sync.Mutex
	batches []*sallyportv1.EventBatch
}

func (k *kept) Publish(_ context.Context, b *sallyportv1.EventBatch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.batches = append(k.batches, b)
	return nil
}

// seen is an event with what its batch says of it.
type seen struct {
	*sallyportv1.Event
	process *sallyportv1.Process
	at      *sallyportv1.Attribution
}

// events returns all events, and fails where a batch is not complete in itself or
// sequences have gaps.
func (k *kept) events(t *testing.T) (all []seen) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	next := uint64(1)
	for _, b := range k.batches {
		if b.FirstSequence != next {
			t.Errorf("a batch begins at %d, want %d", b.FirstSequence, next)
		}
		next += uint64(len(b.Events))
		for _, e := range b.Events {
			s := seen{Event: e}
			if e.Process > 0 {
				s.process = b.Processes[e.Process-1]
			}
			if e.Attribution > 0 {
				s.at = b.Attributions[e.Attribution-1]
			}
			all = append(all, s)
		}
	}
	return all
}

// observe runs an agent with the real sensor.
func observe(t *testing.T) *kept {
	t.Helper()
	sensor, err := bpf.Open(bpf.Config{})
	var unsupported *bpf.UnsupportedError
	if errors.As(err, &unsupported) && os.Getenv("SALLYPORT_REQUIRE_ALL") == "" {
		t.Skip("skipped: " + unsupported.Missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	k := &kept{}
	a, err := New(Config{AgentID: "test", Hostname: "h", Version: "v", Source: sensor, Watcher: sensor, Sink: k, OnlyAttributed: true, RequestHosts: DefaultRequestHosts(), Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(errors.Join(err, sensor.Close()))
	}
	k.agent = a
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return k
}

// watches says whether the agent watches all of some files.
func (k *kept) watches(paths ...string) bool {
	k.agent.mu.Lock()
	defer k.agent.mu.Unlock()
	for _, path := range paths {
		var stat unix.Stat_t
		if unix.Stat(path, &stat) != nil || k.agent.files.files[keyOf(&stat)].path != path {
			return false
		}
	}
	return true
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, fs.FileMode(0o755)); err != nil {
		t.Fatal(err)
	}
}

// TestOfficialRunner plays GitHub's runner: Runner.Listener starts Runner.Worker,
// which runs steps, which try not to be taken for what they are.
func TestOfficialRunner(t *testing.T) {
	k := observe(t)
	dir := t.TempDir()
	listener, worker := filepath.Join(dir, "runner/bin/Runner.Listener"), filepath.Join(dir, "runner/bin/Runner.Worker")
	for _, to := range []string{listener, worker} {
		copyFile(t, "/bin/bash", to)
	}
	marks := []string{"plain", "cleared", "forged", "detached", "second"}
	for _, m := range marks {
		copyFile(t, "/bin/true", filepath.Join(dir, "mark", m))
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("compile.sh", `DIR/mark/plain
env -i DIR/mark/cleared
GITHUB_JOB=other GITHUB_REPOSITORY=evil/other GITHUB_RUN_ID=1 GITHUB_ACTION=nobody RUNNER_NAME=x bash -c 'DIR/mark/forged; true'
(setsid sh -c '(nohup sh -c "sleep 0.3; DIR/mark/detached; echo >DIR/done" >/dev/null 2>&1 &)' &)
for i in {1..100}; do [ -e DIR/done ] && break; sleep 0.1; done
`)
	write("publish.sh", "DIR/mark/second\n")
	// The worker gives each step its environment.
	work := write("work.sh", `for step in compile publish; do
  GITHUB_ACTION=$step GITHUB_REPOSITORY=acme/runner GITHUB_WORKFLOW=CI GITHUB_RUN_ID=77 GITHUB_RUN_ATTEMPT=2 GITHUB_JOB=build \
  GITHUB_SHA=c0ffee GITHUB_REF=refs/heads/main GITHUB_EVENT_NAME=push GITHUB_ACTOR=alice RUNNER_NAME=r1 \
  /usr/bin/bash -e DIR/$step.sh
done
true
`)
	listen := write("listen.sh", worker+" "+work+"\ntrue\n")
	cmd := exec.CommandContext(t.Context(), listener, listen)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	ended := func() bool {
		return slices.ContainsFunc(k.events(t), func(s seen) bool { return s.GetJobEnded() != nil && s.at.GetRepository() == "acme/runner" })
	}
	for deadline := time.Now().Add(20 * time.Second); !ended(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the job did not end")
		}
	}
	want := &sallyportv1.Attribution{
		Repository: "acme/runner", Workflow: "CI", RunId: "77", RunAttempt: 2, Job: "build", Commit: "c0ffee",
		Ref: "refs/heads/main", Event: "push", Actor: "alice", Runner: "r1",
	}
	found, jobs := map[string]string{}, map[string]int{}
	for _, s := range k.events(t) {
		// The sensor sees the whole machine, with the runners of other tests.
		ours := s.process != nil && strings.HasPrefix(s.process.Executable, dir)
		if s.at.GetRepository() != "acme/runner" && !ours {
			continue
		}
		switch {
		case s.GetJobStarted() != nil:
			jobs["started"]++
		case s.GetJobEnded() != nil:
			jobs["ended"]++
			if r := s.GetJobEnded().GetReason(); r != sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED {
				t.Errorf("the job ended because of %s", r)
			}
		}
		if s.at == nil { // the listener and the worker, before there is a job
			continue
		}
		got := proto.CloneOf(s.at)
		if len(got.ExecutionId) != 16 {
			t.Errorf("execution id %q", got.ExecutionId)
		}
		got.ExecutionId, got.Step, got.Action = "", "", ""
		if !proto.Equal(got, want) {
			t.Errorf("attribution %v, want %v", got, want)
		}
		if s.GetProcessExecuted() != nil && strings.HasPrefix(s.process.Executable, dir+"/mark/") {
			found[filepath.Base(s.process.Executable)] = s.at.Step
		}
	}
	if want := map[string]int{"started": 1, "ended": 1}; !maps.Equal(jobs, want) {
		t.Errorf("jobs %v, want %v", jobs, want)
	}
	steps := map[string]string{"plain": "compile", "cleared": "compile", "forged": "compile", "detached": "compile", "second": "publish"}
	if !maps.Equal(found, steps) {
		t.Errorf("steps of programs %v, want %v", found, steps)
	}
}
