package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/agent"
	"github.com/sallyport-ci/sallyport/agent/control"
	"github.com/sallyport-ci/sallyport/agent/watchlist"
	"github.com/sallyport-ci/sallyport/bpf"
	"github.com/sallyport-ci/sallyport/cmd/internal/process"
	"github.com/sallyport-ci/sallyport/deadletter"
	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/identity"
	"github.com/sallyport-ci/sallyport/ingest"
	"github.com/sallyport-ci/sallyport/notify"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/server"
	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/store/engine"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
)

// stack is what one process runs, in the order in which it starts: all of `sallyport up`,
// or one part.
type stack struct {
	part     string // stream.PartUp and so on
	o        *options
	log      *slog.Logger
	out      io.Writer
	registry *prometheus.Registry
	parts    *parts
	ready    *readiness
	told     func(what, done string) // hears what became of streams

	engine    *engine.Process    // nil if ClickHouse is elsewhere
	nats      *natsserver.Server // nil if NATS is elsewhere
	js        jetstream.JetStream
	signer    *identity.Signer // of agents' credentials; nil if there is none
	store     *store.Store
	retention store.Retention
	ingest    *ingest.Ingest
	baselines *detector.Baselines
	decisions *detector.Decisions
	// fingerprint of the embedded ClickHouse's self-made certificate; empty if there is none.
	fingerprint string
	verdicts    *detector.Verdicts
	partHealth  []func() *sallyportv1.PartHealth
	agentID     string
	kernel      string // why there is no agent, if so
	addresses   addresses
}

// step starts something. It may wait until that can be reached.
type step func(ctx context.Context) error

func (o *options) newStack(part string, out io.Writer) (*stack, error) {
	log, err := process.NewLogger(o.logLevel, o.json)
	if err != nil {
		return nil, usageError(err)
	}
	registry := process.NewRegistry()
	s := &stack{part: part, o: o, log: log, out: out, registry: registry, parts: newParts(), ready: newReadiness(registry)}
	s.told = func(what, done string) { s.log.Debug("declared", "what", what, "done", done) }
	return s, nil
}

// runSteps starts everything in order, calls running, and stops in the reverse order. To
// be told to stop while starting is no error.
func (s *stack) runSteps(ctx context.Context, steps []step, running func() error) error {
	for _, start := range steps {
		if err := start(ctx); err != nil {
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				err = nil
			}
			return errors.Join(err, s.parts.stop())
		}
	}
	s.ready.setStarting(nil)
	err := running()
	s.ready.setStarting(errors.New("is over: stopping"))
	return errors.Join(err, s.parts.stop())
}

// up runs until ctx ends or a part fails, and stops in order.
func (o *options) up(ctx context.Context, out io.Writer) (err error) {
	s, err := o.newStack(stream.PartUp, out)
	if err != nil {
		return err
	}
	dsn, err := o.dsn()
	if err != nil {
		return err
	}
	if err := o.validIdentity(o.external.URL == ""); err != nil {
		return usageError(err)
	}
	if s.retention, err = store.ParseRetention(o.retention); err != nil {
		return usageError(fmt.Errorf("--retention: %w", err))
	}
	if o.data, err = filepath.Abs(o.data); err != nil { // what is printed is to be pasted elsewhere
		return fmt.Errorf("find data folder: %w", err)
	}
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	unlock, err := lockData(o.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	token, err := secretFile(filepath.Join(o.data, tokenFile))
	if err != nil {
		return err
	}
	if o.policies == "" {
		o.policies = filepath.Join(o.data, "policies")
	}

	start := time.Now()
	startClickHouse, startNATS := s.startEngine, s.startNATS
	if dsn != "" {
		startClickHouse = s.openStore(dsn)
	}
	if o.external.URL != "" {
		startNATS = s.connectNATS
	}
	return s.runSteps(ctx, []step{
		s.startMetrics, startClickHouse, startNATS, s.migrate, s.startIngest, s.startNotify, s.startDetector, s.openBaselines, s.startServer(token), s.startChecks, s.startAgent,
	}, func() error {
		if err := s.addresses.write(o.data); err != nil {
			return err
		}
		s.banner(time.Since(start))
		err := s.parts.wait(ctx)
		fmt.Fprintln(out, "\nStopping: what is on its way stays in", o.data)
		return errors.Join(err, os.Remove(filepath.Join(o.data, addressesFile)))
	})
}

// lockData makes sure that one process at a time has a data folder.
func lockData(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another sallyport up is using %s; stop it, or choose another folder with --data", dir), f.Close())
	}
	return f.Close, nil
}

