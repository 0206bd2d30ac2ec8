package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport-ci/sallyport/stream"
)

// GitHubIssuer issues the tokens of jobs on github.com.
const GitHubIssuer = "https://token.actions.githubusercontent.com"

const (
	// maxTokenBytes bounds a token; GitHub's have some two thousand.
	maxTokenBytes = 16 << 10
	// maxClaimBytes bounds a claim of a token.
	maxClaimBytes = 1024
	// skew is how far clocks may differ.
	skew = time.Minute
	// maxTokenLife is the longest that a token may be good for: shorter than
	// stream.TokenWindow by more than the skew.
	maxTokenLife = 24 * time.Hour
)

// Claims is what a token says of its job, as far as it is used. See "OpenID Connect
// reference" in GitHub's documentation.
type Claims struct {
	ID                string `json:"jti"`
	Repository        string `json:"repository"`
	RepositoryID      string `json:"repository_id"`
	RepositoryOwner   string `json:"repository_owner"`
	RunID             string `json:"run_id"`
	RunAttempt        string `json:"run_attempt"`
	JobWorkflowRef    string `json:"job_workflow_ref"`
	RunnerEnvironment string `json:"runner_environment"`
	SHA               string `json:"sha"`
	Ref               string `json:"ref"`
	EventName         string `json:"event_name"`
	Actor             string `json:"actor"`

	// Attempt is RunAttempt as a number.
	Attempt uint32 `json:"-"`
	// Expires is when the token ends.
	Expires time.Time `json:"-"`
}

// registered are the claims of RFC 7519, section 4.1, that are checked.
type registered struct {
	Issuer    string   `json:"iss"`
	Audience  audience `json:"aud"`
	Expires   seconds  `json:"exp"`
	NotBefore seconds  `json:"nbf"`
	IssuedAt  seconds  `json:"iat"`
}

// audience is one text or a list.
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// seconds is a time in seconds since 1970; 0 if it is not said.
type seconds int64

func (s *seconds) UnmarshalJSON(data []byte) error {
	var n float64
	if err := json.Unmarshal(data, &n); err != nil {
		return err
	}
	if n < 1 || n > 1<<40 {
		return fmt.Errorf("%v is no time", n)
	}
	*s = seconds(n)
	return nil
}

func (s seconds) time() time.Time { return time.Unix(int64(s), 0) }

// VerifierConfig says which tokens are accepted. Issuer, Audience and Allow are needed.
type VerifierConfig struct {
	// Issuer of the tokens, by https unless it is of this machine.
	Issuer string
	// Audience that tokens have to be for: this server. A token for another server must
	// not be of use here.
	Audience string
	// Allow are the repositories that are let in.
	Allow *Allow
	// Client asks for the issuer's keys; one without settings of its own by default.
	Client *http.Client
	// Now is the clock; time.Now by default.
	Now func() time.Time
}

// Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	cfg  VerifierConfig
	keys *keySet
}

// NewVerifier returns a verifier. It asks nobody yet.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	if err := confidential(cfg.Issuer); err != nil {
		return nil, fmt.Errorf("issuer of OIDC tokens: %w", err)
	}
	if cfg.Audience == "" || cfg.Allow == nil {
		return nil, errors.New("check OIDC tokens: an audience and repositories are needed")
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: keysTimeout}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{cfg: cfg, keys: &keySet{issuer: cfg.Issuer, client: cfg.Client, now: cfg.Now}}, nil
}

