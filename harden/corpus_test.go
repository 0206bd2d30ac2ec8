package harden

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// everything resolves whatever it is asked.
type everything struct{}

func (everything) Resolve(_ context.Context, repository, ref string) (Resolution, error) {
	if commitForm.MatchString(ref) {
		return Resolution{Commit: ref}, nil
	}
	sum := sha256.Sum256([]byte(repository + "@" + ref))
	version := ""
	if _, ok := versionParts(ref); ok {
		version = ref
	}
	return Resolution{Commit: hex.EncodeToString(sum[:20]), Version: version}, nil
}

func (everything) Digest(_ context.Context, image string) (string, error) {
	sum := sha256.Sum256([]byte(image))
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// corpus is where real workflows are, beside the project.
const corpus = "../../shared/corpus/workflows"

func everythingConfig() Config {
	c := settings()
	c.Resolver, c.Agent = everything{}, "acme/deploy@v1.2.3"
	return c
}

// ours are the project's own workflows and those of the tests, which are there always.
func realFiles(t testing.TB) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	for _, root := range []string{"..", corpus} {
		if _, err := os.Stat(root); err != nil {
			t.Logf("%s is not on this machine", root)
			continue
		}
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if d != nil && d.IsDir() && (d.Name() == ".git" || d.Name() == ".bin") {
					return fs.SkipDir
				}
				return err
			}
			kind := KindOf(name)
			if root == corpus && (strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml")) && kind == KindOther {
				return nil
			}
			if kind == KindOther {
				return nil
			}
			data, err := os.ReadFile(name)
			out[name] = data
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 3 {
		t.Fatalf("only %d files", len(out))
	}
	return out
}

// TestRealWorkflows: each is handled, a line changes only where a fix is, a second run is empty,
// and with other line ends the same comes out.
func TestRealWorkflows(t *testing.T) {
	files, fixes := 0, 0
	for name, data := range realFiles(t) {
		r, err := Text(t.Context(), everythingConfig(), name, data)
		if err != nil {
			t.Fatal(err)
		}
		files++
		if r.Problem != nil {
			t.Errorf("%v", r.Problem)
			continue
		}
		fixes += len(r.Fixes)
		if r.After == nil {
			continue
		}
		before, after := bytes.Split(data, []byte("\n")), bytes.Split(r.After, []byte("\n"))
		kept := common(before, after)
		if changed := len(before) - kept; changed > len(r.Fixes) {
			t.Errorf("%s: %d lines changed for %d fixes", name, changed, len(r.Fixes))
		}
		again, err := Text(t.Context(), everythingConfig(), name, r.After)
		if err != nil || again.After != nil || again.Problem != nil {
			t.Errorf("%s: a second run: %v %v", name, err, again.Problem)
		}
		crlf := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }
		windows, err := Text(t.Context(), everythingConfig(), name, crlf(data))
		if err != nil || windows.Problem != nil || !bytes.Equal(windows.After, crlf(r.After)) {
			t.Errorf("%s: with CR LF something else comes out: %v", name, windows.Problem)
		}
	}
	t.Logf("%d files, %d fixes", files, fixes)
}

// common counts the lines that two texts have in common, in order.
func common(a, b [][]byte) int {
	n, at := 0, 0
	for _, line := range a {
		for i := at; i < len(b); i++ {
			if bytes.Equal(line, b[i]) {
				n, at = n+1, i+1
				break
			}
		}
	}
	return n
}

// unreasonable is how long no small file takes, on a machine that is busy with other things.
const unreasonable = 20 * time.Second

// inserted is what is put into Dockerfiles.
var inserted = regexp.MustCompile(`@sha256:[0-9a-f]{64}`)

// FuzzText: whatever a file holds and whatever is asked for, it takes no time to speak of, what comes
// out parses, a second run is empty, a Dockerfile gets digests and nothing else, and a file that is
// left alone says why or has no fixes.
func FuzzText(f *testing.F) {
	for name, data := range realFiles(f) {
		if KindOf(name) == KindWorkflow && len(data) < 4000 {
			f.Add(data, byte(0))
		}
	}
	cases, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range cases {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, rest, _ := bytes.Cut(data, []byte("---- before\n"))
		before, _, _ := bytes.Cut(rest, []byte("---- after\n"))
		for kind := range byte(4) {
			f.Add(before, kind)
			f.Add(bytes.ReplaceAll(before, []byte("\n"), []byte("\r\n")), kind|4)
			f.Add(append([]byte("\uFEFF"), before...), kind|24)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, how byte) {
		name := []string{"x/.github/workflows/x.yml", "x/action.yml", "x/Dockerfile", "x/.github/dependabot.yml"}[how%4]
		config := func() Config {
			c := everythingConfig()
			c.Permissive, c.ReplaceHardenRunner = how&4 != 0, how&8 != 0
			if how&16 != 0 {
				c.Agent = ""
			}
			if how&32 != 0 {
				c.Observed = []Observation{{Repository: "acme/shop", File: ".github/workflows/x.yml", Job: "build", Method: "POST", Host: "api.github.com", Path: "/repos/acme/shop/releases", Runs: 12, Of: 12}}
			}
			return c
		}
		began := time.Now()
		r, err := Text(t.Context(), config(), name, data)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > unreasonable {
			t.Fatalf("it takes %s", took)
		}
		if !bytes.Equal(r.Before, data) {
			t.Fatal("the text that was given is changed")
		}
		if (r.After == nil) != (len(r.Fixes) == 0) || r.Problem != nil && r.After != nil {
			t.Fatalf("%d fixes and the problem %v, and it is changed: %v", len(r.Fixes), r.Problem, r.After != nil)
		}
		if r.After == nil {
			return
		}
		if KindOf(name) == KindDockerfile {
			if !bytes.Equal(inserted.ReplaceAll(r.After, nil), inserted.ReplaceAll(data, nil)) {
				t.Fatalf("more than digests is changed:\n%q", r.After)
			}
		} else if _, err := Parse(name, r.After); err != nil {
			t.Fatalf("what comes out does not parse: %v\n%q", err, r.After)
		}
		again, err := Text(t.Context(), config(), name, r.After)
		if err != nil || again.Problem != nil || again.After != nil {
			t.Fatalf("a second run: %v, %v\n%q", err, again.Problem, r.After)
		}
	})
}

// BenchmarkCheck checks a thousand real workflows as `sallyport harden --check --offline` does.
func BenchmarkCheck(b *testing.B) {
	var names []string
	var texts [][]byte
	for name, data := range realFiles(b) {
		if KindOf(name) == KindWorkflow {
			names, texts = append(names, name), append(texts, data)
		}
	}
	b.ReportMetric(0, "ns/op")
	for b.Loop() {
		for i := range 1000 {
			if _, err := Text(b.Context(), everythingConfig(), names[i%len(names)], texts[i%len(texts)]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/1000files")
}