// stopTimeout bounds how long a part that is told to stop may take.
const stopTimeout = 30 * time.Second

func (s *stack) startEngine(ctx context.Context) error {
	addr, public, err := s.engineAddresses()
	if err != nil {
		return err
	}
	if err := free("clickhouse", s.o.clickhouse); err != nil {
		return err
	}
	library, err := engine.Fetch(ctx, engine.FetchConfig{File: s.o.engine, Progress: os.Stderr})
	if err != nil {
		return err
	}
	owner, err := secretFile(filepath.Join(s.o.data, ownerPasswordFile))
	if err != nil {
		return err
	}
	reader, err := secretFile(filepath.Join(s.o.data, readerFile))
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	s.engine, err = engine.Start(ctx, engine.StartConfig{
		Command: []string{self, "db"}, Library: library, Dir: filepath.Join(s.o.data, "clickhouse"), Addr: addr, Public: public,
		User: "sallyport", Password: owner, ReadOnlyUser: "reader", ReadOnlyPassword: reader, Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.addresses.ClickHouse = s.engine.Addr()
	s.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "sallyport_clickhouse_restarts_total", Help: "Times that the embedded ClickHouse was started again after it died.",
	}, func() float64 { return float64(s.engine.Restarts()) }))
	s.parts.onStop("ClickHouse", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		return s.engine.Stop(ctx)
	})
	s.ready.check("clickhouse", func() error {
		if !s.engine.Up() {
			return errors.New("is being started again")
		}
		return nil
	})
	dsn, err := url.Parse(s.engine.DSN())
	if err != nil {
		return fmt.Errorf("read the embedded ClickHouse's address: %w", err)
	}
	dsn.Path = "/sallyport"
	return s.useStore(ctx, dsn.String())
}

// engineAddresses are where the embedded ClickHouse listens: on loopback in clear; or,
// for other machines, by TLS, and on loopback for this process.
func (s *stack) engineAddresses() (addr string, public engine.PublicConfig, err error) {
	if _, _, err := hostPort("clickhouse", s.o.clickhouse); err != nil {
		return "", public, err
	}
	if (s.o.clickhouseCert == "") != (s.o.clickhouseKey == "") {
		return "", public, usageError(errors.New("--clickhouse-cert and --clickhouse-key belong together"))
	}
	if engine.IsLoopback(s.o.clickhouse) {
		if s.o.clickhouseCert != "" {
			return "", public, usageError(fmt.Errorf("--clickhouse-cert is for other machines, and --clickhouse %s is only for this one", s.o.clickhouse))
		}
		return s.o.clickhouse, public, nil
	}
	public = engine.PublicConfig{Addr: s.o.clickhouse, Cert: s.o.clickhouseCert, Key: s.o.clickhouseKey}
	if public.Cert == "" {
		if public.Cert, public.Key, s.fingerprint, err = engine.SelfMadeCertificate(s.o.data, s.o.clickhouse, time.Now()); err != nil {
			return "", public, err
		}
		s.log.Info("ClickHouse has a self-made certificate", "file", public.Cert, "sha256", s.fingerprint)
	}
	return "127.0.0.1:0", public, nil
}

// useStore opens the database.
func (s *stack) useStore(ctx context.Context, dsn string) (err error) {
	if s.store, err = store.Open(ctx, dsn); err != nil {
		return err
	}
	s.parts.onStop("ClickHouse connection", s.store.Close)
	return nil
}

