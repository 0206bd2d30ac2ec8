package agent

import "github.com/prometheus/client_golang/prometheus"

// metrics are what an agent counts.
type metrics struct {
	events          map[string]prometheus.Counter
	lost            *prometheus.CounterVec
	batches         prometheus.Counter
	malformed       prometheus.Counter
	foreignDNS      prometheus.Counter
	untoldQuestions prometheus.Counter
	unwatched       prometheus.Counter
	undigested      prometheus.Counter
	told            map[string]uint64 // losses of the kernel side that lost counts already
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sallyport_agent_events_total", Help: "Events, by kind.",
	}, []string{"kind"})
	m := &metrics{
		events: make(map[string]prometheus.Counter),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_agent_lost_total", Help: "Events lost: in the kernel, by kind of record, or (publish, spool) on their way out.",
		}, []string{"kind"}),
		batches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_agent_batches_total", Help: "Batches handed over.",
		}),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_agent_malformed_records_total", Help: "Records from the kernel that could not be decoded.",
		}),
		foreignDNS: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_agent_foreign_dns_total", Help: "Messages at ports of DNS that are none, or an answer to no question.",
		}),
		untoldQuestions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_agent_untold_dns_questions_total", Help: "DNS questions behind the first 512 of one message.",
		}),
		unwatched: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_agent_unwatched_files_total", Help: "Files and folders of workspaces that should be watched and could not be.",
		}),
		undigested: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_agent_undigested_executables_total", Help: "Programs whose digest could not be computed: gone or changed before they could be read, or too large.",
		}),
		told: make(map[string]uint64),
	}
	for _, kind := range []string{"fork", "exec", "exit", "flow", "dns", "access", "file", "privilege", "executable", "request", "job", "status"} {
		m.events[kind] = events.WithLabelValues(kind)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{events, m.lost, m.batches, m.malformed, m.foreignDNS, m.untoldQuestions, m.unwatched, m.undigested} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) event(kind string) { m.events[kind].Inc() }

// kernelLost brings the counter of a kind up to the kernel's own.
func (m *metrics) kernelLost(kind string, total uint64) {
	if total > m.told[kind] {
		m.lost.WithLabelValues(kind).Add(float64(total - m.told[kind]))
		m.told[kind] = total
	}
}
