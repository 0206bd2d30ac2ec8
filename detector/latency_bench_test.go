package detector

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/notify"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// BenchmarkEventToWebhook publishes 50,000 events a second of builds that do what they did
// before, and ten a second that break a policy, each of another job, and measures how long it
// takes from an event's publication until a webhook has its finding. NATS, detector, alerts and
// the webhook's receiver run in this process, on all of its processors.
func BenchmarkEventToWebhook(b *testing.B) {
	const rate, batchSize = 50_000, 1000
	_, js := natstest.StartDeclared(b, natsserver.Config{}, jetstream.WithPublishAsyncMaxPending(256))

	var mu sync.Mutex
	published := make(map[string]time.Time) // by job
	var delays []time.Duration
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		now := time.Now()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		_, job, _ := strings.Cut(string(body), `"job":"`)
		job, _, _ = strings.Cut(job, `"`)
		mu.Lock()
		defer mu.Unlock()
		if at, ok := published[job]; ok {
			delays = append(delays, now.Sub(at))
			delete(published, job)
		}
	}))
	b.Cleanup(web.Close)

	policies, problems, err := LoadPolicies(b.Context(), "")
	if err != nil || len(problems) > 0 {
		b.Fatal(err, problems)
	}
	d, err := New(b.Context(), Config{JetStream: js, Policies: policies, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	hook, err := notify.NewWebhook(notify.WebhookOptions{URL: web.URL, Secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}})
	if err != nil {
		b.Fatal(err)
	}
	n, err := notify.New(notify.Config{JS: js, Sinks: []notify.Sink{{Name: "webhook", Target: hook, Window: notify.WebhookWindow}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = d.Run(ctx) }) // what goes wrong shows as findings that do not come
	running.Go(func() { _ = n.Run(ctx) })
	b.Cleanup(func() { cancel(); running.Wait() })

	encoder, err := stream.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	publish := func(batch *sallyportv1.EventBatch) {
		data, err := encoder.Encode(nil, batch)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := js.PublishAsync(stream.EventSubject(batch.AgentId), data, jetstream.WithMsgID(stream.BatchID(batch))); err != nil {
			b.Fatal(err)
		}
	}
	// Forty builds on as many machines.
	const machines = 40
	builds := make([]*sallyportv1.EventBatch, machines)
	for i := range builds {
		lines := []string{"run 1"}
		for range 300 {
			lines = append(lines, "step a", "curl connects to registry.example.test:443", "step b", "make > cc -c x.c -o x.o starts")
		}
		batch := parsed(b, append(lines, "end")...)[0].Batch
		batch.Events = batch.Events[:len(batch.Events)-1]
		for len(batch.Events) < batchSize {
			batch.Events = append(batch.Events, batch.Events[1:]...)
		}
		batch.Events = batch.Events[:batchSize]
		batch.AgentId = fmt.Sprint("build-", i)
		for _, a := range batch.Attributions {
			a.ExecutionId, a.Job = fmt.Sprintf("%016x", i), fmt.Sprint("build-", i)
		}
		builds[i] = batch
	}
	bad := parsed(b, "run 1", "step a", "python3 - reads memory of worker", "end")[0].Batch
	bad.Events = bad.Events[:len(bad.Events)-1]

	sent, found := 0, 0
	began := time.Now()
	tick := time.NewTicker(time.Second * batchSize / rate)
	defer tick.Stop()
	for b.Loop() { // an iteration is a tick
		<-tick.C
		batch := builds[sent%machines]
		publish(batch)
		batch.FirstSequence += batchSize
		sent++
		if sent%5 != 0 {
			continue
		}
		found++
		one := proto.CloneOf(bad)
		job := fmt.Sprint("bad-", found)
		one.AgentId = job
		for _, a := range one.Attributions {
			a.ExecutionId, a.Job = fmt.Sprintf("bad%013x", found), job
		}
		mu.Lock()
		published[job] = time.Now()
		mu.Unlock()
		publish(one)
	}
	took := time.Since(began)
	for range 100 {
		mu.Lock()
		missing := len(published)
		mu.Unlock()
		if missing == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(published) > 0 || len(delays) != found {
		b.Fatalf("%d of %d findings came", len(delays), found)
	}
	slices.Sort(delays)
	at := func(share float64) float64 {
		return float64(delays[min(len(delays)-1, int(share*float64(len(delays))))].Microseconds()) / 1000
	}
	b.ReportMetric(float64(sent*batchSize)/took.Seconds(), "events/s")
	b.ReportMetric(at(0.5), "ms-p50")
	b.ReportMetric(at(0.99), "ms-p99")
	b.ReportMetric(at(1), "ms-max")
	b.ReportMetric(float64(found), "findings")
	b.ReportMetric(0, "ns/op")
}
