package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport-ci/sallyport/test/oidcissuer"
)

const testAudience = "https://sallyport.example.test"

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newIssuer(t testing.TB, c *clock) *oidcissuer.Issuer {
	t.Helper()
	i, err := oidcissuer.New(c.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

func newVerifier(t testing.TB, issuer string, c *clock, allow ...string) *Verifier {
	t.Helper()
	let, err := NewAllow(allow)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(VerifierConfig{Issuer: issuer, Audience: testAudience, Allow: let, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

type claims = map[string]any

func TestTokenOfAJob(t *testing.T) {
	c := newClock()
	issuer := newIssuer(t, c)
	v := newVerifier(t, issuer.URL, c, "acme/*")
	got, err := v.Verify(t.Context(), issuer.Token(claims{"aud": testAudience}))
	if err != nil {
		t.Fatal(err)
	}
	if got.Repository != "acme/shop" || got.RunID != "1658821493" || got.Attempt != 2 || got.RunnerEnvironment != "github-hosted" || got.ID == "" {
		t.Errorf("%+v", got)
	}
	// A list of one audience is one, and a repository's name is the same in capitals.
	if _, err := v.Verify(t.Context(), issuer.Token(claims{"aud": []string{testAudience}, "repository": "Acme/Shop", "repository_owner": "Acme"})); err != nil {
		t.Error(err)
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	c := newClock()
	issuer := newIssuer(t, c)
	other := newIssuer(t, c)
	v := newVerifier(t, issuer.URL, c, "acme/*", "other/one")
	id, key := issuer.Key()
	_, foreign := other.Key()
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := claims{"aud": testAudience}
	with := func(changes ...any) string {
		change := claims{"aud": testAudience}
		for i := 0; i < len(changes); i += 2 {
			change[changes[i].(string)] = changes[i+1]
		}
		return issuer.Token(change)
	}
	unix := func(d time.Duration) int64 { return c.Now().Add(d).Unix() }
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	parts := strings.Split(issuer.Token(good), ".")
	for _, r := range []struct {
		name, token string
		reason      Reason
	}{
		{"for GitHub itself", issuer.Token(nil), ReasonAudience},
		{"for another server", with("aud", testAudience+".evil.example.test"), ReasonAudience},
		{"for two servers", with("aud", []string{testAudience, "https://other.example.test"}), ReasonAudience},
		{"for nobody", with("aud", nil), ReasonAudience},
		{"of another issuer", other.Token(good), ReasonIssuer},
		{"of another issuer in our issuer's name", oidcissuer.Sign(jose.RS256, id, foreign, issuer.Claims(good)), ReasonSignature},
		{"with a key that nobody has", oidcissuer.Sign(jose.RS256, "invented", foreign, issuer.Claims(good)), ReasonUnknownKey},
		{"with no key named", oidcissuer.Sign(jose.RS256, "", key, issuer.Claims(good)), ReasonUnknownKey},
		{"with a small key", oidcissuer.Sign(jose.RS256, id, small, issuer.Claims(good)), ReasonSignature},
		{"alg none", part(claims{"alg": "none", "kid": id}) + "." + parts[1] + ".", ReasonAlgorithm},
		{"alg None with a signature", part(claims{"alg": "None", "kid": id}) + "." + parts[1] + "." + parts[2], ReasonAlgorithm},
		{"HS256 with the public key as secret", oidcissuer.Sign(jose.HS256, id, asPEM, issuer.Claims(good)), ReasonAlgorithm},
		{"HS256 with the public key's DER as secret", oidcissuer.Sign(jose.HS256, id, public, issuer.Claims(good)), ReasonAlgorithm},
		{"PS256", oidcissuer.Sign(jose.PS256, id, key, issuer.Claims(good)), ReasonAlgorithm},
		{"RS512", oidcissuer.Sign(jose.RS512, id, key, issuer.Claims(good)), ReasonAlgorithm},
		{"without a signature", parts[0] + "." + parts[1] + ".", ReasonSignature},
		{"with a key of its own", part(claims{"alg": "RS256", "kid": "mine", "jwk": jose.JSONWebKey{Key: foreign.Public()}}) + "." + parts[1] + "." + parts[2], ReasonUnknownKey},
		{"with other claims than those signed", parts[0] + "." + part(issuer.Claims(claims{"aud": testAudience, "repository": "acme/bank"})) + "." + parts[2], ReasonSignature},
		{"critical header that nobody knows", part(claims{"alg": "RS256", "kid": id, "crit": []string{"x"}, "x": 1}) + "." + parts[1] + "." + parts[2], ReasonSignature},
		{"expired", with("exp", unix(-2*time.Minute)), ReasonExpired},
		{"just expired", with("exp", unix(-61*time.Second)), ReasonExpired},
		{"not yet valid", with("nbf", unix(2*time.Minute)), ReasonNotYetValid},
		{"issued in the future", with("iat", unix(2*time.Minute)), ReasonNotYetValid},
		{"good for ever", with("exp", unix(365*24*time.Hour)), ReasonClaims},
		{"good without end", with("exp", nil), ReasonClaims},
		{"without a beginning", with("iat", nil), ReasonClaims},
		{"time is text", with("exp", "tomorrow"), ReasonMalformed},
		{"time is beyond all", with("exp", 1e300), ReasonMalformed},
		{"of a repository that is not let in", with("repository", "evil/corp", "repository_owner", "evil"), ReasonRepository},
		{"of an owner whose name only begins so", with("repository", "acme-evil/shop", "repository_owner", "acme-evil"), ReasonRepository},
		{"of the owner of one that is let in", with("repository", "other/two", "repository_owner", "other"), ReasonRepository},
		{"with a line of a let in one", with("repository", "acme/shop\n", "repository_owner", "acme"), ReasonClaims},
		{"with a path for a repository", with("repository", "acme/shop/x", "repository_owner", "acme"), ReasonClaims},
		{"with the owner of another", with("repository_owner", "evil"), ReasonClaims},
		{"run is no number", with("run_id", "7 8"), ReasonClaims},
		{"attempt 0", with("run_attempt", "0"), ReasonClaims},
		{"attempt beyond all", with("run_attempt", "99999999999"), ReasonClaims},
		{"runner of a kind nobody knows", with("runner_environment", "moon"), ReasonClaims},
		{"claim is a number", with("run_id", 7), ReasonMalformed},
		{"claim is long", with("actor", strings.Repeat("a", 1100)), ReasonClaims},
		{"without jti", with("jti", nil), ReasonClaims},
		{"without repository", with("repository", nil), ReasonClaims},
		{"without repository_id", with("repository_id", nil), ReasonClaims},
		{"without repository_owner", with("repository_owner", nil), ReasonClaims},
		{"without run_id", with("run_id", nil), ReasonClaims},
		{"without run_attempt", with("run_attempt", nil), ReasonClaims},
		{"without job_workflow_ref", with("job_workflow_ref", nil), ReasonClaims},
		{"without runner_environment", with("runner_environment", nil), ReasonClaims},
		{"without sha", with("sha", nil), ReasonClaims},
		{"without ref", with("ref", nil), ReasonClaims},
		{"without event_name", with("event_name", nil), ReasonClaims},
		{"without actor", with("actor", nil), ReasonClaims},
		{"nothing", "", ReasonMalformed},
		{"no token", "hello", ReasonMalformed},
		{"two parts", parts[0] + "." + parts[1], ReasonMalformed},
		{"JSON instead", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, ReasonMalformed},
		{"claims are no object", oidcissuerRaw(t, id, key, `[1]`), ReasonMalformed},
		{"oversized", strings.Repeat("a", maxTokenBytes+1), ReasonOversized},
	} {
		t.Run(r.name, func(t *testing.T) {
			got, err := v.Verify(t.Context(), r.token)
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Reason != r.reason || got != nil {
				t.Fatalf("%v, %v, want %s", got, err, r.reason)
			}
			if strings.Contains(refused.Detail, parts[2]) || len(refused.Detail) > 1000 {
				t.Errorf("the detail is %s", refused.Detail)
			}
			if r.reason == ReasonRepository && refused.Repository == "" {
				t.Error("the repository is not told")
			}
		})
	}
	// Clocks may differ a little.
	for _, token := range []string{with("exp", unix(-30*time.Second)), with("iat", unix(30*time.Second), "nbf", unix(30*time.Second))} {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
	if _, err := newVerifier(t, issuer.URL, c).Verify(t.Context(), with()); err == nil {
		t.Error("somebody is let in where nobody is")
	}
}

// oidcissuerRaw signs a payload that is no object.
func oidcissuerRaw(t *testing.T, id string, key *rsa.PrivateKey, payload string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A new key is found when a token names it; a withdrawn one is given up within an hour; an
// issuer that is away is no reason to turn jobs away, for a day; and nobody can make us ask
// it all the time.
func TestKeysRotate(t *testing.T) {
	c := newClock()
	issuer := newIssuer(t, c)
	v := newVerifier(t, issuer.URL, c, "acme/*")
	good := claims{"aud": testAudience}
	verify := func() error {
		_, err := v.Verify(t.Context(), issuer.Token(good))
		return err
	}
	issuer.Down(true)
	if err := verify(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an issuer that is away: %v", err)
	}
	issuer.Down(false)
	if err := verify(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("asked again too soon: %v", err)
	}
	c.pass(keysPause)
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	old := issuer.Token(good)
	if err := issuer.Rotate(); err != nil {
		t.Fatal(err)
	}
	c.pass(keysPause)
	if err := verify(); err != nil {
		t.Errorf("a new key: %v", err)
	}
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Errorf("the old key, which is still there: %v", err)
	}
	asked := issuer.Asked()
	_, key := issuer.Key()
	for range 50 {
		if _, err := v.Verify(t.Context(), oidcissuer.Sign(jose.RS256, "invented", key, issuer.Claims(good))); err == nil {
			t.Fatal("an invented key is taken")
		}
		c.pass(time.Second)
	}
	if n := issuer.Asked() - asked; n > 6 {
		t.Errorf("asked %d times in 50 seconds for invented keys", n)
	}
	oldID, oldKey := issuer.Key()
	if err := issuer.Rotate(); err != nil {
		t.Fatal(err)
	}
	issuer.Withdraw()
	c.pass(keysFresh)
	var refused *RefusedError
	if _, err := v.Verify(t.Context(), oidcissuer.Sign(jose.RS256, oldID, oldKey, issuer.Claims(good))); !errors.As(err, &refused) || refused.Reason != ReasonUnknownKey {
		t.Errorf("a withdrawn key: %v", err)
	}
	issuer.Down(true)
	c.pass(keysStale - time.Minute)
	if err := verify(); err != nil {
		t.Errorf("an issuer that is away for a day: %v", err)
	}
	c.pass(2 * time.Minute)
	if err := verify(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an issuer that is away for longer: %v", err)
	}
}

func TestIssuersAndPatternsThatNobodyCanMean(t *testing.T) {
	let, err := NewAllow([]string{"acme/*"})
	if err != nil {
		t.Fatal(err)
	}
	for _, issuer := range []string{"", "token.actions.githubusercontent.com", "http://github.example.test", "ftp://127.0.0.1", "https://"} {
		if _, err := NewVerifier(VerifierConfig{Issuer: issuer, Audience: "a", Allow: let}); err == nil {
			t.Errorf("issuer %q is taken", issuer)
		}
	}
	for _, pattern := range []string{"", "*", "acme", "acme/", "acme/a/b", "acme/[ab]", "acme/a b", "!acme/shop"} {
		if _, err := NewAllow([]string{pattern}); err == nil {
			t.Errorf("pattern %q is taken", pattern)
		}
	}
	for pattern, lets := range map[string][3]bool{ // acme/shop, acme/shop.js, other/shop
		"acme/*": {true, true, false}, "acme/shop": {true, false, false}, "*/shop": {true, false, true}, "*/*": {true, true, true},
		"ACME/Sh*": {true, true, false}, "acme/shop?js": {},
	} {
		let, err := NewAllow([]string{pattern})
		if err != nil {
			if lets != [3]bool{} {
				t.Error(err)
			}
			continue
		}
		for i, repository := range []string{"acme/shop", "acme/shop.js", "other/shop"} {
			if let.Lets(repository) != lets[i] {
				t.Errorf("%s lets %s in: %v", pattern, repository, !lets[i])
			}
		}
	}
}

// FuzzToken: whatever comes, a token is taken only if it is one that the issuer made.
func FuzzToken(f *testing.F) {
	c := newClock()
	issuer := newIssuer(f, c)
	v := newVerifier(f, issuer.URL, c, "acme/*")
	good := issuer.Token(claims{"aud": testAudience})
	id, key := issuer.Key()
	signed, err := v.Verify(f.Context(), good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(issuer.Token(nil))
	f.Add(oidcissuer.Sign(jose.HS256, id, []byte(strings.Repeat("k", 64)), issuer.Claims(claims{"aud": testAudience})))
	f.Add(oidcissuer.Sign(jose.RS512, id, key, issuer.Claims(nil)))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("a.b.c")
	f.Add("")
	f.Add(`{"payload":"e30","signatures":[]}`)
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(t.Context(), token)
		var refused *RefusedError
		switch {
		case err == nil && *got != *signed:
			t.Errorf("taken: %q as %+v", token, got)
		case err != nil && !errors.As(err, &refused) && !errors.Is(err, ErrUnavailable):
			t.Errorf("an error that says nothing: %v", err)
		}
	})
}
