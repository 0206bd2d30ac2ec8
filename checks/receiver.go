package checks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/stream"
)

// inboxPrefix begins the keys of webhooks that are to be carried out; the key of their commit and
// that of the delivery follow.
const inboxPrefix = "in."

// Events are the webhooks that the App subscribes to.
var Events = []string{"check_run", "check_suite", "merge_group", "pull_request", "push", "workflow_job", "workflow_run"}

// Webhooks of more bytes than largeWebhook, which GitHub sends seldom, are read so many at once;
// others wait for largePatience.
const (
	largeWebhook  = 1 << 20
	largeAtOnce   = 4
	largePatience = 3 * time.Second
)

// letter is a webhook about a commit.
type letter struct {
	github.Webhook
	Received time.Time `json:"received"`
}

// ServeHTTP takes GitHub's webhooks: 202 once it is written down what is to be done, 401 for what
// is not GitHub's, 400 for what cannot be read, 503 if it could not be written down.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "GitHub's webhooks come by POST", http.StatusMethodNotAllowed)
		return
	}
	if r.ContentLength < 0 || r.ContentLength > largeWebhook {
		// Who sends it is not known before all of it was read.
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		case <-time.After(largePatience):
			s.webhooks.WithLabelValues("other", "failed").Inc()
			http.Error(w, "too many large ones at once; deliver it again", http.StatusServiceUnavailable)
			return
		case <-r.Context().Done():
			return
		}
	}
	hook, err := github.ReadWebhook(r, s.config.Secret)
	event := hook.Event
	if !slices.Contains(append(Events, "ping", "installation", "installation_repositories", "github_app_authorization"), event) {
		event = "other" // who sends it chooses it
	}
	switch {
	case errors.Is(err, github.ErrSignature):
		s.webhooks.WithLabelValues("other", "refused").Inc()
		s.log.Warn("a webhook was refused", "error", err, "from", r.RemoteAddr)
		http.Error(w, "the signature is missing or wrong", http.StatusUnauthorized)
		return
	case err != nil && event == "other": // one that this program does not know
		s.webhooks.WithLabelValues(event, "ignored").Inc()
		w.WriteHeader(http.StatusAccepted)
		return
	case err != nil:
		s.webhooks.WithLabelValues(event, "refused").Inc()
		s.log.Warn("a webhook cannot be read", "error", err)
		http.Error(w, "it cannot be read", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 8*time.Second) // GitHub waits ten
	defer cancel()
	taken, err := s.take(ctx, hook)
	if err != nil {
		s.webhooks.WithLabelValues(event, "failed").Inc()
		s.log.Error("a webhook could not be written down", "event", hook.Event, "repo", hook.Repository, "error", err)
		http.Error(w, "it could not be written down; deliver it again", http.StatusServiceUnavailable)
		return
	}
	result := "ignored"
	if taken {
		result = "taken"
	}
	s.webhooks.WithLabelValues(event, result).Inc()
	w.WriteHeader(http.StatusAccepted)
}

// take writes down what is to be done about a webhook.
func (s *Service) take(ctx context.Context, hook github.Webhook) (bool, error) {
	sha := hook.HeadSHA
	switch {
	case hook.Event == "push":
		if hook.Ref != "refs/heads/"+hook.DefaultBranch || !slices.Contains(hook.Files, RulesFile) && len(hook.Files) > 0 {
			return false, nil
		}
		return true, s.forgetRules(ctx, hook.Repository)
	case hook.Event == "workflow_run" && hook.Run != nil:
		sha = hook.Run.HeadSHA
	case hook.Event == "workflow_job" && hook.Job != nil:
	case hook.Event == "check_run" && hook.Check != nil:
		if hook.Check.Name != Name || hook.Action != "rerequested" && hook.Action != "requested_action" {
			return false, nil
		}
	case hook.Event == "check_suite":
		if hook.Action != "rerequested" {
			return false, nil
		}
	case hook.Event == "merge_group" && hook.Action == "checks_requested":
	case hook.Event == "pull_request" && slices.Contains([]string{"opened", "reopened", "synchronize"}, hook.Action): //nolint:misspell // GitHub's
	default:
		return false, nil
	}
	if !validRepository(hook.Repository) || !validSHA(sha) {
		return false, nil
	}
	hook.HeadSHA, hook.Files = sha, nil
	data, err := json.Marshal(letter{hook, s.config.Now()})
	if err != nil {
		return false, fmt.Errorf("encode webhook: %w", err)
	}
	key := keyOf(hook.Repository, sha)
	name := inboxPrefix + key + "." + deliveryKey(hook.Delivery)
	if _, err := s.commits.bucket.Put(ctx, name, data); err != nil {
		return false, fmt.Errorf("keep webhook: %w", err)
	}
	s.queue.add(key, s.config.Now())
	return true, nil
}

func validRepository(name string) bool {
	owner, rest, ok := strings.Cut(name, "/")
	return ok && owner != "" && rest != "" && !strings.Contains(rest, "/") && len(name) < 200
}

func validSHA(s string) bool {
	return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == ""
}

// deliveryKey is a delivery's name as a key may be.
func deliveryKey(id string) string { return strings.TrimPrefix(keyOf(id, ""), ".")[:32] }

// letters reads the webhooks that are to be carried out for a commit, in the order in which they
// came, with their keys.
func (s *Service) letters(ctx context.Context, key string) (keys []string, out []letter, err error) {
	keys, err = stream.KeysLike(ctx, s.config.JetStream, stream.ChecksBucket, inboxPrefix+key+".*")
	if err != nil {
		return nil, nil, fmt.Errorf("list webhooks: %w", err)
	}
	for _, k := range keys {
		entry, err := s.commits.bucket.Get(ctx, k)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("get webhook %s: %w", k, err)
		}
		var l letter
		if err := json.Unmarshal(entry.Value(), &l); err != nil {
			s.log.Error("a webhook that was written down cannot be read", "key", k, "error", err)
			continue
		}
		out = append(out, l)
	}
	slices.SortStableFunc(out, func(a, b letter) int { return a.Received.Compare(b.Received) })
	return keys, out, nil
}