func (s *stack) startNATS(ctx context.Context) error {
	host, port, err := hostPort("nats", s.o.nats)
	if err != nil {
		return err
	}
	if err := free("nats", s.o.nats); err != nil {
		return err
	}
	password, err := secretFile(filepath.Join(s.o.data, agentPasswordFile))
	if err != nil {
		return err
	}
	operator, err := secretFile(filepath.Join(s.o.data, operatorPasswordFile))
	if err != nil {
		return err
	}
	if s.signer, err = embeddedSigner(s.o.data); err != nil {
		return err
	}
	signer, err := s.signer.PublicKey()
	if err != nil {
		return fmt.Errorf("key for agents' credentials: %w", err)
	}
	s.nats, err = natsserver.Start(natsserver.Config{
		Dir: filepath.Join(s.o.data, "nats"), Host: host, Port: port, AgentPassword: password, AgentSigner: signer, OperatorPassword: operator, Logger: s.log,
		MaxStore: s.o.limits.Total(),
	})
	if err != nil {
		return err
	}
	s.parts.onStop("NATS", func() error { s.nats.Shutdown(); return nil })
	s.addresses.NATS = strings.TrimPrefix(s.nats.URL(), "nats://")
	agentURL, err := s.agentURL(password)
	if err != nil {
		return err
	}
	if err := writePrivate(filepath.Join(s.o.data, agentFile), "SALLYPORT_NATS="+agentURL+"\n"); err != nil {
		return err
	}
	nc, err := s.nats.Connect(nats.Name("sallyport up"), nats.ReconnectBufSize(-1))
	if err != nil {
		return err
	}
	s.parts.onStop("NATS connection", func() error { nc.Close(); return nil })
	if s.js, err = newJetStream(nc); err != nil {
		return err
	}
	s.ready.check("nats", s.nats.Healthy)
	if s.o.declare {
		err = stream.Declare(ctx, s.js, s.o.limits, s.told)
	} else {
		err = stream.Check(ctx, s.js, s.part, s.o.limits)
	}
	if err != nil {
		return err
	}
	space := &natsserver.Space{JS: s.js, Dir: s.o.data, Logger: s.log}
	s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_nats_disk_short", Help: "1 while the disk is nearly full and agents keep their events themselves.",
	}, func() float64 {
		if space.Short() {
			return 1
		}
		return 0
	}))
	s.parts.start("disk space", space.Run)
	s.registry.MustRegister(deadletter.NewCollector(s.js))
	return nil
}

func newJetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return js, nil
}

// reportHealth adds a part to what the API tells of health.
func (s *stack) reportHealth(name string, ask func() (healthy bool, detail string)) {
	s.partHealth = append(s.partHealth, func() *sallyportv1.PartHealth {
		healthy, detail := ask()
		return &sallyportv1.PartHealth{Name: name, Healthy: healthy, Detail: detail}
	})
}

// migrate makes the tables before anything asks for them.
func (s *stack) migrate(ctx context.Context) error {
	migrate := func(ctx context.Context) error {
		if err := s.store.Migrate(ctx); err != nil || s.part != stream.PartUp {
			return err
		}
		return s.store.SetRetention(ctx, s.retention)
	}
	if s.engine != nil {
		return migrate(ctx)
	}
	// ClickHouse may come later. What it says when it is not there yet has many forms.
	return s.insist(ctx, "make the tables in ClickHouse", func(ctx context.Context) error {
		if err := migrate(ctx); err != nil && s.store.Ping(ctx) != nil {
			return &awayError{err}
		} else if err != nil {
			return err
		}
		return nil
	})
}

func (s *stack) startIngest(context.Context) (err error) {
	s.ingest, err = ingest.New(ingest.Config{JS: s.js, Store: s.store, Name: s.o.name, Logger: s.log, Registerer: s.registry})
	if err != nil {
		return err
	}
	s.reportHealth("ingest", s.ingest.Health)
	s.probeConsumers(stream.PartIngest)
	s.parts.start("ingest", s.ingest.Run)
	return nil
}

func (s *stack) startNotify(context.Context) error {
	maker := sinkMaker{out: s.out, json: s.o.json, githubURL: s.o.githubURL, slackAPI: os.Getenv("SALLYPORT_SLACK_API")}
	var sinks []notify.Sink
	var router *notify.Router
	var err error
	if s.o.alerts != "" {
		if s.o.slackWebhook != "" || s.o.webhook != "" {
			return usageError(errors.New("--alerts says all about sinks: leave --slack-webhook and --webhook out, also of the environment"))
		}
		rules, e := readRules(s.o.alerts)
		if e != nil {
			return usageError(e)
		}
		if sinks, err = maker.sinks(rules); err != nil {
			return usageError(err)
		}
		router = new(notify.Router)
		router.Use(rules)
		s.parts.start("alert rules", func(ctx context.Context) error {
			s.watchRules(ctx, s.o.alerts, router)
			return nil
		})
	} else if sinks, err = s.flaggedSinks(maker); err != nil {
		return err
	}
	notifier, err := notify.New(notify.Config{JS: s.js, Sinks: sinks, Router: router, Registerer: s.registry, Logger: s.log})
	if err != nil {
		return err
	}
	s.reportHealth("notify", notifier.Health)
	s.probeConsumers(stream.PartNotify)
	s.parts.start("alerts", notifier.Run)
	return nil
}

