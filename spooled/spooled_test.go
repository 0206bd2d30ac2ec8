package spooled

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

const (
	repository = "acme/shop"
	run        = "4711"
)

var jobAgent = stream.JobAgentID(repository, run, 2, "UAKEY")

// batch is one of an agent, as the action's is.
func batch(agent string, first uint64, change ...func(*sallyportv1.EventBatch)) *sallyportv1.EventBatch {
	b := &sallyportv1.EventBatch{
		AgentId: agent, Epoch: 7, FirstSequence: first, Hostname: "runner",
		Attributions: []*sallyportv1.Attribution{{Repository: "Acme/Shop", RunId: run, RunAttempt: 2, Job: "build"}},
		Events:       []*sallyportv1.Event{{TimeUnixNano: first, Attribution: 1}, {TimeUnixNano: first + 1}},
	}
	for _, c := range change {
		c(b)
	}
	return b
}

func of(repository, run string) func(*sallyportv1.EventBatch) {
	return func(b *sallyportv1.EventBatch) {
		b.Attributions[0].Repository, b.Attributions[0].RunId = repository, run
	}
}

func noJob(b *sallyportv1.EventBatch) {
	b.Attributions = nil
	b.Events[0].Attribution = 0
}

func pack(t testing.TB, b *sallyportv1.EventBatch) []byte {
	t.Helper()
	e, err := stream.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	data, err := e.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func name(b *sallyportv1.EventBatch) string {
	return stream.SpoolName{Epoch: b.GetEpoch(), First: b.GetFirstSequence(), Events: len(b.GetEvents())}.String()
}

func write(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func put(t testing.TB, dir string, b *sallyportv1.EventBatch) string {
	t.Helper()
	return write(t, filepath.Join(dir, name(b)), pack(t, b))
}

type entry struct {
	name string
	data []byte
}

func zipped(t testing.TB, path string, entries ...entry) string {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, e := range entries {
		w, err := z.Create(e.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return write(t, path, out.Bytes())
}

func examine(t *testing.T, rules Rules, paths ...string) *Found {
	t.Helper()
	f, err := Examine(t.Context(), paths, rules)
	t.Cleanup(f.Close)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestExamine: folders however deep, zip files and batches, in the order of their agents.
func TestExamine(t *testing.T) {
	dir := t.TempDir()
	other := stream.JobAgentID(repository, run, 2, "UAOTHER")
	one, two, three, four := batch(jobAgent, 1), batch(jobAgent, 3), batch(jobAgent, 5, noJob), batch(other, 1)
	put(t, filepath.Join(dir, "events", "sallyport-events-build-1-x"), three)
	zipped(t, filepath.Join(dir, "events", "b.zip"), entry{name(four), pack(t, four)}, entry{name(one), pack(t, one)})
	single := put(t, filepath.Join(dir, "single"), two)
	again := put(t, filepath.Join(dir, "again"), two)
	if err := os.Symlink(filepath.Join(dir, "events"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	f := examine(t, Rules{Repository: repository, Runs: []string{run}}, filepath.Join(dir, "link"), single, again)
	if len(f.Refused) > 0 || f.Same != 1 {
		t.Errorf("refused %v, %d the same", f.Refused, f.Same)
	}
	var want []*sallyportv1.EventBatch
	if jobAgent < other {
		want = []*sallyportv1.EventBatch{one, two, three, four}
	} else {
		want = []*sallyportv1.EventBatch{four, one, two, three}
	}
	if len(f.Batches) != len(want) {
		t.Fatalf("%d batches, want %d", len(f.Batches), len(want))
	}
	for i := range f.Batches {
		got, err := f.Read(&f.Batches[i])
		if err != nil || !proto.Equal(got, want[i]) {
			t.Errorf("batch %d is %v, %v", i, got, err)
		}
	}
	// Nothing of the files has changed, and what has changed is not sent.
	if err := os.WriteFile(single, pack(t, batch(jobAgent, 3, func(b *sallyportv1.EventBatch) { b.Hostname = "another" })), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range f.Batches {
		if b := &f.Batches[i]; b.Where() == single {
			if _, err := f.Read(b); err == nil || !strings.Contains(err.Error(), "another one meanwhile") {
				t.Errorf("a file that changed: %v", err)
			}
		}
	}
}

// TestRefused: each of these is refused, with its reason, and the good one beside it is not.
func TestRefused(t *testing.T) {
	good := batch(jobAgent, 1)
	packed := pack(t, good)
	bomb := batch(jobAgent, 3, func(b *sallyportv1.EventBatch) { b.Hostname = strings.Repeat("x", 32<<20) })
	tooMuch := batch(jobAgent, 3, func(b *sallyportv1.EventBatch) { b.Hostname = strings.Repeat("x", stream.MaxBatchBytes+1) })
	elsewhere := stream.JobAgentID("acme/other", run, 2, "UAKEY")
	for what, c := range map[string]struct {
		file string
		data []byte
		want error
	}{
		"a key":              {"agent.nk", []byte("SUAKEY"), ErrForeign},
		"a text":             {"README.md", []byte("hello"), ErrForeign},
		"an odd name":        {"x.batch", packed, ErrForeign},
		"another's name":     {stream.SpoolName{Epoch: 7, First: 9, Events: 2}.String(), packed, ErrForeign},
		"no batch":           {name(batch(jobAgent, 3)), []byte("no batch"), stream.ErrMalformed},
		"cut off":            {name(batch(jobAgent, 3)), packed[:len(packed)-3], stream.ErrMalformed},
		"empty":              {name(batch(jobAgent, 3)), nil, stream.ErrMalformed},
		"a large one":        {name(batch(jobAgent, 3)), make([]byte, MaxFileBytes+1), ErrTooLarge},
		"a bomb":             {name(bomb), pack(t, bomb), ErrTooLarge},
		"a larger bomb":      {name(tooMuch), pack(t, tooMuch), stream.ErrMalformed},
		"no zip":             {"a.zip", []byte("PK hello"), ErrForeign},
		"another repository": {name(batch("vm", 3)), pack(t, batch("vm", 3, of("acme/other", run))), ErrNotTheirs},
		"no repository":      {name(batch("vm", 3)), pack(t, batch("vm", 3, of("", ""))), ErrNotTheirs},
		"another run":        {name(batch("vm", 3)), pack(t, batch("vm", 3, of(repository, "4712"))), ErrNotTheirs},
		// Who it says it is does not stand for what it says.
		"another run's agent":        {name(batch(jobAgent, 3)), pack(t, batch(stream.JobAgentID(repository, "4712", 2, "UAKEY"), 3)), ErrNotTheirs},
		"another repository's agent": {name(batch(jobAgent, 3)), pack(t, batch(elsewhere, 3)), ErrNotTheirs},
		// Nothing ties these to the run.
		"an agent that names no job":       {name(batch(jobAgent, 3, noJob)), pack(t, batch(elsewhere, 3, noJob)), ErrNotTheirs},
		"an agent bound to nothing":        {name(batch("other", 3)), pack(t, batch("other", 3)), ErrNotTheirs},
		"the same events, told otherwise":  {name(good), pack(t, batch(jobAgent, 1, func(b *sallyportv1.EventBatch) { b.Hostname = "x" })), ErrTwice},
		"events that are in another batch": {name(batch(jobAgent, 2)), pack(t, batch(jobAgent, 2)), ErrTwice},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			rules := Rules{Repository: repository, Runs: []string{run}, Agents: []string{"vm"}}
			first := put(t, dir, good)
			f := examine(t, rules, first, write(t, filepath.Join(dir, "below", c.file), c.data))
			if len(f.Batches) != 1 || f.Batches[0].Where() != first || len(f.Refused) != 1 {
				t.Fatalf("%d batches, refused %v", len(f.Batches), f.Refused)
			}
			if err := f.Refused[0].Err; !errors.Is(err, c.want) {
				t.Errorf("refused: %v, want %v", err, c.want)
			}
			// The same in a zip file, which GitHub would make of it.
			if c.file != "a.zip" {
				f = examine(t, rules, zipped(t, filepath.Join(dir, "z.zip"), entry{name(good), packed}), zipped(t, filepath.Join(dir, "a.zip"), entry{c.file, c.data}))
				if len(f.Batches) != 1 || len(f.Refused) != 1 || !errors.Is(f.Refused[0].Err, c.want) {
					t.Errorf("in a zip file: %d batches, refused %v", len(f.Batches), f.Refused)
				}
			}
		})
	}
}

// TestZip: entries that lead somewhere else, or are no files, are refused.
func TestZip(t *testing.T) {
	b := batch(jobAgent, 1)
	for _, n := range []string{"../" + name(b), "/" + name(b), "x/" + name(b), `..\` + name(b), "C:" + name(b), name(b) + "/", "x/", ""} {
		path := filepath.Join(t.TempDir(), "a.zip")
		data := pack(t, b)
		if strings.HasSuffix(n, "/") {
			data = nil
		}
		f := examine(t, Rules{Repository: repository}, zipped(t, path, entry{n, data}))
		if len(f.Batches) != 0 || len(f.Refused) != 1 || !errors.Is(f.Refused[0].Err, ErrForeign) {
			t.Errorf("%q: %d batches, refused %v", n, len(f.Batches), f.Refused)
		}
	}
	dir := t.TempDir()
	if f := examine(t, Rules{Repository: repository}, zipped(t, filepath.Join(dir, "download"), entry{name(b), pack(t, b)})); len(f.Batches) != 1 || len(f.Refused) > 0 {
		t.Errorf("a zip file without a suffix: %d batches, refused %v", len(f.Batches), f.Refused)
	}
	large := write(t, filepath.Join(dir, "large.zip"), nil)
	if err := os.Truncate(large, MaxZipBytes+1); err != nil {
		t.Fatal(err)
	}
	if f := examine(t, Rules{}, large); len(f.Refused) != 1 || !errors.Is(f.Refused[0].Err, ErrTooLarge) {
		t.Errorf("a zip file that no artifact is: %v", f.Refused)
	}
	// A link leads out of the folder.
	put(t, filepath.Join(dir, "outside"), b)
	if err := os.MkdirAll(filepath.Join(dir, "inside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "outside", name(b)), filepath.Join(dir, "inside", name(b))); err != nil {
		t.Fatal(err)
	}
	if f := examine(t, Rules{}, filepath.Join(dir, "inside")); len(f.Batches) != 0 || len(f.Refused) != 1 {
		t.Errorf("a link: %d batches, refused %v", len(f.Batches), f.Refused)
	}
}

// TestGivesUp: a folder that is no spool at all is not read to its end.
func TestGivesUp(t *testing.T) {
	dir := t.TempDir()
	for i := range MaxRefusals + 2 {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.txt", i)), nil)
	}
	f, err := Examine(t.Context(), []string{dir}, Rules{})
	if err == nil || len(f.Refused) != MaxRefusals {
		t.Errorf("%v, %d refused", err, len(f.Refused))
	}
	if _, err := Examine(t.Context(), []string{filepath.Join(dir, "nothing")}, Rules{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

// TestRules: who is believed.
func TestRules(t *testing.T) {
	machine, err := stream.RepositoryAgentID(repository, "builder")
	if err != nil {
		t.Fatal(err)
	}
	job, silent, free, bound := batch(jobAgent, 1), batch(jobAgent, 1, noJob), batch("vm", 1), batch(machine, 1)
	for _, c := range []struct {
		what  string
		rules Rules
		b     *sallyportv1.EventBatch
		ok    bool
	}{
		{"whatever", Rules{}, batch("vm", 1, of("acme/other", "1")), true},
		{"a job of the repository", Rules{Repository: repository}, job, true},
		{"names are the same in upper case", Rules{Repository: "ACME/SHOP"}, job, true},
		{"a job of the run", Rules{Repository: repository, Runs: []string{"1", run}}, job, true},
		{"of another run", Rules{Repository: repository, Runs: []string{"1"}}, job, false},
		{"of another repository", Rules{Repository: "acme/other"}, job, false},
		{"names no job, the run is known", Rules{Repository: repository, Runs: []string{run}}, silent, true},
		{"names no job, the run is another", Rules{Repository: repository, Runs: []string{"1"}}, silent, false},
		{"names no job, no run is known", Rules{Repository: repository}, silent, false},
		{"bound to nothing", Rules{Repository: repository}, free, false},
		{"bound to nothing, named", Rules{Repository: repository, Agents: []string{"vm"}}, free, true},
		{"bound to nothing, any", Rules{Repository: repository, Agents: []string{AnyAgent}}, free, true},
		{"named, of another repository", Rules{Repository: "acme/other", Agents: []string{"vm"}}, free, false},
		// A machine that is enrolled goes on speaking under that name.
		{"bound to the repository", Rules{Repository: repository}, bound, false},
		{"bound to the repository, named", Rules{Repository: repository, Agents: []string{machine}}, bound, true},
	} {
		f := examine(t, c.rules, put(t, t.TempDir(), c.b))
		if ok := len(f.Batches) == 1 && len(f.Refused) == 0; ok != c.ok {
			t.Errorf("%s: %d batches, refused %v", c.what, len(f.Batches), f.Refused)
		}
		for _, r := range f.Refused {
			if !errors.Is(r.Err, ErrNotTheirs) {
				t.Errorf("%s: %v", c.what, r.Err)
			}
		}
	}
}

// FuzzZip: whatever is in a file, what is taken from it is a batch that the rules allow.
func FuzzZip(f *testing.F) {
	b := batch(jobAgent, 1)
	dir := f.TempDir()
	for _, path := range []string{
		zipped(f, filepath.Join(dir, "a.zip"), entry{name(b), pack(f, b)}),
		zipped(f, filepath.Join(dir, "b.zip"), entry{"../x", nil}, entry{name(b), pack(f, batch("vm", 1))}),
	} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("no zip"))
	path := filepath.Join(dir, "fuzz.zip")
	f.Fuzz(func(t *testing.T, data []byte) {
		write(t, path, data)
		found, err := Examine(t.Context(), []string{path}, Rules{Repository: repository, Agents: []string{AnyAgent}})
		if err != nil && !errors.Is(err, errGivenUp) {
			t.Fatal(err)
		}
		defer found.Close()
		for i := range found.Batches {
			b, err := found.Read(&found.Batches[i])
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range b.GetAttributions() {
				if !strings.EqualFold(a.GetRepository(), repository) {
					t.Fatalf("it speaks of %q", a.GetRepository())
				}
			}
		}
	})
}

// FuzzBatch: whatever a file says, it is refused or has the identity that its name has.
func FuzzBatch(f *testing.F) {
	b := batch(jobAgent, 1)
	n := stream.SpoolName{Epoch: 7, First: 1, Events: 2}
	f.Add(pack(f, b))
	f.Add(pack(f, batch("vm", 1, noJob)))
	f.Add([]byte("no batch"))
	r, err := newReader(Rules{Repository: repository, Runs: []string{run}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, batch, err := r.check(n, data)
		if err != nil {
			return
		}
		if got.SpoolName != n || stream.BatchID(batch) != got.AgentID+".7.1" {
			t.Fatalf("%+v of batch %s", got, stream.BatchID(batch))
		}
	})
}
