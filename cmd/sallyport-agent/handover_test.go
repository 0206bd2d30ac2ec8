package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// output gathers what a program writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) await(t *testing.T, words string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(o.String(), words); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q is not said:\n%s", words, o)
		}
	}
}

// events are all events of the stream, with their processes and steps.
func events(t *testing.T, js jetstream.JetStream) (all []*sallyportv1.EventBatch) {
	t.Helper()
	s, err := js.Stream(t.Context(), stream.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := stream.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	for n := info.State.FirstSeq; n <= info.State.LastSeq; n++ {
		m, err := s.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		b := new(sallyportv1.EventBatch)
		if err := decoder.Decode(m.Data, b); err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// TestHandOver: an agent that starts while another one runs takes over in the middle of
// a job. Everything is told, once, as of one execution; the hook ends the job and finds
// all of it in the stream.
func TestHandOver(t *testing.T) {
	if os.Getenv("SALLYPORT_REQUIRE_ALL") != "1" {
		if err := check(); err != nil {
			t.Skip("skipped: " + err.Error())
		}
	}
	dir := t.TempDir()
	server, js := natstest.StartDeclared(t, natsserver.Config{AgentPassword: "secret"})
	socket := filepath.Join(dir, "agent.sock")
	start := func() (*exec.Cmd, *output) {
		t.Helper()
		cmd, out := exec.Command("sallyport-agent", "--state", filepath.Join(dir, "state"), "--socket", socket), &output{}
		cmd.Env = append(os.Environ(), "SALLYPORT_NATS="+server.AgentURL("secret"))
		cmd.Stderr = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
		out.await(t, "watching")
		return cmd, out
	}
	first, _ := start()

	const marks = 250
	mark := copyOf(t, "/bin/true", filepath.Join(dir, "mark"))
	worker := copyOf(t, "/bin/bash", filepath.Join(dir, "Runner.Worker"))
	script := filepath.Join(dir, "step.sh")
	if err := os.WriteFile(script, fmt.Appendf(nil, "for i in $(seq 1 %d); do %s $i; sleep 0.01; done\n", marks, mark), 0o755); err != nil {
		t.Fatal(err)
	}
	hook := filepath.Join(dir, "hook.sh")
	if err := os.WriteFile(hook, fmt.Appendf(nil, "sallyport-agent hook completed --socket %s\ntrue\n", socket), 0o755); err != nil {
		t.Fatal(err)
	}
	job := exec.Command(worker, "-c", "/bin/bash "+script+"; /bin/bash "+hook+"; true")
	job.Env = []string{
		"PATH=" + os.Getenv("PATH"), "GITHUB_REPOSITORY=acme/handover", "GITHUB_RUN_ID=1", "GITHUB_JOB=build", "GITHUB_ACTION=step",
	}
	if err := job.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	second, said := start()
	said.await(t, "took over")
	if err := first.Wait(); err != nil {
		t.Errorf("the first agent: %v", err)
	}
	if err := job.Wait(); err != nil {
		t.Errorf("the job: %v", err)
	}
	// The hook has waited: all marks are in the stream now.
	told, executions, ends := map[string]int{}, map[string]bool{}, []string{}
	for _, b := range events(t, js) {
		for _, e := range b.GetEvents() {
			if e.GetAttribution() == 0 || b.GetAttributions()[e.GetAttribution()-1].GetRepository() != "acme/handover" {
				continue
			}
			executions[b.GetAttributions()[e.GetAttribution()-1].GetExecutionId()] = true
			if e.GetJobEnded() != nil {
				ends = append(ends, e.GetJobEnded().GetReason().String())
			}
			if e.GetProcessExecuted() == nil {
				continue
			}
			if p := b.GetProcesses()[e.GetProcess()-1]; p.GetExecutable() == mark {
				told[p.GetArguments()[1]]++
			}
		}
	}
	for i := range marks {
		if n := told[fmt.Sprint(i+1)]; n != 1 {
			t.Errorf("mark %d was told %d times", i+1, n)
		}
	}
	if len(executions) != 1 {
		t.Errorf("executions %v", executions)
	}
	if want := "[JOB_END_REASON_HOOK]"; fmt.Sprint(ends) != want {
		t.Errorf("the job ended by %v, want %s", ends, want)
	}

	// Killed, and started again.
	if err := second.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = second.Wait()
	third, _ := start()
	time.Sleep(500 * time.Millisecond)
	if err := third.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := third.Wait(); err != nil {
		t.Errorf("the third agent: %v", err)
	}
	var before []string
	for _, b := range events(t, js) {
		for _, e := range b.GetEvents() {
			if s := e.GetAgentStatus(); s.GetFound() != nil {
				before = append(before, strings.TrimPrefix(s.GetPreviousEnd().String(), "AGENT_END_"))
				if s.GetFound().GetProcesses() == 0 {
					t.Error("an agent found no process")
				}
			}
		}
	}
	if want := "[UNSPECIFIED REPLACED KILLED]"; fmt.Sprint(before) != want {
		t.Errorf("the agents before ended: %v, want %s", before, want)
	}
}

func copyOf(t *testing.T, from, to string) string {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}
