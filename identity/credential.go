package identity

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/sallyport-ci/sallyport/stream"
)

// Signer signs credentials with a key of a NATS account. It is safe for concurrent use.
type Signer struct {
	key nkeys.KeyPair
	// account is set if key is not the account's own.
	account string
}

// NewSigner returns a signer. seed is that of an account's key ("SA…"): the account's own
// or, with the account's identity given ("A…"), one of its signing keys.
func NewSigner(seed []byte, account string) (*Signer, error) {
	key, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, errors.New("the signing key is not the seed of an nkey") // the error of nkeys adds nothing
	}
	public, err := key.PublicKey()
	if err != nil || !nkeys.IsValidPublicAccountKey(public) {
		return nil, errors.New("the signing key is an nkey, but not of an account (SA…)")
	}
	if account != "" && !nkeys.IsValidPublicAccountKey(account) {
		return nil, fmt.Errorf("%.80q is not the identity of an account (A…)", account)
	}
	if account == public {
		account = ""
	}
	return &Signer{key: key, account: account}, nil
}

// PublicKey returns the public key that signatures can be checked with.
func (s *Signer) PublicKey() (string, error) { return s.key.PublicKey() }

// sign returns a user JWT with which the holder of an nkey may publish as one agent until
// a time, read the answers to that, and read what there is for one repository, if it has
// one; and nothing else.
func (s *Signer) sign(agentID, nkey, repository string, expires time.Time) (string, error) {
	u := jwt.NewUserClaims(nkey)
	u.Name, u.IssuerAccount, u.Expires = agentID, s.account, expires.Unix()
	u.Pub.Allow.Add(stream.EventSubject(agentID), stream.HeartbeatSubject(agentID), stream.ReportSubject(agentID))
	if repository != "" {
		u.Pub.Allow.Add(stream.PolicySubject(repository))
	}
	u.Sub.Allow.Add(stream.AgentInbox(agentID) + ".>")
	text, err := u.Encode(s.key)
	if err != nil {
		return "", fmt.Errorf("sign the credential of agent %s: %w", agentID, err)
	}
	return text, nil
}
