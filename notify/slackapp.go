package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// SlackAppOptions says how an app writes to a Slack channel.
type SlackAppOptions struct {
	// Token is the app's bot token, xoxb-…, with the scopes chat:write and, to find out after
	// a crash what has arrived, channels:history (groups:history in a private channel). It is
	// never logged, and no error of this package holds it.
	Token string
	// Channel is the identity of the channel, which the app has been invited to.
	Channel string
	// APIURL is where Slack's methods are; https://slack.com/api by default.
	APIURL string
	// GitHubURL is the server that links to runs point to; https://github.com by default.
	GitHubURL string
	// Client sends the requests; by default one that does not follow redirects.
	Client *http.Client
	// Now is the clock; time.Now by default.
	Now func() time.Time
}

// SlackApp writes findings to a Slack channel as an app: one thread for each run, whose first
// message says what became of its findings and is changed when people settle them. What it has
// posted is in the bucket NOTIFY. After an attempt whose outcome nobody knows it asks Slack
// whether the message is there: what the app posts carries its identity in the message's
// metadata. Deliver and Settled may be called concurrently.
type SlackApp struct {
	o      SlackAppOptions
	server string

	mu   sync.Mutex
	kv   jetstream.KeyValue
	sink string
}

// SlackAppInterval is the least time between two messages of an app to one channel.
const SlackAppInterval = time.Second

// slackChannel is the form of a channel's identity.
var slackChannel = regexp.MustCompile(`^[CGD][A-Z0-9]{8,20}$`)

