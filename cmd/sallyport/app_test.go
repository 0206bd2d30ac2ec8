package main

import (
	"bufio"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/checks"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

// An App is made by way of GitHub's page, its secrets are in its folder and nowhere else.
func TestAppCreate(t *testing.T) {
	s := githubfake.New(t)
	app := s.NewApp("sallyport-acme", map[string]string{"checks": "write"}, "acme")
	folder := filepath.Join(t.TempDir(), "app")
	in, out := io.Pipe()
	root := newRootCommand()
	root.SetArgs([]string{"app", "create", "--org", "acme", "--url", "https://sallyport.example.test/", "--dir", folder, "--github-api", s.URL, "--github-url", "https://github.example.test"})
	root.SetOut(out)
	root.SetErr(io.Discard)
	ended := make(chan error, 1)
	go func() {
		err := root.ExecuteContext(t.Context())
		_ = out.Close()
		ended <- err
	}()
	lines := bufio.NewReader(in)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	here := regexp.MustCompile(`http://[0-9.:]+/`).FindString(first)
	// A server has no browser.
	if second, err := lines.ReadString('\n'); err != nil || !regexp.MustCompile(`ssh -N -L ([0-9]+):127\.0\.0\.1:[0-9]+ `).MatchString(second) {
		t.Errorf("%q, %v", second, err)
	}
	get := func(address string) (int, string) {
		t.Helper()
		resp, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	_, page := get(here)
	found := regexp.MustCompile(`action="([^"]+)".*name="manifest" value="([^"]+)"`).FindStringSubmatch(page)
	if found == nil {
		t.Fatal(page)
	}
	action, err := url.Parse(html.UnescapeString(found[1]))
	if err != nil || action.Host != "github.example.test" || action.Path != "/organizations/acme/settings/apps/new" { //nolint:misspell // GitHub's
		t.Errorf("%v, %v", action, err)
	}
	var manifest struct {
		Redirect    string               `json:"redirect_url"`
		Hook        struct{ URL string } `json:"hook_attributes"`
		Permissions map[string]string    `json:"default_permissions"`
		Events      []string             `json:"default_events"`
		Public      *bool                `json:"public"`
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(found[2])), &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Redirect != here+"created" || manifest.Hook.URL != "https://sallyport.example.test/github/webhook" || manifest.Public == nil || *manifest.Public ||
		manifest.Permissions["contents"] != "read" || manifest.Permissions["checks"] != "write" || len(manifest.Events) != len(checks.Events) {
		t.Errorf("%+v", manifest)
	}
	if code, _ := get(here + "created?code=x&state=wrong"); code != http.StatusForbidden {
		t.Errorf("a foreign state: %d", code)
	}
	code, page := get(here + "created?code=" + s.Manifest(app) + "&state=" + action.Query().Get("state"))
	if code != http.StatusOK || !strings.Contains(page, "installations/new") {
		t.Errorf("%d, %s", code, page)
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	a, err := readApp(folder)
	if err != nil || a.ID != app.ID || string(a.key) != string(app.KeyPEM()) || string(a.secret) != app.WebhookSecret || a.API != s.URL {
		t.Errorf("%+v, %v", a, err)
	}
	for _, secret := range []string{app.WebhookSecret, "PRIVATE"} {
		if strings.Contains(first+string(rest)+page, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	for _, name := range []string{"", appFile, appKeyFile, appWebhookFile} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	// A second one does not take its place unasked.
	root = newRootCommand()
	root.SetArgs([]string{"app", "create", "--url", "https://sallyport.example.test/", "--dir", folder})
	if err := root.ExecuteContext(t.Context()); err == nil || exitCode(err) != exitUsage {
		t.Errorf("%v", err)
	}
}
