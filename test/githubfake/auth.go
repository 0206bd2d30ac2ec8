package githubfake

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

// App is a GitHub App.
type App struct {
	ID            int64
	Slug, Name    string
	Owner         string
	WebhookSecret string
	// Key signs its requests.
	Key *rsa.PrivateKey

	clientID      string
	permissions   map[string]string
	installations []*installation
}

// KeyPEM is its key as GitHub hands it out.
func (a *App) KeyPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(a.Key)})
}

type installation struct {
	id          int64
	account     string
	permissions map[string]string
	repos       []string // names; all if nil
	app         *App
	suspended   bool
}

// token is what a request shows.
type token struct {
	value        string
	login        string
	app          *App
	installation *installation
	permissions  map[string]string
	until        time.Time // zero: no end
}

// NewApp makes an App that is installed on accounts with permissions such as contents: write.
func (s *Server) NewApp(slug string, permissions map[string]string, accounts ...string) *App {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := appKey(len(s.apps))
	a := &App{ID: s.id(), Slug: slug, Name: slug, Owner: "acme", Key: key, WebhookSecret: word(20), clientID: "Iv1." + word(8), permissions: permissions}
	if len(accounts) > 0 {
		a.Owner = accounts[0]
	}
	s.apps[a.ID] = a
	for _, login := range accounts {
		s.accountLocked(login, kindOrganisation)
		a.installations = append(a.installations, &installation{id: s.id(), account: login, permissions: maps.Clone(permissions), app: a})
	}
	s.accountLocked(slug+"[bot]", "Bot")
	return a
}

var appKeys struct {
	sync.Mutex
	made []*rsa.PrivateKey
}

// appKey is the key of the n-th App of a server: making one takes a tenth of a second, so all
// servers of a program have the same.
func appKey(n int) *rsa.PrivateKey {
	appKeys.Lock()
	defer appKeys.Unlock()
	for len(appKeys.made) <= n {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		appKeys.made = append(appKeys.made, key)
	}
	return appKeys.made[n]
}

// Manifest makes the code with which GitHub comes back after somebody created an App out of a
// manifest in the browser.
func (s *Server) Manifest(a *App) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := word(20)
	s.codes[code] = a
	return code
}

// Token makes a personal token of a user, who may write to everything; without the scope
// workflow unless workflows says so.
func (s *Server) Token(login string, workflows bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accountLocked(login, "User")
	t := &token{value: "ghp_" + word(36), login: login, permissions: map[string]string{
		"contents": "write", "pull_requests": "write", "issues": "write", "metadata": "read", "actions": "write",
	}}
	if workflows {
		t.permissions["workflows"] = "write"
	}
	s.tokens[t.value] = t
	return t.value
}

func word(n int) string {
	b := make([]byte, n/2)
	_, _ = rand.Read(b) // never fails, by its documentation
	return hex.EncodeToString(b)
}

func (s *Server) authenticate(r *request) error {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case r.Header.Get("Authorization") == "":
		return nil
	case !strings.EqualFold(scheme, "bearer") && !strings.EqualFold(scheme, "token"):
		return fail(http.StatusUnauthorized, "Bad credentials")
	case strings.Count(value, ".") == 2:
		return s.authenticateApp(r, value)
	}
	t := s.tokens[value]
	if t == nil || !t.until.IsZero() && s.now().After(t.until) {
		return fail(http.StatusUnauthorized, "Bad credentials")
	}
	r.by = t
	return nil
}

// authenticateApp holds an App's JWT to what GitHub's documentation asks of it.
func (s *Server) authenticateApp(r *request, value string) error {
	var claims jwt.RegisteredClaims
	var app *App
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation())
	_, err := parser.ParseWithClaims(value, &claims, func(*jwt.Token) (any, error) {
		for _, a := range s.apps {
			if fmt.Sprint(a.ID) == claims.Issuer || a.clientID == claims.Issuer {
				app = a
				return &a.Key.PublicKey, nil
			}
		}
		return nil, fail(http.StatusUnauthorized, "Integration not found")
	})
	switch {
	case err != nil:
		return fail(http.StatusUnauthorized, "A JSON web token could not be decoded: %v", err)
	case claims.ExpiresAt == nil || claims.IssuedAt == nil:
		return fail(http.StatusUnauthorized, "Missing 'exp' or 'iat'")
	case claims.ExpiresAt.Sub(s.now()) > 10*time.Minute:
		return fail(http.StatusUnauthorized, "'Expiration time' claim ('exp') is too far in the future")
	case s.now().After(claims.ExpiresAt.Time):
		return fail(http.StatusUnauthorized, "'Expiration time' claim ('exp') must be a numeric value representing the future time")
	case claims.IssuedAt.Sub(s.now()) > 0:
		return fail(http.StatusUnauthorized, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
	}
	r.app = app
	return nil
}

