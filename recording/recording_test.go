package recording

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// write makes a recording of batches, a second apart.
func write(t interface{ Fatal(...any) }, about About, batches ...*sallyportv1.EventBatch) []byte {
	var file bytes.Buffer
	w, err := NewWriter(&file, about)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range batches {
		if err := w.Add(began.Add(time.Duration(i)*time.Second), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, n := w.Totals(); n != int64(file.Len()) {
		t.Fatal("the writer says", n, "bytes, the file has", file.Len())
	}
	return file.Bytes()
}

// read returns what can be read, and the error that ended it.
func read(file []byte) (about About, batches []*Batch, err error) {
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		return about, nil, err
	}
	for {
		b, err := r.Next()
		if err != nil {
			return r.About(), batches, err
		}
		batches = append(batches, b)
	}
}

// story is a batch of two runs on one machine, side by side.
func story(first uint64) *sallyportv1.EventBatch {
	at := func(n int) uint64 { return uint64(began.Add(time.Duration(n) * time.Millisecond).UnixNano()) }
	return &sallyportv1.EventBatch{
		AgentId: "a1", Epoch: 5, FirstSequence: first, Hostname: "runner",
		Attributions: []*sallyportv1.Attribution{
			{Repository: "acme/other", RunId: "1", ExecutionId: "00000000000000aa", Job: "build"},
			{Repository: "acme/shop", RunId: "2", ExecutionId: "00000000000000bb", Job: "test"},
		},
		Processes: []*sallyportv1.Process{
			{Id: 1, Executable: "/usr/lib/systemd/systemd"},
			{Id: 2, ParentId: 1, Executable: "/opt/secret-of-other"},
			{Id: 3, ParentId: 4, Executable: "/usr/bin/curl", StartTimeUnixNano: at(1)},
			{Id: 4, ParentId: 1, Executable: "/bin/sh"},
		},
		Events: []*sallyportv1.Event{
			{TimeUnixNano: at(1), Process: 2, Attribution: 1, Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}},
			{TimeUnixNano: at(2), Process: 3, Attribution: 2, Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}},
			{TimeUnixNano: at(3), Process: 3, Attribution: 2, Body: &sallyportv1.Event_ProcessAccess{ProcessAccess: &sallyportv1.ProcessAccess{Target: 4}}},
			{TimeUnixNano: at(4), Attribution: 2, Body: &sallyportv1.Event_JobEnded{JobEnded: &sallyportv1.JobEnded{Survivors: []uint32{3}}}},
			{TimeUnixNano: at(5), Body: &sallyportv1.Event_AgentStatus{AgentStatus: &sallyportv1.AgentStatus{Version: "1", PreviousSeenUnixNano: at(0)}}},
		},
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		about := About{Program: "sallyport 1", Started: began, Command: rapid.SliceOfN(rapid.String(), 0, 3).Draw(t, "command")}
		var want []*sallyportv1.EventBatch
		next := uint64(1)
		for range rapid.IntRange(0, 5).Draw(t, "batches") {
			b := story(next)
			b.Hostname = rapid.StringMatching(`[a-z]{0,200}`).Draw(t, "hostname")
			b.Events = b.Events[:rapid.IntRange(0, len(b.Events)).Draw(t, "events")]
			next += uint64(len(b.Events))
			want = append(want, b)
		}
		_, got, err := read(write(t, about, want...))
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("%d batches, want %d", len(got), len(want))
		}
		for i := range got {
			if !proto.Equal(got[i].Events, want[i]) || !got[i].Recorded.Equal(began.Add(time.Duration(i)*time.Second)) {
				t.Fatalf("batch %d: %v at %s, want %v", i, got[i].Events, got[i].Recorded, want[i])
			}
		}
	})
}

// TestEveryCutAndEveryFlipIsSeen: whichever byte is missing or changed, the reader says so,
// and gives back what is before it and nothing else.
func TestEveryCutAndEveryFlipIsSeen(t *testing.T) {
	batches := []*sallyportv1.EventBatch{story(1), story(6), story(11)}
	file := write(t, About{Program: "sallyport 1"}, batches...)
	same := func(at int, got []*Batch) {
		for i, b := range got {
			if i >= len(batches) || !proto.Equal(b.Events, batches[i]) {
				t.Fatalf("byte %d: batch %d is %v", at, i, b.Events)
			}
		}
	}
	most := 0
	for at := range file {
		_, got, err := read(file[:at])
		if at < len(magic) && !errors.Is(err, ErrNotRecording) || at >= len(magic) && !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut at byte %d: %v", at, err)
		}
		same(at, got)
		most = max(most, len(got))

		damaged := bytes.Clone(file)
		damaged[at] ^= 0x10
		_, got, err = read(damaged)
		if !errors.Is(err, ErrNotRecording) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTruncated) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
		same(at, got)
	}
	if most != len(batches) {
		t.Errorf("of a file without its last byte %d batches were read, want %d", most, len(batches))
	}
	if _, got, err := read(append(bytes.Clone(file), 0)); !errors.Is(err, ErrDamaged) || len(got) != 3 {
		t.Errorf("a byte after the end: %d batches, %v", len(got), err)
	}
}