// flaggedSinks are the sinks that flags name: everybody is told of everything.
func (s *stack) flaggedSinks(maker sinkMaker) ([]notify.Sink, error) {
	severity, err := parseSeverity("min-severity", s.o.minSeverity)
	if err != nil {
		return nil, err
	}
	people, err := maker.terminal()
	if err != nil {
		return nil, usageError(err)
	}
	sinks := []notify.Sink{{Name: "terminal", Target: people}}
	if s.o.slackWebhook != "" {
		slack, err := notify.NewSlack(notify.SlackOptions{WebhookURL: s.o.slackWebhook, GitHubURL: s.o.githubURL})
		if err != nil {
			return nil, usageError(err)
		}
		sinks = append(sinks, notify.Sink{
			Name: "slack", Target: slack, MinSeverity: severity,
			Window: notify.SlackWindow, Interval: notify.SlackInterval, MaxItems: notify.SlackMaxItems,
		})
	}
	if s.o.webhook != "" {
		secrets := os.Getenv("SALLYPORT_WEBHOOK_SECRET")
		if s.o.webhookSecret != "" {
			if secrets, err = secretIn("--webhook-secret-file", s.o.webhookSecret); err != nil {
				return nil, err
			}
		}
		hook, err := notify.NewWebhook(notify.WebhookOptions{URL: s.o.webhook, Secrets: strings.Fields(secrets), GitHubURL: s.o.githubURL})
		if err != nil {
			return nil, usageError(err)
		}
		sinks = append(sinks, notify.Sink{Name: "webhook", Target: hook, MinSeverity: severity, Window: notify.WebhookWindow})
	}
	return sinks, nil
}

func parseSeverity(flag, word string) (sallyportv1.Severity, error) {
	n, ok := sallyportv1.Severity_value["SEVERITY_"+strings.ToUpper(word)]
	if !ok || n == 0 {
		return 0, usageError(fmt.Errorf("--%s %q is not low, medium, high or critical", flag, word))
	}
	return sallyportv1.Severity(n), nil
}

// policyInterval is how often the folder of policies is looked at.
const policyInterval = 2 * time.Second

func (s *stack) startDetector(ctx context.Context) error {
	if s.o.baselineRuns < 1 || s.o.baselineRuns > 1000 {
		return usageError(fmt.Errorf("--baseline-runs %d is not 1 to 1000", s.o.baselineRuns))
	}
	if u, err := url.Parse(s.o.publicURL); s.o.publicURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil) {
		return usageError(errors.New("--public-url is no address like https://sallyport.example.test, without user and password"))
	}
	policies, problems, err := detector.LoadPolicies(ctx, s.o.policies)
	if err != nil {
		return err
	}
	report := func(problems []error) {
		for _, p := range problems {
			s.log.Error("policy left out", "error", p)
		}
	}
	report(problems)
	for _, e := range policies.Expired(time.Now()) {
		s.log.Warn("an exception has expired", "error", e)
	}
	if s.o.policyBundle.url != "" {
		c, err := s.o.policyBundle.config(s.o.data)
		if err != nil {
			return err
		}
		c.Logger, c.Metrics = s.log, s.registry
		bundle, err := detector.OpenBundle(ctx, policies, c)
		if err != nil {
			return usageError(err)
		}
		s.parts.start("policy bundle", func(ctx context.Context) error {
			bundle.Watch(ctx)
			return nil
		})
	}
	if s.o.policies != "" {
		s.parts.start("policies", func(ctx context.Context) error {
			policies.Watch(ctx, policyInterval, report)
			return nil
		})
	}
	var judge *detector.Detector
	err = s.insist(ctx, "start the detector", func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		judge, err = detector.New(ctx, detector.Config{
			JetStream: s.js, Policies: policies, RunsNeeded: uint32(s.o.baselineRuns), TrustedRefs: s.o.trustedRefs, Page: s.o.publicURL, Logger: s.log, Metrics: s.registry,
		})
		return err
	})
	if err != nil {
		return err
	}
	s.reportHealth("detector", judge.Health)
	s.probeConsumers(stream.PartDetector)
	s.parts.start("detector", judge.Run)
	s.parts.start("heartbeats", detector.NewAgents(detector.AgentsConfig{
		JetStream: s.js, Logger: s.log, Metrics: s.registry,
	}).Run)
	return nil
}

