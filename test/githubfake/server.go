package githubfake

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a GitHub. Its methods are safe for concurrent use.
type Server struct {
	// URL is the base of the REST interface, with a slash at the end.
	URL string

	http      *httptest.Server
	mu        sync.Mutex
	now       func() time.Time
	accounts  map[string]*Account
	repos     map[string]*Repository
	order     []*Repository
	apps      map[int64]*App
	tokens    map[string]*token
	codes     map[string]*App // of the manifest flow
	advisory  []map[string]any
	nextID    int64
	requests  []Request
	broken    []string
	faults    []*Fault
	used      int // of the primary rate limit
	limit     int
	window    time.Duration
	reset     time.Time
	writes    []time.Time // of content
	burst     int
	burstTime time.Duration
}

// Request is one that was made.
type Request struct {
	Method, Path string
	Status       int
	// By is the login of whoever made it.
	By string
}

// Write says whether it may have changed something.
func (r Request) Write() bool {
	return r.Method != http.MethodGet && !strings.HasSuffix(r.Path, "/access_tokens")
}

// Fault is something that goes wrong.
type Fault struct {
	// Method and Path choose requests: all of a method if Path is empty; Path is a part of the
	// request's.
	Method, Path string
	// Status is answered; 0 closes the connection without an answer.
	Status int
	// After lets the request do what it does before.
	After bool
	// Skip lets as many pass, Times is how often it happens; 0 is once.
	Skip, Times int
	// Header is added to the answer.
	Header http.Header
	// Body of the answer; a message otherwise.
	Body string
	// Do is called at the moment, without locks.
	Do func()
}

// New starts a GitHub that ends with the test, which fails if a request or an answer did not fit
// GitHub's description.
func New(t testing.TB) *Server {
	t.Helper()
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, b := range s.Stop() {
			t.Error("contract with GitHub: ", b)
		}
	})
	return s
}

// Start starts a GitHub.
func Start() (*Server, error) {
	s := &Server{
		now: time.Now, accounts: make(map[string]*Account), repos: make(map[string]*Repository),
		apps: make(map[int64]*App), tokens: make(map[string]*token), codes: make(map[string]*App), nextID: 1000,
		limit: 5000, window: time.Hour, burst: 1 << 30, burstTime: time.Minute,
	}
	mux, err := s.routes()
	if err != nil {
		return nil, err
	}
	s.http = httptest.NewServer(mux)
	s.URL = s.http.URL + "/"
	return s, nil
}

// Stop ends it and says what did not fit GitHub's description.
func (s *Server) Stop() []string {
	s.http.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.broken)
}

// SetClock puts another clock in the place of time.Now.
func (s *Server) SetClock(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
}

// Limit sets the primary rate limit: so many requests in each window.
func (s *Server) Limit(requests int, window time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.window, s.used, s.reset = requests, window, 0, time.Time{}
}

// LimitWrites sets a secondary rate limit: so many writes in any such time.
func (s *Server) LimitWrites(writes int, within time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.burst, s.burstTime = writes, within
}

// Break adds a fault.
func (s *Server) Break(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Times = max(f.Times, 1)
	s.faults = append(s.faults, &f)
}

// Requests returns what was asked so far, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Forget empties the list of requests.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// Account is a user or an organisation.
type Account struct {
	ID       int64
	Login    string
	Type     string // as GitHub calls it
	Verified bool
	Created  time.Time
}

// kindOrganisation is GitHub's word for one.
const kindOrganisation = "Organization" //nolint:misspell // GitHub's

// Organisation makes an organisation, or returns the one that there is.
func (s *Server) Organisation(login string) *Account { return s.account(login, kindOrganisation) }

// User makes a user, or returns the one that there is.
func (s *Server) User(login string) *Account { return s.account(login, "User") }

func (s *Server) account(login, kind string) *Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accountLocked(login, kind)
}

