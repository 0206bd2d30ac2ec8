package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/checks"
	"github.com/sallyport-ci/sallyport/github"
)

// Files of an App's folder. Only its owner may read them.
const (
	// appFolder is below the data folder.
	appFolder      = "github-app"
	appFile        = "app.json"
	appKeyFile     = "app.pem"
	appWebhookFile = "webhook.secret"
)

// appFacts are what is known of an App. What is secret is in files of its own.
type appFacts struct {
	ID   int64  `json:"id"`
	Slug string `json:"slug"`
	Name string `json:"name"`
	URL  string `json:"url"`
	// API is the base of GitHub's REST interface.
	API string `json:"api,omitempty"`

	key, secret []byte
}

func readApp(folder string) (*appFacts, error) {
	a := new(appFacts)
	data, err := os.ReadFile(filepath.Join(folder, appFile))
	if err == nil {
		err = json.Unmarshal(data, a)
	}
	if err == nil && a.ID == 0 {
		err = errors.New("it names no App")
	}
	if err != nil {
		return nil, fmt.Errorf("read the GitHub App in %s: %w", folder, err)
	}
	for _, f := range []struct {
		name string
		into *[]byte
	}{{appKeyFile, &a.key}, {appWebhookFile, &a.secret}} {
		if *f.into, err = os.ReadFile(filepath.Join(folder, f.name)); err != nil {
			return nil, fmt.Errorf("read the GitHub App in %s: %w", folder, err)
		}
	}
	a.secret = []byte(strings.TrimSpace(string(a.secret)))
	return a, nil
}

func writeApp(folder string, a github.App, api string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("make the App's folder: %w", err)
	}
	facts, err := json.MarshalIndent(appFacts{ID: a.ID, Slug: a.Slug, Name: a.Name, URL: a.URL, API: api}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the App: %w", err)
	}
	// The file that says that there is an App is the last.
	for _, f := range []struct{ name, text string }{{appKeyFile, string(a.Key)}, {appWebhookFile, a.WebhookSecret + "\n"}, {appFile, string(facts) + "\n"}} {
		if err := writePrivate(filepath.Join(folder, f.name), f.text); err != nil {
			return err
		}
	}
	return nil
}

func newAppCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "app",
		Short: "The GitHub App that keeps the checks of pull requests",
		Args:  maximumArgs(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAppCreateCommand())
	return cmd
}

// creation is what app create is told.
type creation struct {
	org, url, name, folder, server, api, listen string
	harden, replace                             bool
	timeout                                     time.Duration
}

func newAppCreateCommand() *cobra.Command {
	c := &creation{}
	cmd := &cobra.Command{
		Use:   "create --url https://HOST",
		Short: "Make a GitHub App with just the rights that it needs",
		Long: `Serves a page on this machine that sends you to GitHub with all that the App needs filled in
(a manifest). You look at it and press one button; GitHub comes back here, and the App's key and
the secret of its webhooks are written into --dir, for sallyport up and sallyport checks. They are
shown nowhere.

The page is for a browser on this machine; for one elsewhere forward its port by ssh (the command
is printed). A sallyport up that runs already has to be started again to find the App.

--url is where GitHub reaches this Sallyport: its webhooks go to URL/github/webhook, which a proxy
with TLS passes on to --webhooks of sallyport up.

The App may write checks and comments on pull requests, and read workflow runs, metadata and
contents (for .github/sallyport.yml and the lines of steps). With --harden it may also write
contents, pull requests and workflows, for sallyport harden org.

Exit codes: 0 made, 1 something failed or nobody came back in time, 2 wrong usage.`,
		Example: `  sallyport app create --org acme --url https://sallyport.acme.example
  sallyport app create --org acme --url https://sallyport.acme.example --harden --dir /etc/sallyport/github-app`,
		Args: maximumArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.StringVar(&c.org, "org", "", "organisation that the App belongs to (default: yourself)")
	f.StringVar(&c.url, "url", "", "https address at which GitHub reaches this Sallyport")
	f.StringVar(&c.name, "name", "", "name of the App, unique at GitHub (default Sallyport ORG)")
	f.StringVar(&c.folder, "dir", filepath.Join(defaultDataDir(), appFolder), "folder for the App")
	f.StringVar(&c.server, "github-url", "https://github.com", "GitHub")
	f.StringVar(&c.api, "github-api", "", "GitHub's API; https://HOST/api/v3/ for an Enterprise Server (default: that of github.com)")
	f.StringVar(&c.listen, "listen", "127.0.0.1:0", "address of the page")
	f.BoolVar(&c.harden, "harden", false, "let it write contents and workflows, too, for sallyport harden org")
	f.BoolVar(&c.replace, "replace", false, "write over an App that is in --dir")
	f.DurationVar(&c.timeout, "timeout", 15*time.Minute, "how long you are waited for")
	return cmd
}

// manifest is what GitHub makes an App of.
func (c *creation) manifest(back string) map[string]any {
	permissions := map[string]string{"checks": "write", "actions": "read", "contents": "read", "metadata": "read", "pull_requests": "write"}
	if c.harden {
		permissions["contents"], permissions["workflows"] = "write", "write"
	}
	name := c.name
	if name == "" {
		name = strings.TrimSpace("Sallyport " + c.org)
	}
	base := strings.TrimRight(c.url, "/")
	return map[string]any{
		"name": name, "url": base, "public": false, "redirect_url": back, "hook_attributes": map[string]any{"url": base + webhookPath, "active": true},
		"default_permissions": permissions, "default_events": checks.Events,
		"description": "Says in a check what the jobs of a commit did that they had never done before.",
	}
}

var createPage = template.Must(template.New("create").Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Sallyport</title>
<body style="font: 1rem/1.5 system-ui; max-width: 40rem; margin: 4rem auto">
<h1>Make the GitHub App</h1>
<p>GitHub shows you its name and its rights; you can change the name. Nothing is made before you press the button there.</p>
<form action="{{.Action}}" method="post"><input type="hidden" name="manifest" value="{{.Manifest}}"><button autofocus>Go on to GitHub</button></form>
`))

var createdPage = template.Must(template.New("created").Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Sallyport</title>
<body style="font: 1rem/1.5 system-ui; max-width: 40rem; margin: 4rem auto">
<h1>{{.Name}} is there</h1>
<p>Its key is on the machine that runs Sallyport. Now <a href="{{.Install}}">install it</a> for your repositories.</p>
`))

