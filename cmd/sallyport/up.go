package main

import (
	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/agent"
)

// upOptions are the flags of `sallyport up`. Every one of them has an environment
// variable of the same name: --slack-webhook is SALLYPORT_SLACK_WEBHOOK.
type upOptions struct {
	data         string
	engine       string
	nats         string
	clickhouse   string
	rest         string
	grpc         string
	metrics      string
	slackWebhook string
	minSeverity  string
	retention    string
	githubURL    string
	policies     string
	workers      []string
	watchList    string
	requestHosts []string

	redactionRules string
	baselineRuns   int
	agent          string
	logLevel       string
	json           bool
}

func newUpCommand() *cobra.Command {
	o := &upOptions{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start everything on this machine",
		Long: `Starts everything on this machine in the foreground: NATS with JetStream,
ClickHouse, ingest, detector, alerts, the API and, as root, the agent. Ctrl-C stops
in order; the next start goes on where this one stopped.

Every flag is also an environment variable: --slack-webhook is
SALLYPORT_SLACK_WEBHOOK. An address with port 0 takes a free port.

Exit codes: 0 stopped in order, 1 something failed, 2 wrong usage.`,
		Example: `  sudo sallyport up
  sudo SALLYPORT_SLACK_WEBHOOK=https://hooks.slack.com/services/… sallyport up
  sallyport up --agent=off --data /tmp/sallyport --nats 127.0.0.1:0`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			return setFromEnvironment(cmd)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.up(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", defaultDataDir(), "folder that holds all data")
	f.StringVar(&o.engine, "engine", "", "ClickHouse library or its npm archive, where there is no network to fetch it")
	f.StringVar(&o.nats, "nats", "127.0.0.1:4222", "address of NATS")
	f.StringVar(&o.clickhouse, "clickhouse", "127.0.0.1:8123", "address of ClickHouse's HTTP interface")
	f.StringVar(&o.rest, "rest", "127.0.0.1:7070", "address of the REST API")
	f.StringVar(&o.grpc, "grpc", "127.0.0.1:7071", "address of the gRPC API")
	f.StringVar(&o.metrics, "metrics", "127.0.0.1:7072", "address of the Prometheus metrics")
	f.StringVar(&o.slackWebhook, "slack-webhook", "", "Slack incoming webhook that findings go to")
	f.StringVar(&o.minSeverity, "min-severity", "low", "least severity that goes to Slack: low, medium, high or critical")
	f.StringVar(&o.githubURL, "github-url", "https://github.com", "GitHub server that links to runs point to")
	f.StringVar(&o.retention, "retention", "", "days after which rows are deleted, by table, such as events=90d,findings=400d (default: never)")
	f.StringVar(&o.policies, "policies", "", "folder of your own Rego policies (default <data>/policies)")
	f.StringVar(&o.watchList, "watch-list", "", "file of rules on top of the built-in ones for files that matter (docs/files.md)")
	f.StringSliceVar(&o.requestHosts, "request-host", agent.DefaultRequestHosts(), "host whose HTTP requests are read from within TLS, or *.NAME; may be repeated; none: no host (docs/requests.md)")
	f.StringVar(&o.redactionRules, "redaction-rules", "", "file of rules on top of the built-in ones for what is a secret (docs/redaction.md)")
	f.StringSliceVar(&o.workers, "worker", nil, "names of processes that are runners' workers (default Runner.Worker, act)")
	f.IntVar(&o.baselineRuns, "baseline-runs", 5, "clean runs after which a job's baseline can be stable, 1 to 1000")
	f.StringVar(&o.agent, "agent", "auto", "run the agent in this process: on, off, or auto (as root)")
	f.StringVar(&o.logLevel, "log-level", "warn", "least level that is logged: debug, info, warn or error")
	f.BoolVar(&o.json, "json", false, "log and report findings as JSON lines")
	return cmd
}
