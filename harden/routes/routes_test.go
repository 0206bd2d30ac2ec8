package routes

import (
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
)

func table(t testing.TB) *Table {
	t.Helper()
	out, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFor(t *testing.T) {
	tb := table(t)
	for call, want := range map[string]string{
		"GET /repos/a/b": "none", "GET /repos/a/b/pulls": "pull-requests read", "POST /repos/a/b/pulls/7/reviews": "pull-requests write", "PUT /repos/a/b/pulls/7/merge": "contents write",
		"POST /repos/a/b/issues/7/comments": "issues write", "GET /repos/a/b/contents/x/y?ref=main": "contents read", "POST /repos/a/b/statuses/abc": "statuses write",
		"GET /repos/a/b/commits/main/status": "statuses read", "GET /repos/a/b/commits/main": "contents read", "PUT /repos/a/b/actions/secrets/X": "never",
		"POST /repos/a/b/actions/workflows/x.yml/dispatches": "actions write", "PUT /repos/a/b/branches/main/protection": "never", "GET /search/issues": "none",
		"POST /graphql": "?", "GET /user": "?", "GET /repos/a": "?", "PUT /repos/a/b/unheard": "?", "GET /repos/a/b/unheard": "?", "GET /": "?", "GET ": "?", "DELETE /repos/a/b": "never",
	} {
		method, path, _ := strings.Cut(call, " ")
		need, known := tb.For(Call{method, path})
		got := "?"
		switch {
		case known && need.Never:
			got = "never"
		case known && need.Scope == "":
			got = "none"
		case known:
			got = string(need.Scope) + " " + need.Access.String()
		}
		if got != want {
			t.Errorf("%s needs %s, want %s", call, got, want)
		}
	}
}

// Every rule is about something that GitHub describes, and most operations are known.
func TestTableFitsTheDescription(t *testing.T) {
	tb := table(t)
	known := 0
	for name, c := range tb.names {
		if _, ok := tb.For(c); ok {
			known++
		}
		if got, ok := tb.Named(name); !ok || got != c {
			t.Errorf("%s is %v", name, got)
		}
	}
	if len(tb.names) < 400 || known*100 < 70*len(tb.names) {
		t.Errorf("%d of %d operations are known", known, len(tb.names))
	}
	for _, r := range tb.rules {
		used := false
		for _, c := range tb.names {
			if parts := split(c.Path); len(parts) >= 3 && begins(parts[3:], r.parts) {
				used = true
			}
		}
		if !used {
			t.Errorf("no operation begins with /%s", strings.Join(r.parts, "/"))
		}
	}
	for name, want := range map[string]string{"pulls.list": "GET /repos/{owner}/{repo}/pulls", "issues.createComment": "POST /repos/{owner}/{repo}/issues/{issue_number}/comments", "repos.getContent": "GET /repos/{owner}/{repo}/contents/{path}"} {
		if got, ok := tb.Named(name); !ok || got.String() != want {
			t.Errorf("%s is %s", name, got)
		}
	}
	if got := tb.Form(Call{"GET", "/repos/acme/shop/contents/a/b/c"}); got != "/repos/{owner}/{repo}/contents/{path}" {
		t.Error(got)
	}
	if got := tb.Form(Call{"get", "/repos/acme/shop/pulls/12/files"}); got != "/repos/{owner}/{repo}/pulls/{pull_number}/files" {
		t.Error(got)
	}
	if got := tb.Form(Call{"GET", "/unheard/of"}); got != "/unheard/of" {
		t.Error(got)
	}
}

func TestRulesAreStrict(t *testing.T) {
	for _, line := range []string{"GET /x", "GET x none", "GET /x contents", "GET /x contents all", "GET /x nothing read", "GET /x models write", "GET /x none read"} {
		if _, err := parseRule(line); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
	if r, err := parseRule("- /x/* never"); err != nil || !r.need.Never || r.methods != nil {
		t.Error(r, err)
	}
	if r, err := parseRule("GET,POST /x contents write"); err != nil || r.need.Access != catalogue.Write || len(r.methods) != 2 {
		t.Error(r, err)
	}
}
