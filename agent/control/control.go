// Package control is how other programs on the machine speak to a running agent: a Unix
// socket, one line of JSON each way. A runner's job hook asks it to send what it has
// seen; a job asks it for a report of itself; the next agent asks it to hand over; people
// and the GitHub Action ask how it is, and end it.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// DefaultSocket is where an agent listens unless told otherwise.
const DefaultSocket = "/run/sallyport-agent/agent.sock"

// What can be asked.
const (
	doFlush    = "flush"
	doHandOver = "hand over"
	doReport   = "report"
	doStatus   = "status"
	doStop     = "stop"
	doUse      = "use"
)

type request struct {
	Do string `json:"do"`
	// Execution and Wait are of a report.
	Execution string        `json:"execution,omitempty"`
	Wait      time.Duration `json:"wait_nano,omitempty"`
	// Within is how long stopping may take, UnlessUsed that it is not to happen while other
	// jobs count on the agent.
	Within     time.Duration `json:"within_nano,omitempty"`
	UnlessUsed bool          `json:"unless_used,omitempty"`
	// Begins says, of use, that no step of the job has run yet.
	Begins bool `json:"begins,omitempty"`
}

type answer struct {
	// Told is the time up to which the agent tells what happened, by the clock of the
	// records; of handing over.
	Told uint64 `json:"told,omitempty"`
	// Status is how the agent is, or how it was at its end; of status and stop.
	Status *Status `json:"status,omitempty"`
	Error  string  `json:"error,omitempty"`
	// Report is a JobReport in protobuf's encoding.
	Report []byte `json:"report,omitempty"`
}

// Agent is what is spoken to. Its methods are safe for concurrent use.
type Agent struct {
	// Flush sends what was seen until now, and returns when it has arrived or ctx ends.
	Flush func(ctx context.Context) error
	// HandOver ends the agent, and returns when it has told everything.
	HandOver func(ctx context.Context) (told uint64, err error)
	// Report reports on a job to somebody who may know of it, after up to wait for the
	// server. An empty execution is the caller's own.
	Report func(ctx context.Context, who Caller, execution string, wait time.Duration) (*sallyportv1.JobReport, error)
	// Status says how the agent is, and does not wait.
	Status func() Status
	// Use notes that the job of who asks counts on the agent, which goes on for it; begins says
	// that it is the first thing that the job does.
	Use func(ctx context.Context, who Caller, begins bool) error
	// Stop ends the agent, and returns when it has; what is not sent within that time
	// stays in its spool. With unlessUsed it does nothing while another job than that which
	// started the agent counts on it: the status then says that it goes on.
	Stop func(ctx context.Context, within time.Duration, unlessUsed bool) (Status, error)
}

const (
	// maxLine bounds a request, maxAnswer an answer, in bytes.
	maxLine   = 1 << 10
	maxAnswer = 4 << 20
	// patience bounds how long somebody who connects may take to ask, flushPatience how
	// long a flush may take, handOverPatience a handing over.
	patience         = 2 * time.Second
	flushPatience    = 5 * time.Second
	handOverPatience = 30 * time.Second
	// MaxWait bounds how long a report may wait for the server.
	MaxWait = 10 * time.Second
	// maxConversations bounds how many are answered at a time.
	maxConversations = 16
	// maxReports bounds how many of them may be about reports, which take their time: others
	// get through.
	maxReports = 8
)

// Listen makes the socket, with its folder. A socket that nobody listens on any more is
// replaced. Everybody on the machine may connect: only root may have it hand over or stop.
func Listen(path string) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	_, missing := os.Stat(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("listen for control: %w", err)
	}
	if missing != nil { // whatever the umask of who starts the agent
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, fmt.Errorf("listen for control: %w", err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen for control: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for control: %w", err)
	}
	// By the time that this one closes, it may be the next agent's socket that is there.
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for control: %w", err), l.Close())
	}
	return l, nil
}

// Serve answers until ctx ends or the agent has, and closes the listener. Who asked to hand over
// gets the answer before it returns.
func Serve(ctx context.Context, l *net.UnixListener, a Agent) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var conversations sync.WaitGroup
	defer conversations.Wait()
	slots, reports := make(chan struct{}, maxConversations), make(chan struct{}, maxReports)
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if passes(err) {
			select {
			case <-time.After(acceptAgain):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("listen for control: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = c.Close() // whoever floods it waits in vain
			continue
		}
		conversations.Go(func() {
			defer func() { <-slots }()
			defer func() { _ = c.Close() }()
			// Who asks may ask for the end of ctx: the answer outlives it.
			converse(context.WithoutCancel(ctx), l, c, a, reports)
		})
	}
}

// acceptAgain is how long nobody is let in after there was no room for one more.
const acceptAgain = 100 * time.Millisecond

// passes says whether an error of accept is of the moment: who connects waits.
func passes(err error) bool {
	for _, full := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED} {
		if errors.Is(err, full) {
			return true
		}
	}
	return false
}

