package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

const (
	// keyPrefix begins an enrolment key, so that people and scanners know what it is.
	keyPrefix       = "spe_"
	maxKeyUses      = 10_000
	defaultKeyLife  = 24 * time.Hour
	maxKeyLife      = 365 * 24 * time.Hour
	maxKeyBytes     = 200
	maxPattern      = 100
	proofSkew       = 2 * time.Minute
	tries           = 8 // of a change that others made at the same time, too
	keyEntry        = "key."
	agentEntry      = "agent."
	revokedKeyEntry = "revoked."
)

// enrolments is the bucket ENROLMENTS.
type enrolments struct {
	bucket jetstream.KeyValue
	js     jetstream.JetStream
	now    func() time.Time
}

// get reads an entry into m and returns its revision; ErrNotEnrolled if there is none.
func (e *enrolments) get(ctx context.Context, key string, m proto.Message) (uint64, error) {
	entry, err := e.bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, ErrNotEnrolled
	}
	if err != nil {
		return 0, fmt.Errorf("%w: read %s: %w", ErrUnavailable, key, err)
	}
	if err := proto.Unmarshal(entry.Value(), m); err != nil {
		return 0, fmt.Errorf("read enrolment %s: %w", key, err)
	}
	return entry.Revision(), nil
}

// errChanged says that somebody else changed an entry since it was read.
var errChanged = errors.New("somebody else changed it")

// put writes an entry that has a revision; 0 if there is none.
func (e *enrolments) put(ctx context.Context, key string, m proto.Message, revision uint64) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode enrolment %s: %w", key, err)
	}
	_, err = e.bucket.Update(ctx, key, data, revision)
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists) {
		return errChanged
	}
	if err != nil {
		return fmt.Errorf("%w: keep %s: %w", ErrUnavailable, key, err)
	}
	return nil
}

// insist tries until nobody else changes the same at the same time.
func insist(try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if !errors.Is(err, errChanged) {
			return err
		}
		if n == tries {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}

// revokedKeys returns the nkeys that were revoked.
func (e *enrolments) revokedKeys(ctx context.Context) ([]string, error) {
	keys, err := stream.KeysLike(ctx, e.js, stream.EnrolmentsBucket, revokedKeyEntry+"*")
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		keys[i] = strings.TrimPrefix(k, revokedKeyEntry)
	}
	return keys, nil
}

func (e *enrolments) isRevoked(ctx context.Context, nkey string) (bool, error) {
	_, err := e.bucket.Get(ctx, revokedKeyEntry+nkey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: read %s%s: %w", ErrUnavailable, revokedKeyEntry, nkey, err)
	}
	return true, nil
}