// Verify returns what a token says, or a *RefusedError, or an error that wraps ErrUnavailable if
// the issuer's keys cannot be had. It does not know whether the token was used before.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	claims, err := v.verify(ctx, token)
	var refused *RefusedError
	if errors.As(err, &refused) && claims != nil {
		refused.Repository, refused.RunID = printable(claims.Repository), printable(claims.RunID)
	}
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// verify returns the claims also of a token that is refused, if they can be read.
func (v *Verifier) verify(ctx context.Context, token string) (*Claims, error) {
	if len(token) > maxTokenBytes {
		return nil, refuse(ReasonOversized, "the token has %d bytes", len(token))
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	var algorithm *jose.ErrUnexpectedSignatureAlgorithm
	if errors.As(err, &algorithm) {
		return nil, refuse(ReasonAlgorithm, "the token is signed by %.20q, not RS256", string(algorithm.Got))
	}
	if err != nil {
		return nil, refuse(ReasonMalformed, "the token is not a signed JSON Web Token")
	}
	// What it claims, before anything of it is believed: for the record, and so that keys
	// are asked for only where the token says that it comes from.
	claims, said, err := read(signed.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, err
	}
	if said.Issuer != v.cfg.Issuer {
		return claims, refuse(ReasonIssuer, "the token is of issuer %.200q", said.Issuer)
	}
	header := signed.Signatures[0].Header
	if header.KeyID == "" {
		return claims, refuse(ReasonUnknownKey, "the token names no key")
	}
	key, err := v.keys.key(ctx, header.KeyID)
	if err != nil {
		return claims, err
	}
	if _, err := signed.Verify(key); err != nil {
		return claims, refuse(ReasonSignature, "the signature does not fit")
	}
	return claims, v.check(claims, said)
}

// read decodes a payload.
func read(payload []byte) (*Claims, *registered, error) {
	claims, said := new(Claims), new(registered)
	if json.Unmarshal(payload, said) != nil || json.Unmarshal(payload, claims) != nil {
		return nil, nil, refuse(ReasonMalformed, "the token's claims cannot be read")
	}
	return claims, said, nil
}

// check checks what a token says whose signature is right.
func (v *Verifier) check(c *Claims, said *registered) error {
	now := v.cfg.Now()
	if len(said.Audience) != 1 || said.Audience[0] != v.cfg.Audience {
		return refuse(ReasonAudience, "the token is for %q, not for %q", printable(strings.Join(said.Audience, ", ")), v.cfg.Audience)
	}
	if said.Expires == 0 || said.IssuedAt == 0 {
		return refuse(ReasonClaims, "the token does not say when it begins and ends")
	}
	if !now.Before(said.Expires.time().Add(skew)) {
		return refuse(ReasonExpired, "the token ended at %s", said.Expires.time().UTC().Format(time.RFC3339))
	}
	if begins := max(said.NotBefore, said.IssuedAt).time(); now.Before(begins.Add(-skew)) {
		return refuse(ReasonNotYetValid, "the token begins at %s; are clocks right?", begins.UTC().Format(time.RFC3339))
	}
	if said.Expires.time().After(now.Add(maxTokenLife)) {
		return refuse(ReasonClaims, "the token is good for more than %s", maxTokenLife)
	}
	for _, claim := range []struct{ name, value string }{
		{"jti", c.ID}, {"repository", c.Repository}, {"repository_id", c.RepositoryID}, {"repository_owner", c.RepositoryOwner},
		{"run_id", c.RunID}, {"run_attempt", c.RunAttempt}, {"job_workflow_ref", c.JobWorkflowRef}, {"runner_environment", c.RunnerEnvironment},
		{"sha", c.SHA}, {"ref", c.Ref}, {"event_name", c.EventName}, {"actor", c.Actor},
	} {
		if claim.value == "" || len(claim.value) > maxClaimBytes || !utf8.ValidString(claim.value) {
			return refuse(ReasonClaims, "the claim %s is missing or too long", claim.name)
		}
	}
	owner, _, _ := strings.Cut(c.Repository, "/")
	attempt, err := strconv.ParseUint(c.RunAttempt, 10, 32)
	switch {
	case !stream.ValidRepository(c.Repository) || owner != c.RepositoryOwner:
		return refuse(ReasonClaims, "the claims repository and repository_owner do not fit")
	case !digits(c.RepositoryID) || !digits(c.RunID):
		return refuse(ReasonClaims, "the claim repository_id or run_id is not a number")
	case err != nil || attempt == 0 || !digits(c.RunAttempt):
		return refuse(ReasonClaims, "the claim run_attempt is not a number from 1")
	case !slices.Contains([]string{"github-hosted", "self-hosted"}, c.RunnerEnvironment):
		return refuse(ReasonClaims, "the claim runner_environment is %.50q", c.RunnerEnvironment)
	case !v.cfg.Allow.Lets(c.Repository):
		return refuse(ReasonRepository, "repository %s is not let in by --oidc-allow", c.Repository)
	}
	c.Attempt, c.Expires = uint32(attempt), said.Expires.time()
	return nil
}

// digits says whether a text is a number as GitHub writes them.
func digits(s string) bool {
	return s != "" && len(s) <= 20 && s[0] != '0' && strings.Trim(s, "0123456789") == ""
}

// printable makes what a stranger said fit for a record.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "")
	}
	return s
}