func converse(ctx context.Context, l *net.UnixListener, c *net.UnixConn, a Agent, reports chan struct{}) {
	if c.SetDeadline(time.Now().Add(patience)) != nil {
		return
	}
	var q request
	line, err := bufio.NewReaderSize(c, maxLine).ReadSlice('\n')
	if err != nil || json.Unmarshal(line, &q) != nil {
		return
	}
	var out answer
	if err := c.SetDeadline(time.Now().Add(handOverPatience + patience)); err != nil {
		return
	}
	switch q.Do {
	case doFlush:
		ctx, cancel := context.WithTimeout(ctx, flushPatience)
		defer cancel()
		if err := a.Flush(ctx); err != nil {
			out.Error = err.Error()
		}
	case doHandOver:
		ctx, cancel := context.WithTimeout(ctx, handOverPatience)
		defer cancel()
		if who, err := peer(c); err != nil || who.UID != 0 {
			out.Error = "only root may have the agent hand over"
		} else if out.Told, err = a.HandOver(ctx); err != nil {
			out.Error = err.Error()
		} else {
			_ = l.Close() // whoever is told that this one has ended finds nobody there
		}
	case doReport:
		ctx, cancel := context.WithTimeout(ctx, MaxWait+patience)
		defer cancel()
		select {
		case reports <- struct{}{}:
			out.Report, err = report(ctx, c, a, q)
			<-reports
		default:
			err = errors.New("too many ask for reports at once")
		}
		if err != nil {
			out.Error = err.Error()
		}
	case doStatus:
		status := a.Status()
		out.Status = &status
	case doUse:
		ctx, cancel := context.WithTimeout(ctx, patience/2) // who asks waits no longer
		defer cancel()
		if who, err := peer(c); err != nil {
			out.Error = err.Error()
		} else if err := a.Use(ctx, who, q.Begins); err != nil {
			out.Error = err.Error()
		}
	case doStop:
		if out.Status, out.Error = stop(ctx, c, a, q); out.Status != nil && !out.Status.GoesOn {
			_ = l.Close() // as when it has handed over
		}
	default:
		out.Error = fmt.Sprintf("the agent cannot %q", q.Do)
	}
	data, err := json.Marshal(out)
	if err != nil {
		return
	}
	_, _ = c.Write(append(data, '\n')) // whoever asked has gone
}

// ErrNobody is wrapped by errors that say that no agent listens on the socket.
var ErrNobody = errors.New("no agent listens")

// Flush has the agent send what it has seen until now, and waits until that has arrived,
// five seconds at most.
func Flush(ctx context.Context, socket string) error {
	_, err := ask(ctx, socket, request{Do: doFlush}, flushPatience+patience)
	return err
}

// HandOver ends the agent that listens and returns the time, by the clock of the
// records, up to which it has told what happened.
func HandOver(ctx context.Context, socket string) (told uint64, err error) {
	got, err := ask(ctx, socket, request{Do: doHandOver}, handOverPatience+patience)
	return got.Told, err
}

// Report asks for the report of the caller's own job or, as root outside of jobs, of an
// execution. The agent sends what it has seen, and gives the server up to wait (MaxWait at
// most) to judge it.
func Report(ctx context.Context, socket, execution string, wait time.Duration) (*sallyportv1.JobReport, error) {
	got, err := ask(ctx, socket, request{Do: doReport, Execution: execution, Wait: wait}, min(wait, MaxWait)+patience)
	if err != nil {
		return nil, err
	}
	r := new(sallyportv1.JobReport)
	if err := proto.Unmarshal(got.Report, r); err != nil {
		return nil, fmt.Errorf("ask agent to %s: decode its answer: %w", doReport, err)
	}
	return r, nil
}

func ask(ctx context.Context, socket string, q request, timeout time.Duration) (answer, error) {
	what := q.Do
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return answer{}, fmt.Errorf("ask agent to %s: %w on %s", what, ErrNobody, socket)
	}
	if err != nil {
		return answer{}, fmt.Errorf("ask agent to %s: %w", what, err)
	}
	defer func() { _ = c.Close() }()
	// Root does what these say, which may be somebody's who listens where no agent does.
	if os.Geteuid() == 0 && (q.Do == doHandOver || q.Do == doStatus || q.Do == doStop) {
		if _, err := rootListens(c, socket); err != nil {
			return answer{}, fmt.Errorf("ask agent to %s: %w", what, err)
		}
	}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return answer{}, fmt.Errorf("ask agent to %s: %w", what, err)
	}
	data, err := json.Marshal(q)
	if err != nil {
		return answer{}, fmt.Errorf("ask agent to %s: %w", what, err)
	}
	if _, err := c.Write(append(data, '\n')); err != nil {
		return answer{}, fmt.Errorf("ask agent to %s: %w", what, err)
	}
	var got answer
	if err := json.NewDecoder(io.LimitReader(c, maxAnswer)).Decode(&got); err != nil {
		return answer{}, fmt.Errorf("ask agent to %s: %w", what, err)
	}
	if got.Error != "" {
		return answer{}, fmt.Errorf("ask agent to %s: %s", what, got.Error)
	}
	return got, nil
}
