package stream

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

func sampleBatch() *sallyportv1.EventBatch {
	return &sallyportv1.EventBatch{
		AgentId: "agent-1", Epoch: 7, FirstSequence: 1, Hostname: "runner",
		Attributions: []*sallyportv1.Attribution{{Repository: "acme/shop", Job: "build"}},
		Processes:    []*sallyportv1.Process{{Id: 11, Executable: "/usr/bin/curl"}},
		Events: []*sallyportv1.Event{
			{TimeUnixNano: 1, Process: 1, Attribution: 1, Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}},
			{TimeUnixNano: 2, Process: 1, Attribution: 1, Body: &sallyportv1.Event_Flow{Flow: &sallyportv1.Flow{DestinationAddress: []byte{192, 0, 2, 1}, DestinationPort: 443}}},
		},
	}
}

func encode(t testing.TB, b *sallyportv1.EventBatch) []byte {
	t.Helper()
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	data, err := e.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBatchRoundTrip(t *testing.T) {
	want := sampleBatch()
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	got := new(sallyportv1.EventBatch)
	for range 2 { // the second time into used memory
		if err := d.Decode(encode(t, want), got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if id := BatchID(want); id != "agent-1.7.1" {
		t.Errorf("BatchID = %q", id)
	}
}

func TestDecodeRefusesMalformed(t *testing.T) {
	good := encode(t, sampleBatch())
	change := func(f func(b *sallyportv1.EventBatch)) []byte {
		b := sampleBatch()
		f(b)
		return encode(t, b)
	}
	bomb := change(func(b *sallyportv1.EventBatch) { b.Hostname = string(make([]byte, MaxBatchBytes+1)) })
	for name, data := range map[string][]byte{
		"empty":               {},
		"foreign":             []byte("GET / HTTP/1.1\r\n\r\n"),
		"truncated":           good[:len(good)-3],
		"packed bomb":         bomb,
		"no agent":            change(func(b *sallyportv1.EventBatch) { b.AgentId = "" }),
		"agent with wildcard": change(func(b *sallyportv1.EventBatch) { b.AgentId = "a.>" }),
		"no epoch":            change(func(b *sallyportv1.EventBatch) { b.Epoch = 0 }),
		"no sequence":         change(func(b *sallyportv1.EventBatch) { b.FirstSequence = 0 }),
		"sequence overflow":   change(func(b *sallyportv1.EventBatch) { b.FirstSequence = ^uint64(0) }),
		"process index":       change(func(b *sallyportv1.EventBatch) { b.Events[0].Process = 2 }),
		"attribution index":   change(func(b *sallyportv1.EventBatch) { b.Events[1].Attribution = 9 }),
		"address length":      change(func(b *sallyportv1.EventBatch) { b.Events[1].GetFlow().DestinationAddress = []byte{1, 2, 3} }),
		"port":                change(func(b *sallyportv1.EventBatch) { b.Events[1].GetFlow().DestinationPort = 65536 }),
		"access target": change(func(b *sallyportv1.EventBatch) {
			b.Events[0].Body = &sallyportv1.Event_ProcessAccess{ProcessAccess: &sallyportv1.ProcessAccess{Target: 2}}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			d, err := NewDecoder()
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Decode(data, new(sallyportv1.EventBatch)); !errors.Is(err, ErrMalformed) {
				t.Errorf("error = %v, want ErrMalformed", err)
			}
			if err := d.Decode(good, new(sallyportv1.EventBatch)); err != nil {
				t.Errorf("the next, good batch: %v", err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, sampleBatch()))
	f.Add([]byte("foreign"))
	d, err := NewDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := new(sallyportv1.EventBatch)
		if err := d.Decode(data, b); err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v does not wrap ErrMalformed", err)
			}
			return
		}
		for _, e := range b.GetEvents() {
			if int(e.GetProcess()) > len(b.GetProcesses()) || int(e.GetAttribution()) > len(b.GetAttributions()) {
				t.Fatal("an index points outside its table")
			}
		}
	})
}

func FuzzDecodeFinding(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := DecodeFinding(data); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("error %v does not wrap ErrMalformed", err)
		}
	})
}