// NewSlackApp returns a SlackApp.
func NewSlackApp(o SlackAppOptions) (*SlackApp, error) {
	if !strings.HasPrefix(o.Token, "xoxb-") {
		return nil, errors.New("slack app: the token is no bot token, which begins with xoxb-")
	}
	if !slackChannel.MatchString(o.Channel) {
		return nil, fmt.Errorf("slack app: channel %q is no identity such as C0123456789", o.Channel)
	}
	server, err := checkServerURL(o.GitHubURL)
	if err != nil {
		return nil, fmt.Errorf("slack app: %w", err)
	}
	o.APIURL = cmp.Or(o.APIURL, "https://slack.com/api")
	if o.Client == nil {
		o.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &SlackApp{o: o, server: server}, nil
}

// String hides the token from whoever prints a SlackApp.
func (s *SlackApp) String() string { return "Slack app" }

// GoString hides it as well.
func (s *SlackApp) GoString() string { return s.String() }

// bind implements binder.
func (s *SlackApp) bind(kv jetstream.KeyValue, sink string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kv, s.sink = kv, sink
}

// thread is what was posted of one run, under "<sink>.thread.<key>".
type thread struct {
	// TS is the first message's identity within the channel.
	TS string `json:"ts"`
	// What the first message says.
	Repository string `json:"repository"`
	Workflow   string `json:"workflow"`
	RunID      string `json:"run_id"`
	Attempt    uint32 `json:"attempt"`
	RunNumber  uint64 `json:"run_number"`
	// Findings by identity.
	Findings map[string]*threadFinding `json:"findings"`
	// Posted are the identities of the replies.
	Posted []string `json:"posted"`
}

// threadFinding is what the first message says of a finding.
type threadFinding struct {
	Severity sallyportv1.Severity `json:"severity"`
	Title    string               `json:"title"`
	Job      string               `json:"job"`
	// Settled is what people decided, for instance "resolved as expected by alice".
	Settled string `json:"settled,omitempty"`
	// Open is set while a decision does not settle it: it is only acknowledged.
	Open bool `json:"open,omitempty"`
}

// maxThreadFindings bounds what the first message keeps count of.
const maxThreadFindings = 500

// runKey is what findings of one run have in common; those outside of runs are alone.
func runKey(f *sallyportv1.Finding) string {
	a := f.GetAttribution()
	h := sha256.New()
	if a.GetRunId() == "" {
		_, _ = fmt.Fprintf(h, "finding %s", f.GetId())
	} else {
		_, _ = fmt.Fprintf(h, "%q %q %d", a.GetRepository(), a.GetRunId(), a.GetRunAttempt())
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Deliver implements Target.
func (s *SlackApp) Deliver(ctx context.Context, a Alert) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.HeldBack != "" && len(a.Items) > 1 {
		return s.postSummary(ctx, a)
	}
	for _, item := range a.Items {
		if err := s.tell(ctx, item, a); err != nil {
			return err
		}
	}
	return nil
}

// postSummary posts what was held back, outside of threads.
func (s *SlackApp) postSummary(ctx context.Context, a Alert) error {
	id := "summary " + webhookID(a.Items[0])
	if a.Attempt > 1 || a.Items[0].PossibleRepeat {
		there, err := s.find(ctx, "conversations.history", "", id, a.Items[0].Finding)
		if err != nil || there != "" {
			return err
		}
	}
	_, err := s.post(ctx, slackMessageOf(a, s.server), "", id)
	return err
}

// tell posts one finding, or the repeats of one, as a reply in its run's thread.
func (s *SlackApp) tell(ctx context.Context, item Item, a Alert) error {
	f := item.Finding
	key := runKey(f)
	t, err := s.load(ctx, key)
	if err != nil {
		return &RetryError{Err: err}
	}
	uncertain := item.PossibleRepeat || a.Attempt > 1
	if t == nil {
		at := f.GetAttribution()
		t = &thread{
			Repository: at.GetRepository(), Workflow: at.GetWorkflow(), RunID: at.GetRunId(), Attempt: at.GetRunAttempt(),
			RunNumber: at.GetRunNumber(), Findings: map[string]*threadFinding{},
		}
		t.add(item)
		if uncertain {
			if t.TS, err = s.find(ctx, "conversations.history", "", "run "+key, f); err != nil {
				return err
			}
		}
		if t.TS == "" {
			if t.TS, err = s.post(ctx, t.message(s.server), "", "run "+key); err != nil {
				return err
			}
		}
		if err := s.save(ctx, key, t); err != nil {
			return err // uncertain: the message is there
		}
	}
	id := webhookID(item)
	if !slices.Contains(t.Posted, id) {
		there := ""
		if uncertain {
			if there, err = s.find(ctx, "conversations.replies", t.TS, id, f); err != nil {
				return err
			}
		}
		if there == "" {
			alone := item
			alone.PossibleRepeat = false // it was looked for
			if _, err := s.post(ctx, slackMessageOf(Alert{Items: []Item{alone}, Refused: a.Refused}, s.server), t.TS, id); err != nil {
				return err
			}
		}
		t.Posted = append(t.Posted, id)
	}
	known := len(t.Findings)
	t.add(item)
	if err := s.save(ctx, key, t); err != nil {
		return err
	}
	if len(t.Findings) != known {
		return s.update(ctx, t)
	}
	return nil
}

// add counts an item's finding.
func (t *thread) add(item Item) {
	f := item.Finding
	if len(t.Findings) >= maxThreadFindings || t.Findings[f.GetId()] != nil {
		return
	}
	t.Findings[f.GetId()] = &threadFinding{
		Severity: f.GetPolicy().GetSeverity(), Title: policyTitle(f.GetPolicy()), Job: f.GetAttribution().GetJob(),
	}
}

// message is the first message of a run's thread.
func (t *thread) message(server string) slackMessage {
	open := 0
	worst := sallyportv1.Severity_SEVERITY_UNSPECIFIED
	for _, f := range t.Findings {
		if f.Settled == "" || f.Open {
			open++
			worst = max(worst, f.Severity)
		}
	}
	counted := fmt.Sprintf("%d findings", len(t.Findings))
	if len(t.Findings) == 1 {
		counted = "1 finding"
	}
	head := fmt.Sprintf("%s %s", slackMarks[worst], counted)
	switch {
	case open == 0:
		head = "✅ " + counted + ", settled"
	case open < len(t.Findings):
		head += fmt.Sprintf(", %d open", open)
	}
	where := strings.Join(nonEmpty(t.Repository, t.Workflow), ", ")
	a := &sallyportv1.Attribution{Repository: t.Repository, RunId: t.RunID, RunAttempt: t.Attempt, RunNumber: t.RunNumber}
	m := slackMessage{Text: mrkdwnEscape(head+" in "+where+prefixed(", run ", t.RunID), slackTextLimit)}
	m.Blocks = append(m.Blocks, header(head), fieldsSection(field("Repository", t.Repository), field("Workflow", t.Workflow), runField(a, server)))
	ids := slices.SortedFunc(maps.Keys(t.Findings), func(x, y string) int {
		return cmp.Or(cmp.Compare(t.Findings[y].Severity, t.Findings[x].Severity), strings.Compare(t.Findings[x].Title, t.Findings[y].Title), strings.Compare(x, y))
	})
	for i, id := range ids {
		if i == summaryLines {
			m.Blocks = append(m.Blocks, plainSection(fmt.Sprintf("and %d more in the thread", len(ids)-i), slackContextLimit))
			break
		}
		f := t.Findings[id]
		line := fmt.Sprintf("%s %s %s", slackMarks[f.Severity], mrkdwnEscape(f.Title, 200), code(f.Job, 100))
		switch {
		case f.Open:
			line += " — 👀 " + mrkdwnEscape(f.Settled, 200)
		case f.Settled != "":
			line = "✅ ~" + mrkdwnEscape(f.Title, 200) + "~ — " + mrkdwnEscape(f.Settled, 200)
		}
		m.Blocks = append(m.Blocks, mrkdwnSection(line))
	}
	return m
}

// settled implements settler: it says in the thread what people decided about a finding.
func (s *SlackApp) settled(ctx context.Context, d *sallyportv1.Decision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var said string
	open := false
	who := d.GetPerson()
	switch d.GetKind() {
	case sallyportv1.DecisionKind_DECISION_KIND_ACKNOWLEDGE:
		said, open = "acknowledged by "+who, true
	case sallyportv1.DecisionKind_DECISION_KIND_RESOLVE:
		said = strings.ReplaceAll(d.GetOutcome(), "-", " ") + ", by " + who
	case sallyportv1.DecisionKind_DECISION_KIND_APPROVE:
		said = "approved by " + who
	default:
		return nil
	}
	if d.GetFindingId() == "" {
		return nil
	}
	entry, err := s.kv.Get(ctx, s.sink+".in."+d.GetFindingId())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil // this sink was not told of it
	}
	if err != nil {
		return fmt.Errorf("read where finding %s was told: %w", d.GetFindingId(), err)
	}
	t, err := s.load(ctx, string(entry.Value()))
	if err != nil || t == nil {
		return err
	}
	f := t.Findings[d.GetFindingId()]
	if f == nil || f.Settled == said && f.Open == open || open && f.Settled != "" && !f.Open {
		return nil
	}
	f.Settled, f.Open = said, open
	if err := s.update(ctx, t); err != nil {
		return err
	}
	return s.save(ctx, string(entry.Value()), t)
}

func (s *SlackApp) load(ctx context.Context, key string) (*thread, error) {
	entry, err := s.kv.Get(ctx, s.sink+".thread."+key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read thread %s: %w", key, err)
	}
	t := new(thread)
	if err := json.Unmarshal(entry.Value(), t); err != nil {
		return nil, fmt.Errorf("decode thread %s: %w", key, err)
	}
	return t, nil
}

func (s *SlackApp) save(ctx context.Context, key string, t *thread) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode thread %s: %w", key, err)
	}
	if _, err := s.kv.Put(ctx, s.sink+".thread."+key, data); err != nil {
		return fmt.Errorf("write thread %s: %w", key, err)
	}
	for id := range t.Findings {
		at := s.sink + ".in." + id
		if _, err := s.kv.Get(ctx, at); err == nil {
			continue
		}
		if _, err := s.kv.Put(ctx, at, []byte(key)); err != nil {
			return fmt.Errorf("write where finding %s was told: %w", id, err)
		}
	}
	return nil
}