func (s *Server) accountLocked(login, kind string) *Account {
	key := strings.ToLower(login)
	if s.accounts[key] == nil {
		s.accounts[key] = &Account{ID: s.id(), Login: login, Type: kind, Created: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	return s.accounts[key]
}

func (s *Server) id() int64 {
	s.nextID++
	return s.nextID
}

// failure is an answer that is no success.
type failure struct {
	status  int
	message string
}

func (f *failure) Error() string { return f.message }

func fail(status int, format string, args ...any) error {
	return &failure{status, fmt.Sprintf(format, args...)}
}

var errNotFound = &failure{http.StatusNotFound, "Not Found"}

// request is one on its way through a handler.
type request struct {
	*http.Request
	body   []byte
	by     *token
	app    *App   // asked with an App's own key
	link   string // header for pages
	status int    // other than the usual one
}

// read decodes the body.
func (r *request) read(into any) error {
	if len(r.body) == 0 {
		return nil
	}
	return json.Unmarshal(r.body, into)
}

// page cuts a list as GitHub does.
func page[T any](r *request, all []T) []T {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil && n > 0 {
			return n
		}
		return otherwise
	}
	per, at := min(number("per_page", 30), 100), number("page", 1)
	from := min((at-1)*per, len(all))
	to := min(from+per, len(all))
	if to < len(all) {
		u := *r.URL
		q := u.Query()
		q.Set("page", strconv.Itoa(at+1))
		u.RawQuery = q.Encode()
		r.link = fmt.Sprintf(`<http://%s%s>; rel="next"`, r.Host, u.RequestURI())
	}
	return all[from:to]
}

type handler func(r *request) (any, error)

// routes binds the handlers to GitHub's paths.
func (s *Server) routes() (*http.ServeMux, error) {
	doc, err := described()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for pattern, h := range s.handlers() {
		op, err := findOperation(doc, pattern)
		if err != nil {
			return nil, err
		}
		for _, last := range []string{"{ref}", "{path}", "{basehead}", "{tag}"} { // may hold slashes
			if strings.HasSuffix(pattern, last) {
				pattern = strings.TrimSuffix(pattern, "}") + "...}"
			}
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, op, h) }) //nolint:contextcheck // a request is checked whether its asker waits or not
	}
	mux.HandleFunc("POST /graphql", s.serveGraphQL)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.violation("%s %s is no path that the fake answers", r.Method, r.URL.Path)
		s.write(w, &request{Request: r}, http.StatusNotFound, map[string]any{"message": "Not Found"})
	})
	return mux, nil
}

func (s *Server) violation(format string, args ...any) {
	s.broken = append(s.broken, fmt.Sprintf(format, args...))
}

