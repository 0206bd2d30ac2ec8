package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sallyport-ci/sallyport/report/terminal"
)

// SlackOptions says how findings reach a Slack channel.
type SlackOptions struct {
	// WebhookURL is the address of an incoming webhook. It is a secret: it is never
	// logged, and no error of this package holds it.
	WebhookURL string
	// GitHubURL is the server that links to runs point to; https://github.com by
	// default.
	GitHubURL string
	// Client sends the requests; by default one that does not follow redirects.
	Client *http.Client
	// Now tells the time for a Retry-After that is a date; time.Now by default.
	Now func() time.Time
}

// Slack posts findings to an incoming webhook of Slack, as Block Kit messages.
type Slack struct {
	webhook string
	server  string
	client  *http.Client
	now     func() time.Time
}

// Settings of a Slack sink that suit Slack's published limits.
const (
	// SlackInterval is the least time between two messages to one channel.
	SlackInterval = time.Second
	// SlackWindow is how long repeats are gathered.
	SlackWindow = 5 * time.Minute
	// SlackMaxItems is how many findings one message can carry within 50 blocks.
	SlackMaxItems = 15
)

// NewSlack returns a Slack. The address has to be https, or http to loopback.
func NewSlack(o SlackOptions) (*Slack, error) {
	u, err := url.Parse(o.WebhookURL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errors.New("slack: the webhook is not an https address") // the error of url.Parse holds it
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("slack: the webhook is a secret and has to be https, not http")
	}
	server, err := checkServerURL(o.GitHubURL)
	if err != nil {
		return nil, fmt.Errorf("slack: %w", err)
	}
	if o.Client == nil {
		o.Client = &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Slack{webhook: o.WebhookURL, server: server, client: o.Client, now: o.Now}, nil
}

// String hides the webhook's address from whoever prints a Slack.
func (s *Slack) String() string { return "Slack webhook" }

// GoString hides it as well.
func (s *Slack) GoString() string { return s.String() }

// maxReply bounds what is read of an answer, in bytes. Slack's are one word.
const maxReply = 256

// Deliver implements Target. An attempt that was answered is certain: 200 has
// arrived; 429 and 5xx have not and may be tried again; anything else was refused.
// An attempt that broke before the request was written has not arrived. One that
// broke between that and the answer is uncertain.
func (s *Slack) Deliver(ctx context.Context, a Alert) error {
	body, err := json.Marshal(slackMessageOf(a, s.server))
	if err != nil {
		return &RejectedError{Err: fmt.Errorf("encode Slack message: %w", err)}
	}
	var written atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// The first byte of the header goes out with the rest of so small a request.
		WroteHeaders: func() { written.Store(true) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.webhook, bytes.NewReader(body))
	if err != nil {
		return &RejectedError{Err: s.hide("make Slack request", err)}
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	resp, err := s.client.Do(req)
	if err != nil {
		err = s.hide("post to Slack", err)
		if !written.Load() {
			return &RetryError{Err: err}
		}
		return err
	}
	defer resp.Body.Close()
	reply, _ := io.ReadAll(io.LimitReader(resp.Body, maxReply)) // the status counts
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	err = fmt.Errorf("slack answered %d: %s", resp.StatusCode,
		terminal.Escape(strings.ReplaceAll(strings.TrimSpace(string(reply)), s.webhook, "[webhook]")))
	switch {
	case resp.StatusCode == http.StatusTooManyRequests,
		resp.StatusCode == http.StatusRequestTimeout,
		resp.StatusCode >= 500:
		return &RetryError{After: retryAfter(resp.Header.Get("Retry-After"), s.now()), Err: err}
	default:
		return &RejectedError{Err: err}
	}
}

// hide takes the webhook's address out of an error.
func (s *Slack) hide(doing string, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if strings.Contains(err.Error(), s.webhook) {
		err = errors.New(strings.ReplaceAll(err.Error(), s.webhook, "[webhook]"))
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// longestRetryAfter bounds how long a target can make us wait.
const longestRetryAfter = time.Hour

// retryAfter reads a Retry-After header (RFC 9110, 10.2.3): seconds or a date. It
// returns 0 for none, for one that makes no sense, and for one in the past.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if n, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, longestRetryAfter)
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(0, min(t.Sub(now), longestRetryAfter))
	}
	return 0
}