// CreateKey makes an enrolment key. An error wraps ErrInvalid or ErrUnavailable.
func (g *Gate) CreateKey(ctx context.Context, q *sallyportv1.CreateEnrolmentKeyRequest) (key string, kept *sallyportv1.EnrolmentKey, err error) {
	life := defaultKeyLife
	if n := q.GetLifetimeSeconds(); n > uint64(maxKeyLife/time.Second) {
		return "", nil, fmt.Errorf("%w: a key is good for %s at most", ErrInvalid, maxKeyLife)
	} else if n > 0 {
		life = time.Duration(n) * time.Second
	}
	if q.GetUses() > maxKeyUses {
		return "", nil, fmt.Errorf("%w: a key has %d uses at most", ErrInvalid, maxKeyUses)
	}
	if p := q.GetNamePattern(); len(p) > maxPattern || p != "" && !stream.ValidAgentID(strings.ReplaceAll(p, "*", "x")) {
		return "", nil, fmt.Errorf("%w: the pattern of names %.120q is not of [A-Za-z0-9_-] and *", ErrInvalid, p)
	}
	if r := q.GetRepository(); r != "" {
		if _, err := stream.RepositoryAgentID(r, "x"); err != nil {
			return "", nil, fmt.Errorf("%w: repository %w", ErrInvalid, err)
		}
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	now := g.cfg.Now()
	kept = &sallyportv1.EnrolmentKey{
		Id: hex.EncodeToString(id), NamePattern: q.GetNamePattern(), UsesLeft: max(q.GetUses(), 1), Repository: q.GetRepository(),
		Created: timestamppb.New(now), Expires: timestamppb.New(now.Add(life)),
	}
	key = keyPrefix + kept.Id + "_" + rand.Text()
	digest := sha256.Sum256([]byte(key))
	kept.Digest = digest[:]
	if err := g.enrolments.put(ctx, keyEntry+kept.Id, kept, 0); err != nil {
		return "", nil, err
	}
	g.log.Info("an enrolment key was made", "key", kept.Id, "names", kept.NamePattern, "uses", kept.UsesLeft, "repo", kept.Repository, "expires", kept.Expires.AsTime())
	return key, shown(kept), nil
}

// shown is a key without its digest.
func shown(k *sallyportv1.EnrolmentKey) *sallyportv1.EnrolmentKey {
	k = proto.CloneOf(k)
	k.Digest = nil
	return k
}

// Enrol gives a credential for an enrolment key. Errors are as of Exchange, or wrap
// ErrInvalid.
func (g *Gate) Enrol(ctx context.Context, key, name, nkey, address string) (*sallyportv1.Credential, error) {
	credential, err := g.enrol(ctx, key, name, nkey)
	return credential, g.told(ctx, "enrolment", address, credential, err)
}

func (g *Gate) enrol(ctx context.Context, key, name, nkey string) (*sallyportv1.Credential, error) {
	if !nkeys.IsValidPublicUserKey(nkey) {
		return nil, fmt.Errorf("%w: nkey is not the public key of a user (U…)", ErrInvalid)
	}
	if len(name) > stream.MaxBoundName || !stream.ValidAgentID(name) || stream.Bound(name) {
		return nil, fmt.Errorf("%w: the name %.80q is not 1 to %d characters of [A-Za-z0-9_-]", ErrInvalid, name, stream.MaxBoundName)
	}
	if revoked, err := g.enrolments.isRevoked(ctx, nkey); err != nil || revoked {
		if revoked {
			err = refuse(ReasonRevoked, "the nkey was revoked")
		}
		return nil, err
	}
	kept, err := g.enrolmentKey(ctx, key)
	if err != nil {
		return nil, err
	}
	if kept.NamePattern != "" && !wildcard(kept.NamePattern).MatchString(name) {
		return nil, refuse(ReasonName, "the enrolment key %s is for names like %s, not %s", kept.Id, kept.NamePattern, name)
	}
	agentID := name
	if kept.Repository != "" {
		if agentID, err = stream.RepositoryAgentID(kept.Repository, name); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	now := g.cfg.Now()
	agent := &sallyportv1.EnrolledAgent{AgentId: agentID, Nkey: nkey, KeyId: kept.Id, Repository: kept.Repository, Enrolled: timestamppb.New(now)}
	before := new(sallyportv1.EnrolledAgent)
	revision, err := g.enrolments.get(ctx, agentEntry+agentID, before)
	if err != nil && !errors.Is(err, ErrNotEnrolled) {
		return nil, err
	}
	if err == nil && before.Revoked == nil {
		return nil, refuse(ReasonName, "an agent of the name %s is enrolled already; revoke it first, or choose another name", agentID)
	}
	// First a use is taken, then the agent is enrolled: a key is never of more use than it
	// may be. Who fails in between has lost a use.
	err = insist(func() error {
		left := new(sallyportv1.EnrolmentKey)
		revision, err := g.enrolments.get(ctx, keyEntry+kept.Id, left)
		if err != nil {
			return err
		}
		if err := usable(left, now); err != nil {
			return err
		}
		left.UsesLeft--
		return g.enrolments.put(ctx, keyEntry+kept.Id, left, revision)
	})
	if err != nil {
		return nil, err
	}
	if err := g.enrolments.put(ctx, agentEntry+agentID, agent, revision); errors.Is(err, errChanged) {
		return nil, refuse(ReasonName, "an agent of the name %s was enrolled at the same moment", agentID)
	} else if err != nil {
		return nil, err
	}
	g.log.Info("an agent is enrolled", "agent", agentID, "key", kept.Id, "repo", kept.Repository)
	return g.credential(agentID, nkey, exact(kept.Repository))
}

// exact returns a repository that is no pattern; else nothing.
func exact(repository string) string {
	if strings.HasSuffix(repository, "/*") {
		return ""
	}
	return repository
}

// enrolmentKey finds what is kept of a key. Who gives a wrong one is told nothing of what
// is wrong with it.
func (g *Gate) enrolmentKey(ctx context.Context, key string) (*sallyportv1.EnrolmentKey, error) {
	wrong := refuse(ReasonEnrolmentKey, "there is no such enrolment key, or it was used up, revoked or is too old")
	rest, ok := strings.CutPrefix(key, keyPrefix)
	id, _, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 || len(key) > maxKeyBytes || len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
		return nil, wrong
	}
	kept := new(sallyportv1.EnrolmentKey)
	_, err := g.enrolments.get(ctx, keyEntry+id, kept)
	if errors.Is(err, ErrNotEnrolled) {
		return nil, wrong
	}
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(key))
	if subtle.ConstantTimeCompare(digest[:], kept.Digest) != 1 {
		return nil, wrong
	}
	if err := usable(kept, g.cfg.Now()); err != nil {
		return nil, err
	}
	return kept, nil
}

func usable(k *sallyportv1.EnrolmentKey, now time.Time) error {
	if k.Revoked != nil || k.UsesLeft == 0 || !now.Before(k.Expires.AsTime()) {
		return refuse(ReasonEnrolmentKey, "there is no such enrolment key, or it was used up, revoked or is too old")
	}
	return nil
}