func (s *Server) serve(w http.ResponseWriter, raw *http.Request, op operation, h handler) {
	body, err := io.ReadAll(io.LimitReader(raw.Body, 50<<20))
	if err != nil {
		return
	}
	if string(bytes.TrimSpace(body)) == "null" {
		body = nil // GitHub takes it for none, as many clients send it
	}
	r := &request{Request: raw, body: body}
	if s.faulted(w, r, false) {
		return
	}
	s.mu.Lock()
	status, value := s.handle(r, op, h)
	s.mu.Unlock()
	if s.faulted(w, r, true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(w, r, status, value)
}

func (s *Server) handle(r *request, op operation, h handler) (status int, value any) {
	if err := s.authenticate(r); err != nil {
		return refusal(err)
	}
	if err := s.limited(r); err != nil {
		return refusal(err)
	}
	if err := op.checkRequest(r.Request, r.body); err != nil {
		s.violation("%s %s %s: %v", r.Method, r.URL, r.body, err)
		return http.StatusUnprocessableEntity, map[string]any{"message": "Invalid request: " + err.Error()}
	}
	value, err := h(r)
	if err != nil {
		return refusal(err)
	}
	status = map[string]int{http.MethodPost: http.StatusCreated, http.MethodDelete: http.StatusNoContent}[r.Method]
	if status == 0 {
		status = http.StatusOK
	}
	if r.status != 0 {
		status = r.status
	}
	full, err := op.answer(status, value)
	if err != nil {
		s.violation("%v", err)
		return http.StatusInternalServerError, map[string]any{"message": err.Error()}
	}
	return status, full
}

func refusal(err error) (int, any) {
	var f *failure
	if errors.As(err, &f) {
		return f.status, map[string]any{"message": f.message, "documentation_url": "https://docs.github.com/rest"}
	}
	return http.StatusInternalServerError, map[string]any{"message": err.Error()}
}

// limited holds a request to the rate limits.
func (s *Server) limited(r *request) error {
	now := s.now()
	if now.After(s.reset) {
		s.used, s.reset = 0, now.Add(s.window)
	}
	if s.used >= s.limit && r.URL.Path != "/rate_limit" {
		return fail(http.StatusForbidden, "API rate limit exceeded for user ID 1.")
	}
	if r.URL.Path != "/rate_limit" {
		s.used++
	}
	if (Request{Method: r.Method, Path: r.URL.Path}).Write() {
		s.writes = slices.DeleteFunc(s.writes, func(t time.Time) bool { return now.Sub(t) > s.burstTime })
		if len(s.writes) >= s.burst {
			r.Header.Set("X-Fake-Retry-After", strconv.Itoa(int(s.burstTime/time.Second)+1))
			return fail(http.StatusForbidden, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.")
		}
		s.writes = append(s.writes, now)
	}
	return nil
}

// faulted does what a fault says, if there is one for the request.
func (s *Server) faulted(w http.ResponseWriter, r *request, after bool) bool {
	s.mu.Lock()
	var hit *Fault
	for _, f := range s.faults {
		if f.Times == 0 || f.After != after || f.Method != "" && f.Method != r.Method || !strings.Contains(r.URL.Path, f.Path) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		f.Times--
		hit = f
		break
	}
	s.mu.Unlock()
	if hit == nil {
		return false
	}
	if hit.Do != nil {
		hit.Do()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if hit.Status == 0 && hit.Do != nil {
		return false
	}
	if hit.Status == 0 {
		s.requests = append(s.requests, Request{r.Method, r.URL.Path, 0, ""})
		panic(http.ErrAbortHandler)
	}
	for k, v := range hit.Header {
		w.Header()[k] = v
	}
	if hit.Body != "" {
		s.requests = append(s.requests, Request{r.Method, r.URL.Path, hit.Status, ""})
		w.WriteHeader(hit.Status)
		_, _ = io.WriteString(w, hit.Body)
		return true
	}
	s.write(w, r, hit.Status, map[string]any{"message": http.StatusText(hit.Status)})
	return true
}

func (s *Server) write(w http.ResponseWriter, r *request, status int, value any) {
	by := ""
	if r.by != nil {
		by = r.by.login
	}
	data, err := json.Marshal(value)
	if err != nil {
		s.violation("answer of %s: %v", r.URL, err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("X-RateLimit-Limit", strconv.Itoa(s.limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(max(s.limit-s.used, 0)))
	h.Set("X-RateLimit-Used", strconv.Itoa(s.used))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(s.reset.Unix(), 10))
	h.Set("X-RateLimit-Resource", "core")
	if after := r.Header.Get("X-Fake-Retry-After"); after != "" {
		h.Set("Retry-After", after)
	}
	if r.link != "" {
		h.Set("Link", r.link)
	}
	if status == http.StatusOK && r.Method == http.MethodGet {
		tag := fmt.Sprintf(`W/"%x"`, sha256.Sum256(data))
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			s.used-- // GitHub does not count it
			s.requests = append(s.requests, Request{r.Method, r.URL.Path, http.StatusNotModified, by})
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	s.requests = append(s.requests, Request{r.Method, r.URL.Path, status, by})
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		_, _ = w.Write(data)
	}
}
