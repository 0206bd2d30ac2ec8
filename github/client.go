package github

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/bradleyfalzon/ghinstallation/v2"
	"github.com/gofri/go-github-ratelimit/v2/github_ratelimit"
	"github.com/gofri/go-github-ratelimit/v2/github_ratelimit/github_primary_ratelimit"
	"github.com/gofri/go-github-ratelimit/v2/github_ratelimit/github_secondary_ratelimit"
	gh "github.com/google/go-github/v88/github"
)

// Config says how GitHub is reached, and as whom.
type Config struct {
	// URL is the base of the REST interface; https://api.github.com/ by default, and
	// https://HOST/api/v3/ for an Enterprise Server.
	URL string
	// Token of a person or of a job. Without it and without an App only public things are read,
	// some sixty requests an hour.
	Token string
	// AppID and AppKey (PEM) are those of a GitHub App.
	AppID  int64
	AppKey []byte
	// Cache is a folder that keeps answers, to be asked again only if they changed, which costs
	// nothing of the rate limit; empty for none. What it keeps may be of private repositories.
	Cache string
	// WritePause is kept between two writes; a second by default, as GitHub asks. Negative: none.
	WritePause time.Duration
	// Waiting is told when a rate limit is waited for, until when; may be nil.
	Waiting func(until time.Time)
	// Transport is the lowest; http.DefaultTransport by default.
	Transport http.RoundTripper
}

// What callers act on.
var (
	// ErrNotFound says that there is no such thing, or that it may not be seen.
	ErrNotFound = errors.New("GitHub has none, or does not show it")
	// ErrForbidden says that the token may not do it.
	ErrForbidden = errors.New("GitHub does not allow it")
	// ErrMoved says that a branch is no longer where it was seen.
	ErrMoved = errors.New("somebody else has moved the branch meanwhile")
	// ErrRefused says that GitHub does not take what was sent as it is.
	ErrRefused = errors.New("GitHub does not take it")
	// ErrTooLarge says that a file is larger than is read.
	ErrTooLarge = errors.New("it is too large")
	// ErrProtected says that a rule of the repository is against it.
	ErrProtected = errors.New("a rule of the repository is against it")
)

// Client is one identity at one GitHub.
type Client struct {
	api    *gh.Client
	config Config
	apps   *ghinstallation.AppsTransport
	app    bool // its commits are signed by GitHub

	mu    sync.Mutex
	login string
}

// New makes a client with a token, of an App itself (Installation makes one for an organisation),
// or without either.
func New(c Config) (*Client, error) {
	c.URL = cmp.Or(c.URL, "https://api.github.com/")
	if !strings.HasSuffix(c.URL, "/") {
		c.URL += "/"
	}
	if u, err := url.Parse(c.URL); err != nil || u.Scheme == "" || u.Host == "" {
		return nil, fmt.Errorf("github: %q is no address", c.URL)
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	out := &Client{config: c}
	switch {
	case c.AppID != 0 && c.Token != "":
		return nil, errors.New("github: give either an App or a token")
	case c.AppID != 0:
		apps, err := ghinstallation.NewAppsTransport(c.Transport, c.AppID, c.AppKey)
		if err != nil {
			return nil, fmt.Errorf("github: key of App %d: %w", c.AppID, err)
		}
		apps.BaseURL = strings.TrimSuffix(c.URL, "/")
		out.apps = apps
		return out, out.open(apps)
	case c.Token != "":
		return out, out.open(&bearer{c.Transport, c.Token})
	}
	return out, out.open(c.Transport)
}

// Installation makes the client of an App in an organisation or of a user that it is installed
// for.
func (c *Client) Installation(ctx context.Context, owner string) (*Client, error) {
	if c.apps == nil {
		return nil, errNoApp
	}
	i, _, err := c.api.Apps.GetOrganizationInstallation(ctx, owner)
	if errors.Is(said("", err), ErrNotFound) {
		i, _, err = c.api.Apps.GetUserInstallation(ctx, owner)
	}
	if err != nil {
		return nil, said("find the App's installation in "+owner, err)
	}
	return c.InstallationByID(ctx, i.GetID())
}

// open builds the chain of transports above one that shows who asks.
func (c *Client) open(auth http.RoundTripper) error {
	told := func(until *time.Time) {
		if c.config.Waiting != nil && until != nil {
			c.config.Waiting(*until)
		}
	}
	limited := github_ratelimit.New(auth,
		github_primary_ratelimit.WithLimitDetectedCallback(func(x *github_primary_ratelimit.CallbackContext) {
			// The library's own sleep goes on when nobody waits for the answer any more.
			if x.ResetTime == nil {
				return
			}
			told(x.ResetTime)
			timer := time.NewTimer(time.Until(*x.ResetTime))
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-x.Request.Context().Done():
			}
		}),
		github_primary_ratelimit.WithRequestPreventedCallback(func(x *github_primary_ratelimit.CallbackContext) { told(x.ResetTime) }),
		github_secondary_ratelimit.WithLimitDetectedCallback(func(x *github_secondary_ratelimit.CallbackContext) { told(x.ResetTime) }),
	)
	top := http.RoundTripper(&again{limited})
	if c.config.WritePause >= 0 {
		top = &pace{next: top, pause: cmp.Or(c.config.WritePause, time.Second)}
	}
	if c.config.Cache != "" {
		top = &conditional{next: top, folder: c.config.Cache, who: c.who()}
	}
	api, err := gh.NewClient(gh.WithHTTPClient(&http.Client{Transport: top}), gh.WithURLs(&c.config.URL, nil), gh.WithDisableRateLimitCheck())
	if err != nil {
		return fmt.Errorf("github: %w", err)
	}
	c.api = api
	return nil
}

// Login is who the client acts as; empty for nobody, or for the token of a job, whom GitHub does
// not tell its name.
func (c *Client) Login(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.login != "" || c.config.Token == "" {
		return c.login, nil
	}
	u, _, err := c.api.Users.Get(ctx, "")
	if errors.Is(said("", err), ErrForbidden) {
		return "", nil
	}
	if err != nil {
		return "", said("ask who the token is of", err)
	}
	c.login = u.GetLogin()
	return c.login, nil
}

// bearer shows a token.
type bearer struct {
	next  http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// said puts an error of the library into the terms of this package.
func said(doing string, err error) error {
	if err == nil {
		return nil
	}
	var answer *gh.ErrorResponse
	if !errors.As(err, &answer) || answer.Response == nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	text := answer.Message
	for _, e := range answer.Errors {
		if e.Message != "" {
			text += ": " + e.Message
		}
	}
	lower := strings.ToLower(text)
	kind := error(nil)
	switch code := answer.Response.StatusCode; {
	case code == http.StatusNotFound:
		kind = ErrNotFound
	case strings.Contains(lower, "rule violation") || strings.Contains(lower, "protected branch"):
		kind = ErrProtected
	case strings.Contains(lower, "fast forward"):
		kind = ErrMoved
	case code == http.StatusUnprocessableEntity:
		kind = ErrRefused
	case code == http.StatusForbidden || code == http.StatusUnauthorized:
		kind = ErrForbidden
	}
	if kind == nil {
		return fmt.Errorf("%s: GitHub says %d: %s", doing, answer.Response.StatusCode, oneLine(text))
	}
	return fmt.Errorf("%s: %w (%d: %s)", doing, kind, answer.Response.StatusCode, oneLine(text))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
