package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// StartConfig says how [Start] runs the child.
type StartConfig struct {
	// Command is the program and arguments that call [RunChild], e.g. the own
	// executable and "db".
	Command []string
	Env     []string // added to this process's environment
	Library string   // path of libchdb.so; see [Locate]
	Dir     string   // database folder
	// Addr is default 127.0.0.1:0, and loopback; the port stays the same when the child is
	// started again.
	Addr string
	// Public is where other machines reach it, by TLS.
	Public PublicConfig

	User, Password                 string // default: user "default", a random password
	ReadOnlyUser, ReadOnlyPassword string // no reader if the user is empty; a random password if that is empty

	MaxMemory     int64         // bytes; zero: half of the machine's
	MaxStatements int           // at the same time; zero: 32
	MaxExecution  time.Duration // of a statement; zero: five minutes
	StartTimeout  time.Duration // until the child must answer; zero: one minute
	Logger        *slog.Logger
}

// A Process is the running child. Its methods may be called from any goroutine.
type Process struct {
	cfg      StartConfig
	client   *http.Client
	restarts atomic.Int64
	down     atomic.Bool

	mu    sync.Mutex
	child *child

	stopping chan struct{}
	stopOnce sync.Once
	watched  chan struct{}
}

// Start starts the child and waits until it answers. The child is started again, at
// the same address and with growing pauses of 0.2 to 10 seconds, whenever it dies,
// until Stop is called. ctx bounds the starting only.
//
// It fails with [ErrDataInUse] when another process has the data folder; other errors
// carry the last lines that the child wrote.
func Start(ctx context.Context, cfg StartConfig) (*Process, error) {
	if len(cfg.Command) == 0 {
		return nil, errors.New("start the engine: no command")
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.User == "" {
		cfg.User = "default"
	}
	if cfg.Password == "" {
		cfg.Password = rand.Text()
	}
	if cfg.ReadOnlyUser != "" && cfg.ReadOnlyPassword == "" {
		cfg.ReadOnlyPassword = rand.Text()
	}
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Process{
		cfg:      cfg,
		client:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second},
		stopping: make(chan struct{}), watched: make(chan struct{}),
	}
	c, err := p.startChild(ctx)
	if err != nil {
		return nil, err
	}
	p.cfg.Addr, p.cfg.Public.Addr = c.addr, c.public
	p.child = c
	go p.watch(c) //nolint:contextcheck // it lives until Stop, ctx only as long as the start
	return p, nil
}

// Addr is the address of the HTTP interface on this machine, host:port.
func (p *Process) Addr() string { return p.cfg.Addr }

// PublicAddr is the address for other machines, host:port; empty if there is none.
func (p *Process) PublicAddr() string { return p.cfg.Public.Addr }

// DSN is what clickhouse.ParseDSN takes, password included: not for logs.
func (p *Process) DSN() string { return p.dsn(p.cfg.User, p.cfg.Password) }

// ReadOnlyDSN is the DSN of the reader; empty if there is none.
func (p *Process) ReadOnlyDSN() string {
	if p.cfg.ReadOnlyUser == "" {
		return ""
	}
	return p.dsn(p.cfg.ReadOnlyUser, p.cfg.ReadOnlyPassword)
}

func (p *Process) dsn(user, password string) string {
	u := url.URL{Scheme: "http", User: url.UserPassword(user, password), Host: p.Addr(), Path: "/default"}
	return u.String()
}

// Restarts counts how often the child was started again.
func (p *Process) Restarts() int64 { return p.restarts.Load() }

// Up says whether the child answers, as far as is known.
func (p *Process) Up() bool { return !p.down.Load() }

// PID is the child's process id; 0 while there is none.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child == nil {
		return 0
	}
	return p.child.cmd.Process.Pid
}

// Stop ends the child in order: SIGTERM, upon which it finishes its statements, and
// SIGKILL when ctx ends first. It returns when the child is gone. Calling it again
// is harmless.
func (p *Process) Stop(ctx context.Context) error {
	p.stopOnce.Do(func() { close(p.stopping) })
	p.mu.Lock()
	c := p.child
	p.mu.Unlock()
	var err error
	if c != nil {
		err = c.stop(ctx)
	}
	<-p.watched
	return err
}

// watch starts the child again when it dies.
func (p *Process) watch(c *child) {
	defer close(p.watched)
	const firstPause, longestPause = 200 * time.Millisecond, 10 * time.Second
	pause := firstPause
	for {
		born := time.Now()
		<-c.gone
		if p.isStopping() {
			return
		}
		p.down.Store(true)
		p.cfg.Logger.Error("the database engine died; starting it again", "error", c.reason())
		if time.Since(born) > time.Minute {
			pause = firstPause
		}
		for {
			select {
			case <-p.stopping:
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, longestPause)
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				select {
				case <-p.stopping:
					cancel()
				case <-ctx.Done():
				}
			}()
			next, err := p.startChild(ctx)
			cancel()
			if err != nil {
				p.cfg.Logger.Debug("the database engine did not start", "error", err)
				continue
			}
			p.mu.Lock()
			p.child, c = next, next
			p.mu.Unlock()
			p.restarts.Add(1)
			p.down.Store(false)
			p.cfg.Logger.Info("the database engine is back", "pid", next.cmd.Process.Pid)
			break
		}
		if p.isStopping() { // Stop may have looked before the new child was there
			ctx, cancel := context.WithTimeout(context.Background(), 2*stopWait)
			_ = c.stop(ctx)
			cancel()
			return
		}
	}
}

