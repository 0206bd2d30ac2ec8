package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/cmd/internal/process"
	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/stream"
)

// apartHelp ends the help of every command that runs one part.
const apartHelp = `

It runs in the foreground until SIGTERM or Ctrl-C and then finishes what it has in
hand. While NATS or ClickHouse cannot be reached it waits, at the start and later, and
says so in the log and at /readyz. docs/cluster.md says how a cluster is set up.

Every flag is also an environment variable: --nats is SALLYPORT_NATS. Secrets come from
files or the environment: --nats-creds and the like name files, and an address with a
password in it goes into SALLYPORT_NATS.

Exit codes: 0 stopped in order, 1 something failed, 2 wrong usage.`

const metricsNote = ", for instance 127.0.0.1:7072 (default: none)"

func newIngestCommand() *cobra.Command {
	o := &options{}
	cmd := o.command(&cobra.Command{
		Use:   "ingest",
		Short: "Run ingest alone: from the streams of an external NATS to ClickHouse",
		Long:  "Reads the streams EVENTS and FINDINGS and inserts every event once into ClickHouse,\nwhose tables it makes. Several share the partitions of EVENTS (sallyport declare\n--partitions) and take over from each other; each needs a name of its own." + apartHelp,
		Example: `  sallyport ingest --nats tls://nats-1:4222,tls://nats-2:4222 --nats-ca ca.pem \
    --nats-creds ingest.creds --declare=false --clickhouse-dsn-file dsn --metrics 127.0.0.1:7072`,
	}, func(ctx context.Context) error {
		dsn, err := o.neededDSN()
		if err != nil {
			return err
		}
		return o.runApart(ctx, stream.PartIngest, func(s *stack) []step {
			return []step{s.connectNATS, s.openStore(dsn), s.startIngest}
		})
	})
	f := cmd.Flags()
	o.clickhouseFlags(f)
	f.StringVar(&o.name, "name", "", "name among ingest processes, the same when it is started again (default: the host's name)")
	o.declareFlags(f)
	o.metricsFlag(f, "", metricsNote)
	o.logFlags(f, "info", "log as JSON lines")
	return cmd
}

// detectorGC is the garbage collector's percentage in a detector of its own: its heap is small
// and what it makes for each evaluation is short-lived, so that memory buys a quarter of its
// speed (docs/performance.md).
const detectorGC = 400

func newDetectorCommand() *cobra.Command {
	o := &options{}
	cmd := o.command(&cobra.Command{
		Use:   "detector",
		Short: "Run the detector alone, against an external NATS",
		Long:  "Reads the stream EVENTS, learns baselines, evaluates policies, and publishes findings\non the stream FINDINGS. It watches the agents' signs of life, too. There must be one\ndetector for a NATS." + apartHelp,
		Example: `  sallyport detector --nats tls://nats-1:4222,tls://nats-2:4222 --nats-ca ca.pem \
    --nats-creds detector.creds --declare=false --policies /etc/sallyport/policies`,
	}, func(ctx context.Context) error {
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(detectorGC)
		}
		return o.runApart(ctx, stream.PartDetector, func(s *stack) []step {
			return []step{s.connectNATS, s.startDetector}
		})
	})
	f := cmd.Flags()
	o.detectorFlags(f, " (default: the built-in ones alone)")
	o.publicFlag(f)
	o.declareFlags(f)
	o.metricsFlag(f, "", metricsNote)
	o.logFlags(f, "info", "log as JSON lines")
	return cmd
}

func newNotifyCommand() *cobra.Command {
	o := &options{}
	cmd := o.command(&cobra.Command{
		Use:   "notify",
		Short: "Run the alerts alone, against an external NATS",
		Long:  "Reads the stream FINDINGS and tells of findings on standard output and, if there is a\nwebhook, in Slack. There must be one for a NATS." + apartHelp,
		Example: `  SALLYPORT_SLACK_WEBHOOK=https://hooks.slack.com/services/… sallyport notify \
    --nats tls://nats-1:4222,tls://nats-2:4222 --nats-ca ca.pem --nats-creds notify.creds --declare=false`,
	}, func(ctx context.Context) error {
		return o.runApart(ctx, stream.PartNotify, func(s *stack) []step {
			return []step{s.connectNATS, s.startNotify}
		})
	})
	f := cmd.Flags()
	o.alertFlags(f)
	o.declareFlags(f)
	o.metricsFlag(f, "", metricsNote)
	o.logFlags(f, "info", "log and report findings as JSON lines")
	return cmd
}