func (s *stack) startServer(token string) step {
	return func(ctx context.Context) error {
		clear, err := listen("rest", s.o.rest)
		if err != nil {
			return err
		}
		rest, err := s.o.identity.serveTLS(clear, s.log)
		if err != nil {
			return errors.Join(err, clear.Close())
		}
		rpc, err := listen("grpc", s.o.grpc)
		if err != nil {
			return errors.Join(err, rest.Close())
		}
		gate, err := s.openGate(ctx, rest)
		if err != nil {
			return errors.Join(err, rest.Close(), rpc.Close())
		}
		api, err := server.New(server.Config{
			Gate: gate, Store: s.store, Baselines: s.baselines, Teacher: s.baselines, Decisions: s.decisions, Verdicts: s.verdicts, Health: s.health, Token: token, Registerer: s.registry, Logger: s.log,
		})
		if err != nil {
			return errors.Join(err, rest.Close(), rpc.Close())
		}
		s.addresses.REST, s.addresses.GRPC = rest.Addr().String(), rpc.Addr().String()
		s.log.Info("API", "rest", s.addresses.REST, "grpc", s.addresses.GRPC)
		s.parts.start("API", func(ctx context.Context) error { return api.Serve(ctx, rpc, rest) })
		return nil
	}
}

// health asks every part that runs here.
func (s *stack) health() []*sallyportv1.PartHealth {
	all := []*sallyportv1.PartHealth{s.ready.health("nats"), s.ready.health("clickhouse")}
	for _, ask := range s.partHealth {
		all = append(all, ask())
	}
	return all
}

func (s *stack) startMetrics(context.Context) error {
	l, err := listen("metrics", s.o.metrics)
	if err != nil {
		return err
	}
	s.addresses.Metrics = l.Addr().String()
	s.log.Info("metrics, health and readiness", "address", s.addresses.Metrics)
	s.parts.start("metrics", func(ctx context.Context) error { return process.ServeMetrics(ctx, l, s.registry, s.ready.checks) })
	return nil
}

func (s *stack) startAgent(context.Context) error {
	switch s.o.agent {
	case "on", "off", "auto":
	default:
		return usageError(fmt.Errorf("--agent %q is not on, off or auto", s.o.agent))
	}
	if s.o.agent == "off" {
		s.kernel = "not asked for (--agent=off)"
		return nil
	}
	files, err := watchlist.Load(s.o.watchList)
	if err != nil {
		return usageError(fmt.Errorf("--watch-list: %w", err))
	}
	sensor, err := bpf.Open(bpf.Config{Workers: s.o.workers})
	if err != nil {
		var unsupported *bpf.UnsupportedError
		if s.o.agent == "auto" && errors.As(err, &unsupported) {
			s.kernel = unsupported.Missing
			return nil
		}
		return err
	}
	dir := filepath.Join(s.o.data, "agent")
	if s.agentID, err = agent.Identity(dir); err != nil {
		return errors.Join(err, sensor.Close())
	}
	hostname, err := os.Hostname()
	if err != nil {
		return errors.Join(fmt.Errorf("read host name: %w", err), sensor.Close())
	}
	publisher, err := agent.NewPublisher(agent.PublisherConfig{
		JS: s.js, AgentID: s.agentID, Dir: filepath.Join(dir, "spool"), Registerer: s.registry, Logger: s.log,
	})
	if err != nil {
		return errors.Join(err, sensor.Close())
	}
	redactor, err := agent.LoadRedactor(filepath.Join(dir, "redaction.key"), s.o.redactionRules)
	if err != nil {
		publisher.Close()
		return errors.Join(err, sensor.Close())
	}
	life, err := agent.OpenLife(dir)
	if err != nil {
		publisher.Close()
		return errors.Join(err, sensor.Close())
	}
	a, err := agent.New(agent.Config{
		AgentID: s.agentID, Hostname: hostname, Version: version, Source: sensor, Watcher: sensor, WatchList: files,
		RequestHosts: agent.RequestHosts(s.o.requestHosts), Sink: publisher, Redactor: redactor, Life: life,
		Beat:    func(h *sallyportv1.Heartbeat) error { return stream.PublishHeartbeat(s.js.Conn(), h) },
		Waiting: publisher.Waiting, Spilled: publisher.Spilled, Registerer: s.registry, Logger: s.log,
	})
	if err != nil {
		publisher.Close()
		return errors.Join(err, sensor.Close())
	}
	s.parts.onStop("agent's publisher", func() error { publisher.Close(); return nil })
	s.parts.start("agent", a.Run)
	if s.o.agentSocket == "" {
		s.o.agentSocket = filepath.Join(dir, "agent.sock")
	}
	socket, err := control.Listen(s.o.agentSocket)
	if err != nil {
		s.log.Warn("hooks and jobs cannot speak to the agent", "error", err)
		return nil
	}
	reports := &agent.Reports{Agent: a, Judge: func(ctx context.Context, q *sallyportv1.JobJudgementRequest) (*sallyportv1.JobJudgement, error) {
		return stream.AskJudgement(ctx, s.js.Conn(), s.agentID, q)
	}}
	s.parts.start("agent's socket", func(ctx context.Context) error {
		return control.Serve(ctx, socket, control.Agent{
			Flush: func(ctx context.Context) error { return agent.FlushAll(ctx, a, publisher) },
			HandOver: func(context.Context) (uint64, error) {
				return 0, errors.New("this agent is a part of sallyport up: stop that")
			},
			Report: func(ctx context.Context, who control.Caller, execution string, wait time.Duration) (*sallyportv1.JobReport, error) {
				return reports.Of(ctx, agent.Asker(who), execution, wait)
			},
		})
	})
	return nil
}