func (p *Process) isStopping() bool {
	select {
	case <-p.stopping:
		return true
	default:
		return false
	}
}

// startChild starts one child and waits until it answers.
func (p *Process) startChild(ctx context.Context) (*child, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.StartTimeout)
	defer cancel()
	orders, err := json.Marshal(handover{
		Library: p.cfg.Library, Dir: p.cfg.Dir, Addr: p.cfg.Addr, Public: p.cfg.Public, User: p.cfg.User, Password: p.cfg.Password,
		ReadOnlyUser: p.cfg.ReadOnlyUser, ReadOnlyPassword: p.cfg.ReadOnlyPassword,
		MaxMemory: p.cfg.MaxMemory, MaxStatements: p.cfg.MaxStatements, MaxExecution: p.cfg.MaxExecution,
	})
	if err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	c, err := spawn(p.cfg.Command, p.cfg.Env, append(orders, '\n'))
	if err != nil {
		return nil, err
	}
	select {
	case <-c.ready:
	case <-c.gone:
		return nil, fmt.Errorf("start the engine: %w", c.reason())
	case <-ctx.Done():
		c.kill()
		return nil, fmt.Errorf("start the engine: it does not answer: %w%s", ctx.Err(), c.lastLines())
	}
	for {
		if err := p.ping(ctx, c.addr); err == nil {
			return c, nil
		}
		select {
		case <-c.gone:
			return nil, fmt.Errorf("start the engine: %w", c.reason())
		case <-ctx.Done():
			c.kill()
			return nil, fmt.Errorf("start the engine: %s does not answer: %w%s", c.addr, ctx.Err(), c.lastLines())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Process) ping(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/ping", nil)
	if err != nil {
		return err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ping: %s", res.Status)
	}
	return nil
}

// A child is one running child process.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ready chan struct{} // closed when addr is known
	gone  chan struct{} // closed when the process is reaped
	// addr and public are where it answers.
	addr, public string
	err          error // how it ended; set before gone is closed
	tail         tailWriter
}

func spawn(command, env []string, orders []byte) (*child, error) {
	cmd := exec.Command(command[0], command[1:]...)
	// Times without a zone of their own mean the same everywhere.
	cmd.Env = append(append(os.Environ(), "TZ=UTC"), env...)
	// Its own process group: Ctrl-C at the terminal goes to the parent alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c := &child{cmd: cmd, ready: make(chan struct{}), gone: make(chan struct{})}
	cmd.Stderr = &c.tail
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	c.stdin = stdin
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	go c.wait(stdout)
	if _, err := stdin.Write(orders); err != nil {
		c.kill()
		return nil, fmt.Errorf("start the engine: hand over its orders: %w%s", err, c.lastLines())
	}
	return c, nil
}

// wait reads standard output to its end and reaps the process.
func (c *child) wait(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	known := false
	for lines.Scan() {
		if addr, ok := strings.CutPrefix(lines.Text(), readyPrefix); ok && !known {
			known = true
			c.addr, c.public, _ = strings.Cut(addr, " ")
			close(c.ready)
			continue
		}
		_, _ = c.tail.Write(append(lines.Bytes(), '\n'))
	}
	_, _ = io.Copy(io.Discard, stdout)
	c.err = c.cmd.Wait()
	close(c.gone)
}

func (c *child) stop(ctx context.Context) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the engine: %w", err)
	}
	select {
	case <-c.gone:
	case <-ctx.Done():
		c.kill()
		return fmt.Errorf("stop the engine: it did not end in time and was killed: %w", ctx.Err())
	}
	if c.err != nil {
		return fmt.Errorf("stop the engine: %w", c.reason())
	}
	return nil
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may be gone already
	<-c.gone
}

// reason says why the child ended; only after gone.
func (c *child) reason() error {
	var exit *exec.ExitError
	if errors.As(c.err, &exit) && exit.ExitCode() == exitInUse {
		return fmt.Errorf("%w%s", ErrDataInUse, c.lastLines())
	}
	if c.err == nil {
		return fmt.Errorf("it ended by itself%s", c.lastLines())
	}
	return fmt.Errorf("%w%s", c.err, c.lastLines())
}

func (c *child) lastLines() string {
	if s := c.tail.String(); s != "" {
		return ": " + s
	}
	return ""
}

// A tailWriter keeps the last bytes written to it.
type tailWriter struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 4 << 10

func (t *tailWriter) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - tailBytes; n > 0 {
		t.buf = append([]byte(nil), t.buf[n:]...)
	}
	return len(p), nil
}

func (t *tailWriter) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
