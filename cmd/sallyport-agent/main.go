// Command sallyport-agent watches a runner and streams what it sees to NATS. It is
// static and small: a runner downloads it at the start of a job.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/sallyport-ci/sallyport/agent"
	"github.com/sallyport-ci/sallyport/agent/control"
	"github.com/sallyport-ci/sallyport/agent/credential"
	"github.com/sallyport-ci/sallyport/agent/watchlist"
	"github.com/sallyport-ci/sallyport/bpf"
	"github.com/sallyport-ci/sallyport/cmd/internal/process"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// version is set when the program is built.
var version = "unknown"

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnsupported = 3
)

const (
	// gcPercent and memoryLimit (of Go's own memory, in bytes; not a hard one) keep the
	// agent small beside a build: it collects its garbage earlier than Go would.
	gcPercent   = 50
	memoryLimit = 40 << 20
)

const usage = `Watches this machine and streams what its CI jobs do to NATS JetStream.

Usage:
  sallyport-agent --nats nats://agent:PASSWORD@HOST:4222
  sallyport-agent --nats tls://HOST:4222,tls://HOST:4222 --nats-creds FILE --agent-id NAME
  sallyport-agent --server https://HOST
  sallyport-agent --check
  sallyport-agent COMMAND [--help]

Commands:
  start       run an agent in the background
  status      say how the agent is
  stop        end the agent that start has started
  install     set this machine up: program, settings, systemd unit, runners' hooks
  uninstall   take that away again
  reload      hand over to the next agent, for systemd
  enrol       enrol this machine at a server, once
  report      print what a job did
  hook        tell the agent where a job begins and ends, for the runner's hooks

It needs root (or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_PTRACE). While NATS
is away events are kept in the state folder and sent later, in order, none twice.

Every flag is also an environment variable: --nats is SALLYPORT_NATS. The address
holds a password; give it by environment, not as an argument that others can read.

With --server the agent asks the server for a credential and for where NATS is: with
GitHub's OIDC token in a job that has "permissions: id-token: write", or as a machine that
was enrolled (docs/identity.md). Until the server lets the agent in, it keeps what it sees.

An agent that starts while another one runs on the machine takes its work over: what
happens meanwhile is told once, by one of them.

Flags:
%s
Exit codes: 0 stopped in order, 1 something failed, 2 wrong usage, 3 this kernel or
these privileges cannot run it (the message says what is missing).
`

type options struct {
	nats process.NATS
	// server lets the agent in; empty with --nats, and of an enrolled machine, perhaps.
	server, serverCA string
	byServer         bool
	// Of enrol.
	name, enrolKey string
	state          string
	agentID        string
	metrics        string
	socket         string
	workers        []string
	watchList      string
	// requestHosts may be "none".
	requestHosts []string

	redactionKey, redactionRules string
	spoolSize                    int64
	logLevel                     string
	json                         bool
	// Of report.
	markdown  bool
	execution string
	wait      time.Duration
	// Of start and stop.
	within           time.Duration
	unlessUsed       bool
	logFile, pidFile string
	environmentStdin bool
	beginsJob        bool
	endsWithJobs     bool

	check   bool
	version bool
	install installOptions
	flags   *pflag.FlagSet
	// command is what is done instead of watching; nil to watch. arguments are what follow it.
	command   *command
	arguments []string
	// given are the flags that stood on the command line.
	given []*pflag.Flag
	log   *slog.Logger
	files *watchlist.List
}

// errNoServer is what a report says that the server could not be asked for.
var errNoServer = errors.New("there is no connection to the server")

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends a program that hangs

	var o options
	flags := newFlags(&o)
	if err := o.parse(flags, args, os.LookupEnv); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			fmt.Print(helpFor(args, flags))
			return exitOK
		}
		fmt.Fprintf(os.Stderr, "sallyport-agent: %v\nsee sallyport-agent --help\n", err)
		return exitUsage
	}
	var err error
	if o.command == nil || o.command.name != "hook" { // whose environment is the job's
		for _, said := range process.Misspelt(os.Environ(), flags, readyVariable, enrolKeyVariable) {
			fmt.Fprintln(os.Stderr, "sallyport-agent:", said)
		}
	}
	switch {
	case o.command != nil:
		err = o.command.run(ctx, &o)
	case o.version:
		fmt.Println("sallyport-agent", version)
	case o.check:
		err = check()
	default:
		err = o.watch(ctx)
	}
	var unsupported *bpf.UnsupportedError
	var ended *endedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &ended):
		fmt.Fprintln(os.Stderr, "sallyport-agent:", err)
		return ended.code
	case errors.As(err, &unsupported):
		fmt.Fprintln(os.Stderr, "sallyport-agent:", err)
		return exitUnsupported
	case o.command == nil && errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		fmt.Fprintf(os.Stderr, "sallyport-agent: %v: run it as root\n", err)
		return exitUnsupported
	default:
		fmt.Fprintln(os.Stderr, "sallyport-agent:", err)
		return exitFailed
	}
}

