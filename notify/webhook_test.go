package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// receiver is what a team runs: it verifies messages and takes each once.
type receiver struct {
	*httptest.Server
	answers []int // statuses to answer, then 204
	header  http.Header
	bodies  [][]byte
	seen    map[string]bool
	after   string
	fails   func() bool
}

func newReceiver(t *testing.T, answers ...int) *receiver {
	t.Helper()
	r := &receiver{answers: answers, seen: make(map[string]bool)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		id, err := VerifyWebhook(hookSecret, q.Header, body, time.Now())
		if err != nil {
			t.Error(err)
		}
		r.header = q.Header
		if !r.seen[id] {
			r.seen[id] = true
			r.bodies = append(r.bodies, body)
		}
		if r.fails != nil && r.fails() {
			panic(http.ErrAbortHandler) // taken, and the answer is lost
		}
		status := http.StatusNoContent
		if len(r.answers) > 0 {
			status, r.answers = r.answers[0], r.answers[1:]
		}
		if r.after != "" {
			w.Header().Set("Retry-After", r.after)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func hook(t *testing.T, url string) *Webhook {
	t.Helper()
	w, err := NewWebhook(WebhookOptions{URL: url, Secrets: []string{hookSecret}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWebhook(t *testing.T) {
	alert := Alert{Items: []Item{{Finding: memoryRead()}}, Attempt: 1}
	for _, c := range []struct {
		status int
		want   string // "", retry or rejected
	}{
		{200, ""}, {202, ""}, {204, ""}, {429, "retry"}, {408, "retry"}, {425, "retry"}, {500, "retry"}, {503, "retry"},
		{400, "rejected"}, {401, "rejected"}, {410, "rejected"}, {302, "rejected"},
	} {
		r := newReceiver(t, c.status)
		r.after = "7"
		err := hook(t, r.URL+"/secret-path").Deliver(t.Context(), alert)
		var retry *RetryError
		var rejected *RejectedError
		got := ""
		switch {
		case errors.As(err, &retry):
			got = "retry"
			if retry.After != 7*time.Second {
				t.Errorf("%d: again after %s", c.status, retry.After)
			}
		case errors.As(err, &rejected):
			got = "rejected"
		case err != nil:
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%d: %q, want %q", c.status, got, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret-path") {
			t.Errorf("%d: the error holds the address: %v", c.status, err)
		}
	}
}

// TestWebhookIsTakenOnce: an answer that is lost is asked for again under the same identity,
// and the receiver has the message once.
func TestWebhookIsTakenOnce(t *testing.T) {
	r := newReceiver(t)
	lost := 2
	r.fails = func() bool { lost--; return lost >= 0 }
	w := hook(t, r.URL)
	alert := Alert{Items: []Item{{Finding: memoryRead()}}}
	for range 2 {
		var retry *RetryError
		if err := w.Deliver(t.Context(), alert); !errors.As(err, &retry) {
			t.Fatalf("a lost answer: %v", err)
		}
	}
	if err := w.Deliver(t.Context(), alert); err != nil {
		t.Fatal(err)
	}
	if len(r.bodies) != 1 || r.header.Get("Webhook-Id") != "finding_"+memoryRead().GetId() {
		t.Errorf("%d messages, the last is %s", len(r.bodies), r.header.Get("Webhook-Id"))
	}
	// Repeats of it are another message, the same again for the same repeats.
	more := Item{Finding: memoryRead(), FollowUp: true, More: []Repeat{{ID: "a"}, {ID: "b"}}}
	if a, b := webhookID(more), webhookID(more); a != b || a == webhookID(Item{Finding: memoryRead()}) || webhookID(Item{Finding: memoryRead(), FollowUp: true, More: more.More[:1]}) == a {
		t.Errorf("identities of repeats: %s, %s", a, b)
	}
	// Nobody there.
	r.Close()
	var retry *RetryError
	if err := w.Deliver(t.Context(), alert); !errors.As(err, &retry) {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Deliver(ctx, alert); err == nil {
		t.Error("delivered after the end")
	}
}

func TestVerifyWebhook(t *testing.T) {
	key, err := webhookKey(hookSecret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_780_000_000, 0)
	body := []byte(`{"a":1}`)
	header := func(id string, at int64, signatures ...string) http.Header {
		h := http.Header{}
		h.Set("Webhook-Id", id)
		h.Set("Webhook-Timestamp", fmt.Sprint(at))
		h.Set("Webhook-Signature", strings.Join(signatures, " "))
		return h
	}
	right := signature(key, "x", now.Unix(), body)
	for name, c := range map[string]struct {
		header http.Header
		body   string
		ok     bool
	}{
		"right":            {header("x", now.Unix(), right), `{"a":1}`, true},
		"one of two":       {header("x", now.Unix(), "v1,AAAA", right), `{"a":1}`, true},
		"other body":       {header("x", now.Unix(), right), `{"a":2}`, false},
		"other identity":   {header("y", now.Unix(), right), `{"a":1}`, false},
		"other time":       {header("x", now.Unix()+1, right), `{"a":1}`, false},
		"old":              {header("x", now.Unix()-600, signature(key, "x", now.Unix()-600, body)), `{"a":1}`, false},
		"from the future":  {header("x", now.Unix()+600, signature(key, "x", now.Unix()+600, body)), `{"a":1}`, false},
		"other scheme":     {header("x", now.Unix(), strings.Replace(right, "v1,", "v1a,", 1)), `{"a":1}`, false},
		"none":             {header("x", now.Unix()), `{"a":1}`, false},
		"no header at all": {http.Header{}, `{"a":1}`, false},
		"another secret":   {header("x", now.Unix(), signature([]byte(strings.Repeat("k", 24)), "x", now.Unix(), body)), `{"a":1}`, false},
	} {
		id, err := VerifyWebhook(hookSecret, c.header, []byte(c.body), now)
		if c.ok != (err == nil) || c.ok && id != "x" || !c.ok && !errors.Is(err, ErrWebhook) {
			t.Errorf("%s: %q, %v", name, id, err)
		}
	}
	// The vector of the scheme's own documentation.
	h := header("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	if _, err := VerifyWebhook(hookSecret, h, []byte(`{"test": 2432232314}`), time.Unix(1614265330, 0)); err != nil {
		t.Errorf("the documented vector: %v", err)
	}
}

func TestNewWebhook(t *testing.T) {
	for _, o := range []WebhookOptions{
		{URL: "http://hooks.example.test/x", Secrets: []string{hookSecret}}, {URL: "hooks.example.test", Secrets: []string{hookSecret}}, {URL: "https://hooks.example.test/token"},
		{URL: "https://hooks.example.test/token", Secrets: []string{"short"}}, {URL: "https://hooks.example.test/token", Secrets: []string{"whsec_%%%"}},
		{URL: "https://hooks.example.test/token", Secrets: []string{hookSecret, "whsec_" + base64.StdEncoding.EncodeToString([]byte("short"))}},
	} {
		_, err := NewWebhook(o)
		if err == nil || strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), "MfKQ") {
			t.Errorf("%v: %v", o.Secrets, err)
		}
	}
	if w := hook(t, "https://hooks.example.test/token"); strings.Contains(fmt.Sprintf("%v %+v %#v %s", w, w, w, w), "token") {
		t.Error("printing a webhook tells its address")
	}
}

// ocsf are the objects of OCSF 1.5 that findings use: required attributes, other attributes
// that may be there, and those of which one must be. Facts of schema.ocsf.io, of the
// classes finding and detection_finding and of the objects named.
var ocsf = map[string]struct{ required, optional, one string }{
	"detection_finding": {"activity_id category_uid class_uid finding_info metadata severity_id time type_uid",
		"activity_name category_name class_name type_name severity status_id status is_alert message remediation resources evidences unmapped", ""},
	"finding_info":   {"uid", "title desc created_time first_seen_time last_seen_time types uid_alt src_url analytic attacks related_events_count", ""},
	"analytic":       {"type_id", "uid name type", "name uid"},
	"attacks":        {"", "version technique", "tactic technique sub_technique"},
	"technique":      {"", "uid name src_url", "name uid"},
	"metadata":       {"product version", "uid log_provider", ""},
	"product":        {"", "name vendor_name feature", "name uid"},
	"feature":        {"", "uid name", "name uid"},
	"remediation":    {"desc", "", ""},
	"resources":      {"", "type name uid labels", "name uid"},
	"evidences":      {"", "process actor device dst_endpoint query file", "actor device dst_endpoint file process query"},
	"actor":          {"", "process", "process"},
	"process":        {"", "pid name cmd_line user file working_directory parent_process", "pid uid"},
	"parent_process": {"", "pid name cmd_line user file working_directory parent_process", "pid uid"},
	"user":           {"", "uid type_id", "uid name"},
	"file":           {"name type_id", "path type hashes", ""},
	"hashes":         {"algorithm_id value", "algorithm", ""},
	"device":         {"type_id", "hostname uid type", "hostname uid"},
	"dst_endpoint":   {"", "hostname ip port", "hostname ip"},
	"query":          {"hostname", "type", ""},
}

func checkOCSF(t *testing.T, name string, value any) {
	t.Helper()
	switch v := value.(type) {
	case []any:
		for _, x := range v {
			checkOCSF(t, name, x)
		}
	case map[string]any:
		rule, known := ocsf[name]
		if !known {
			if name != "unmapped" {
				t.Errorf("%s is no object of OCSF's that findings use", name)
			}
			return
		}
		allowed := map[string]bool{}
		for _, field := range strings.Fields(rule.required + " " + rule.optional) {
			allowed[field] = true
		}
		for _, field := range strings.Fields(rule.required) {
			if _, ok := v[field]; !ok {
				t.Errorf("%s has no %s", name, field)
			}
		}
		one := rule.one == ""
		for _, field := range strings.Fields(rule.one) {
			_, ok := v[field]
			one = one || ok
		}
		if !one {
			t.Errorf("%s has none of %s", name, rule.one)
		}
		for field, x := range v {
			if !allowed[field] {
				t.Errorf("%s has %s, which it may not have", name, field)
			}
			if x == nil || x == "" {
				t.Errorf("%s.%s is empty", name, field)
			}
			checkOCSF(t, field, x)
		}
	}
}

// TestOCSF holds findings of every kind to OCSF's Detection Finding.
func TestOCSF(t *testing.T) {
	follow := Item{Finding: memoryRead(), FollowUp: true, More: []Repeat{{ID: "a", Time: time.Unix(1_790_000_000, 0)}}}
	bare := finding(1, "")
	bare.Policy, bare.Attribution, bare.Behaviour, bare.Ancestry, bare.Baseline, bare.Hostname, bare.Message = nil, nil, nil, nil, nil, "", ""
	for name, item := range map[string]Item{"access": {Finding: memoryRead()}, "egress": {Finding: finding(2, "x.example.test")}, "follow-up": follow, "bare": {Finding: bare}} {
		text, err := json.Marshal(ocsfFinding(item, "https://github.com"))
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { checkOCSF(t, "detection_finding", v) })
		activity, _ := v["activity_id"].(float64)
		if v["class_uid"] != 2004.0 || v["category_uid"] != 2.0 || v["type_uid"] != 200400+activity || activity != map[bool]float64{false: 1, true: 2}[item.FollowUp] {
			t.Errorf("%s: class %v, category %v, type %v, activity %v", name, v["class_uid"], v["category_uid"], v["type_uid"], activity)
		}
	}
	text, err := json.MarshalIndent(ocsfFinding(Item{Finding: memoryRead()}, "https://github.com"), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	delete(whole, "unmapped")
	if text, err = json.MarshalIndent(whole, "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "ocsf.json", append(text, '\n'))
}

// TestWebhookKilled kills the process at random while it posts: a receiver that drops ids that
// it has seen takes each finding once, and none is missing.
func TestWebhookKilled(t *testing.T) {
	r := newRig(t)
	const findings = 40
	var mu sync.Mutex
	posts, taken := 0, make(map[string]int)
	refusing := true
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // its sender was killed
		}
		id, err := VerifyWebhook(hookSecret, req.Header, body, time.Now())
		if err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		if refusing {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		posts++
		taken[id]++
		mu.Unlock()
		time.Sleep(5 * time.Millisecond) // killed here the answer is lost
		mu.Lock()
	}))
	defer web.Close()
	for n := range findings {
		r.publish(finding(n, fmt.Sprintf("h%d.example.test", n)))
	}
	env := childHook + "=" + web.URL
	// All are written down first, as in TestSlackAppKilled.
	cmd := startChild(t, r, env)
	r.read()
	kill(cmd)
	mu.Lock()
	refusing = false
	mu.Unlock()
	for n := range 15 {
		cmd := startChild(t, r, env)
		time.Sleep(time.Duration(5+13*(n%6)) * time.Millisecond)
		kill(cmd)
	}
	mu.Lock()
	if posts == 0 || len(taken) == findings {
		t.Errorf("%d posts of %d findings while it was killed: that was no test", posts, len(taken))
	}
	mu.Unlock()
	cmd = startChild(t, r, env)
	defer kill(cmd)
	for range 2000 {
		mu.Lock()
		n := len(taken)
		mu.Unlock()
		if n == findings {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(taken) != findings {
		t.Errorf("%d findings taken, want %d", len(taken), findings)
	}
	t.Logf("%d posts", posts)
}
