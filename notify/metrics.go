package notify

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	findings *prometheus.CounterVec
	messages *prometheus.CounterVec
	waiting  *prometheus.GaugeVec
	delay    *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_notify_findings_total",
			Help: "Findings read, by sink and by what became of them: taken, filtered, duplicate, malformed (no sink), told, dead, or refused (outbox full or bucket away; comes again).",
		}, []string{"sink", "result"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_notify_messages_total",
			Help: "Attempts to send a message, by outcome: delivered, retry (certainly not arrived), uncertain (may have arrived), rejected.",
		}, []string{"sink", "outcome"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sallyport_notify_waiting",
			Help: "Findings that a sink has not been told of yet.",
		}, []string{"sink"}),
		delay: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sallyport_notify_delay_seconds",
			Help:    "Time from taking a first finding to its delivery.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 300, 3600},
		}, []string{"sink"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.findings, m.messages, m.waiting, m.delay} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