// eventType names what the app's metadata is about.
const eventType = "sallyport_message"

type slackMetadata struct {
	EventType    string            `json:"event_type"`
	EventPayload map[string]string `json:"event_payload"`
}

// slackPost is what chat.postMessage and chat.update take.
type slackPost struct {
	Channel  string         `json:"channel"`
	TS       string         `json:"ts,omitempty"`
	ThreadTS string         `json:"thread_ts,omitempty"`
	Metadata *slackMetadata `json:"metadata,omitempty"`
	slackMessage
}

// post posts a message, as a reply if thread is not empty, and returns its identity.
func (s *SlackApp) post(ctx context.Context, m slackMessage, thread, id string) (ts string, err error) {
	answer, err := s.call(ctx, "chat.postMessage", slackPost{
		Channel: s.o.Channel, ThreadTS: thread, slackMessage: m,
		Metadata: &slackMetadata{EventType: eventType, EventPayload: map[string]string{"id": id}},
	})
	return answer.TS, err
}

// update changes a thread's first message. One that somebody deleted stays deleted.
func (s *SlackApp) update(ctx context.Context, t *thread) error {
	_, err := s.call(ctx, "chat.update", slackPost{Channel: s.o.Channel, TS: t.TS, slackMessage: t.message(s.server)})
	var refused *RejectedError
	if errors.As(err, &refused) && (strings.Contains(err.Error(), "message_not_found") || strings.Contains(err.Error(), "cant_update_message")) {
		return nil
	}
	return err
}

