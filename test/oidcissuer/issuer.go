// Package oidcissuer signs tokens in tests as GitHub Actions does in jobs: the same claims,
// the same discovery, keys that rotate, and the address at which a job asks for a token. It
// follows "OpenID Connect reference" in GitHub's documentation; no GitHub is asked.
package oidcissuer

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Issuer is a running issuer. It is safe for concurrent use.
type Issuer struct {
	// URL is its name, the claim iss.
	URL string
	// RequestToken is what a job shows for a token (ACTIONS_ID_TOKEN_REQUEST_TOKEN).
	RequestToken string
	server       *httptest.Server

	mu     sync.Mutex
	now    func() time.Time
	claims map[string]any // of the job that asks
	keys   []key          // the last one signs
	number int            // of keys and tokens made
	asked  int            // for keys
	down   bool
}

type key struct {
	id      string
	private *rsa.PrivateKey
}

// New starts an issuer on loopback, with one key.
func New(now func() time.Time) (*Issuer, error) {
	i := &Issuer{now: now, RequestToken: "request-" + rand.Text(), claims: map[string]any{}}
	if err := i.Rotate(); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		i.answer(w, map[string]any{
			"issuer": i.URL, "jwks_uri": i.URL + "/.well-known/jwks", "subject_types_supported": []string{"public", "pairwise"},
			"response_types_supported": []string{"id_token"}, "id_token_signing_alg_values_supported": []string{"RS256"}, "scopes_supported": []string{"openid"},
		})
	})
	mux.HandleFunc("GET /.well-known/jwks", func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.asked++
		set := jose.JSONWebKeySet{}
		for _, k := range i.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: "RS256", Use: "sig"})
		}
		i.mu.Unlock()
		i.answer(w, set)
	})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "bearer "+i.RequestToken && r.Header.Get("Authorization") != "Bearer "+i.RequestToken {
			http.Error(w, `{"message":"no token"}`, http.StatusUnauthorized)
			return
		}
		token := i.Token(map[string]any{"aud": r.URL.Query().Get("audience")})
		i.answer(w, map[string]any{"count": len(token), "value": token})
	})
	i.server = httptest.NewServer(mux)
	i.URL = i.server.URL
	return i, nil
}

func (i *Issuer) answer(w http.ResponseWriter, body any) {
	i.mu.Lock()
	down := i.down
	i.mu.Unlock()
	if down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // a client that has gone hears nothing
}

// Close stops it.
func (i *Issuer) Close() { i.server.Close() }

// RequestURL is where a job asks for a token (ACTIONS_ID_TOKEN_REQUEST_URL). As GitHub's,
// it has a query already.
func (i *Issuer) RequestURL() string { return i.URL + "/token?api-version=2.0" }

// Job sets claims of the tokens to come; nil takes one away.
func (i *Issuer) Job(claims map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	maps.Copy(i.claims, claims)
}

// Down has every question fail, or not any more.
func (i *Issuer) Down(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Asked is how often it was asked for its keys.
func (i *Issuer) Asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

// Rotate adds a key, which signs from now on.
func (i *Issuer) Rotate() error {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.number++
	i.keys = append(i.keys, key{"key-" + strconv.Itoa(i.number), private})
	return nil
}

// Withdraw takes away all keys but the last.
func (i *Issuer) Withdraw() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = i.keys[len(i.keys)-1:]
}

// Key returns the key that signs, and its identity.
func (i *Issuer) Key() (id string, private *rsa.PrivateKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	k := i.keys[len(i.keys)-1]
	return k.id, k.private
}

// Claims returns the claims of a new token of a job, changed; nil takes a claim away. Times
// are as GitHub sets them: from ten minutes ago for fifteen minutes.
func (i *Issuer) Claims(change map[string]any) map[string]any {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.number++
	now := i.now().Unix()
	claims := map[string]any{
		"jti": fmt.Sprintf("6f4762ed-0758-4ccb-808d-%012d", i.number), "sub": "repo:acme/shop:ref:refs/heads/main", "aud": "https://github.com/acme",
		"ref": "refs/heads/main", "sha": "4103d2a5b40524cf5b9817b6072169faa81ea1ef", "repository": "acme/shop", "repository_owner": "acme",
		"repository_owner_id": "342", "run_id": "1658821493", "run_number": "34", "run_attempt": "2", "repository_visibility": "private",
		"repository_id": "74", "actor_id": "12", "actor": "alice", "workflow": "CI", "head_ref": "", "base_ref": "", "event_name": "push",
		"ref_protected": "true", "ref_type": "branch", "workflow_ref": "acme/shop/.github/workflows/ci.yml@refs/heads/main",
		"workflow_sha": "4103d2a5b40524cf5b9817b6072169faa81ea1ef", "job_workflow_ref": "acme/shop/.github/workflows/ci.yml@refs/heads/main",
		"job_workflow_sha": "4103d2a5b40524cf5b9817b6072169faa81ea1ef", "runner_environment": "github-hosted",
		"iss": i.URL, "nbf": now - 600, "exp": now + 300, "iat": now,
	}
	maps.Copy(claims, i.claims)
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// Token returns a signed token with the claims of Claims.
func (i *Issuer) Token(change map[string]any) string {
	id, private := i.Key()
	return Sign(jose.RS256, id, private, i.Claims(change))
}

// Sign signs claims by any algorithm and key. It panics if they do not go together.
func Sign(algorithm jose.SignatureAlgorithm, keyID string, key any, claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: keyID}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}
