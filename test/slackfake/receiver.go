package slackfake

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Reply is one scripted answer.
type Reply struct {
	// Status is the HTTP status; 200 checks and accepts as usual.
	Status int
	// Body is the answer's text; the usual one for the status if empty.
	Body string
	// RetryAfter is sent in seconds if it is not zero.
	RetryAfter int
	// Accept keeps the message although the answer says or does something else, as
	// when an answer gets lost on the way back.
	Accept bool
	// Break closes the connection without an answer.
	Break bool
	// Until, if set, holds the answer back until it is closed or the sender gives up.
	Until <-chan struct{}
}

// Received is a message that was accepted.
type Received struct {
	Message
	// Time is when.
	Time time.Time
}

// Receiver is an incoming webhook. It is an http.Handler and safe for concurrent
// use.
type Receiver struct {
	path string
	onto func(Received)

	mu       sync.Mutex
	script   []Reply
	received []Received
	attempts []time.Time
	refusals []error
	changed  chan struct{} // closed and replaced when anything comes in
}

// New returns a receiver for webhooks at path, for instance "/services/T0/B0/x".
// onto, if not nil, is called with each accepted message, one at a time.
func New(path string, onto func(Received)) *Receiver {
	return &Receiver{path: path, onto: onto, changed: make(chan struct{})}
}

// Script adds answers for the requests to come. Without a script the receiver
// answers as Slack does when all is well.
func (r *Receiver) Script(replies ...Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = append(r.script, replies...)
}

// maxBody bounds a request's body in bytes, well above what the limits allow.
const maxBody = 4 << 20

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		http.Error(w, "invalid_payload", http.StatusBadRequest)
		return
	}
	reply := r.nextReply()
	if reply.Status != http.StatusOK && !reply.Accept {
		hold(req.Context(), reply)
		r.answer(w, reply)
		return
	}
	switch {
	case req.URL.Path != r.path:
		r.note(&Refusal{Status: http.StatusNotFound, Reason: "no_service", Detail: req.URL.Path})
		reply.Status, reply.Body = http.StatusNotFound, "no_service"
	case req.Method != http.MethodPost:
		r.note(&Refusal{Status: http.StatusBadRequest, Reason: "invalid_payload", Detail: "method " + req.Method})
		reply.Status, reply.Body = http.StatusBadRequest, "invalid_payload"
	default:
		m, err := Parse(req.Header.Get("Content-Type"), body)
		var refusal *Refusal
		if errors.As(err, &refusal) {
			r.note(err)
			reply.Status, reply.Body = refusal.Status, refusal.Reason
			break
		}
		r.accept(*m)
	}
	hold(req.Context(), reply)
	r.answer(w, reply)
}

func hold(ctx context.Context, reply Reply) {
	if reply.Until == nil {
		return
	}
	select {
	case <-reply.Until:
	case <-ctx.Done():
	}
}

func (r *Receiver) answer(w http.ResponseWriter, reply Reply) {
	if reply.Break {
		panic(http.ErrAbortHandler) // net/http closes the connection
	}
	if reply.RetryAfter != 0 {
		w.Header().Set("Retry-After", strconv.Itoa(reply.RetryAfter))
	}
	body := reply.Body
	if body == "" {
		switch reply.Status {
		case http.StatusOK:
			body = "ok"
		case http.StatusTooManyRequests:
			body = "rate_limited"
		case http.StatusForbidden:
			body = "action_prohibited"
		case http.StatusNotFound:
			body = "no_service"
		case http.StatusGone:
			body = "channel_is_archived"
		case http.StatusBadRequest:
			body = "invalid_payload"
		default:
			body = "rollup_error"
		}
	}
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(reply.Status)
	_, _ = io.WriteString(w, body) // the sender may be gone
}

func (r *Receiver) nextReply() Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, time.Now())
	r.announce()
	reply := Reply{Status: http.StatusOK}
	if len(r.script) > 0 {
		reply, r.script = r.script[0], r.script[1:]
		if reply.Status == 0 {
			reply.Status = http.StatusOK
		}
	}
	return reply
}

func (r *Receiver) accept(m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := Received{Message: m, Time: time.Now()}
	r.received = append(r.received, got)
	if r.onto != nil {
		r.onto(got)
	}
	r.announce()
}

func (r *Receiver) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals = append(r.refusals, err)
	r.announce()
}

func (r *Receiver) announce() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Messages returns the accepted messages in their order.
func (r *Receiver) Messages() []Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Received(nil), r.received...)
}

// Attempts returns how many requests came, answered in whatever way.
func (r *Receiver) Attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.attempts)
}

// Refusals returns what broke the contract, in the order in which it came. Scripted
// failures are not among them.
func (r *Receiver) Refusals() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]error(nil), r.refusals...)
}

// Wait returns when done says so, which is asked whenever something came in, or
// with the context's error. done may call Messages, Attempts and Refusals.
func (r *Receiver) Wait(ctx context.Context, done func() bool) error {
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
