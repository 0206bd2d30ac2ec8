package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// wipes is set for the child of TestRequestIsWiped.
const wipes = "SALLYPORT_TEST_WIPES"

func TestMain(m *testing.M) {
	if os.Getenv(wipes) != "" {
		r, err := TakeRequest(os.LookupEnv)
		seen, readErr := os.ReadFile("/proc/self/environ")
		_, still := os.LookupEnv(requestTokenVariable)
		if err != nil || readErr != nil || still || r.token != "swordfish" || r.url.Host != "127.0.0.1:1" {
			os.Exit(1)
		}
		_, _ = os.Stdout.Write(seen)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// What a job asks for tokens with is read, and is not to be seen any more, neither by the
// program nor in /proc; all else is as it was.
func TestRequestIsWiped(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{
		wipes + "=1", "BEFORE=ACTIONS_ID_TOKEN_REQUEST_TOKEN=no", requestTokenVariable + "=swordfish", "BETWEEN=kept",
		requestURLVariable + "=http://127.0.0.1:1/token?x=1", "LAST=kept",
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("swordfish")) || bytes.Contains(out, []byte("127.0.0.1:1")) {
		t.Errorf("it is seen: %q", out)
	}
	for _, kept := range []string{"BEFORE=ACTIONS_ID_TOKEN_REQUEST_TOKEN=no\x00", "BETWEEN=kept\x00", "LAST=kept\x00"} {
		if !bytes.Contains(out, []byte(kept)) {
			t.Errorf("%q is gone: %q", kept, out)
		}
	}
}

func TestServerURL(t *testing.T) {
	for address, want := range map[string]string{
		"https://Sallyport.example.test/":   "https://sallyport.example.test",
		"https://sallyport.example.test:70": "https://sallyport.example.test:70",
		"http://127.0.0.1:7070":             "http://127.0.0.1:7070",
		"http://localhost:7070":             "http://localhost:7070",
		"http://[::1]:7070":                 "http://[::1]:7070",
		// In clear to another machine, or no address.
		"http://sallyport.example.test": "", "http://127.0.0.1.example.test": "", "sallyport.example.test": "", "": "", "https://": "",
		"https://user:swordfish@sallyport.example.test": "", "https://sallyport.example.test/x": "", "https://a.example.test?x": "", "ftp://127.0.0.1": "",
	} {
		got, err := ServerURL(address)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", address, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "swordfish") {
			t.Errorf("a password is repeated: %v", err)
		}
	}
}

// answering is a server that answers everything in one way.
func answering(t *testing.T, answer http.HandlerFunc) (*API, *httptest.Server) {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	api, err := NewAPI(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	return api, s
}

// A token is told to the server alone, whatever it answers, and never repeated.
func TestAnswersThatAreNone(t *testing.T) {
	elsewhere, asked := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), false
	elsewhere.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true })
	t.Cleanup(elsewhere.Close)
	for name, answer := range map[string]http.HandlerFunc{
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat(" ", maxAnswer+2)))
		},
		"error with a long text": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, strings.Repeat("no\x1b[31m ", 10_000), http.StatusUnauthorized)
		},
		"error": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"code":16,"message":"audience: the token is for another"}`, http.StatusUnauthorized)
		},
	} {
		api, _ := answering(t, answer)
		c, err := api.Enrol(t.Context(), "spe_swordfish", "vm-1", "U1")
		if err == nil || c != nil || strings.Contains(err.Error(), "swordfish") || len(err.Error()) > 800 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v, %v", name, c, err)
		}
		var rejected *RejectedError
		if name == "error" && (!errors.As(err, &rejected) || rejected.Status != 401 || rejected.Said != "audience: the token is for another") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked {
		t.Error("a redirect is followed")
	}
}

// GitHub is asked with the job's token for the audience of the server, beside what its
// address asks already.
func TestTokenIsAskedFor(t *testing.T) {
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Header.Get("Authorization") != "Bearer swordfish" || q.Get("audience") != "https://a.example.test" || q.Get("api-version") != "2.0" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"count": 1, "value": "token"})
	}))
	t.Cleanup(github.Close)
	environment := map[string]string{requestURLVariable: github.URL + "/token?api-version=2.0", requestTokenVariable: "swordfish"}
	lookup := func(name string) (string, bool) { v, ok := environment[name]; return v, ok }
	r, err := TakeRequest(lookup)
	if err != nil {
		t.Fatal(err)
	}
	if token, err := r.ask(t.Context(), http.DefaultClient, "https://a.example.test"); err != nil || token != "token" {
		t.Errorf("%q, %v", token, err)
	}
	if _, err := r.ask(t.Context(), http.DefaultClient, "https://b.example.test"); err == nil || strings.Contains(err.Error(), "swordfish") {
		t.Error(err)
	}
	environment[requestURLVariable] = "http://github.example.test/token"
	if _, err := TakeRequest(lookup); err == nil || errors.Is(err, ErrNoRequest) {
		t.Errorf("an address in clear: %v", err)
	}
	delete(environment, requestURLVariable)
	if _, err := TakeRequest(lookup); !errors.Is(err, ErrNoRequest) {
		t.Error(err)
	}
}

// scripted is a source that answers by a script.
type scripted struct {
	key nkeys.KeyPair
	mu  sync.Mutex
	get func() (*sallyportv1.Credential, error)
	n   int
}

func (s *scripted) AgentID() string    { return "vm-1" }
func (s *scripted) Key() nkeys.KeyPair { return s.key }
func (s *scripted) Get(context.Context) (*sallyportv1.Credential, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return s.get()
}

// What is no credential of this agent's is never used; a good one is, when it comes.
func TestHolderTriesUntilItIsLetIn(t *testing.T) {
	good := &sallyportv1.Credential{AgentId: "vm-1", Jwt: "jwt", NatsUrls: []string{"nats://127.0.0.1:1"}, Expires: timestamppb.New(time.Now().Add(time.Hour))}
	s := &scripted{}
	s.get = func() (*sallyportv1.Credential, error) {
		switch s.n {
		case 1:
			return nil, errors.New("not yet")
		case 2:
			return &sallyportv1.Credential{AgentId: "vm-2", Jwt: "jwt", NatsUrls: good.NatsUrls}, nil // somebody else's
		default:
			return good, nil
		}
	}
	log := new(bytes.Buffer)
	h := NewHolder(s, slog.New(slog.NewTextHandler(log, nil)))
	if _, err := h.JWT(); err == nil || h.Err() == nil {
		t.Error("there is a credential before there is one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var got []*sallyportv1.Credential
	h.Run(ctx, func(c *sallyportv1.Credential) {
		got = append(got, c)
		cancel()
	})
	if text, err := h.JWT(); err != nil || text != "jwt" || h.Err() != nil || len(got) != 1 {
		t.Errorf("%q, %v, %v", text, err, got)
	}
	if !strings.Contains(log.String(), "not yet") || !strings.Contains(log.String(), "takes this agent for") {
		t.Errorf("the log:\n%s", log)
	}
	// The next one is asked for well before this one ends.
	for _, life := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
		now := time.Now()
		h.now = func() time.Time { return now }
		if d := h.renewIn(&sallyportv1.Credential{Expires: timestamppb.New(now.Add(life))}); d > life*2/3 || d < life/2 {
			t.Errorf("a credential of %s is renewed after %s", life, d)
		}
	}
	if d := h.renewIn(&sallyportv1.Credential{Expires: timestamppb.New(time.Now().Add(-time.Hour))}); d != leastPause {
		t.Errorf("with a clock that is wrong it is renewed after %s", d)
	}
}

func TestKeysAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	one, two := Job{"acme/shop", "7", 1}, Job{"acme/shop", "7", 2}
	public := func(job Job) string {
		t.Helper()
		key, err := JobKey(dir, job)
		if err != nil {
			t.Fatal(err)
		}
		p, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := public(one)
	if again := public(one); again != first {
		t.Error("the same job has another key")
	}
	if other := public(two); other == first {
		t.Error("another attempt has the same key")
	}
	if err := (&Enrolment{Server: "https://a.example.test", AgentID: "vm-1", Seed: "SU"}).Keep(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"job.json", enrolmentFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if e, err := LoadEnrolment(dir); err != nil || e.AgentID != "vm-1" {
		t.Errorf("%v, %v", e, err)
	}
	if err := os.WriteFile(filepath.Join(dir, enrolmentFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadEnrolment(dir); err == nil || !strings.Contains(err.Error(), "enrol again") {
		t.Error(err)
	}
	if _, err := LoadEnrolment(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestJobOf(t *testing.T) {
	environment := map[string]string{"GITHUB_REPOSITORY": "acme/shop", "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "2"}
	lookup := func(name string) (string, bool) { v, ok := environment[name]; return v, ok }
	if job, err := JobOf(lookup); err != nil || job != (Job{"acme/shop", "7", 2}) {
		t.Errorf("%v, %v", job, err)
	}
	for _, name := range []string{"GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT"} {
		kept := environment[name]
		delete(environment, name)
		if job, err := JobOf(lookup); err == nil {
			t.Errorf("without %s: %v", name, job)
		}
		environment[name] = kept
	}
}

// What the server sends that it has and this agent does not know is passed over.
func FuzzSaid(f *testing.F) {
	f.Add([]byte(`{"message":"no"}`))
	f.Add([]byte("no\x1b[31m\xff"))
	f.Add([]byte(strings.Repeat("é", 600)))
	f.Fuzz(func(t *testing.T, data []byte) {
		text := said(data)
		if len(text) > maxSaid+len("…") || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q", text)
		}
	})
}

// The agent's own account of its answers is that of the server: what one writes the other
// reads.
func TestAnswerOfANewerServer(t *testing.T) {
	want := &sallyportv1.Credential{AgentId: stream.JobAgentID("acme/shop", "7", 1, "U1"), Jwt: "jwt", NatsUrls: []string{"tls://nats.example.test:4222"}, Expires: timestamppb.New(time.Unix(1_800_000_000, 0))}
	api, _ := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(&sallyportv1.EnrolAgentResponse{Credential: want})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte(strings.Replace(string(text), "{", `{"from_the_future":1,`, 1)))
	})
	c, err := api.Enrol(t.Context(), "k", "n", "U1")
	if err != nil || c.GetAgentId() != want.AgentId || !c.GetExpires().AsTime().Equal(want.Expires.AsTime()) || len(c.GetNatsUrls()) != 1 {
		t.Errorf("%v, %v", c, err)
	}
}
