package natsserver

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"

	"github.com/sallyport-ci/sallyport/stream"
)

// users knows who may connect: the operator and agents by a password, and agents by a
// credential. It is asked by the server for each connection, by many at once.
type users struct {
	passwords map[string]user // by name
	signer    string
	log       *slog.Logger

	mu      sync.Mutex
	revoked map[string]bool // nkeys
	// connections holds, by nkey, the identities of connections that it made; some of them
	// have ended. alive says which have not.
	connections map[string][]uint64
	alive       func(id uint64) bool
	entered     int
}

// user is somebody who is known by a password.
type user struct {
	hash        []byte
	permissions *natsserver.Permissions
}

// hash is how the server keeps a password. The least cost: the passwords are
// random, not words that somebody could guess.
func hash(password string) (string, error) {
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return "", fmt.Errorf("hash a password for NATS: %w", err)
	}
	return string(h), nil
}

func newUsers(cfg Config) (*users, error) {
	u := &users{passwords: make(map[string]user), signer: cfg.AgentSigner, log: cfg.Logger, revoked: make(map[string]bool), connections: make(map[string][]uint64)}
	if cfg.AgentSigner != "" && !nkeys.IsValidPublicAccountKey(cfg.AgentSigner) {
		return nil, fmt.Errorf("configure NATS server: %.80q is not the public key of an account", cfg.AgentSigner)
	}
	for name, password := range map[string]string{OperatorUser: cfg.OperatorPassword, AgentUser: cfg.AgentPassword} {
		if password == "" {
			continue
		}
		h, err := hash(password)
		if err != nil {
			return nil, err
		}
		known := user{hash: []byte(h)}
		if name == AgentUser {
			known.permissions = &natsserver.Permissions{
				Publish:   &natsserver.SubjectPermission{Allow: stream.AgentSubjects()},
				Subscribe: &natsserver.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}
		}
		u.passwords[name] = known
	}
	return u, nil
}

// Check lets a connection in and says what it may do, or not.
func (u *users) Check(c natsserver.ClientAuthentication) bool {
	if c.Kind() != natsserver.CLIENT {
		return false
	}
	o := c.GetOpts()
	if o.Token != "" { // see stream.CredentialOptions
		return u.checkCredential(c, o)
	}
	known, ok := u.passwords[o.Username]
	if !ok || bcrypt.CompareHashAndPassword(known.hash, []byte(o.Password)) != nil {
		return false
	}
	c.RegisterUser(&natsserver.User{Username: o.Username, Permissions: known.permissions})
	return true
}

// maxCredential bounds a user JWT in bytes; an agent's has some 800.
const maxCredential = 16 << 10

// checkCredential lets in who shows a user JWT of our signer, and signed this connection's
// nonce with the key that it is for. The connection ends when the credential does.
func (u *users) checkCredential(c natsserver.ClientAuthentication, o *natsserver.ClientOpts) bool {
	refuse := func(why string) bool {
		u.log.Info("NATS refuses a credential", "why", why, "address", c.RemoteAddress())
		return false
	}
	if u.signer == "" || len(o.Token) > maxCredential {
		return refuse("it takes none, or it is too long")
	}
	claims, err := jwt.DecodeUserClaims(o.Token) // which checks the issuer's signature
	if err != nil || claims.Issuer != u.signer {
		return refuse("it is not of our signer")
	}
	results := jwt.CreateValidationResults()
	claims.Validate(results)
	if results.IsBlocking(true) || claims.Expires == 0 || claims.BearerToken {
		return refuse("it is over, or nobody can mean it")
	}
	if !agentRights(claims) {
		return refuse("it allows more than an agent may, or does not say what it allows")
	}
	signature, err := base64.RawURLEncoding.DecodeString(o.Sig)
	if err != nil {
		return refuse("its holder's signature cannot be read")
	}
	key, err := nkeys.FromPublicKey(claims.Subject)
	if err != nil || len(c.GetNonce()) == 0 || key.Verify(c.GetNonce(), signature) != nil {
		return refuse("its holder does not have the key")
	}
	if !u.enter(claims.Subject, c.GetID()) {
		return refuse("its holder was revoked")
	}
	c.RegisterUser(&natsserver.User{
		Username: claims.Subject, ConnectionDeadline: time.Unix(claims.Expires, 0),
		Permissions: &natsserver.Permissions{
			Publish:   &natsserver.SubjectPermission{Allow: claims.Pub.Allow, Deny: claims.Pub.Deny},
			Subscribe: &natsserver.SubjectPermission{Allow: claims.Sub.Allow, Deny: claims.Sub.Deny},
		},
	})
	return true
}

// agentRights says whether a credential allows something, and nothing but what an agent of
// its name may: so who has the signer's key can make agents, and nobody else.
func agentRights(claims *jwt.UserClaims) bool {
	id := claims.Name
	publish := []string{stream.EventSubject(id), stream.HeartbeatSubject(id), stream.ReportSubject(id)}
	for _, subject := range claims.Pub.Allow {
		policy := strings.HasPrefix(subject, stream.PolicySubject("")) && !strings.ContainsAny(subject, "*>")
		if !slices.Contains(publish, subject) && !policy {
			return false
		}
	}
	for _, subject := range claims.Sub.Allow {
		if subject != stream.AgentInbox(id)+".>" {
			return false
		}
	}
	return stream.ValidAgentID(id) && len(claims.Pub.Allow) > 0 && len(claims.Sub.Allow) > 0
}

// enter notes a connection of an nkey, unless it was revoked.
func (u *users) enter(nkey string, id uint64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.revoked[nkey] {
		return false
	}
	ended := func(id uint64) bool { return !u.alive(id) }
	u.connections[nkey] = append(slices.DeleteFunc(u.connections[nkey], ended), id)
	if u.entered++; u.entered%1024 == 0 { // those that never come again
		for nkey, ids := range u.connections {
			if ids = slices.DeleteFunc(ids, ended); len(ids) == 0 {
				delete(u.connections, nkey)
			} else {
				u.connections[nkey] = ids
			}
		}
	}
	return true
}

// CutOff ends the connections of an nkey, and lets it make no more until the server is
// started again.
func (s *Server) CutOff(nkey string) {
	s.users.mu.Lock()
	s.users.revoked[nkey] = true
	ids := s.users.connections[nkey]
	delete(s.users.connections, nkey)
	s.users.mu.Unlock()
	for _, id := range ids {
		// One that has ended meanwhile is not there any more.
		_ = s.server.DisconnectClientByID(id)
	}
}
