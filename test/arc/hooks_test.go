package arc

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// workerWithHooks is a runner's worker that calls its job hooks, as GitHub's does: as first and
// last steps of the job.
const workerWithHooks = `#!/bin/sh
export GITHUB_REPOSITORY=acme/arc GITHUB_WORKFLOW=ci GITHUB_RUN_ID=9 GITHUB_RUN_ATTEMPT=1 GITHUB_JOB=build RUNNER_NAME=arc
while ! [ -e /go ]; do /bin/busybox sleep 0.05; done
GITHUB_ACTION=__run_started /bin/busybox sh -e /hooks/job-started.sh >/tmp/log 2>&1
GITHUB_ACTION=compile /bin/busybox sh -e -c "mkdir -p /root/.aws; echo x >/root/.aws/credentials; /bin/busybox cat /root/.aws/credentials"
: >/tmp/summary.md
GITHUB_ACTION=__run_completed GITHUB_STEP_SUMMARY=/tmp/summary.md /bin/busybox sh -e /hooks/job-completed.sh >>/tmp/log 2>&1
/bin/busybox touch /tmp/done
/bin/busybox sleep 1000
`

// TestHooksInARunnersPod: with the image and the values of deployments/arc a job in a runner's
// pod has its line in the log and its summary, from the agent on the node; and root in the pod
// cannot end that agent.
func TestHooksInARunnersPod(t *testing.T) {
	n := newNode(t)
	program, err := filepath.Abs("../../bin/sallyport-agent")
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := filepath.Abs("../../deployments/arc")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	// Without a server, which it does not need for this.
	agent := exec.Command(program, "--agent-id", "node", "--state", n.path("state"), "--socket", n.path("agent/agent.sock"), "--nats", "nats://127.0.0.1:1")
	agent.Stdout, agent.Stderr = &log, &log
	if err := os.Mkdir(n.path("agent"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatalf("start the agent that make build makes: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	t.Cleanup(func() {
		_ = agent.Process.Signal(syscall.SIGTERM) // it may have ended
		<-ended
		if t.Failed() {
			t.Logf("agent: %s", log.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if out, err := exec.Command(program, "status", "--json", "--socket", n.path("agent/agent.sock")).Output(); err == nil && strings.Contains(string(out), `"armed":true`) {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the agent is not armed: %s %v", out, err)
		}
	}

	pod := n.pod(1, "arc-runner", nil)
	container := pod.startWith("runner", map[string]string{
		"/run/sallyport-agent": n.path("agent"), "/usr/local/bin/sallyport-agent": program, "/hooks": hooks,
	}, "/runner-with-hooks/Runner.Worker")
	pod.exec(container, "/bin/busybox", "touch", "/go")
	n.await("end of the job", func(ctx context.Context) error {
		r, err := n.runtime.ExecSync(ctx, &runtimev1.ExecSyncRequest{ContainerId: container, Cmd: []string{"/bin/busybox", "test", "-e", "/tmp/done"}})
		if err == nil && r.GetExitCode() != 0 {
			err = errors.New("not done")
		}
		return err
	})
	if said := pod.exec(container, "/bin/busybox", "cat", "/tmp/log"); !strings.Contains(said, "Sallyport observes this job") {
		t.Errorf("the job's log: %s", said)
	}
	summary := pod.exec(container, "/bin/busybox", "cat", "/tmp/summary.md")
	for _, want := range []string{"`build`", "`compile`", "(credential)"} {
		if !strings.Contains(summary, want) {
			t.Errorf("no %s in the summary:\n%s", want, summary)
		}
	}
	if said := pod.exec(container, "/bin/busybox", "sh", "-c", "/usr/local/bin/sallyport-agent stop 2>&1 || :"); !strings.Contains(said, "only root") {
		t.Errorf("stop from within a pod: %s", said)
	}
	select {
	case err := <-ended:
		t.Errorf("the agent has ended: %v", err)
		ended <- err
	default:
	}
}
