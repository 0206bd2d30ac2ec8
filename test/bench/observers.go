package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
)

// agentObserver is bin/sallyport-agent, publishing to a NATS server in this
// process, as a runner's agent publishes to a server elsewhere.
type agentObserver struct {
	server  *natsserver.Server
	dir     string
	program string
	metrics string
	// lost and cpu are summed over rounds.
	lost map[string]float64
	cpu  time.Duration
	runs int
	rss  int64
}

const agentPassword = "bench"

func newAgentObserver(ctx context.Context) (*agentObserver, error) {
	path, err := program("sallyport-agent")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return nil, err
	}
	a := &agentObserver{dir: dir, program: path, lost: map[string]float64{}}
	if a.server, err = natsserver.Start(natsserver.Config{Dir: filepath.Join(dir, "nats"), AgentPassword: agentPassword}); err != nil {
		return nil, err
	}
	nc, err := a.server.Connect()
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	return a, stream.Declare(ctx, js, stream.Limits{})
}

func (a *agentObserver) start(ctx context.Context) (func() error, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a.metrics = l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, a.program, "--state", filepath.Join(a.dir, "agent"), "--metrics", a.metrics, "--log-level", "error")
	cmd.Env = append(os.Environ(), "SALLYPORT_NATS="+a.server.AgentURL(agentPassword))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// Armed when its metrics say that it has read the processes that run already.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if values, err := scrape(ctx, a.metrics, "sallyport_agent_events_total"); err == nil && len(values) > 0 {
			break
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("the agent did not arm itself within 10 s"), cmd.Process.Kill(), cmd.Wait())
		}
	}
	return func() error {
		// What the last events of the load cost is part of it.
		time.Sleep(200 * time.Millisecond)
		lost, err := scrape(ctx, a.metrics, "sallyport_agent_lost_total")
		for kind, n := range lost {
			a.lost[kind] += n
		}
		if err := errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			return err
		}
		a.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			a.rss = max(a.rss, usage.Maxrss)
		}
		a.runs++
		return nil
	}, nil
}

func (a *agentObserver) report(w io.Writer) error {
	var lost float64
	for _, n := range a.lost {
		lost += n
	}
	_, err := fmt.Fprintf(w, "agent: %.0f events lost (%v), %s CPU a round, %d MB resident at most\n",
		lost, a.lost, (a.cpu / time.Duration(max(a.runs, 1))).Round(time.Millisecond), a.rss>>10)
	return err
}

func (a *agentObserver) close() {
	a.server.Shutdown()
	if err := os.RemoveAll(a.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// scrape returns the series of one metric, by their labels.
func scrape(ctx context.Context, address, metric string) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	values := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), metric)
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(rest, " ")
		var n float64
		if _, err := fmt.Sscan(value, &n); err != nil {
			return nil, fmt.Errorf("read metric %s: %w", lines.Text(), err)
		}
		values[labels] = n
	}
	return values, lines.Err()
}

// newAuditdObserver is Debian's auditd with the rules that Harden-Runner's open
// agent stands on: every exec, connect and open.
func newAuditdObserver() (observer, error) {
	for _, path := range []string{"/sbin/auditd", "/sbin/auditctl"} {
		if _, err := os.Stat(path); err != nil {
			return observer{}, err
		}
	}
	return observer{"auditd", startAuditd}, nil
}

func startAuditd(ctx context.Context) (func() error, error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-auditd-")
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("log_file = %s/audit.log\nlog_format = RAW\nflush = INCREMENTAL_ASYNC\nfreq = 50\nmax_log_file = 1000\nnum_logs = 2\nmax_log_file_action = rotate\nspace_left = 75\nspace_left_action = ignore\nadmin_space_left = 50\nadmin_space_left_action = ignore\ndisk_full_action = ignore\ndisk_error_action = ignore\n", dir)
	if err := os.WriteFile(filepath.Join(dir, "auditd.conf"), []byte(config), 0o640); err != nil {
		return nil, err
	}
	daemon := exec.CommandContext(ctx, "/sbin/auditd", "-n", "-c", dir)
	if err := daemon.Start(); err != nil {
		return nil, err
	}
	time.Sleep(500 * time.Millisecond)
	for _, rule := range []string{
		"-b 65536",
		"-a always,exit -F arch=b64 -S execve -S execveat -k exec",
		"-a always,exit -F arch=b64 -S connect -k net",
		"-a always,exit -F arch=b64 -S open -S openat -S openat2 -k file",
	} {
		if out, err := exec.CommandContext(ctx, "/sbin/auditctl", strings.Fields(rule)...).CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("auditctl %s: %w: %s", rule, err, out), daemon.Process.Kill(), daemon.Wait())
		}
	}
	return func() (err error) {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		out, err := exec.CommandContext(ctx, "/sbin/auditctl", "-D").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("auditctl -D: %w: %s", err, out)
		}
		return errors.Join(err, daemon.Process.Signal(syscall.SIGTERM), daemon.Wait())
	}, nil
}

// newBpftraceObserver is bpftrace writing every exec, connect and open to a file.
func newBpftraceObserver() (observer, error) {
	if _, err := exec.LookPath("bpftrace"); err != nil {
		return observer{}, err
	}
	return observer{"bpftrace", startBpftrace}, nil
}

func startBpftrace(ctx context.Context) (func() error, error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-bpftrace-")
	if err != nil {
		return nil, err
	}
	log := filepath.Join(dir, "log")
	const script = `BEGIN { printf("ready\n"); }
tracepoint:sched:sched_process_exec { printf("exec %d %s\n", pid, str(args->filename)); }
tracepoint:syscalls:sys_enter_connect { printf("connect %d %d\n", pid, args->fd); }
tracepoint:syscalls:sys_enter_openat { printf("open %d %s\n", pid, str(args->filename)); }`
	cmd := exec.CommandContext(ctx, "bpftrace", "-o", log, "-e", script)
	cmd.Env = append(os.Environ(), "BPFTRACE_PERF_RB_PAGES=1024")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if data, err := os.ReadFile(log); err == nil && strings.Contains(string(data), "ready") {
			break
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("bpftrace was not ready within 30 s"), cmd.Process.Kill(), cmd.Wait())
		}
	}
	return func() error {
		return errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait(), os.RemoveAll(dir))
	}, nil
}
