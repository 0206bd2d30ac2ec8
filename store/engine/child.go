package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// exit codes of the child, by which the parent tells the reasons apart.
const (
	exitFailed = 1
	exitInUse  = 75
)

// readyPrefix begins the one line that the child writes to standard output.
const readyPrefix = "sallyport-engine ready "

// A handover is what the parent tells the child, as one line of JSON on the child's
// standard input: not arguments, and not the environment, since both can be read by
// others on the machine.
type handover struct {
	Library          string        `json:"library"`
	Dir              string        `json:"dir"`
	Addr             string        `json:"addr"`
	Public           PublicConfig  `json:"public"`
	User             string        `json:"user"`
	Password         string        `json:"password"`
	ReadOnlyUser     string        `json:"read_only_user,omitempty"`
	ReadOnlyPassword string        `json:"read_only_password,omitempty"`
	MaxMemory        int64         `json:"max_memory,omitempty"`
	MaxStatements    int           `json:"max_statements,omitempty"`
	MaxExecution     time.Duration `json:"max_execution,omitempty"`
}

// RunChild is all that the child's main does (the command `sallyport db`): it reads
// its orders from standard input, where [Start] wrote them, serves until SIGTERM or
// until standard input ends, which means that the parent is gone, and returns the
// exit code.
func RunChild(stdin io.Reader, stdout, stderr io.Writer) int {
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	// Ctrl-C at a terminal reaches every process there; in which order they stop is
	// the parent's to say.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	debug.SetGCPercent(50) // most memory here is the library's

	in := bufio.NewReader(stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "sallyport db is started by sallyport itself: no orders on standard input")
		return exitFailed
	}
	var h handover
	if err := json.Unmarshal(line, &h); err != nil {
		_, _ = fmt.Fprintln(stderr, "read orders from standard input:", err)
		return exitFailed
	}
	go func() {
		// Ends with the process, as standard input does.
		_, _ = io.Copy(io.Discard, in)
		stop()
		time.Sleep(2*stopWait + 5*time.Second)
		os.Exit(exitFailed)
	}()

	err = Serve(ctx, ServeConfig{
		Library: h.Library, Dir: h.Dir, Addr: h.Addr, Public: h.Public, User: h.User, Password: h.Password,
		ReadOnlyUser: h.ReadOnlyUser, ReadOnlyPassword: h.ReadOnlyPassword,
		MaxMemory: h.MaxMemory, MaxStatements: h.MaxStatements, MaxExecution: h.MaxExecution,
		Ready:  func(addr, public string) { _, _ = fmt.Fprintln(stdout, readyPrefix+addr, public) },
		Logger: logger,
	})
	switch {
	case errors.Is(err, ErrDataInUse):
		_, _ = fmt.Fprintln(stderr, err)
		return exitInUse
	case err != nil:
		_, _ = fmt.Fprintln(stderr, err)
		return exitFailed
	}
	return 0
}
