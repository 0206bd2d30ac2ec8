package control

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// TestReport: who asks is known by the kernel's word, and an answer may be long.
func TestReport(t *testing.T) {
	var asked Caller
	var execution string
	var waited time.Duration
	long := strings.Repeat("long ", 200_000)
	socket := serve(t, Agent{Report: func(_ context.Context, who Caller, e string, wait time.Duration) (*sallyportv1.JobReport, error) {
		asked, execution, waited = who, e, wait
		if e == "refused" {
			return nil, errors.New("not yours")
		}
		return &sallyportv1.JobReport{Unasked: long}, nil
	}})
	r, err := Report(t.Context(), socket, "x", 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if r.GetUnasked() != long || execution != "x" || waited != 3*time.Second {
		t.Errorf("%d bytes came, of %q, waiting %s", len(r.GetUnasked()), execution, waited)
	}
	if int(asked.PID) != os.Getpid() || int(asked.UID) != os.Getuid() {
		t.Errorf("%+v asked, not process %d", asked, os.Getpid())
	}
	if _, err := Report(t.Context(), socket, "refused", 0); err == nil || !strings.Contains(err.Error(), "ask agent to report: not yours") {
		t.Errorf("%v", err)
	}
	// Nobody has it wait for hours.
	if _, err := Report(t.Context(), socket, "x", 5*time.Hour); err != nil || waited != MaxWait {
		t.Errorf("waits %s, %v", waited, err)
	}
	if _, err := Report(t.Context(), socket, "x", -time.Hour); err == nil && waited != 0 {
		t.Errorf("waits %s", waited)
	}
	// An agent that makes none says so.
	if _, err := Report(t.Context(), serve(t, Agent{}), "", 0); err == nil || !strings.Contains(err.Error(), "makes no reports") {
		t.Errorf("%v", err)
	}
	// A request that is longer than a line may be is nobody's.
	if _, err := Report(t.Context(), socket, strings.Repeat("x", 2*maxLine), 0); err == nil {
		t.Error("a long request was answered")
	}
}

// TestHeldProcess: a hold on a process tells when it is gone; its number may be another's
// from then on.
func TestHeldProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := process{fd}
	defer p.close()
	if !p.is() {
		t.Error("it is there")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if p.is() {
		t.Error("it is gone")
	}
}

// TestManyReports: who asks for more reports than are made at once holds up nobody who asks
// for something else.
func TestManyReports(t *testing.T) {
	proceed := make(chan struct{})
	socket := serve(t, Agent{
		Flush: func(context.Context) error { return nil },
		Report: func(context.Context, Caller, string, time.Duration) (*sallyportv1.JobReport, error) {
			<-proceed
			return &sallyportv1.JobReport{}, nil
		},
	})
	const asked = maxReports + 3
	errs := make(chan error, asked)
	for range asked {
		go func() {
			_, err := Report(context.WithoutCancel(t.Context()), socket, "", MaxWait)
			errs <- err
		}()
	}
	for range asked - maxReports {
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "too many") {
			t.Errorf("%v", err)
		}
	}
	if err := Flush(t.Context(), socket); err != nil {
		t.Error(err)
	}
	close(proceed)
	for range maxReports {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
