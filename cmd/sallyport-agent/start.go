package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/agent/control"
)

// startCommand runs an agent in the background.
var startCommand = command{
	name: "start",
	valid: func(o *options) error {
		if o.within <= 0 {
			return errors.New("--within is not more than nothing")
		}
		return o.noWords("start")
	},
	run: func(ctx context.Context, o *options) error { return o.start(ctx, os.Stdin, os.Stdout) },
}

// endedError says that the agent ended before it was armed, with which exit code.
type endedError struct {
	code int
	said string
}

func (e *endedError) Error() string {
	return fmt.Sprintf("the agent has ended with exit code %d:\n%s", e.code, e.said)
}

// readyVariable names the descriptor on which an agent says that it is armed, or has
// nothing in it.
const readyVariable = "SALLYPORT_READY_FD"

// readyDescriptor is the first that a child inherits besides the standard ones.
const readyDescriptor = 3

// start runs this program again, in a session of its own, and returns once it is armed.
// An agent that listens already is left as it is.
func (o *options) start(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	environment := inherited(os.Environ())
	if o.environmentStdin {
		more, err := readEnvironment(stdin)
		if err != nil {
			return fmt.Errorf("read variables from standard input: %w", err)
		}
		environment = append(environment, more...)
	}
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	// Jobs that begin at once on a machine are to have one agent: the second would take over
	// from the first, whose job would hold it for replaced by somebody.
	turn, err := takeTurn(ctx, filepath.Join(o.state, "start.lock"), o.within)
	if err != nil {
		return fmt.Errorf("wait for another start of the agent: %w", err)
	}
	defer func() { _ = turn.Close() }() // nothing was written to it
	switch s, err := control.AskStatus(ctx, o.socket); {
	case err == nil:
		return o.tellStarted(stdout, s, false)
	case !errors.Is(err, control.ErrNobody):
		return fmt.Errorf("something listens on %s: %w", o.socket, err)
	}
	log, err := os.OpenFile(o.stateFile(o.logFile, "agent.log"), os.O_CREATE|os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the agent's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the agent has its own
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("open the agent's log: %w", err)
	}
	ready, says, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	defer func() { _ = ready.Close() }() // only read from
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	// The agent outlives this command: it does not end with ctx.
	agent := exec.CommandContext(context.WithoutCancel(ctx), self, agentArguments(o.given)...)
	agent.Env = append(slices.Clone(environment), readyVariable+"="+strconv.Itoa(readyDescriptor))
	agent.Stdout, agent.Stderr = log, log
	agent.ExtraFiles = []*os.File{says}
	// Its own session: signals to the step's terminal or process group do not reach it.
	agent.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = agent.Start()
	_ = says.Close() // the agent has its own
	if err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	if err := o.awaitArmed(ctx, agent, ready, log, before); err != nil {
		return err
	}
	// One that cannot be ended later is ended now.
	pid := o.stateFile(o.pidFile, "agent.pid")
	if err := os.WriteFile(pid, []byte(strconv.Itoa(agent.Process.Pid)+"\n"), 0o644); err != nil {
		kill(agent)
		return fmt.Errorf("the agent was ended again, for its number cannot be kept: %w", err)
	}
	s, err := control.AskStatus(ctx, o.socket)
	if err != nil {
		kill(agent)
		return fmt.Errorf("the agent does not answer and was ended again: %w; it said:\n%s", err, tail(log, before))
	}
	return o.tellStarted(stdout, s, true)
}

func kill(agent *exec.Cmd) {
	_ = agent.Process.Kill() // it may have ended
	_ = agent.Wait()         // it was killed
}

// tellStarted prints the status of an agent, and whether this command has started it.
func (o *options) tellStarted(w io.Writer, s control.Status, started bool) error {
	switch {
	case o.json:
		return json.NewEncoder(w).Encode(struct {
			control.Status
			Started bool `json:"started"`
		}{s, started})
	case started:
		return o.tell(w, s, "watches")
	default:
		return o.tell(w, s, "runs already")
	}
}

// takeTurn locks a file, which it makes, until that is closed.
func takeTurn(ctx context.Context, path string, within time.Duration) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stateFile is a path that was given, or the file of that name in the state folder.
func (o *options) stateFile(path, name string) string {
	if path != "" {
		return path
	}
	return filepath.Join(o.state, name)
}