func newFlags(o *options) *pflag.FlagSet {
	f := pflag.NewFlagSet("sallyport-agent", pflag.ContinueOnError)
	f.SortFlags = false
	f.Usage = func() {}
	o.nats.Flags(f, "nats", "nats://127.0.0.1:4222", "address of NATS, with user and password unless there is --nats-creds; several with commas")
	f.StringVar(&o.nats.Creds, "creds", "", "as --nats-creds")
	_ = f.MarkHidden("creds") // there is such a flag; it was called so once
	f.StringVar(&o.server, "server", "", "address of the server that lets this agent in, https://HOST:PORT, instead of --nats")
	f.StringVar(&o.serverCA, "server-ca", "", "file with the certificates that the server's is checked against (default: the machine's)")
	f.StringVar(&o.name, "name", "", "of enrol: name of this machine (default: that of the host)")
	f.StringVar(&o.enrolKey, "enrol-key-file", "", "of enrol: file with the enrolment key; or the key itself in SALLYPORT_ENROL_KEY")
	f.StringVar(&o.state, "state", "/var/lib/sallyport-agent", "folder for the agent's identity and its spool")
	f.StringVar(&o.agentID, "agent-id", "", "identity of this machine (default: kept in the state folder)")
	f.StringVar(&o.socket, "socket", control.DefaultSocket, "Unix socket on which hooks and the next agent speak to this one")
	f.StringVar(&o.metrics, "metrics", "", "address for Prometheus metrics, /healthz and /readyz, for instance 127.0.0.1:7073 (default: none)")
	f.StringSliceVar(&o.workers, "worker", bpf.DefaultWorkers, "task name of a runner's worker process; may be repeated")
	f.StringVar(&o.watchList, "watch-list", "", "file of rules on top of the built-in ones for files that matter (docs/files.md)")
	f.StringSliceVar(&o.requestHosts, "request-host", agent.DefaultRequestHosts(), "host whose HTTP requests are read from within TLS, or *.NAME; may be repeated; none: no host (docs/requests.md)")
	f.StringVar(&o.redactionKey, "redaction-key", "", "file with the key of the digests that stay of secrets (default: redaction.key in the state folder, made if it is not there)")
	f.StringVar(&o.redactionRules, "redaction-rules", "", "file of rules on top of the built-in ones for what is a secret (docs/redaction.md)")
	f.Int64Var(&o.spoolSize, "spool-bytes", 1<<30, "most bytes to keep on disk while NATS is away")
	f.StringVar(&o.logLevel, "log-level", "info", "least level that is logged: debug, info, warn or error")
	f.BoolVar(&o.json, "json", false, "log as JSON lines; of commands: print JSON")
	f.BoolVar(&o.markdown, "markdown", false, "of report: print Markdown")
	f.StringVar(&o.execution, "execution", "", "of report: identity of the job's execution")
	f.DurationVar(&o.wait, "wait", 2*time.Second, "of report: how long the server may take to judge the job, 10s at most")
	o.install.add(f)
	f.BoolVar(&o.unlessUsed, "unless-used", false, "of stop: not while another job counts on an agent that was started with --ends-with-jobs")
	f.DurationVar(&o.within, "within", 10*time.Second, "of start: how long it may take until everything is watched; of stop: how long to send what was not sent yet")
	f.StringVar(&o.logFile, "log-file", "", "of start: file for the agent's log (default: agent.log in the state folder)")
	f.StringVar(&o.pidFile, "pid-file", "", "of start: file for the number of the agent's process (default: agent.pid in the state folder)")
	f.BoolVar(&o.environmentStdin, "environment-stdin", false, "of start: read further variables for the agent from standard input, an object of JSON: secrets that nobody else is to see")
	f.BoolVar(&o.beginsJob, "begins-job", false, "the job a step of which starts this agent has run no step before: it is seen whole")
	f.BoolVar(&o.endsWithJobs, "ends-with-jobs", false, "end when the job a step of which starts this agent has ended, and those that count on it since")
	f.BoolVar(&o.check, "check", false, "say whether this kernel and these privileges can run the agent, and end")
	f.BoolVar(&o.version, "version", false, "print the version and end")
	return f
}

