package slackfake

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestContract(t *testing.T) {
	section := func(n int) string {
		return `{"type":"section","text":{"type":"mrkdwn","text":"` + strings.Repeat("a", n) + `"}}`
	}
	header := func(n int) string {
		return `{"type":"header","text":{"type":"plain_text","text":"` + strings.Repeat("a", n) + `"}}`
	}
	blocks := func(b ...string) string { return `{"text":"t","blocks":[` + strings.Join(b, ",") + `]}` }
	many := make([]string, 51)
	for i := range many {
		many[i] = `{"type":"divider"}`
	}
	for _, c := range []struct{ name, body, reason string }{
		{"text", `{"text":"hello"}`, ""},
		{"longest section", blocks(section(3000)), ""},
		{"section too long", blocks(section(3001)), "invalid_blocks"},
		{"empty section", blocks(section(0)), "invalid_blocks"},
		{"longest header", blocks(header(150)), ""},
		{"header too long", blocks(header(151)), "invalid_blocks"},
		{"50 blocks", blocks(many[:50]...), ""},
		{"51 blocks", blocks(many...), "invalid_blocks"},
		{"unknown block", blocks(`{"type":"table"}`), "invalid_blocks"},
		{"mrkdwn header", blocks(`{"type":"header","text":{"type":"mrkdwn","text":"x"}}`), "invalid_blocks"},
		{"emoji in mrkdwn", blocks(`{"type":"section","text":{"type":"mrkdwn","text":"x","emoji":true}}`), "invalid_blocks"},
		{"empty context", blocks(`{"type":"context","elements":[]}`), "invalid_blocks"},
		{"nothing", `{}`, "no_text"},
		{"unknown field", `{"text":"t","colour":"red"}`, "invalid_payload"},
		{"no JSON", `text=hello`, "invalid_payload"},
		{"two objects", `{"text":"t"}{"text":"t"}`, "invalid_payload"},
		{"endless text", `{"text":"` + strings.Repeat("a", 40_001) + `"}`, "msg_too_long"},
	} {
		_, err := Parse("application/json", []byte(c.body))
		var refusal *Refusal
		switch {
		case c.reason == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.reason != "" && (!errors.As(err, &refusal) || refusal.Reason != c.reason):
			t.Errorf("%s: %v, want %s", c.name, err, c.reason)
		}
	}
	if _, err := Parse("text/plain", []byte(`{"text":"t"}`)); err == nil {
		t.Error("text/plain is taken")
	}
}

func TestAnswers(t *testing.T) {
	r := New("/hook", nil)
	post := func(path string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"text":"t"}`))
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		return w
	}
	r.Script(Reply{Status: 429, RetryAfter: 7})
	if w := post("/hook"); w.Code != 429 || w.Header().Get("Retry-After") != "7" {
		t.Errorf("scripted: %d, %v", w.Code, w.Header())
	}
	if w := post("/hook"); w.Code != 200 || w.Body.String() != "ok" {
		t.Errorf("accepted: %d %s", w.Code, w.Body)
	}
	if w := post("/other"); w.Code != 404 || w.Body.String() != "no_service" {
		t.Errorf("other path: %d %s", w.Code, w.Body)
	}
	if len(r.Messages()) != 1 || r.Attempts() != 3 || len(r.Refusals()) != 1 {
		t.Errorf("%d messages, %d attempts, %d refusals", len(r.Messages()), r.Attempts(), len(r.Refusals()))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"text":"<!date^1^{date}|x> &lt; *b* ` + "```c```" + `"}`))
	f.Add([]byte(`{"blocks":[{"type":"section","fields":[{"type":"mrkdwn","text":"*a*\nb"}]},{"type":"context","elements":[{"type":"plain_text","text":"x"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Parse("application/json", body)
		if err != nil {
			return
		}
		if strings.ContainsRune(Render(*m, RenderOptions{}), '\x1b') {
			t.Fatal("an escape sequence reaches the terminal")
		}
	})
}
