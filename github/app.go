package github

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bradleyfalzon/ghinstallation/v2"
)

// App is a GitHub App as it was just made: all of it is secret but the first four.
type App struct {
	ID                  int64
	Slug, Name, URL     string
	Key                 []byte // PEM
	WebhookSecret       string
	ClientID, ClientKey string
}

// ConvertManifest exchanges the code with which GitHub comes back from a manifest for the App
// that somebody made of it. A code works once, within an hour.
func (c *Client) ConvertManifest(ctx context.Context, code string) (App, error) {
	a, _, err := c.api.Apps.CompleteAppManifest(ctx, code)
	if err != nil {
		return App{}, said("exchange the code of an App's manifest", err)
	}
	return App{
		ID: a.GetID(), Slug: a.GetSlug(), Name: a.GetName(), URL: a.GetHTMLURL(), Key: []byte(a.GetPEM()), WebhookSecret: a.GetWebhookSecret(),
		ClientID: a.GetClientID(), ClientKey: a.GetClientSecret(),
	}, nil
}

// InstallationByID makes the client of an App in an installation that a webhook names.
func (c *Client) InstallationByID(ctx context.Context, id int64) (*Client, error) {
	if c.apps == nil {
		return nil, errNoApp
	}
	app, _, err := c.api.Apps.Get(ctx, "")
	if err != nil {
		return nil, said("ask who the App is", err)
	}
	tr := ghinstallation.NewFromAppsTransport(c.apps, id)
	tr.BaseURL = strings.TrimSuffix(c.config.URL, "/")
	out := &Client{config: c.config, app: true, login: app.GetSlug() + "[bot]"}
	return out, out.open(tr)
}

var errNoApp = errors.New("github: only an App has installations")

// InstallationOf returns the number of an App's installation for a repository. Errors wrap
// ErrNotFound if it is not installed there.
func (c *Client) InstallationOf(ctx context.Context, repository string) (int64, error) {
	if c.apps == nil {
		return 0, errNoApp
	}
	i, _, err := c.api.Apps.GetRepositoryInstallation(ctx, ownerOf(repository), nameOf(repository))
	if err != nil {
		return 0, said(fmt.Sprintf("find the App's installation in %s", repository), err)
	}
	return i.GetID(), nil
}
