package slackfake

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Posted is a message that an app posted.
type Posted struct {
	Message
	// TS is its identity in the channel, ThreadTS that of the message it replies to.
	TS, ThreadTS string
	// Metadata is its event_type and event_payload.
	EventType string
	Payload   map[string]any
	// Edits counts its changes.
	Edits int
}

// API is the part of Slack's Web API that an app needs to post: chat.postMessage, chat.update,
// conversations.history and conversations.replies, as their pages on docs.slack.dev describe
// them. It is an http.Handler, to be served below /api, and safe for concurrent use.
//
// Answers are 200 with ok and error, or 429 with Retry-After when scripted. It checks the
// bearer token (not_authed, invalid_auth), the channel (channel_not_found, not_in_channel when
// the app was not invited), content types (JSON for chat.*, a form for conversations.*),
// messages as Receiver does, the form of metadata, and that ts is a message of the app
// (message_not_found, cant_update_message).
type API struct {
	token, channel string

	mu       sync.Mutex
	invited  bool
	pace     time.Duration
	posted   []*Posted
	script   []Reply
	calls    []string
	refusals []error
	next     int
	changed  chan struct{}
}

// NewAPI returns an API with one channel, which the app is in.
func NewAPI(token, channel string) *API {
	return &API{token: token, channel: channel, invited: true, next: 1, changed: make(chan struct{})}
}

// Invite says whether the app is in the channel.
func (a *API) Invite(in bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.invited = in
}

// Pace lets each call take a time, half of it before it has an effect.
func (a *API) Pace(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pace = d
}

// Script adds answers for the calls of chat.* to come, as of Receiver.
func (a *API) Script(replies ...Reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.script = append(a.script, replies...)
}

// Posted returns copies of the messages in the channel, in order.
func (a *API) Posted() []Posted {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Posted, len(a.posted))
	for i, p := range a.posted {
		out[i] = *p
	}
	return out
}

// Calls returns the methods that were called, in order.
func (a *API) Calls() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

// Refusals are what was wrong with requests.
func (a *API) Refusals() []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.refusals)
}

// Changed is closed when something is called next.
func (a *API) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

type apiPost struct {
	Message
	Channel  string `json:"channel"`
	TS       string `json:"ts"`
	ThreadTS string `json:"thread_ts"`
	Metadata *struct {
		EventType    string         `json:"event_type"`
		EventPayload map[string]any `json:"event_payload"`
	} `json:"metadata"`
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	method := strings.TrimPrefix(r.URL.Path, "/api/")
	a.mu.Lock()
	pace := a.pace
	a.mu.Unlock()
	time.Sleep(pace / 2)
	a.mu.Lock()
	a.calls = append(a.calls, method)
	reply := Reply{Status: http.StatusOK}
	if len(a.script) > 0 && strings.HasPrefix(method, "chat.") {
		reply, a.script = a.script[0], a.script[1:]
		if reply.Status == 0 {
			reply.Status = http.StatusOK
		}
	}
	var answer map[string]any
	if reply.Status == http.StatusOK && reply.Body == "" || reply.Accept {
		answer = a.call(method, r, body)
	}
	close(a.changed)
	a.changed = make(chan struct{})
	a.mu.Unlock()
	hold(r.Context(), reply)
	time.Sleep(pace / 2)
	switch {
	case reply.Break:
		if h, ok := w.(http.Hijacker); ok {
			if c, _, err := h.Hijack(); err == nil {
				_ = c.Close()
			}
		}
		return
	case reply.Status != http.StatusOK:
		if reply.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(reply.RetryAfter))
		}
		w.WriteHeader(reply.Status)
		return
	case reply.Body != "":
		answer = map[string]any{"ok": false, "error": reply.Body}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(answer) // the caller may be gone
}

// call answers a method. The lock is held.
func (a *API) call(method string, r *http.Request, body []byte) map[string]any {
	refuse := func(reason, format string, args ...any) map[string]any {
		a.refusals = append(a.refusals, fmt.Errorf("%s: %s: %s", method, reason, fmt.Sprintf(format, args...)))
		return map[string]any{"ok": false, "error": reason}
	}
	if r.Method != http.MethodPost {
		return refuse("invalid_arguments", "method %s", r.Method)
	}
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !ok:
		return refuse("not_authed", "no bearer token")
	case bearer != a.token:
		return map[string]any{"ok": false, "error": "invalid_auth"}
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return refuse("invalid_post_type", "content type %q", r.Header.Get("Content-Type"))
	}
	switch method {
	case "chat.postMessage", "chat.update":
		if media != "application/json" {
			return refuse("invalid_post_type", "content type %s", media)
		}
		return a.chat(method, body, refuse)
	case "conversations.history", "conversations.replies":
		form, err := url.ParseQuery(string(body))
		if media != "application/x-www-form-urlencoded" || err != nil {
			return refuse("invalid_form_data", "content type %s", media)
		}
		return a.messages(method, form, refuse)
	}
	return refuse("unknown_method", "%s", r.URL.Path)
}