func (c *creation) run(ctx context.Context, out io.Writer) error {
	u, err := url.Parse(c.url)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return usageError(fmt.Errorf("--url %q is no https address at which GitHub can reach this Sallyport", c.url))
	}
	if strings.ContainsAny(c.org, "/?#") {
		return usageError(fmt.Errorf("--org %q is no organisation's name", c.org))
	}
	if _, err := os.Stat(filepath.Join(c.folder, appFile)); !errors.Is(err, fs.ErrNotExist) && !c.replace {
		return usageError(fmt.Errorf("there is an App in %s: choose another --dir, or --replace it", c.folder))
	}
	client, err := github.New(github.Config{URL: c.api, WritePause: -1})
	if err != nil {
		return usageError(err)
	}
	l, err := listen("listen", c.listen)
	if err != nil {
		return err
	}
	state := rand.Text()
	here := "http://" + l.Addr().String()
	action := c.server + "/settings/apps/new?state=" + state
	if c.org != "" {
		action = c.server + "/organizations/" + url.PathEscape(c.org) + "/settings/apps/new?state=" + state //nolint:misspell // GitHub's
	}
	manifest, err := json.Marshal(c.manifest(here + "/created"))
	if err != nil {
		return errors.Join(fmt.Errorf("write the manifest: %w", err), l.Close())
	}
	type made struct {
		app github.App
		err error
	}
	done := make(chan made, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_ = createPage.Execute(w, map[string]any{"Action": action, "Manifest": string(manifest)}) // the browser has gone
	})
	mux.HandleFunc("GET /created", func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.FormValue("state")), []byte(state)) != 1 {
			http.Error(w, "this is not what was begun here; begin again", http.StatusForbidden)
			return
		}
		app, err := client.ConvertManifest(r.Context(), r.FormValue("code"))
		if err == nil {
			err = writeApp(c.folder, app, c.api)
		}
		if err != nil {
			http.Error(w, "It did not work; the terminal says why.", http.StatusBadGateway)
		} else {
			_ = createdPage.Execute(w, map[string]any{"Name": app.Name, "Install": app.URL + "/installations/new"}) // as above
		}
		select {
		case done <- made{app, err}:
		default:
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	fmt.Fprintf(out, "Open %s/ in a browser on this machine, and make the App there.\n", here)
	if a, ok := l.Addr().(*net.TCPAddr); ok && a.IP.IsLoopback() {
		fmt.Fprintf(out, "If the browser is elsewhere, forward the port: ssh -N -L %d:%s THIS-MACHINE, and open the same address there.\n", a.Port, a)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var result made
	select {
	case <-ctx.Done():
		result.err = errors.New("nobody came back from GitHub: begin again")
	case result = <-done:
	}
	stopping, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancelStop()
	err = server.Shutdown(stopping)
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	if result.err != nil || err != nil {
		return errors.Join(result.err, err)
	}
	_, err = fmt.Fprintf(out, "%s is made (App %d); its key and the secret of its webhooks are in %s.\nInstall it: %s/installations/new\nThen start sallyport up, or start it again if it runs: sallyport up --github-app %s\n",
		result.app.Name, result.app.ID, c.folder, result.app.URL, c.folder)
	return err
}
