package ingest

import "github.com/prometheus/client_golang/prometheus"

// metrics are ingest's own; all but one have the label stream: a stream, or its partition.
type metrics struct {
	events      *prometheus.CounterVec
	batches     *prometheus.CounterVec
	rows        *prometheus.CounterVec
	ranges      *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	retries     *prometheus.CounterVec
	clamped     *prometheus.CounterVec
	unknown     *prometheus.CounterVec
	missing     *prometheus.CounterVec
	repeated    *prometheus.CounterVec
	lagMessages *prometheus.GaugeVec
	lagSeconds  *prometheus.GaugeVec
	insert      *prometheus.HistogramVec
	partitions  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sallyport", Subsystem: "ingest", Name: name, Help: help,
		}, append([]string{"stream"}, labels...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "sallyport", Subsystem: "ingest", Name: name, Help: help,
		}, []string{"stream"})
	}
	m := &metrics{
		events:      counter("events_total", "Events or findings read from the stream and inserted."),
		batches:     counter("batches_total", "Messages inserted."),
		rows:        counter("rows_total", "Rows inserted.", "table"),
		ranges:      counter("ranges_total", "Ranges of messages inserted."),
		deadLetters: counter("dead_letters_total", "Messages that could not be used and were kept in DEADLETTERS."),
		retries:     counter("retries_total", "Tries that failed and were made again, for whatever reason."),
		clamped:     counter("clamped_times_total", "Events whose time was replaced by their arrival: a clock that jumped."),
		unknown:     counter("unknown_events_total", "Events of a kind that this version does not know, passed over."),
		missing:     counter("missing_messages_total", "Messages of an unfinished range that the stream had lost."),
		repeated:    counter("repeated_batches_total", "Batches that were in the stream twice, and inserted once."),
		lagMessages: gauge("lag_messages", "Messages waiting in the stream behind the last one inserted."),
		lagSeconds:  gauge("lag_seconds", "Age of the last message inserted, since the stream stored it, when its rows could be asked for."),
		insert: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "sallyport", Subsystem: "ingest", Name: "insert_seconds",
			Help:    "Time to insert the rows of one range into one table.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14),
		}, []string{"stream"}),
	}
	m.partitions = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "sallyport", Subsystem: "ingest", Name: "partitions",
		Help: "Partitions of the streams that this process works on.",
	})
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.events, m.batches, m.rows, m.ranges, m.deadLetters, m.retries,
		m.clamped, m.unknown, m.missing, m.repeated, m.lagMessages, m.lagSeconds, m.insert, m.partitions} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
