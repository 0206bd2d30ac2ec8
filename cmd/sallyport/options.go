package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/cmd/internal/process"
	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/stream"
)

// options are the flags of the commands that run parts; each command has those of its
// parts. Every one of them has an environment variable of the same name:
// --slack-webhook is SALLYPORT_SLACK_WEBHOOK.
type options struct {
	data       string
	engine     string
	nats       string // where the embedded NATS listens
	clickhouse string // where the embedded ClickHouse listens
	// clickhouseCert and clickhouseKey are for it, where it is not loopback.
	clickhouseCert, clickhouseKey string

	external process.NATS
	dsnFile  string
	name     string // of an ingest process
	declare  bool
	limits   stream.Limits

	identity      identityOptions
	rest          string
	grpc          string
	tokenFile     string
	metrics       string
	checks        checksOptions
	webhook       string
	webhookSecret string // file
	slackWebhook  string
	alerts        string // file
	minSeverity   string
	retention     string
	githubURL     string
	policies      string
	policyBundle  policyBundle
	workers       []string
	watchList     string
	requestHosts  []string

	redactionRules string
	baselineRuns   int
	publicURL      string
	agentSocket    string
	trustedRefs    []string
	agent          string
	logLevel       string
	json           bool
}

func (o *options) clickhouseFlags(f *pflag.FlagSet) {
	f.StringVar(&o.dsnFile, "clickhouse-dsn-file", "", "file with the DSN of ClickHouse, as http://user:password@host:8123/sallyport; or the DSN itself in SALLYPORT_CLICKHOUSE_DSN")
}

func (o *options) limitFlags(f *pflag.FlagSet) {
	const as = " (default: as it is, %s where it is not there yet)"
	f.IntVar(&o.limits.Replicas, "replicas", 0, "on how many NATS servers each message is, 1 to 5"+fmt.Sprintf(as, "1"))
	f.IntVar(&o.limits.Partitions, "partitions", 0, "into how many partitions EVENTS is divided among ingest processes, 1 to 64"+fmt.Sprintf(as, "1"))
	f.StringVar(&o.limits.Storage, "storage", "", "file or memory; cannot be changed later"+fmt.Sprintf(as, "file"))
	f.Int64Var(&o.limits.EventsBytes, "events-bytes", 0, "most bytes of stream EVENTS; when it is full agents keep events"+fmt.Sprintf(as, "8 GiB"))
	f.DurationVar(&o.limits.EventsAge, "events-age", 0, "how long EVENTS keeps what was not taken; what is older is lost"+fmt.Sprintf(as, "for ever"))
	f.Int64Var(&o.limits.FindingsBytes, "findings-bytes", 0, "most bytes of stream FINDINGS"+fmt.Sprintf(as, "256 MiB"))
	f.Int64Var(&o.limits.DeadLetterBytes, "dead-letter-bytes", 0, "most bytes of stream DEADLETTERS"+fmt.Sprintf(as, "1 GiB"))
	f.DurationVar(&o.limits.DeadLetterAge, "dead-letter-age", 0, "how long DEADLETTERS keeps a message"+fmt.Sprintf(as, "720h"))
	f.Int64Var(&o.limits.BucketBytes, "bucket-bytes", 0, "most bytes of each bucket"+fmt.Sprintf(as, "256 MiB"))
}

func (o *options) declareFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.declare, "declare", true, "make streams, consumers and buckets that are missing, and bring them up to date; with --declare=false only look whether they are there")
	o.limitFlags(f)
}

func (o *options) apiFlags(f *pflag.FlagSet) {
	f.StringVar(&o.rest, "rest", "127.0.0.1:7070", "address of the REST API")
	f.StringVar(&o.grpc, "grpc", "127.0.0.1:7071", "address of the gRPC API")
	o.identity.flags(f)
}

func (o *options) metricsFlag(f *pflag.FlagSet, value, note string) {
	f.StringVar(&o.metrics, "metrics", value, "address of /metrics for Prometheus, /healthz and /readyz"+note)
}

func (o *options) alertFlags(f *pflag.FlagSet) {
	f.StringVar(&o.alerts, "alerts", "", "file of alert rules: sinks, routes, quiet hours, limits; in the place of the flags about Slack and webhook")
	f.StringVar(&o.slackWebhook, "slack-webhook", "", "Slack incoming webhook that findings go to")
	f.StringVar(&o.webhook, "webhook", "", "address that findings are posted to as OCSF Detection Findings, signed; better in SALLYPORT_WEBHOOK")
	f.StringVar(&o.webhookSecret, "webhook-secret-file", "", "file with the secrets that sign them, whsec_…, one a line; or one in SALLYPORT_WEBHOOK_SECRET")
	f.StringVar(&o.minSeverity, "min-severity", "low", "least severity that goes to Slack and webhook: low, medium, high or critical")
	f.StringVar(&o.githubURL, "github-url", "https://github.com", "GitHub server that links to runs point to")
}

