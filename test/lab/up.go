package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Up is a running `sallyport up` on free ports of the loopback interface.
type Up struct {
	program, data string
	cmd           *exec.Cmd

	// NATS is the address of the message server, host:port.
	NATS string `json:"nats"`
	// Metrics is the address that Prometheus asks, host:port.
	Metrics string `json:"metrics"`
	// ClickHouse is the address of its HTTP interface, host:port.
	ClickHouse string `json:"clickhouse"`
	// REST is the address of the REST API, host:port.
	REST string `json:"rest"`
	// Webhooks is where GitHub's webhooks arrive, if there is an App in the data folder.
	Webhooks string `json:"webhooks"`
	// Public is where agents are let in by token or enrolment.
	Public string `json:"public"`
}

// StartUp starts the program sallyport with a data folder and an incoming webhook
// and waits until it is ready. What it prints goes to out; what more adds to its
// arguments wins over those that it has anyway.
func StartUp(ctx context.Context, program, data, webhook string, out io.Writer, more ...string) (*Up, error) {
	u := &Up{program: program, data: data, cmd: exec.CommandContext(ctx, program, append([]string{"up", "--data", data, "--agent", "on",
		"--nats", "127.0.0.1:0", "--clickhouse", "127.0.0.1:0", "--rest", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--webhooks", "127.0.0.1:0"}, more...)...)}
	u.cmd.Env = append(os.Environ(), "SALLYPORT_SLACK_WEBHOOK="+webhook)
	u.cmd.Stdout, u.cmd.Stderr = out, out
	u.cmd.Cancel = func() error { return u.cmd.Process.Signal(syscall.SIGTERM) }
	// Left behind by one that was killed.
	if err := os.Remove(filepath.Join(data, "up.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("start sallyport up: %w", err)
	}
	if err := u.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start sallyport up: %w", err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(data, "up.json"))
		if err == nil {
			if err := json.Unmarshal(text, u); err != nil {
				return nil, errors.Join(fmt.Errorf("read up.json: %w", err), u.Kill())
			}
			return u, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("sallyport up was not ready within a minute"), u.Kill())
		}
	}
}

// Stop stops it in order, as Ctrl-C does.
func (u *Up) Stop() error {
	if err := u.cmd.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("stop sallyport up: %w", err)
	}
	if err := u.cmd.Wait(); err != nil {
		return fmt.Errorf("stop sallyport up: %w", err)
	}
	return nil
}

// Kill ends it at once, as the kernel does when memory is short.
func (u *Up) Kill() error {
	if err := u.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill sallyport up: %w", err)
	}
	_ = u.cmd.Wait() // it was killed
	return nil
}

// Ask runs a command of sallyport that asks this server, such as
// `sallyport runs`, and returns what it prints.
func (u *Up) Ask(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, u.program, append(args, "--data", u.data)...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("sallyport %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("sallyport %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// Query asks ClickHouse as its user reader, as Grafana does.
func (u *Up) Query(ctx context.Context, sql string) (string, error) {
	cmd := exec.CommandContext(ctx, "curl", "-sS", "--fail-with-body", "--user", "reader:"+u.readerPassword(),
		"http://"+u.ClickHouse+"/?database=sallyport", "--data-binary", sql)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("query: %w: %s", err, out)
	}
	return string(out), nil
}

func (u *Up) readerPassword() string {
	text, err := os.ReadFile(filepath.Join(u.data, "reader.password"))
	if err != nil {
		return "" // ClickHouse says so
	}
	return strings.TrimSpace(string(text))
}

// AgentURL is how an agent reaches NATS, its password in it.
func (u *Up) AgentURL() (string, error) {
	text, err := os.ReadFile(filepath.Join(u.data, "agent.env"))
	if err != nil {
		return "", fmt.Errorf("read agents' address: %w", err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(text)), "SALLYPORT_NATS="), nil
}

// Children returns the processes that it started and that are running.
func (u *Up) Children() ([]*os.Process, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", u.cmd.Process.Pid))
	if err != nil {
		return nil, fmt.Errorf("list children of sallyport up: %w", err)
	}
	var all []*os.Process
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("list children of sallyport up: %w", err)
			}
			p, err := os.FindProcess(pid)
			if err != nil {
				return nil, fmt.Errorf("find child %d of sallyport up: %w", pid, err)
			}
			all = append(all, p)
		}
	}
	return all, nil
}
