package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// DefaultLifetime is how long a credential is good for.
const DefaultLifetime = time.Hour

// Limits of a credential's lifetime.
const (
	MinLifetime = time.Minute
	MaxLifetime = 24 * time.Hour
)

// Config says how agents are let in. JetStream, Signer, Audience and NATSURLs are needed.
type Config struct {
	// JetStream of the NATS on which stream.Declare has run.
	JetStream jetstream.JetStream
	// Verifier of OIDC tokens; nobody is let in by one if nil.
	Verifier *Verifier
	// Signer of credentials.
	Signer *Signer
	// Audience names this server, in tokens and in the signatures of enrolled agents.
	Audience string
	// Lifetime of a credential, MinLifetime to MaxLifetime; DefaultLifetime if zero.
	Lifetime time.Duration
	// NATSURLs are where agents reach NATS.
	NATSURLs []string
	// NATSCA is PEM of the certificates that they check NATS servers against; those of
	// their machine if empty.
	NATSCA string
	// CutOff ends the connections of an nkey and lets it make no more; nil if that cannot
	// be done, and a credential ends with its time.
	CutOff func(nkey string)
	// Now is the clock; time.Now by default.
	Now func() time.Time
	// Registerer takes the metrics; none if nil.
	Registerer prometheus.Registerer
	// Logger; slog.Default() if nil.
	Logger *slog.Logger
}

// Gate lets agents in. It is safe for concurrent use, also by several processes on one
// NATS.
type Gate struct {
	cfg        Config
	log        *slog.Logger
	tokens     jetstream.KeyValue
	enrolments *enrolments
	refusals   *refusals

	given, refused *prometheus.CounterVec
}

// Open returns a gate. Whoever was revoked is cut off again.
func Open(ctx context.Context, cfg Config) (*Gate, error) {
	if cfg.Signer == nil || cfg.Audience == "" || len(cfg.NATSURLs) == 0 {
		return nil, errors.New("let agents in: a signing key, an audience and addresses of NATS are needed")
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = DefaultLifetime
	}
	if cfg.Lifetime < MinLifetime || cfg.Lifetime > MaxLifetime {
		return nil, fmt.Errorf("let agents in: a lifetime of %s is not %s to %s", cfg.Lifetime, MinLifetime, MaxLifetime)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	g := &Gate{
		cfg: cfg, log: cfg.Logger,
		given: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_identity_credentials_total", Help: "Credentials given to agents, by what for: token, enrolment or renewal.",
		}, []string{"for"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_identity_refused_total", Help: "Agents that were refused a credential, by reason.",
		}, []string{"reason"}),
	}
	buckets := make(map[string]jetstream.KeyValue)
	for _, name := range []string{stream.TokensBucket, stream.EnrolmentsBucket, stream.RefusalsBucket} {
		bucket, err := cfg.JetStream.KeyValue(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", name, err)
		}
		buckets[name] = bucket
	}
	g.tokens = buckets[stream.TokensBucket]
	g.enrolments = &enrolments{bucket: buckets[stream.EnrolmentsBucket], js: cfg.JetStream, now: cfg.Now}
	g.refusals = &refusals{bucket: buckets[stream.RefusalsBucket], js: cfg.JetStream}
	if cfg.CutOff != nil {
		revoked, err := g.enrolments.revokedKeys(ctx)
		if err != nil {
			return nil, err
		}
		for _, nkey := range revoked {
			cfg.CutOff(nkey)
		}
	}
	if cfg.Registerer != nil {
		for _, c := range []prometheus.Collector{g.given, g.refused} {
			if err := cfg.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("register metrics of identity: %w", err)
			}
		}
	}
	return g, nil
}

// Exchange gives a credential for an OIDC token. address is where the caller is. The
// error is a *RefusedError, wraps ErrUnavailable, or is ErrNotOffered.
func (g *Gate) Exchange(ctx context.Context, token, nkey, address string) (*sallyportv1.Credential, error) {
	credential, err := g.exchange(ctx, token, nkey)
	return credential, g.told(ctx, "token", address, credential, err)
}

func (g *Gate) exchange(ctx context.Context, token, nkey string) (*sallyportv1.Credential, error) {
	if g.cfg.Verifier == nil {
		return nil, fmt.Errorf("%w: it takes no OIDC tokens (--oidc-allow)", ErrNotOffered)
	}
	if !nkeys.IsValidPublicUserKey(nkey) {
		return nil, fmt.Errorf("%w: nkey is not the public key of a user (U…)", ErrInvalid)
	}
	c, err := g.cfg.Verifier.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	// Last of all the token is used up.
	used := sha256.Sum256(fmt.Appendf(nil, "%q %q", g.cfg.Verifier.cfg.Issuer, c.ID))
	_, err = g.tokens.Create(ctx, hex.EncodeToString(used[:]), nil)
	if errors.Is(err, jetstream.ErrKeyExists) {
		r := refuse(ReasonReplayed, "the token was used before: somebody has a copy of it")
		r.Repository, r.RunID = c.Repository, c.RunID
		return nil, r
	}
	if err != nil {
		return nil, fmt.Errorf("%w: keep that the token was used: %w", ErrUnavailable, err)
	}
	agentID := stream.JobAgentID(c.Repository, c.RunID, c.Attempt, nkey)
	credential, err := g.credential(agentID, nkey, c.Repository)
	if err == nil {
		g.log.Info("a job's agent is let in", "agent", agentID, "repo", c.Repository, "run", c.RunID, "attempt", c.Attempt,
			"workflow", c.JobWorkflowRef, "event", c.EventName, "actor", c.Actor, "runner", c.RunnerEnvironment)
	}
	return credential, err
}

// credential signs.
func (g *Gate) credential(agentID, nkey, repository string) (*sallyportv1.Credential, error) {
	expires := g.cfg.Now().Add(g.cfg.Lifetime).Truncate(time.Second)
	text, err := g.cfg.Signer.sign(agentID, nkey, repository, expires)
	if err != nil {
		return nil, err
	}
	return &sallyportv1.Credential{AgentId: agentID, Jwt: text, Expires: timestamppb.New(expires), NatsUrls: g.cfg.NATSURLs, NatsCa: g.cfg.NATSCA}, nil
}

// told counts and records how a request ended, and returns its error.
func (g *Gate) told(ctx context.Context, what, address string, credential *sallyportv1.Credential, err error) error {
	var refused *RefusedError
	switch {
	case err == nil:
		g.given.WithLabelValues(what).Inc()
		g.log.Debug("a credential was given", "for", what, "agent", credential.GetAgentId(), "address", address)
	case errors.As(err, &refused):
		g.refused.WithLabelValues(string(refused.Reason)).Inc()
		g.log.Warn("an agent is refused a credential", "reason", string(refused.Reason), "detail", refused.Detail,
			"repo", refused.Repository, "run", refused.RunID, "address", address)
		if err := g.refusals.record(ctx, refused, address, g.cfg.Now()); err != nil {
			g.log.Error("a refusal is not recorded", "error", err)
		}
	default:
	}
	return err
}

// Refusals returns the newest refusals, at most n, newest first.
func (g *Gate) Refusals(ctx context.Context, n int) ([]*sallyportv1.Refusal, error) {
	return g.refusals.list(ctx, n)
}