// parse reads arguments and, for flags that are not among them, the environment.
func (o *options) parse(f *pflag.FlagSet, args []string, lookup func(string) (string, bool)) error {
	o.flags = f
	if err := f.Parse(args); err != nil {
		return err
	}
	if words := f.Args(); len(words) > 0 {
		if o.command = commandOf(words[0]); o.command == nil {
			return fmt.Errorf("there is no argument %q", words[0])
		}
		o.arguments = words[1:]
		if err := o.command.valid(o); err != nil {
			return err
		}
	}
	f.Visit(func(flag *pflag.Flag) { o.given = append(o.given, flag) })
	environment := lookup
	if o.command != nil && o.command.name == "hook" { // whose environment is the job's, with settings of other agents, perhaps
		environment = func(name string) (string, bool) {
			if name != process.Variable("socket") {
				return "", false
			}
			return lookup(name)
		}
	}
	if err := process.SetFromEnvironment(f, environment); err != nil {
		return err
	}
	if o.agentID != "" && !stream.ValidAgentID(o.agentID) {
		return fmt.Errorf("--agent-id %q is not 1 to 64 characters of [A-Za-z0-9_-]", o.agentID)
	}
	if o.command == nil && !o.check && !o.version {
		if err := o.validWay(f); err != nil {
			return err
		}
	}
	var err error
	if o.files, err = watchlist.Load(o.watchList); err != nil {
		return fmt.Errorf("--watch-list: %w", err)
	}
	o.log, err = process.NewLogger(o.logLevel, o.json)
	return err
}

// validWay says what is wrong with how the agent is to reach NATS.
func (o *options) validWay(f *pflag.FlagSet) error {
	given := f.Lookup("nats").Changed || o.nats.Creds+o.nats.CA+o.nats.Cert+o.nats.Key != ""
	if o.server == "" {
		if _, err := credential.LoadEnrolment(o.state); given || errors.Is(err, fs.ErrNotExist) {
			return o.nats.Valid()
		}
	} else if given {
		return errors.New("--server and --nats do not go together: the server says where NATS is")
	}
	o.byServer = true
	if o.agentID != "" {
		return errors.New("--agent-id is for --nats: with --server, or when it is enrolled, an agent has the identity that the server gives it")
	}
	if o.server != "" {
		if _, err := credential.ServerURL(o.server); err != nil {
			return fmt.Errorf("--server: %w", err)
		}
	}
	return nil
}