func (a *API) chat(method string, body []byte, refuse func(string, string, ...any) map[string]any) map[string]any {
	var p apiPost
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return refuse("invalid_json", "%v", err)
	}
	plain, err := json.Marshal(p.Message)
	if err != nil {
		return refuse("invalid_json", "%v", err)
	}
	// What Marshal adds of empty fields Parse does not refuse.
	m, err := Parse("application/json", plain)
	switch {
	case p.Channel != a.channel:
		return map[string]any{"ok": false, "error": "channel_not_found"}
	case !a.invited:
		return map[string]any{"ok": false, "error": "not_in_channel"}
	case err != nil:
		return refuse("invalid_blocks", "%v", err)
	case p.Metadata != nil && (p.Metadata.EventType == "" || p.Metadata.EventPayload == nil):
		return refuse("invalid_metadata_format", "event_type or event_payload is missing")
	}
	if method == "chat.update" {
		for _, x := range a.posted {
			if x.TS == p.TS {
				x.Message = *m
				x.Edits++
				return map[string]any{"ok": true, "channel": a.channel, "ts": x.TS, "text": m.Text}
			}
		}
		return refuse("message_not_found", "ts %q", p.TS)
	}
	if p.TS != "" {
		return refuse("invalid_arguments", "ts is none of postMessage's")
	}
	if p.ThreadTS != "" && !slices.ContainsFunc(a.posted, func(x *Posted) bool { return x.TS == p.ThreadTS }) {
		return refuse("thread_not_found", "thread_ts %q", p.ThreadTS)
	}
	x := &Posted{Message: *m, TS: fmt.Sprintf("%d.%06d", time.Now().Unix(), a.next), ThreadTS: p.ThreadTS}
	if p.Metadata != nil {
		x.EventType, x.Payload = p.Metadata.EventType, p.Metadata.EventPayload
	}
	a.next++
	a.posted = append(a.posted, x)
	return map[string]any{"ok": true, "channel": a.channel, "ts": x.TS}
}

// page is how many messages a page of conversations.* holds here, few, so that cursors are
// needed.
const page = 3

func (a *API) messages(method string, form url.Values, refuse func(string, string, ...any) map[string]any) map[string]any {
	for name := range form {
		if !slices.Contains([]string{"channel", "ts", "cursor", "include_all_metadata", "limit", "oldest", "latest", "inclusive"}, name) {
			return refuse("invalid_arguments", "argument %s", name)
		}
	}
	if n, err := strconv.Atoi(form.Get("limit")); form.Has("limit") && (err != nil || n < 1 || n > 999) {
		return refuse("invalid_limit", "limit %s", form.Get("limit"))
	}
	switch {
	case form.Get("channel") != a.channel:
		return map[string]any{"ok": false, "error": "channel_not_found"}
	case !a.invited:
		return map[string]any{"ok": false, "error": "not_in_channel"}
	case method == "conversations.replies" && form.Get("ts") == "":
		return refuse("invalid_arguments", "no ts")
	}
	var found []map[string]any
	for _, x := range a.posted {
		thread := form.Get("ts")
		if method == "conversations.replies" && x.TS != thread && x.ThreadTS != thread || method == "conversations.history" && x.ThreadTS != "" {
			continue
		}
		m := map[string]any{"type": "message", "ts": x.TS, "text": x.Text}
		if x.EventType != "" && form.Get("include_all_metadata") == "true" {
			m["metadata"] = map[string]any{"event_type": x.EventType, "event_payload": x.Payload}
		}
		found = append(found, m)
	}
	at := 0
	if c := form.Get("cursor"); c != "" {
		var err error
		if at, err = strconv.Atoi(c); err != nil || at > len(found) {
			return refuse("invalid_cursor", "%s", c)
		}
	}
	answer := map[string]any{"ok": true, "messages": found[at:min(at+page, len(found))], "has_more": at+page < len(found)}
	if at+page < len(found) {
		answer["response_metadata"] = map[string]any{"next_cursor": strconv.Itoa(at + page)}
	}
	return answer
}
