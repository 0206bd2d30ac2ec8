package stream_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

func attributionOf(repository, run string, attempt uint32) *sallyportv1.Attribution {
	return &sallyportv1.Attribution{Repository: repository, RunId: run, RunAttempt: attempt}
}

func TestWhomAnAgentMaySpeakFor(t *testing.T) {
	const nkey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
	job := stream.JobAgentID("acme/shop", "7", 2, nkey)
	repo, err := stream.RepositoryAgentID("acme/shop", "vm-1")
	if err != nil {
		t.Fatal(err)
	}
	org, err := stream.RepositoryAgentID("acme/*", "vm-1")
	if err != nil {
		t.Fatal(err)
	}
	// A digest as another kind's would stand for something else.
	otherKind := "repo-" + strings.TrimPrefix(job, "job-")
	for _, c := range []struct {
		agent, repository, run string
		attempt                uint32
		may                    bool
	}{
		{job, "acme/shop", "7", 2, true},
		{job, "Acme/Shop", "7", 2, true}, // the same on GitHub
		{job, "acme/shop", "7", 1, false},
		{job, "acme/shop", "8", 2, false},
		{job, "acme/bank", "7", 2, false},
		{job, "", "7", 2, false},
		{job, "acme/shop ", "7", 2, false},
		{otherKind, "acme/shop", "7", 2, false},
		{repo, "acme/shop", "8", 1, true},
		{repo, "acme/bank", "8", 1, false},
		{org, "acme/bank", "8", 1, true},
		{org, "acme", "8", 1, false},
		{org, "acme/", "8", 1, false},
		{org, "acme/a/b", "8", 1, false},
		{org, "acmes/bank", "8", 1, false},
		{org, "", "8", 1, false},
		{"d6b31ea08c271f81", "acme/bank", "8", 1, true},
		{"job-runner-1", "acme/bank", "8", 1, true},                      // a name that an operator chose
		{"job-ABCDEFGHIJKLMNOPQRSTUVWXYZ-1", "acme/bank", "8", 1, true},  // as well
		{"job-abcdefghijklmnopqrstuvwxyz-1", "acme/bank", "8", 1, false}, // stands for something, nobody knows what
		{"repo-abcdefghijklmnopqrstuvwxyz", "acme/bank", "8", 1, true},   // has no name behind it
		{"org-abcdefghijklmnopqrstuvwxyz-x-y", "acme/bank", "8", 1, false},
	} {
		if !stream.ValidAgentID(c.agent) {
			t.Errorf("%s is no identity", c.agent)
		}
		if may := stream.MaySpeakFor(c.agent, attributionOf(c.repository, c.run, c.attempt)); may != c.may {
			t.Errorf("%s for %q, run %s, attempt %d: %v", c.agent, c.repository, c.run, c.attempt, may)
		}
	}
	for _, pattern := range []string{"", "*", "*/*", "acme", "acme/", "/shop", "acme/shop/x", "acme/sh*", "a cme/shop", "acme/..", "äcme/shop"} {
		if id, err := stream.RepositoryAgentID(pattern, "vm-1"); err == nil {
			t.Errorf("pattern %q: %s", pattern, id)
		}
	}
	for _, name := range []string{"", "a.b", "a b", strings.Repeat("a", stream.MaxBoundName+1)} {
		if id, err := stream.RepositoryAgentID("acme/*", name); err == nil {
			t.Errorf("name %q: %s", name, id)
		}
	}
}

// Whatever the names, an agent speaks for what it was made for and for nothing else, and
// its identity fits into a subject.
func TestBindingsTellApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z0-9_-][a-z0-9_.-]{0,20}[a-z0-9]`)
		run := rapid.StringMatching(`[0-9]{1,15}`)
		attempt := rapid.Uint32Range(1, 9)
		type where struct {
			repository, run string
			attempt         uint32
		}
		any := func(label string) where {
			return where{word.Draw(t, label+" owner") + "/" + word.Draw(t, label+" name"), run.Draw(t, label+" run"), attempt.Draw(t, label+" attempt")}
		}
		mine, other := any("mine"), any("other")
		if rapid.Bool().Draw(t, "same repository") {
			other.repository = mine.repository
		}
		id := stream.JobAgentID(mine.repository, mine.run, mine.attempt, "U"+word.Draw(t, "nkey"))
		if !stream.ValidAgentID(id) || !stream.Bound(id) {
			t.Fatalf("%s", id)
		}
		if !stream.MaySpeakFor(id, attributionOf(mine.repository, mine.run, mine.attempt)) {
			t.Errorf("%s may not speak for %v", id, mine)
		}
		if mine != other && stream.MaySpeakFor(id, attributionOf(other.repository, other.run, other.attempt)) {
			t.Errorf("%s of %v may speak for %v", id, mine, other)
		}
	})
}

func TestForeignAttributionIsMalformed(t *testing.T) {
	encoder, err := stream.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := stream.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	decode := func(attributions ...*sallyportv1.Attribution) error {
		t.Helper()
		data, err := encoder.Encode(nil, &sallyportv1.EventBatch{
			AgentId: stream.JobAgentID("acme/shop", "7", 1, "U1"), Epoch: 1, FirstSequence: 1, Attributions: attributions,
		})
		if err != nil {
			t.Fatal(err)
		}
		return decoder.Decode(data, new(sallyportv1.EventBatch))
	}
	if err := decode(attributionOf("acme/shop", "7", 1)); err != nil {
		t.Error(err)
	}
	// One among many, which no event needs to point at.
	err = decode(attributionOf("acme/shop", "7", 1), attributionOf("acme/bank", "7", 1))
	if !errors.Is(err, stream.ErrForeign) || !errors.Is(err, stream.ErrMalformed) || !strings.Contains(err.Error(), `"acme/bank"`) {
		t.Errorf("another repository: %v", err)
	}
}

func TestPolicyKeyIsOneWord(t *testing.T) {
	for repository, key := range map[string]string{"acme/shop": "acme/shop", "acme/.github": "acme/=2Egithub", "a-b/x..y_z": "a-b/x=2E=2Ey_z"} {
		if got := stream.PolicyKey(repository); got != key {
			t.Errorf("%s: %s", repository, got)
		}
	}
	if got := stream.PolicySubject("acme/shop.js"); got != "$JS.API.DIRECT.GET.KV_POLICIES.$KV.POLICIES.acme/shop=2Ejs" {
		t.Error(got)
	}
}
