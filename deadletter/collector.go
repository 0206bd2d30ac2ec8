package deadletter

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-ci/sallyport/stream"
)

// scrapeTimeout bounds how long a scrape waits for NATS.
const scrapeTimeout = 2 * time.Second

type collector struct {
	js             jetstream.JetStream
	letters, bytes *prometheus.Desc
}

// NewCollector returns metrics of how many dead letters are kept. While NATS does not
// answer there are none.
func NewCollector(js jetstream.JetStream) prometheus.Collector {
	return &collector{
		js:      js,
		letters: prometheus.NewDesc("sallyport_dead_letters", "Messages that a part could not use and that are kept.", nil, nil),
		bytes:   prometheus.NewDesc("sallyport_dead_letters_bytes", "Bytes that dead letters take; beyond 1 GiB the oldest are dropped.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) { out <- c.letters; out <- c.bytes }

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, stream.DeadLettersStream)
	if err != nil {
		return
	}
	state := s.CachedInfo().State
	out <- prometheus.MustNewConstMetric(c.letters, prometheus.GaugeValue, float64(state.Msgs))
	out <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(state.Bytes))
}
