package harden

import (
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// repository makes a repository with tags and branches below dir, and returns the commits.
func repository(t *testing.T, dir string) []string {
	t.Helper()
	r, err := git.PlainInit(filepath.Join(dir, "acme", "deploy"), false)
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	who := &object.Signature{Name: "a", Email: "a@example.test", When: time.Unix(1_790_000_000, 0)}
	var commits []string
	for _, text := range []string{"one", "two", "three"} {
		if err := os.WriteFile(filepath.Join(dir, "acme", "deploy", "action.yml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Add("action.yml"); err != nil {
			t.Fatal(err)
		}
		c, err := w.Commit(text, &git.CommitOptions{Author: who})
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, c.String())
	}
	tag := func(name string, n int, annotated bool) {
		var o *git.CreateTagOptions
		if annotated {
			o = &git.CreateTagOptions{Tagger: who, Message: name}
		}
		if _, err := r.CreateTag(name, plumbing.NewHash(commits[n]), o); err != nil {
			t.Fatal(err)
		}
	}
	tag("v1.0.0", 0, true)
	tag("v1.1.0", 1, true)
	tag("v1.1", 1, false)
	tag("v1", 1, true)
	tag("nightly-2026", 1, false)
	return commits
}

func TestRemote(t *testing.T) {
	dir := t.TempDir()
	commits := repository(t, dir)
	r := &Remote{Server: "file://" + dir}
	for ref, want := range map[string]Resolution{
		"v1":           {Commit: commits[1], Version: "v1.1.0"},
		"v1.0.0":       {Commit: commits[0], Version: "v1.0.0"},
		"nightly-2026": {Commit: commits[1], Version: "v1.1.0"},
		"master":       {Commit: commits[2], Branch: true},
		commits[0]:     {Commit: commits[0], Version: "v1.0.0"},
		commits[1][:8]: {Commit: commits[1], Version: "v1.1.0"},
		commit(0xabc):  {Commit: commit(0xabc)},
	} {
		got, err := r.Resolve(t.Context(), "acme/deploy", ref)
		if err != nil || got.Commit != want.Commit || got.Version != want.Version || got.Branch != want.Branch {
			t.Errorf("%s is %+v, %v; want %+v", ref, got, err, want)
		}
	}
	for _, ref := range []string{"v2", "0000000", "refs/tags/v1"} {
		if _, err := r.Resolve(t.Context(), "acme/deploy", ref); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := r.Resolve(t.Context(), "acme/nothing", "v1"); err == nil {
		t.Error("a repository that is not there")
	}
}

func TestRemoteImages(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(host + "/acme/tool:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r := &Remote{}
	if got, err := r.Digest(t.Context(), host+"/acme/tool:1"); err != nil || got != want.String() {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if _, err := r.Digest(t.Context(), host+"/acme/tool:2"); err == nil {
		t.Error("an image that is not there")
	}
}

func TestLock(t *testing.T) {
	file := filepath.Join(t.TempDir(), LockFile)
	l, err := ReadLock(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Write(file); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("an empty lock is written")
	}
	c := settings()
	c.Lock = l
	if _, err := Text(t.Context(), c, "x/.github/workflows/x.yml", []byte("jobs: {a: {container: 'alpine:3.20', steps: [{uses: actions/checkout@v4}, {uses: acme/deploy@main}]}}")); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(file); err != nil {
		t.Fatal(err)
	}
	back, err := ReadLock(file)
	if err != nil || len(back.Actions) != 2 || len(back.Images) != 1 || !back.Actions[0].Branch || back.Actions[1].Version != "v4.2.2" || back.Actions[1].Seen != "2026-11-24" {
		t.Fatalf("%+v, %v", back, err)
	}
	for _, text := range []string{
		"version: 2\n", "version: 1\nactions: [{uses: a/b@v1, commit: short, seen: x}]\n", "version: 1\nimages: [{image: a, digest: b, seen: x}]\n",
		"version: 1\nactions: [{use: a/b@v1}]\n", "version: 1\nactions: [{uses: a/b@v1, commit: " + commit(1) + "}, {uses: a/b@v1, commit: " + commit(2) + "}]\n", "[", "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadLock(file); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