// banner says what runs where, for a person.
func (s *stack) banner(took time.Duration) {
	if s.o.json {
		return
	}
	row := func(name, value, note string) { fmt.Fprintf(s.out, "  %-11s %-38s %s\n", name, value, note) }
	fmt.Fprintf(s.out, "Sallyport is up (%s).\n\n", took.Round(100*time.Millisecond))
	if s.kernel == "" {
		row("agent", "watches this machine", "identity "+s.agentID)
	} else {
		row("agent", "not here", s.kernel)
		if s.nats != nil {
			row("", "start one", `sudo sh -c 'set -a; . "`+filepath.Join(s.o.data, agentFile)+`"; exec sallyport-agent'`)
		}
	}
	if s.nats != nil {
		row("NATS", s.nats.URL(), "agents' address and password: "+filepath.Join(s.o.data, agentFile))
		if s.o.identity.agentsNATS == "" && unspecified(s.o.nats) {
			row("", "no address for other machines", "say by --agents-nats which they reach; agent.env has it then")
		}
	} else {
		row("NATS", s.js.Conn().ConnectedUrlRedacted(), "not of this process")
	}
	if s.engine != nil {
		row("ClickHouse", "http://"+s.addresses.ClickHouse, "user reader, password: "+filepath.Join(s.o.data, readerFile))
		shown := "http://" + s.addresses.ClickHouse
		if public := s.engine.PublicAddr(); public != "" {
			shown = "https://" + engine.ReachedAt(public)
			row("", shown, "the same, for other machines")
			if s.fingerprint != "" {
				row("", "certificate "+filepath.Join(s.o.data, "clickhouse-cert.pem"), "SHA-256 "+s.fingerprint)
			}
		}
		row("Grafana", shown+"/sallyport", "ClickHouse data source, protocol HTTP, user reader")
	} else {
		row("ClickHouse", "not of this process", "database "+s.store.Database())
	}
	scheme := "http://"
	if s.o.identity.restCert != "" {
		scheme = "https://"
	}
	row("REST", scheme+s.addresses.REST, "token: "+filepath.Join(s.o.data, tokenFile)+", contract: /openapi.json")
	if s.addresses.Public != "" && len(s.o.identity.oidcAllow) > 0 {
		row("jobs", "let in by token at "+s.addresses.Public, strings.Join(s.o.identity.oidcAllow, ", "))
	}
	row("gRPC", s.addresses.GRPC, "the same token")
	if s.addresses.Webhooks != "" {
		row("webhooks", "http://"+s.addresses.Webhooks+webhookPath, "from GitHub, for the checks of pull requests")
	}
	row("metrics", "http://"+s.addresses.Metrics+"/metrics", "Prometheus; also /healthz and /readyz")
	if s.o.webhook != "" {
		row("webhook", "on", "from severity "+s.o.minSeverity)
	}
	if s.o.slackWebhook != "" {
		row("Slack", "on", "from severity "+s.o.minSeverity)
	} else {
		row("Slack", "off", "set SALLYPORT_SLACK_WEBHOOK")
	}
	row("data", s.o.data, "")
	fmt.Fprint(s.out, "\nTry `sallyport runs`. Findings appear below. Ctrl-C stops.\n\n")
}