func (o *options) watch(ctx context.Context) (err error) {
	way, err := o.link()
	if err != nil {
		return err
	}
	defer way.close()
	o.agentID = way.agentID
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read host name: %w", err)
	}
	registry := process.NewRegistry()

	// First of all the kernel side: what happens from here on is seen.
	sensor, err := bpf.Open(bpf.Config{Workers: o.workers})
	if err != nil {
		return err
	}
	// Then the agent that runs already, if one does, tells the rest and ends. Where systemd
	// looks after it, it is to look after this one from now on.
	if err := tellSystemd("MAINPID=" + strconv.Itoa(os.Getpid())); err != nil {
		o.log.Warn("systemd does not hear of this process", "error", err)
	}
	told, err := control.HandOver(ctx, o.socket)
	switch {
	case err == nil:
		o.log.Info("took over from the agent that ran before")
	case errors.Is(err, control.ErrNobody):
	default:
		o.log.Warn("the agent that runs already does not hand over: what it tells may be told twice", "error", err)
	}
	life, err := agent.OpenLife(o.state)
	if err != nil {
		return errors.Join(err, sensor.Close())
	}
	if o.redactionKey == "" {
		o.redactionKey = filepath.Join(o.state, "redaction.key")
	}
	redactor, err := agent.LoadRedactor(o.redactionKey, o.redactionRules)
	if err != nil {
		return errors.Join(err, sensor.Close())
	}
	publisher, err := agent.NewPublisher(agent.PublisherConfig{
		Conn: way.conn, AgentID: way.agentID, Dir: way.spool, MaxSpoolBytes: o.spoolSize, Registerer: registry, Logger: o.log,
	})
	if err != nil {
		return errors.Join(err, sensor.Close())
	}
	beats := newHeart(way.conn)
	a, err := agent.New(agent.Config{
		AgentID: o.agentID, Hostname: hostname, Version: version, Self: sensor.Self(), BeginsJob: o.beginsJob, EndsWithJobs: o.endsWithJobs,
		Source: sensor, Watcher: sensor, WatchList: o.files, RequestHosts: agent.RequestHosts(o.requestHosts), Sink: publisher,
		Waiting: publisher.Waiting, Spilled: publisher.Spilled,
		Redactor: redactor, Life: life, TellFrom: told, Beat: beats.beat,
		Registerer: registry, Logger: o.log,
	})
	if err != nil {
		publisher.Close()
		return errors.Join(err, sensor.Close())
	}
	beside, stopBeside := context.WithCancel(context.WithoutCancel(ctx))
	var serving errgroup.Group
	serving.Go(func() error { return beats.send(beside, o.log) })
	defer func() {
		stopBeside()
		err = errors.Join(err, serving.Wait())
	}()
	if o.metrics != "" {
		l, err := listenMetrics(ctx, o.metrics)
		if err != nil {
			publisher.Close()
			return errors.Join(fmt.Errorf("--metrics: %w", err), sensor.Close())
		}
		serving.Go(func() error {
			return process.ServeMetrics(beside, l, registry, func() []process.Check {
				return []process.Check{{Name: "nats", Err: way.check()}}
			})
		})
	}
	serving.Go(func() error {
		way.run(beside)
		return nil
	})
	reports := &agent.Reports{Agent: a, Judge: way.judge}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	var within atomic.Int64 // how long what is left may be sent, once somebody said so
	status := func() control.Status { return o.status(a, publisher, way) }
	if l, err := control.Listen(o.socket); err != nil {
		o.log.Warn("hooks and the next agent cannot speak to this one", "error", err)
	} else {
		serving.Go(func() error {
			return control.Serve(beside, l, control.Agent{
				Flush: func(ctx context.Context) error { return agent.FlushAll(ctx, a, publisher) },
				Report: func(ctx context.Context, who control.Caller, execution string, wait time.Duration) (*sallyportv1.JobReport, error) {
					return reports.Of(ctx, agent.Asker(who), execution, wait)
				},
				HandOver: func(ctx context.Context) (uint64, error) {
					told := a.HandOver()
					stop()
					select {
					case <-ended:
						return told, nil
					case <-ctx.Done():
						return 0, ctx.Err()
					}
				},
				Status: status,
				Use: func(ctx context.Context, who control.Caller, begins bool) error {
					return a.Use(ctx, who.PID, begins)
				},
				Stop: func(ctx context.Context, patience time.Duration, unlessUsed bool) (control.Status, error) {
					if unlessUsed && !a.EndUnlessUsed() {
						s := status()
						s.GoesOn = true
						return s, nil
					}
					within.Store(int64(max(patience, 1)))
					stop()
					select {
					case <-ended:
						return status(), nil
					case <-ctx.Done():
						return control.Status{}, ctx.Err()
					}
				},
			})
		})
	}
	// What the start needed, the kernel's types above all, is not needed any more.
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	debug.FreeOSMemory()
	serving.Go(func() error {
		select {
		case <-a.Armed():
			if err := tellSystemd("READY=1"); err != nil {
				o.log.Warn("systemd does not hear that the agent watches", "error", err)
			}
		case <-watching.Done():
		}
		return nil
	})
	serving.Go(func() error {
		select {
		case <-a.Unused():
			o.log.Info("the last job that counted on this agent has ended: it ends, too")
			within.Store(int64(lastJobPatience))
			stop()
		case <-watching.Done():
		}
		return nil
	})
	o.log.Info("watching", "agent", o.agentID, "version", version, "workers", o.workers)
	serving.Go(func() error { return sayReady(watching, a.Armed()) })
	err = a.Run(watching)
	stop()
	if patience := within.Load(); patience > 0 {
		publisher.CloseWithin(time.Duration(patience))
	} else {
		publisher.Close()
	}
	close(ended)
	if n := publisher.Waiting(); n > 0 {
		o.log.Warn("batches wait in the spool for the next start", "batches", n, "spool", way.spool)
	}
	return err
}

// check opens and closes the kernel side.
func check() error {
	start := time.Now()
	sensor, err := bpf.Open(bpf.Config{})
	if err != nil {
		return err
	}
	armed, lacks := time.Since(start), sensor.Lacks()
	if err := sensor.Close(); err != nil {
		return err
	}
	fmt.Printf("this machine can run the agent (armed in %s)\n", armed.Round(time.Millisecond))
	for _, what := range lacks {
		fmt.Println("not seen here:", what)
	}
	return nil
}