// awaitArmed returns when the agent says that it is armed. One that does not in time is
// ended: a job is either watched from here on or told that it is not.
func (o *options) awaitArmed(ctx context.Context, agent *exec.Cmd, ready, log *os.File, before int64) error {
	ctx, cancel := context.WithTimeout(ctx, o.within)
	defer cancel()
	armed := make(chan bool, 1)
	go func() {
		line := make([]byte, len(readyLine))
		_, err := io.ReadFull(ready, line) // it ends when the agent does, or with this program
		armed <- err == nil && string(line) == readyLine
	}()
	select {
	case ok := <-armed:
		if ok {
			return nil
		}
		_ = agent.Wait() // its exit code says it
		return &endedError{code: max(agent.ProcessState.ExitCode(), exitFailed), said: tail(log, before)}
	case <-ctx.Done():
		kill(agent)
		return fmt.Errorf("the agent is not armed within %s and was ended; it said:\n%s", o.within, tail(log, before))
	}
}

// tail returns the end of what was written to a log since an offset.
func tail(log *os.File, before int64) string {
	const most = 4 << 10
	size, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err.Error()
	}
	text := make([]byte, min(size-before, most))
	n, err := log.ReadAt(text, size-int64(len(text)))
	if err != nil && !errors.Is(err, io.EOF) {
		return err.Error()
	}
	return string(bytes.TrimSpace(text[:n]))
}

// agentArguments are those flags of the command line that are the agent's own.
func agentArguments(given []*pflag.Flag) []string {
	var arguments []string
	for _, f := range given {
		if slices.Contains([]string{"within", "log-file", "pid-file", "environment-stdin", "json"}, f.Name) {
			continue
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			for _, v := range list.GetSlice() {
				arguments = append(arguments, "--"+f.Name+"="+v)
			}
			continue
		}
		arguments = append(arguments, "--"+f.Name+"="+f.Value.String())
	}
	return arguments
}

// passes says whether the agent is given a variable. All others stay behind: a step's
// environment holds secrets, and RUNNER_TRACKING_ID, by which the runner finds the
// processes that it ends with the job.
func passes(name string) bool {
	switch name {
	case "http_proxy", "https_proxy", "no_proxy":
		return true
	case "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "GODEBUG",
		"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT":
		return true // the latter five are how a job is let in
	}
	return strings.HasPrefix(name, "SALLYPORT_") && name != readyVariable &&
		!strings.ContainsFunc(name, func(r rune) bool { return r != '_' && (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
}

func inherited(environment []string) []string {
	return slices.DeleteFunc(slices.Clone(environment), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !passes(name)
	})
}

// maxEnvironment bounds what is read from standard input, in bytes.
const maxEnvironment = 256 << 10

// readEnvironment reads an object of JSON whose values are strings. Errors do not repeat
// values.
func readEnvironment(r io.Reader) ([]string, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxEnvironment+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxEnvironment {
		return nil, fmt.Errorf("more than %d bytes", maxEnvironment)
	}
	var variables map[string]string
	if json.Unmarshal(text, &variables) != nil {
		return nil, errors.New("not an object of JSON with strings")
	}
	var environment []string
	for name, value := range variables {
		if !passes(name) {
			return nil, fmt.Errorf("the agent takes no variable %.40q", name)
		}
		if strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("variable %s has a zero byte in it", name)
		}
		environment = append(environment, name+"="+value)
	}
	slices.Sort(environment)
	return environment, nil
}

// lastJobPatience is how long an agent that ends with its jobs goes on sending after them.
const lastJobPatience = 10 * time.Second

const readyLine = "armed\n"

// sayReady tells whoever started this program that it is armed.
func sayReady(ctx context.Context, armed <-chan struct{}) error {
	fd, err := strconv.Atoi(os.Getenv(readyVariable))
	if err != nil || fd != readyDescriptor {
		return nil // nobody asked
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "ready")
	defer func() { _ = f.Close() }() // whoever reads it sees its end
	select {
	case <-ctx.Done():
		return nil
	case <-armed:
	}
	// Without a time limit: a line fits a pipe. Whoever asked may have gone.
	_, _ = f.WriteString(readyLine)
	return nil
}
