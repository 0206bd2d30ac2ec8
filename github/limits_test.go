package github_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

// Who does not wait any more is not held until a limit ends, which may be an hour.
func TestLimitAndContext(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Ratelimit-Resource", "core")
		w.Header().Set("X-Ratelimit-Remaining", "0")
		w.Header().Set("X-Ratelimit-Reset", strconv.FormatInt(time.Now().Add(20*time.Second).Unix(), 10))
		w.WriteHeader(http.StatusForbidden)
	}))
	defer s.Close()
	var told time.Time
	c, err := github.New(github.Config{URL: s.URL, Token: "t", Waiting: func(until time.Time) { told = until }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := c.Repository(ctx, "acme/shop"); err == nil {
		t.Error("no error")
	}
	if took := time.Since(began); took > 5*time.Second || told.IsZero() {
		t.Errorf("%s, told %s", took, told)
	}
}

// Files of more than a MiB are read, too, and of those that are far larger it is said that they are.
func TestLargeFile(t *testing.T) {
	s := githubfake.New(t)
	r := s.Repository("acme/shop")
	text := strings.Repeat("# a comment\n", 200_000)
	r.Commit("main", "alice", "large", map[string]string{"large": text, "larger": text + text, "small": "x"})
	c, err := github.New(github.Config{URL: s.URL, Token: s.Token("bob", false), WritePause: -1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.File(t.Context(), "acme/shop", "", "large"); err != nil || string(got) != text {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := c.File(t.Context(), "acme/shop", "", "larger"); !errors.Is(err, github.ErrTooLarge) {
		t.Error(err)
	}
}