func TestVersions(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, About{})
	if err != nil {
		t.Fatal(err)
	}
	// A kind that comes with a later version, in between.
	if err := errors.Join(w.Add(began, story(1)), w.put(77, []byte("of the future")), w.Add(began, story(6)), w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, got, err := read(file.Bytes()); !errors.Is(err, io.EOF) || len(got) != 2 {
		t.Errorf("a file with a frame of an unknown kind: %d batches, %v", len(got), err)
	}
	// The file in testdata has major version 2.
	newer, err := os.ReadFile("testdata/version2.rec")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(newer); !errors.Is(err, ErrNewer) {
		t.Errorf("a file of version 2: %v", err)
	}
}

func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.rec")
	f, err := Create(path, About{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Add(began, story(1)), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, About{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file that exists: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %s", info.Mode())
	}
}

// TestFullDisk: /dev/full takes nothing.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if _, err := NewWriter(full, About{}); err == nil || !strings.Contains(err.Error(), "write recording") {
		t.Errorf("on a full disk: %v", err)
	}
}

func TestRenew(t *testing.T) {
	renewed := func(name Identity, first uint64) *sallyportv1.EventBatch {
		b := story(first)
		name.Renew(b)
		return b
	}
	a, again, other, next := renewed("x", 1), renewed("x", 1), renewed("y", 1), renewed("x", 6)
	if !proto.Equal(a, again) {
		t.Error("the same name gives two identities")
	}
	old := story(1)
	for i, pair := range []struct{ x, y string }{
		{a.AgentId, old.AgentId}, {a.AgentId, other.AgentId},
		{a.Attributions[0].RunId, old.Attributions[0].RunId}, {a.Attributions[0].RunId, other.Attributions[0].RunId},
		{a.Attributions[0].RunId, a.Attributions[1].RunId},
		{a.Attributions[0].ExecutionId, old.Attributions[0].ExecutionId}, {a.Attributions[0].ExecutionId, other.Attributions[0].ExecutionId},
	} {
		if pair.x == pair.y {
			t.Errorf("pair %d: both are %q", i, pair.x)
		}
	}
	if a.AgentId != next.AgentId || a.Attributions[1].RunId != next.Attributions[1].RunId || a.Attributions[1].ExecutionId != next.Attributions[1].ExecutionId {
		t.Error("two batches of one run do not belong together any more")
	}
	write(t, About{}, a) // an identity that may travel
	if _, _, err := read(write(t, About{}, a)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestShift(t *testing.T) {
	b, old := story(1), story(1)
	Shift(b, time.Hour)
	for i, e := range b.Events {
		if e.TimeUnixNano-old.Events[i].TimeUnixNano != uint64(time.Hour) {
			t.Errorf("event %d was moved by %d ns", i, e.TimeUnixNano-old.Events[i].TimeUnixNano)
		}
	}
	if b.Processes[2].StartTimeUnixNano-old.Processes[2].StartTimeUnixNano != uint64(time.Hour) || b.Processes[0].StartTimeUnixNano != 0 {
		t.Error("start of processes:", b.Processes)
	}
	if b.Events[4].GetAgentStatus().PreviousSeenUnixNano-old.Events[4].GetAgentStatus().PreviousSeenUnixNano != uint64(time.Hour) || b.Epoch != 5 {
		t.Error(b)
	}
	if Shift(b, -time.Hour); !proto.Equal(b, old) {
		t.Errorf("there and back: %v", b)
	}
	if first, last, ok := Span(old); !ok || last.Sub(first) != 4*time.Millisecond {
		t.Error(first, last, ok)
	}
}

func TestOnlyOneRun(t *testing.T) {
	b, any := Only(story(1), func(a *sallyportv1.Attribution) bool { return a.GetRunId() == "2" })
	if !any {
		t.Fatal("nothing of run 2")
	}
	if text := b.String(); strings.Contains(text, "other") {
		t.Errorf("something of another run is left: %s", text)
	}
	if len(b.Events) != 5 || b.Events[0].Body != nil || b.Events[4].GetAgentStatus() == nil {
		t.Errorf("places of events: %v", b.Events)
	}
	name := func(n uint32) string { return b.Processes[n-1].GetExecutable() }
	if name(b.Events[1].Process) != "/usr/bin/curl" || name(b.Events[2].GetProcessAccess().Target) != "/bin/sh" ||
		name(b.Events[3].GetJobEnded().Survivors[0]) != "/usr/bin/curl" || len(b.Processes) != 3 {
		t.Errorf("processes: %v of %v", b.Processes, b.Events)
	}
	if _, _, err := read(write(t, About{}, b)); !errors.Is(err, io.EOF) {
		t.Errorf("what is left does not travel: %v", err)
	}
	if b, any := Only(story(1), func(*sallyportv1.Attribution) bool { return false }); any || len(b.Events) != 5 || len(b.Attributions)+len(b.Processes) != 0 {
		t.Errorf("nothing kept: %v", b)
	}
}

func FuzzReader(f *testing.F) {
	whole := write(f, About{Command: []string{"make"}}, story(1), story(6))
	f.Add(whole)
	f.Add(whole[:len(whole)-30])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, batches, err := read(file)
		if err == nil {
			t.Fatal("it has no end")
		}
		for _, b := range batches {
			Shift(b.Events, time.Second)
			Identity("x").Renew(b.Events)
			if _, _, err := read(write(t, About{}, b.Events)); !errors.Is(err, io.EOF) {
				t.Fatalf("what was read cannot be written and read again: %v", err)
			}
			Only(b.Events, func(a *sallyportv1.Attribution) bool { return a.GetRunId() != "1" })
		}
	})
}
