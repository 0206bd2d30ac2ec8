// Command recordings makes testdata/recordings again: real workflows, run by act in the
// lab's small internet, watched by the real agent, kept by `sallyport record`. It is
// `make recordings`.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sallyport-ci/sallyport/test/lab"
)

const (
	folder     = "testdata/recordings"
	repository = "acme/shop"
	// clean runs teach the baseline: as many as it needs, and one more that brings nothing new.
	clean = 6
)

func main() {
	lab.BeWorld()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "recordings:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("eBPF and network namespaces need root")
	}
	program, err := filepath.Abs("bin/sallyport")
	if err != nil {
		return fmt.Errorf("find sallyport: %w", err)
	}
	act, err := filepath.Abs(".bin/act")
	if err != nil {
		return fmt.Errorf("find act: %w", err)
	}
	// A name that does not change: what runs tell of paths is the same each time.
	const dir = "/tmp/sallyport-recordings"
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	data := filepath.Join(dir, "data")
	up, err := lab.StartUp(ctx, program, data, "http://127.0.0.1:9/nobody", io.Discard)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, up.Stop()) }()
	world, err := lab.Open(context.WithoutCancel(ctx), dir, act, repository)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, world.Close()) }()
	for id := 1; id <= clean; id++ {
		if err := record(ctx, program, data, world, "ci.yml", id, fmt.Sprintf("ci-clean-%d.rec", id), "a clean CI run of "+repository); err != nil {
			return err
		}
	}
	if err := world.Compromise(); err != nil {
		return err
	}
	return record(ctx, program, data, world, "ci.yml", clean+1, "ci-compromised.rec",
		"the same run after the tag of the action changed-files moved to other code")
}

// record records one run of a workflow.
func record(ctx context.Context, program, data string, world *lab.Lab, workflow string, id int, name, note string) error {
	path := filepath.Join(folder, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make room for %s: %w", path, err)
	}
	cmd := exec.CommandContext(ctx, program, "record", "--data", data, "--run", fmt.Sprint(id), "--repository", repository,
		"--settle", "5s", "--output", path, "--note", note)
	said, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("start recorder: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start recorder: %w", err)
	}
	lines := bufio.NewScanner(said)
	if !lines.Scan() || !strings.Contains(lines.Text(), "from now on") {
		return errors.Join(fmt.Errorf("recorder said %q", lines.Text()), cmd.Process.Kill(), cmd.Wait())
	}
	var log strings.Builder
	if err := world.Run(ctx, workflow, id, &log); err != nil {
		return errors.Join(fmt.Errorf("%w\n%s", err, log.String()), cmd.Process.Kill(), cmd.Wait())
	}
	for lines.Scan() {
		fmt.Println(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	return os.Chmod(path, 0o644) // it goes into the repository
}