// needApp answers those who are no App with its own key.
func (r *request) needApp() error {
	if r.app == nil {
		return fail(http.StatusUnauthorized, "A JSON web token could not be decoded")
	}
	return nil
}

// allowed says whether the token may do something in a repository: level is read or write.
func (s *Server) allowed(r *request, repo *Repository, permission, level string) error {
	if r.by == nil {
		if level == "read" && !repo.Private {
			return nil
		}
		if level == "read" {
			return errNotFound
		}
		return fail(http.StatusUnauthorized, "Requires authentication")
	}
	if i := r.by.installation; i != nil {
		mine := strings.EqualFold(i.account, repo.owner()) && (i.repos == nil || slices.Contains(i.repos, repo.short()))
		if !mine {
			if level == "read" && !repo.Private {
				return nil
			}
			if repo.Private {
				return errNotFound
			}
			return fail(http.StatusForbidden, "Resource not accessible by integration")
		}
		has := r.by.permissions[permission]
		if permission == "metadata" || has == "write" || has == "admin" || has == level || level == "read" && !repo.Private {
			return nil
		}
		return fail(http.StatusForbidden, "Resource not accessible by integration")
	}
	if level == "write" && repo.readers[strings.ToLower(r.by.login)] {
		return errNotFound // GitHub hides what one may not do
	}
	if level == "write" && permission == "checks" {
		return fail(http.StatusForbidden, "You must authenticate via a GitHub App.")
	}
	return nil
}

func (s *Server) appHandlers() map[string]handler {
	return map[string]handler{
		"GET /app": func(r *request) (any, error) {
			if err := r.needApp(); err != nil {
				return nil, err
			}
			return s.appJSON(r.app), nil
		},
		"GET /app/installations": func(r *request) (any, error) {
			if err := r.needApp(); err != nil {
				return nil, err
			}
			out := []any{}
			for _, i := range page(r, r.app.installations) {
				out = append(out, s.installationJSON(i))
			}
			return out, nil
		},
		"POST /app/installations/{installation_id}/access_tokens": s.newInstallationToken,
		"GET /orgs/{org}/installation": func(r *request) (any, error) {
			return s.findInstallation(r, r.PathValue("org"), "")
		},
		"GET /users/{username}/installation": func(r *request) (any, error) {
			return s.findInstallation(r, r.PathValue("username"), "")
		},
		"GET /repos/{owner}/{repo}/installation": func(r *request) (any, error) {
			return s.findInstallation(r, r.PathValue("owner"), r.PathValue("repo"))
		},
		"GET /installation/repositories": func(r *request) (any, error) {
			if r.by == nil || r.by.installation == nil {
				return nil, fail(http.StatusForbidden, "You must authenticate with an installation access token in order to list repositories for an installation.")
			}
			var mine []*Repository
			for _, repo := range s.order {
				i := r.by.installation
				if strings.EqualFold(repo.owner(), i.account) && (i.repos == nil || slices.Contains(i.repos, repo.short())) {
					mine = append(mine, repo)
				}
			}
			list := []any{}
			for _, repo := range page(r, mine) {
				list = append(list, s.repositoryJSON(repo))
			}
			return map[string]any{"total_count": len(mine), "repositories": list}, nil
		},
		"POST /app-manifests/{code}/conversions": func(r *request) (any, error) {
			a := s.codes[r.PathValue("code")]
			if a == nil {
				return nil, errNotFound
			}
			delete(s.codes, r.PathValue("code")) // works once
			out := s.appJSON(a)
			out["client_secret"], out["webhook_secret"], out["pem"] = word(40), a.WebhookSecret, string(a.KeyPEM())
			return out, nil
		},
		"GET /user": func(r *request) (any, error) {
			switch {
			case r.by == nil:
				return nil, fail(http.StatusUnauthorized, "Requires authentication")
			case r.by.installation != nil:
				return nil, fail(http.StatusForbidden, "Resource not accessible by integration")
			}
			return s.profileJSON(r.by.login), nil
		},
		"GET /users/{username}": func(r *request) (any, error) {
			if s.accounts[strings.ToLower(r.PathValue("username"))] == nil {
				return nil, errNotFound
			}
			return s.profileJSON(r.PathValue("username")), nil
		},
		"GET /orgs/{org}": func(r *request) (any, error) {
			a := s.accounts[strings.ToLower(r.PathValue("org"))]
			if a == nil || a.Type != kindOrganisation {
				return nil, errNotFound
			}
			out := s.userJSON(a.Login)
			out["is_verified"] = a.Verified
			out["type"] = a.Type
			return out, nil
		},
		"GET /rate_limit": func(*request) (any, error) {
			rate := map[string]any{"limit": s.limit, "remaining": max(s.limit-s.used, 0), "used": s.used, "reset": s.reset.Unix()}
			return map[string]any{"resources": map[string]any{"core": rate, "search": rate}, "rate": rate}, nil
		},
	}
}