// find looks for a message of the app by its identity, in the channel since shortly before the
// finding or in a thread, and returns its ts, empty if it is not there.
func (s *SlackApp) find(ctx context.Context, method, thread, id string, f *sallyportv1.Finding) (ts string, err error) {
	form := url.Values{"channel": {s.o.Channel}, "include_all_metadata": {"true"}, "limit": {"200"}}
	if thread != "" {
		form.Set("ts", thread)
	} else {
		form.Set("oldest", strconv.FormatInt(timeOf(f.GetTime()).Add(-time.Hour).Unix(), 10))
	}
	for {
		answer, err := s.call(ctx, method, form)
		if err != nil {
			return "", err
		}
		for _, m := range answer.Messages {
			if m.Metadata != nil && m.Metadata.EventType == eventType && m.Metadata.EventPayload["id"] == id {
				return m.TS, nil
			}
		}
		if answer.Next.Cursor == "" {
			return "", nil
		}
		form.Set("cursor", answer.Next.Cursor)
	}
}

// slackAnswer is what a method of Slack's API answers.
type slackAnswer struct {
	OK       bool   `json:"ok"`
	Error    string `json:"error"`
	TS       string `json:"ts"`
	Messages []struct {
		TS       string         `json:"ts"`
		Metadata *slackMetadata `json:"metadata"`
	} `json:"messages"`
	Next struct {
		Cursor string `json:"next_cursor"`
	} `json:"response_metadata"`
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 20

// refusedMessages are errors about the message itself: it would be refused again.
var refusedMessages = []string{
	"msg_too_long", "no_text", "invalid_blocks", "invalid_blocks_format", "invalid_arguments", "invalid_json", "json_not_object",
	"metadata_too_large", "invalid_metadata_format", "too_many_attachments", "message_not_found", "cant_update_message", "edit_window_closed",
}

// uncertainErrors are those after which the message may be there.
var uncertainErrors = []string{"internal_error", "fatal_error", "request_timeout", "service_unavailable"}

// call calls a method with JSON or, for url.Values, a form. Errors are those that Deliver may
// return: what is wrong with the app (its token, the channel) is not the message's fault, and
// is tried again until somebody puts it right.
func (s *SlackApp) call(ctx context.Context, method string, argument any) (answer slackAnswer, err error) {
	var body []byte
	contentType := "application/json; charset=utf-8"
	reads := false
	if form, ok := argument.(url.Values); ok {
		body, contentType, reads = []byte(form.Encode()), "application/x-www-form-urlencoded", true
	} else if body, err = json.Marshal(argument); err != nil {
		return answer, &RejectedError{Err: fmt.Errorf("encode Slack message: %w", err)}
	}
	var written atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { written.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.APIURL+"/"+method, bytes.NewReader(body))
	if err != nil {
		return answer, &RejectedError{Err: fmt.Errorf("slack %s: the address is none", method)}
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer "+s.o.Token)
	resp, err := s.o.Client.Do(req)
	if err != nil {
		err = fmt.Errorf("slack %s: %w", method, err)
		if reads || !written.Load() {
			err = &RetryError{Err: err}
		}
		return answer, err
	}
	defer func() { _ = resp.Body.Close() }()
	wait := retryAfter(resp.Header.Get("Retry-After"), s.o.Now())
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		return answer, &RetryError{After: wait, Err: fmt.Errorf("slack %s: too many requests", method)}
	case resp.StatusCode != http.StatusOK:
		err := fmt.Errorf("slack %s answered %d", method, resp.StatusCode)
		if reads || resp.StatusCode < 500 {
			err = &RetryError{After: wait, Err: err}
		}
		return answer, err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		err = fmt.Errorf("slack %s: read its answer: %w", method, err)
		if reads {
			err = &RetryError{Err: err}
		}
		return answer, err
	}
	if answer.OK {
		return answer, nil
	}
	err = fmt.Errorf("slack %s: %s", method, readable(cmp.Or(answer.Error, "no reason")))
	switch {
	case slices.Contains(refusedMessages, answer.Error):
		return answer, &RejectedError{Err: err}
	case slices.Contains(uncertainErrors, answer.Error) && !reads:
		return answer, err
	}
	return answer, &RetryError{After: wait, Err: err}
}
