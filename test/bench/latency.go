package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/test/lab"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

// measureLatency runs everything, plays a runner's worker whose step reads the
// worker's environment, and measures from right before the step opens the file
// until the webhook has the finding.
func measureLatency(ctx context.Context, samples int) (err error) {
	fmt.Println("\n== Kernel event to webhook received, everything on this machine (goal: median under 500 ms)")
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	const path = "/services/T0/B0/bench"
	receiver := slackfake.New(path, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: receiver, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		err = errors.Join(err, server.Close())
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}()

	sallyport, err := program("sallyport")
	if err != nil {
		return err
	}
	var printed bytes.Buffer
	up, err := lab.StartUp(ctx, sallyport, filepath.Join(dir, "data"), "http://"+l.Addr().String()+path, &printed)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, printed.Bytes())
	}
	worker := filepath.Join(dir, "Runner.Worker")
	if err := copyProgram("/bin/bash", worker); err != nil {
		return errors.Join(err, up.Stop())
	}
	var latencies []time.Duration
	for i := range samples {
		latency, err := sample(ctx, worker, receiver, i)
		if err != nil {
			return errors.Join(fmt.Errorf("sample %d: %w", i, err), up.Stop())
		}
		latencies = append(latencies, latency)
		// Slack takes one message a second: waiting for that is not what is measured.
		time.Sleep(1200*time.Millisecond - min(latency, time.Second))
	}
	if err := up.Stop(); err != nil {
		return err
	}
	slices.Sort(latencies)
	fmt.Printf("%d samples: median %s, least %s, most %s\n", samples,
		latencies[samples/2].Round(time.Millisecond), latencies[0].Round(time.Millisecond), latencies[samples-1].Round(time.Millisecond))
	return nil
}

// sample plays one step. Each is in a repository of its own, or its alert would be
// held back as a repeat.
func sample(ctx context.Context, worker string, receiver *slackfake.Receiver, i int) (time.Duration, error) {
	repository := "bench/latency-" + strconv.Itoa(i) + "-end"
	step := `export WORKER=$$; GITHUB_REPOSITORY=` + repository + ` GITHUB_WORKFLOW=bench GITHUB_RUN_ID=` + strconv.Itoa(i+1) +
		` GITHUB_RUN_ATTEMPT=1 GITHUB_JOB=latency GITHUB_ACTION=__run GITHUB_EVENT_NAME=push GITHUB_REF=refs/heads/main ` +
		`/bin/bash -c 'echo $EPOCHREALTIME; read -r _ </proc/$WORKER/environ; sleep 0.1'; true`
	out, err := exec.CommandContext(ctx, worker, "-c", step).Output()
	if err != nil {
		return 0, err
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		return 0, err
	}
	opened := time.UnixMicro(int64(seconds * 1e6))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var latency time.Duration
	err = receiver.Wait(ctx, func() bool {
		for _, m := range receiver.Messages() {
			if strings.Contains(slackfake.Render(m.Message, slackfake.RenderOptions{Width: 1000}), repository) {
				latency = m.Time.Sub(opened)
				return true
			}
		}
		return false
	})
	if err != nil {
		return 0, fmt.Errorf("no alert for %s: %w", repository, err)
	}
	return latency, nil
}

func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