func (s *Server) findInstallation(r *request, owner, repo string) (any, error) {
	if err := r.needApp(); err != nil {
		return nil, err
	}
	for _, i := range r.app.installations {
		if strings.EqualFold(i.account, owner) && (repo == "" || i.repos == nil || slices.Contains(i.repos, repo)) {
			return s.installationJSON(i), nil
		}
	}
	return nil, errNotFound
}

func (s *Server) newInstallationToken(r *request) (any, error) {
	if err := r.needApp(); err != nil {
		return nil, err
	}
	for _, i := range r.app.installations {
		if fmt.Sprint(i.id) != r.PathValue("installation_id") {
			continue
		}
		if i.suspended {
			return nil, fail(http.StatusForbidden, "This installation has been suspended")
		}
		var asked struct {
			Permissions map[string]string `json:"permissions"`
		}
		if err := r.read(&asked); err != nil {
			return nil, err
		}
		permissions := maps.Clone(i.permissions)
		if asked.Permissions != nil {
			for name, level := range asked.Permissions {
				if has := i.permissions[name]; has == "" || has == "read" && level == "write" {
					return nil, fail(http.StatusUnprocessableEntity, "The permissions requested are not granted to this installation.")
				}
			}
			permissions = asked.Permissions
		}
		t := &token{value: "ghs_" + word(36), login: r.app.Slug + "[bot]", app: r.app, installation: i, permissions: permissions, until: s.now().Add(time.Hour)}
		s.tokens[t.value] = t
		return map[string]any{"token": t.value, "expires_at": t.until.UTC().Format(time.RFC3339), "permissions": permissions, "repository_selection": "all"}, nil
	}
	return nil, errNotFound
}

func (s *Server) appJSON(a *App) map[string]any {
	return map[string]any{
		"id": a.ID, "slug": a.Slug, "name": a.Name, "client_id": a.clientID, "node_id": "A_" + fmt.Sprint(a.ID),
		"owner": s.userJSON(a.Owner), "permissions": a.permissions, "events": []string{"check_run", "workflow_run"},
		"html_url": s.http.URL + "/apps/" + a.Slug, "external_url": "https://sallyport.example.test/",
		"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
	}
}

func (s *Server) installationJSON(i *installation) map[string]any {
	return map[string]any{
		"id": i.id, "account": s.userJSON(i.account), "app_id": i.app.ID, "app_slug": i.app.Slug, "target_type": kindOrganisation,
		"permissions": i.permissions, "repository_selection": "all", "events": []string{},
		"access_tokens_url": fmt.Sprintf("%s/app/installations/%d/access_tokens", s.http.URL, i.id),
		"created_at":        "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
	}
}

func (s *Server) userJSON(login string) map[string]any {
	a := s.accounts[strings.ToLower(login)]
	if a == nil {
		a = &Account{Login: login, Type: "User"}
	}
	return map[string]any{
		"login": a.Login, "id": a.ID, "type": a.Type, "node_id": fmt.Sprint("U_", a.ID), "site_admin": false,
		"html_url": s.http.URL + "/" + a.Login, "created_at": a.Created.UTC().Format(time.RFC3339), "updated_at": a.Created.UTC().Format(time.RFC3339),
	}
}

// profileJSON is an account where it is asked for by itself, as everybody sees it.
func (s *Server) profileJSON(login string) map[string]any {
	out := s.userJSON(login)
	out["user_view_type"] = "public"
	return out
}