func (o *options) detectorFlags(f *pflag.FlagSet, folder string) {
	f.StringVar(&o.policies, "policies", "", "folder of your own Rego policies"+folder)
	o.policyBundle.flags(f)
	f.IntVar(&o.baselineRuns, "baseline-runs", 5, "clean runs after which a job's baseline can be stable, 1 to 1000")
	f.StringArrayVar(&o.trustedRefs, "trusted-ref", detector.DefaultTrustedRefs, "reference whose runs may teach baselines, beside those that GitHub protects; * stands for any part without /; repeated")
}

func (o *options) publicFlag(f *pflag.FlagSet) {
	f.StringVar(&o.publicURL, "public-url", "", "address under which people and agents reach the REST API, for instance https://sallyport.example.test: jobs' summaries link to it, and OIDC tokens have to be for it (default: no links; tokens for the address of --rest)")
}

func (o *options) logFlags(f *pflag.FlagSet, level, json string) {
	f.StringVar(&o.logLevel, "log-level", level, "least level that is logged: debug, info, warn or error")
	f.BoolVar(&o.json, "json", false, json)
}

// prepare completes the flags from the environment and says what is wrong with them.
// address is the flag with the address of an external NATS.
func (o *options) prepare(cmd *cobra.Command, address string) error {
	if f := cmd.Flags().Lookup(address); f.Changed && strings.Contains(o.external.URL, "@") {
		return usageError(fmt.Errorf("--%s holds a password, and everybody on this machine can read arguments: give the address in SALLYPORT_%s, or use --nats-creds",
			address, strings.ToUpper(strings.ReplaceAll(address, "-", "_"))))
	}
	if err := setFromEnvironment(cmd); err != nil {
		return err
	}
	if err := o.limits.Valid(); err != nil {
		return usageError(err)
	}
	if err := validPolicies(o.policies); err != nil {
		return err
	}
	if o.external.URL != "" {
		if err := o.external.Valid(); err != nil {
			return usageError(err)
		}
	} else if o.external.Creds+o.external.CA+o.external.Cert+o.external.Key != "" {
		return usageError(fmt.Errorf("--nats-creds, --nats-ca and --nats-cert are for an external NATS: say which with --%s", address))
	}
	return nil
}

// validPolicies says that the folder of --policies is none, if it was given: the built-in policies
// alone would hold less than whoever gave it believes.
func validPolicies(folder string) error {
	if folder == "" {
		return nil
	}
	switch info, err := os.Stat(folder); {
	case err != nil:
		return usageError(fmt.Errorf("--policies: %w", err))
	case !info.IsDir():
		return usageError(fmt.Errorf("--policies: %s is no folder", folder))
	}
	return nil
}

// dsn returns the DSN of an external ClickHouse; empty if there is none. It holds a
// password, so it comes from a file or the environment.
func (o *options) dsn() (string, error) {
	if o.dsnFile == "" {
		return os.Getenv("SALLYPORT_CLICKHOUSE_DSN"), nil
	}
	return secretIn("--clickhouse-dsn-file", o.dsnFile)
}

// secretIn reads a file that an operator has written.
func secretIn(flag, path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", usageError(fmt.Errorf("%s: %w", flag, err))
	}
	secret := strings.TrimSpace(string(data))
	if secret == "" {
		return "", usageError(fmt.Errorf("%s: %s is empty", flag, path))
	}
	return secret, nil
}

// errNoClickHouse says that a part needs an address.
var errNoClickHouse = errors.New("where is ClickHouse? give a file with its DSN as --clickhouse-dsn-file, or the DSN in SALLYPORT_CLICKHOUSE_DSN")

// command makes a command of a part that runs apart.
func (o *options) command(cmd *cobra.Command, run func(ctx context.Context) error) *cobra.Command {
	cmd.Args = maximumArgs(0)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return o.prepare(cmd, "nats") }
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return run(cmd.Context()) }
	o.external.Flags(cmd.Flags(), "nats", "nats://127.0.0.1:4222", "address of NATS: tls://HOST:PORT or nats://HOST:PORT, those of several servers with commas between them")
	return cmd
}