func newServerCommand() *cobra.Command {
	o := &options{}
	cmd := o.command(&cobra.Command{
		Use:   "server",
		Short: "Run the API alone, against an external NATS and ClickHouse",
		Long:  "Answers gRPC and REST from ClickHouse and from the baselines in NATS. Several may run\nside by side. The token that callers need is in a file or in SALLYPORT_TOKEN. REST is by\nTLS with --rest-cert; put a proxy before gRPC where it leaves the machine." + apartHelp,
		Example: `  sallyport server --nats tls://nats-1:4222,tls://nats-2:4222 --nats-ca ca.pem \
    --nats-creds server.creds --declare=false --clickhouse-dsn-file dsn --token-file token`,
	}, func(ctx context.Context) error {
		dsn, err := o.neededDSN()
		if err != nil {
			return err
		}
		if err := o.validIdentity(false); err != nil {
			return usageError(err)
		}
		token := os.Getenv("SALLYPORT_TOKEN")
		if o.tokenFile != "" {
			if token, err = secretIn("--token-file", o.tokenFile); err != nil {
				return err
			}
		}
		if token == "" {
			return usageError(fmt.Errorf("which token are callers to give? Put it into a file and name that as --token-file, or into SALLYPORT_TOKEN"))
		}
		return o.runApart(ctx, stream.PartServer, func(s *stack) []step {
			return []step{s.connectNATS, s.openStore(dsn), s.openBaselines, s.startServer(token)}
		})
	})
	f := cmd.Flags()
	o.clickhouseFlags(f)
	o.apiFlags(f)
	o.publicFlag(f)
	f.StringVar(&o.tokenFile, "token-file", "", "file with the token that callers of the API need; or the token itself in SALLYPORT_TOKEN")
	o.declareFlags(f)
	o.metricsFlag(f, "", metricsNote)
	o.logFlags(f, "info", "log as JSON lines")
	return cmd
}

func newDeclareCommand() *cobra.Command {
	o := &options{declare: true}
	var within time.Duration
	cmd := o.command(&cobra.Command{
		Use:   "declare",
		Short: "Make the streams, consumers and buckets on an external NATS",
		Long: `Makes the streams, consumers and buckets on an external NATS, or brings them up to
date, and says what it did to each. It may be run again at any time: what is not given
as a flag stays as it is. It needs the rights of an administrator of the account; the
parts then need none of them and are started with --declare=false.

Every flag is also an environment variable: --nats is SALLYPORT_NATS.

Exit codes: 0 all is as it has to be, 1 something failed, 2 wrong usage.`,
		Example: `  sallyport declare --nats tls://nats-1:4222,tls://nats-2:4222 --nats-ca ca.pem \
    --nats-creds admin.creds --replicas 3 --events-bytes 53687091200`,
	}, nil)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := o.newStack(stream.PartDeclare, nil)
		if err != nil {
			return err
		}
		s.told = func(what, done string) { fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", what, done) }
		ctx := cmd.Context()
		if within > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, within)
			defer cancel()
		}
		return s.runSteps(ctx, []step{s.connectNATS}, func() error { return nil })
	}
	f := cmd.Flags()
	f.DurationVar(&within, "within", time.Minute, "how long it may take, with the wait for NATS; 0: as long as it takes")
	o.limitFlags(f)
	o.logFlags(f, "info", "log as JSON lines")
	return cmd
}

func (o *options) neededDSN() (string, error) {
	dsn, err := o.dsn()
	if err == nil && dsn == "" {
		err = usageError(errNoClickHouse)
	}
	return dsn, err
}

// runApart runs one part until ctx ends or the part fails, and stops in order.
func (o *options) runApart(ctx context.Context, part string, steps func(*stack) []step) error {
	s, err := o.newStack(part, os.Stdout)
	if err != nil {
		return err
	}
	start := time.Now()
	all := steps(s)
	if o.metrics != "" {
		all = append([]step{s.startMetrics}, all...)
	}
	return s.runSteps(ctx, all, func() error {
		s.log.Info("up", "part", part, "version", version, "took", time.Since(start).Round(time.Millisecond).String())
		err := s.parts.wait(ctx)
		s.log.Info("stopping", "part", part)
		return err
	})
}

// connectNATS connects to an external NATS, waits for it, and declares the streams or
// looks whether they are there.
func (s *stack) connectNATS(ctx context.Context) error {
	nc, err := s.o.external.Connect("sallyport "+s.part, stream.Inbox(s.part), s.log)
	if err != nil {
		return usageError(err)
	}
	s.parts.onStop("NATS connection", func() error { nc.Close(); return nil })
	if s.js, err = newJetStream(nc); err != nil {
		return err
	}
	s.ready.check("nats", func() error { return process.Connected(nc) })
	err = s.insist(ctx, "connect to NATS at "+withoutPasswords(s.o.external.URL), func(context.Context) error {
		if err := process.Connected(nc); err != nil {
			return &awayError{err}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !s.o.declare {
		return s.insist(ctx, "look at the streams", func(ctx context.Context) error {
			return stream.Check(ctx, s.js, s.part, s.o.limits)
		})
	}
	return s.insist(ctx, "declare the streams", func(ctx context.Context) error {
		return stream.Declare(ctx, s.js, s.o.limits, s.told)
	})
}

// openStore opens an external ClickHouse.
func (s *stack) openStore(dsn string) step {
	return func(ctx context.Context) error {
		if err := s.useStore(ctx, dsn); err != nil {
			return usageError(err)
		}
		s.probe("clickhouse", s.store.Ping)
		return nil
	}
}

// openBaselines opens the baselines without a detector.
func (s *stack) openBaselines(ctx context.Context) error {
	return s.insist(ctx, "open the baselines", func(ctx context.Context) (err error) {
		if s.baselines, err = detector.OpenBaselines(ctx, s.js); err != nil {
			return err
		}
		if s.decisions, err = detector.OpenDecisions(ctx, s.js); err != nil {
			return err
		}
		s.verdicts, err = detector.OpenVerdicts(ctx, s.js)
		return err
	})
}

// probeConsumers adds the streams, consumers and buckets that a part uses.
func (s *stack) probeConsumers(part string) {
	s.probe("consumers-"+part, func(ctx context.Context) error { return stream.Check(ctx, s.js, part, stream.Limits{}) })
}