// RenewalText is what an enrolled agent signs with its nkey for its next credential.
func RenewalText(audience, agentID string, at time.Time) []byte {
	return fmt.Appendf(nil, "sallyport renew\n%s\n%s\n%d", audience, agentID, at.Unix())
}

// Renew gives an enrolled agent its next credential. Errors are as of Exchange.
func (g *Gate) Renew(ctx context.Context, agentID string, at time.Time, signature []byte, address string) (*sallyportv1.Credential, error) {
	credential, err := g.renew(ctx, agentID, at, signature)
	return credential, g.told(ctx, "renewal", address, credential, err)
}

func (g *Gate) renew(ctx context.Context, agentID string, at time.Time, signature []byte) (*sallyportv1.Credential, error) {
	if !stream.ValidAgentID(agentID) {
		return nil, fmt.Errorf("%w: agent_id is not 1 to 64 characters of [A-Za-z0-9_-]", ErrInvalid)
	}
	agent := new(sallyportv1.EnrolledAgent)
	_, err := g.enrolments.get(ctx, agentEntry+agentID, agent)
	if errors.Is(err, ErrNotEnrolled) {
		return nil, refuse(ReasonProof, "agent %s is not enrolled, or the signature is not its own", agentID)
	}
	if err != nil {
		return nil, err
	}
	key, err := nkeys.FromPublicKey(agent.Nkey)
	if err != nil {
		return nil, fmt.Errorf("read the nkey of agent %s: %w", agentID, err)
	}
	if key.Verify(RenewalText(g.cfg.Audience, agentID, at), signature) != nil {
		return nil, refuse(ReasonProof, "agent %s is not enrolled, or the signature is not its own", agentID)
	}
	if d := g.cfg.Now().Sub(at).Abs(); d > proofSkew {
		return nil, refuse(ReasonProof, "the clock of agent %s is %s off, or its signature is old", agentID, d.Round(time.Second))
	}
	if agent.Revoked != nil {
		return nil, refuse(ReasonRevoked, "agent %s was revoked", agentID)
	}
	return g.credential(agentID, agent.Nkey, exact(agent.Repository))
}

// Enrolments returns all keys and all agents, each ordered by identity.
func (g *Gate) Enrolments(ctx context.Context) (keys []*sallyportv1.EnrolmentKey, agents []*sallyportv1.EnrolledAgent, err error) {
	names, err := stream.Keys(ctx, g.cfg.JetStream, stream.EnrolmentsBucket)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, keyEntry):
			k := new(sallyportv1.EnrolmentKey)
			if _, err = g.enrolments.get(ctx, name, k); err == nil {
				keys = append(keys, shown(k))
			}
		case strings.HasPrefix(name, agentEntry):
			a := new(sallyportv1.EnrolledAgent)
			if _, err = g.enrolments.get(ctx, name, a); err == nil {
				agents = append(agents, a)
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return keys, agents, nil
}

// Revoke revokes an enrolment key or an agent, and returns the agents that are cut off.
// Agents that a key let in stay. It is ErrNotEnrolled if there is neither.
func (g *Gate) Revoke(ctx context.Context, id string) (agentIDs []string, err error) {
	if !stream.ValidAgentID(id) {
		return nil, ErrNotEnrolled
	}
	agent := new(sallyportv1.EnrolledAgent)
	err = insist(func() error {
		agent.Reset()
		revision, err := g.enrolments.get(ctx, agentEntry+id, agent)
		if err != nil {
			return err
		}
		// First what every server asks and what stays when the name is given again.
		if _, err := g.enrolments.bucket.Put(ctx, revokedKeyEntry+agent.Nkey, nil); err != nil {
			return fmt.Errorf("%w: keep that %s is revoked: %w", ErrUnavailable, id, err)
		}
		if agent.Revoked != nil {
			return nil
		}
		agent.Revoked = timestamppb.New(g.cfg.Now())
		return g.enrolments.put(ctx, agentEntry+id, agent, revision)
	})
	switch {
	case err == nil:
		if g.cfg.CutOff != nil {
			g.cfg.CutOff(agent.Nkey)
		}
		g.log.Info("an agent is revoked", "agent", id)
		return []string{id}, nil
	case !errors.Is(err, ErrNotEnrolled):
		return nil, err
	}
	return nil, insist(func() error {
		k := new(sallyportv1.EnrolmentKey)
		revision, err := g.enrolments.get(ctx, keyEntry+id, k)
		if err != nil || k.Revoked != nil {
			return err
		}
		k.Revoked = timestamppb.New(g.cfg.Now())
		if err := g.enrolments.put(ctx, keyEntry+id, k, revision); err != nil {
			return err
		}
		g.log.Info("an enrolment key is revoked", "key", id)
		return nil
	})
}
