package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is what one thing that a process stands on says of itself.
type Check struct {
	// Name of the thing, one word.
	Name string
	// Err is why it cannot be used, nil if it can.
	Err error
}

// ServeMetrics answers on l until ctx ends: GET /metrics; GET /healthz, always with 200
// while the process lives; GET /readyz, with 200 if every check of ready passes and 503
// if one does not, and a line of text for each. ready must return at once, and be safe
// for concurrent use.
func ServeMetrics(ctx context.Context, l net.Listener, registry *prometheus.Registry, ready func() []Check) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n")) // a client that has gone hears nothing
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		var text strings.Builder
		code := http.StatusOK
		for _, c := range ready() {
			if c.Err != nil {
				code = http.StatusServiceUnavailable
				fmt.Fprintf(&text, "%s: %s\n", c.Name, strings.ReplaceAll(c.Err.Error(), "\n", "; "))
				continue
			}
			fmt.Fprintf(&text, "%s: ok\n", c.Name)
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(text.String())) // as above
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
