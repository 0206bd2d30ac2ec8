package ingest

import (
	"math/rand/v2"
	"testing"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// BenchmarkStreamToRows measures events from the stream to rows that can be asked
// for, with NATS in this process and the engine as its child, as in `sallyport
// up`. Agents publish the next events meanwhile. It reports events/s, and bytes
// an event on disk.
//
//	go test -run '^$' -bench BenchmarkStreamToRows -benchtime 1x -count 3 ./ingest
func BenchmarkStreamToRows(b *testing.B) {
	const batches, events = 2000, 500
	e, err := stream.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	// The load is made beforehand: an agent's work is not ingest's.
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	var load [][]byte
	for n := range batches {
		batch := realisticBatch(r, "agent-1", uint64(n*events+1), events, now.Add(time.Duration(n)*time.Millisecond))
		data, err := e.Encode(nil, batch)
		if err != nil {
			b.Fatal(err)
		}
		load = append(load, data)
	}
	for b.Loop() {
		b.StopTimer()
		l := newLab(b)
		_, stop := l.start(b, func(c *Config) { c.MaxAge = 0 })
		b.StartTimer()
		begin := time.Now()
		for _, data := range load {
			if _, err := l.js.PublishAsync(stream.EventSubject("agent-1"), data); err != nil {
				b.Fatal(err)
			}
		}
		<-l.js.PublishAsyncComplete()
		for l.count(b, "SELECT count() FROM ("+allEvents+")") < batches*events {
			if time.Since(begin) > 2*time.Minute {
				b.Fatal("the rows are not there after two minutes")
			}
			time.Sleep(20 * time.Millisecond)
		}
		took := time.Since(begin)
		b.StopTimer()
		stop()
		l.checkOnce(b, batches*events)
		bytes := l.count(b, `SELECT sum(bytes_on_disk) FROM system.parts
			WHERE active AND database = currentDatabase()`)
		b.ReportMetric(float64(batches*events)/took.Seconds(), "events/s")
		b.ReportMetric(float64(bytes)/(batches*events), "bytes/event")
		b.StartTimer()
	}
}

// BenchmarkRows measures decoding a batch and making its rows, without ClickHouse.
func BenchmarkRows(b *testing.B) {
	e, err := stream.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	const events = 500
	data, err := e.Encode(nil, realisticBatch(rand.New(rand.NewPCG(1, 2)), "agent-1", 1, events, time.Now()))
	if err != nil {
		b.Fatal(err)
	}
	d, err := stream.NewDecoder()
	if err != nil {
		b.Fatal(err)
	}
	var batch sallyportv1.EventBatch
	var rows batchRows
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(data, &batch); err != nil {
			b.Fatal(err)
		}
		rows.reset()
		rows.add(&batch, time.Now())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}
