package main

import (
	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/agent"
)

func newUpCommand() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start everything on this machine",
		Long: `Starts everything on this machine in the foreground: NATS with JetStream,
ClickHouse, ingest, detector, alerts, the API and, as root, the agent. Ctrl-C stops
in order; the next start goes on where this one stopped.

With --nats-url, --clickhouse-dsn-file or SALLYPORT_CLICKHOUSE_DSN it uses a NATS or a
ClickHouse that is there already instead of starting its own (docs/cluster.md).

Every flag is also an environment variable: --slack-webhook is
SALLYPORT_SLACK_WEBHOOK. An address with port 0 takes a free port.

Exit codes: 0 stopped in order, 1 something failed, 2 wrong usage.`,
		Example: `  sudo sallyport up
  sudo SALLYPORT_SLACK_WEBHOOK=https://hooks.slack.com/services/… sallyport up
  sallyport up --agent=off --data /tmp/sallyport --nats 127.0.0.1:0`,
		Args: maximumArgs(0),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			return o.prepare(cmd, "nats-url")
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.up(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", defaultDataDir(), "folder that holds all data")
	f.StringVar(&o.engine, "engine", "", "ClickHouse library or its npm archive, where there is no network to fetch it")
	f.StringVar(&o.nats, "nats", "127.0.0.1:4222", "address on which the embedded NATS listens")
	o.external.Flags(f, "nats-url", "", "address of an external NATS to use instead of the embedded one, those of several servers with commas")
	o.declareFlags(f)
	f.StringVar(&o.clickhouse, "clickhouse", "127.0.0.1:8123", "address of the embedded ClickHouse's HTTP interface; another than loopback is by TLS")
	f.StringVar(&o.clickhouseCert, "clickhouse-cert", "", "PEM file of the certificate for --clickhouse; one is made in the data folder if there is none")
	f.StringVar(&o.clickhouseKey, "clickhouse-key", "", "PEM file of its key")
	o.clickhouseFlags(f)
	f.StringVar(&o.retention, "retention", "", "days after which rows are deleted, by table, such as events=90d,findings=400d (default: never)")
	o.apiFlags(f)
	o.publicFlag(f)
	o.metricsFlag(f, "127.0.0.1:7072", "")
	o.alertFlags(f)
	o.detectorFlags(f, " (default <data>/policies)")
	o.checks.flags(f, " (default <data>/github-app, if it is there)")
	f.StringVar(&o.watchList, "watch-list", "", "file of rules on top of the built-in ones for files that matter (docs/files.md)")
	f.StringSliceVar(&o.requestHosts, "request-host", agent.DefaultRequestHosts(), "host whose HTTP requests are read from within TLS, or *.NAME; may be repeated; none: no host (docs/requests.md)")
	f.StringVar(&o.redactionRules, "redaction-rules", "", "file of rules on top of the built-in ones for what is a secret (docs/redaction.md)")
	f.StringSliceVar(&o.workers, "worker", nil, "names of processes that are runners' workers (default Runner.Worker, act)")
	f.StringVar(&o.agent, "agent", "auto", "run the agent in this process: on, off, or auto (as root)")
	f.StringVar(&o.agentSocket, "agent-socket", "", "Unix socket on which jobs and hooks speak to that agent; give one that they can reach (default: agent/agent.sock in the data folder)")
	o.logFlags(f, "warn", "log and report findings as JSON lines")
	return cmd
}
