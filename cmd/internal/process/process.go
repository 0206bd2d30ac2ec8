// Package process is what Sallyport's programs have in common at their edge: flags
// that come from the environment, the log, metrics and health, the connection to NATS.
package process

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/pflag"
)

// SetFromEnvironment sets each flag that was not given from the environment
// variable of its name: --slack-webhook from SALLYPORT_SLACK_WEBHOOK. An error is
// one of wrong usage; it does not repeat the value, which may be a secret.
func SetFromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || err != nil {
			return
		}
		name := Variable(f.Name)
		value, ok := lookup(name)
		if !ok || value == "" {
			return
		}
		if flags.Set(f.Name, value) != nil {
			err = fmt.Errorf("%s does not fit --%s, which takes a value of type %s", name, f.Name, f.Value.Type())
		}
	})
	return err
}

// NewLogger returns a logger to standard error. level is the value of --log-level;
// an error is one of wrong usage.
func NewLogger(level string, json bool) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q is not debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	if json {
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
}

// NewRegistry returns a registry with the metrics of Go and of the process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
