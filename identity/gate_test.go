package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
	"github.com/sallyport-ci/sallyport/test/oidcissuer"
)

// yard is an embedded NATS server that takes credentials, an issuer and a gate.
type yard struct {
	t       *testing.T
	clock   *clock
	issuer  *oidcissuer.Issuer
	signer  *Signer
	server  *natsserver.Server
	js      jetstream.JetStream
	gate    *Gate
	metrics *prometheus.Registry
	log     *bytes.Buffer
	logger  *slog.Logger // of all gates, so that one lock is before log
}

func newYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{t: t, clock: &clock{now: time.Now()}, log: new(bytes.Buffer)} // NATS has its own clock
	y.logger = slog.New(slog.NewTextHandler(y.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	y.issuer = newIssuer(t, y.clock)
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if y.signer, err = NewSigner(seed, ""); err != nil {
		t.Fatal(err)
	}
	public, err := y.signer.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	y.server, y.js = natstest.StartDeclared(t, natsserver.Config{AgentPassword: "password", AgentSigner: public})
	y.gate = y.open()
	return y
}

// open returns one more gate on the same NATS: another server, or one that was started
// again.
func (y *yard) open() *Gate {
	y.t.Helper()
	y.metrics = prometheus.NewRegistry()
	g, err := Open(y.t.Context(), Config{
		JetStream: y.js, Verifier: newVerifier(y.t, y.issuer.URL, y.clock, "acme/*"), Signer: y.signer, Audience: testAudience,
		NATSURLs: []string{y.server.URL()}, CutOff: y.server.CutOff, Now: y.clock.Now, Registerer: y.metrics,
		Logger: y.logger,
	})
	if err != nil {
		y.t.Fatal(err)
	}
	return g
}

func newUser(t *testing.T) (nkeys.KeyPair, string) {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

// connect connects with a credential, signing by key.
func (y *yard) connect(c *sallyportv1.Credential, key nkeys.KeyPair, more ...nats.Option) (*nats.Conn, chan error, error) {
	refused := make(chan error, 16)
	nc, err := nats.Connect(y.server.URL(), append(append(stream.CredentialOptions(func() (string, error) { return c.GetJwt(), nil }, key.Sign),
		nats.CustomInboxPrefix(stream.AgentInbox(c.GetAgentId())), nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }),
	), more...)...)
	if err == nil {
		y.t.Cleanup(nc.Close)
	}
	return nc, refused, err
}

func (y *yard) token(change map[string]any) string {
	all := claims{"aud": testAudience}
	for name, value := range change {
		all[name] = value
	}
	return y.issuer.Token(all)
}

func TestCredentialOfAJob(t *testing.T) {
	y := newYard(t)
	key, nkey := newUser(t)
	c, err := y.gate.Exchange(t.Context(), y.token(nil), nkey, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if want := stream.JobAgentID("acme/shop", "1658821493", 2, nkey); c.GetAgentId() != want {
		t.Errorf("agent %s, want %s", c.GetAgentId(), want)
	}
	nc, refused, err := y.connect(c, key)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), stream.EventSubject(c.GetAgentId()), []byte("batch")); err != nil {
		t.Errorf("publish its own events: %v", err)
	}
	if err := nc.Publish(stream.HeartbeatSubject(c.GetAgentId()), nil); err != nil {
		t.Fatal(err)
	}
	// Its own policy and report it may ask for; that nobody answers is another thing.
	for _, subject := range []string{stream.PolicySubject("acme/shop"), stream.ReportSubject(c.GetAgentId())} {
		if _, err := nc.Request(subject, nil, time.Second); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("ask at %s: %v", subject, err)
		}
	}
	other := stream.JobAgentID("acme/bank", "1", 1, nkey)
	for _, subject := range []string{
		stream.EventSubject(other), stream.EventSubject("agent-1"), "sallyport.events.4.1.x", stream.HeartbeatSubject(other), stream.ReportSubject(other),
		stream.PolicySubject("acme/bank"), "$JS.API.DIRECT.GET.KV_POLICIES", "$JS.API.STREAM.MSG.GET.KV_POLICIES", "$JS.API.CONSUMER.CREATE.KV_POLICIES.x.$KV.POLICIES.acme/shop",
		"sallyport.findings", "sallyport.deadletters.ingest", "$KV.ENROLMENTS.x", "$KV.TOKENS.x", "$KV.BASELINES.x", "$JS.API.STREAM.DELETE.EVENTS",
		"$JS.API.STREAM.INFO.EVENTS", "$JS.ACK.EVENTS.ingest.1.1.1.1.1", stream.AgentInbox(other) + ".x", "$SYS.REQ.SERVER.PING",
	} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		expectRefused(t, nc, refused, subject)
	}
	for _, subject := range []string{">", "sallyport.>", "sallyport.events.*", stream.AgentInbox(other) + ".>", "_INBOX.>", stream.Inbox(stream.PartUp) + ".>", "$KV.>", "sallyport.findings"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		expectRefused(t, nc, refused, subject)
	}

	// A credential is of no use without the key, and not for another key.
	thief, _ := newUser(t)
	if _, _, err := y.connect(c, thief); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("with another key: %v", err)
	}
	// Neither is one that somebody else signed, nor one that is changed.
	stranger, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := stranger.Seed()
	forger, err := NewSigner(seed, "")
	if err != nil {
		t.Fatal(err)
	}
	forged, err := forger.sign(c.GetAgentId(), nkey, "", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"of a stranger": forged, "changed": strings.Replace(c.GetJwt(), ".", ".e", 1), "garbage": "x"} {
		if _, _, err := y.connect(&sallyportv1.Credential{AgentId: "x", Jwt: text}, key); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("a credential that is %s: %v", name, err)
		}
	}
	// Our own key signs agents and nobody else.
	for _, subject := range []string{">", "sallyport.events.*", "sallyport.findings", stream.EventSubject("y"), "$JS.API.DIRECT.GET.KV_POLICIES.>", ""} {
		u := jwt.NewUserClaims(nkey)
		u.Name, u.Expires = "x", time.Now().Add(time.Hour).Unix()
		u.Pub.Allow.Add(subject) // nothing, the last time
		u.Sub.Allow.Add(stream.AgentInbox("x") + ".>")
		text, err := u.Encode(y.signer.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := y.connect(&sallyportv1.Credential{AgentId: "x", Jwt: text}, key); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("a credential that allows %q: %v", subject, err)
		}
	}
	over, err := y.signer.sign(c.GetAgentId(), nkey, "", time.Now().Add(-time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := y.connect(&sallyportv1.Credential{AgentId: "x", Jwt: over}, key); !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthExpired) {
		t.Errorf("a credential that is over: %v", err)
	}
}

func expectRefused(t *testing.T, nc *nats.Conn, refused <-chan error, subject string) {
	t.Helper()
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), subject) {
			t.Errorf("%s: %v", subject, err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("%s is not refused", subject)
	}
}

// A connection ends with its credential.
func TestCredentialEnds(t *testing.T) {
	y := newYard(t)
	key, nkey := newUser(t)
	text, err := y.signer.sign("agent-1", nkey, "", time.Now().Add(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	_, _, err = y.connect(&sallyportv1.Credential{AgentId: "agent-1", Jwt: text}, key, nats.ClosedHandler(func(*nats.Conn) { close(ended) }))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the connection goes on")
	}
}

// A token is good once, whichever server is asked, also after it was started again, and
// also if all are asked at the same moment.
func TestTokenIsUsedOnce(t *testing.T) {
	y := newYard(t)
	_, nkey := newUser(t)
	again := y.open()
	token := y.token(nil)
	var let atomic.Int32
	var wait sync.WaitGroup
	for _, gate := range []*Gate{y.gate, again, y.gate, again} {
		wait.Go(func() {
			_, err := gate.Exchange(t.Context(), token, nkey, "192.0.2.1")
			var refused *RefusedError
			switch {
			case err == nil:
				let.Add(1)
			case !errors.As(err, &refused) || refused.Reason != ReasonReplayed:
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if let.Load() != 1 {
		t.Errorf("the token was good %d times", let.Load())
	}
	var refused *RefusedError
	if _, err := y.open().Exchange(t.Context(), token, nkey, "192.0.2.9"); !errors.As(err, &refused) || refused.Reason != ReasonReplayed || refused.Repository != "acme/shop" {
		t.Errorf("after a restart: %v", err)
	}
	// Who is refused for something else does not use the token up.
	fresh := y.token(nil)
	if _, err := y.gate.Exchange(t.Context(), fresh, "no key", "192.0.2.1"); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if _, err := y.gate.Exchange(t.Context(), fresh, nkey, "192.0.2.1"); err != nil {
		t.Error(err)
	}
}

func TestRefusalsAreRecorded(t *testing.T) {
	y := newYard(t)
	_, nkey := newUser(t)
	secret := y.token(map[string]any{"repository": "evil/corp", "repository_owner": "evil"})
	for range 3 {
		if _, err := y.gate.Exchange(t.Context(), secret, nkey, "192.0.2.66"); err == nil {
			t.Fatal("let in")
		}
		y.clock.pass(time.Second)
	}
	if _, err := y.gate.Exchange(t.Context(), "garbage", nkey, "192.0.2.67"); err == nil {
		t.Fatal("let in")
	}
	list, err := y.open().Refusals(t.Context(), 10) // another server
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].GetReason() != "malformed" || list[1].GetReason() != "repository" || list[1].GetCount() != 3 || list[1].GetRepository() != "evil/corp" ||
		list[1].GetAddress() != "192.0.2.66" || !list[1].GetFirst().AsTime().Before(list[1].GetLast().AsTime()) {
		t.Errorf("refusals: %v", list)
	}
	if list, err = y.gate.Refusals(t.Context(), 1); err != nil || len(list) != 1 {
		t.Errorf("the newest: %v, %v", list, err)
	}
	if n := testutil.ToFloat64(y.gate.refused.WithLabelValues("repository")); n != 3 {
		t.Errorf("%v counted", n)
	}
	if log := y.log.String(); !strings.Contains(log, "evil/corp") || strings.Contains(log, secret) || strings.Contains(log, strings.Split(secret, ".")[2]) {
		t.Errorf("the log:\n%s", log)
	}
}

func (y *yard) createKey(q *sallyportv1.CreateEnrolmentKeyRequest) (string, *sallyportv1.EnrolmentKey) {
	y.t.Helper()
	key, kept, err := y.gate.CreateKey(y.t.Context(), q)
	if err != nil {
		y.t.Fatal(err)
	}
	return key, kept
}

func reasonOf(err error) Reason {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return Reason(fmt.Sprint(err))
}

func TestEnrolment(t *testing.T) {
	y := newYard(t)
	ctx := t.Context()
	key, kept := y.createKey(&sallyportv1.CreateEnrolmentKeyRequest{NamePattern: "vm-*", Uses: 2, Repository: "acme/*"})
	pair, nkey := newUser(t)
	c, err := y.gate.Enrol(ctx, key, "vm-1", nkey, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := stream.RepositoryAgentID("acme/*", "vm-1"); c.GetAgentId() != want {
		t.Errorf("agent %s, want %s", c.GetAgentId(), want)
	}
	nc, _, err := y.connect(c, pair)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish(stream.HeartbeatSubject(c.GetAgentId()), nil); err != nil {
		t.Fatal(err)
	}

	_, other := newUser(t)
	for _, r := range []struct {
		key, name string
		reason    Reason
	}{
		{key, "vm-1", ReasonName}, // somebody has it
		{key, "web-1", ReasonName},
		{"", "vm-2", ReasonEnrolmentKey},
		{key + "x", "vm-2", ReasonEnrolmentKey},
		{key[:len(key)-1], "vm-2", ReasonEnrolmentKey},
		{"spe_" + kept.GetId() + "_", "vm-2", ReasonEnrolmentKey},
		{"spe_0123456789abcdef_" + strings.Repeat("A", 26), "vm-2", ReasonEnrolmentKey},
		{"spe_*_x", "vm-2", ReasonEnrolmentKey},
		{strings.Repeat("spe_", 1000), "vm-2", ReasonEnrolmentKey},
	} {
		if _, err := y.gate.Enrol(ctx, r.key, r.name, other, "192.0.2.2"); reasonOf(err) != r.reason {
			t.Errorf("key %.40q, name %s: %v, want %s", r.key, r.name, err, r.reason)
		}
	}
	for _, name := range []string{"", "vm 1", "vm-" + strings.Repeat("1", 40)} {
		if _, err := y.gate.Enrol(ctx, key, name, other, "192.0.2.2"); !errors.Is(err, ErrInvalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	// The last use, then no more.
	if _, err := y.gate.Enrol(ctx, key, "vm-2", other, "192.0.2.2"); err != nil {
		t.Error(err)
	}
	_, third := newUser(t)
	if _, err := y.gate.Enrol(ctx, key, "vm-3", third, "192.0.2.2"); reasonOf(err) != ReasonEnrolmentKey {
		t.Errorf("a key that is used up: %v", err)
	}

	// Renewal by proof of the nkey.
	renew := func(agent string, by nkeys.KeyPair, audience string, at time.Time) error {
		signature, err := by.Sign(RenewalText(audience, agent, at))
		if err != nil {
			t.Fatal(err)
		}
		_, err = y.gate.Renew(ctx, agent, at, signature, "192.0.2.1")
		return err
	}
	now := y.clock.Now()
	if err := renew(c.GetAgentId(), pair, testAudience, now); err != nil {
		t.Error(err)
	}
	thief, _ := newUser(t)
	for _, err := range []error{
		renew(c.GetAgentId(), thief, testAudience, now),
		renew(c.GetAgentId(), pair, "https://evil.example.test", now), // made for another server
		renew(c.GetAgentId(), pair, testAudience, now.Add(-3*time.Minute)),
		renew(c.GetAgentId(), pair, testAudience, now.Add(3*time.Minute)),
		renew("nobody", pair, testAudience, now),
	} {
		if reasonOf(err) != ReasonProof {
			t.Errorf("renewal: %v", err)
		}
	}

	// Revoked: cut off at once, no renewal, no way back with the same key, also after a restart.
	ended := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(ended) })
	cut, err := y.gate.Revoke(ctx, c.GetAgentId())
	if err != nil || len(cut) != 1 {
		t.Fatal(cut, err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("a revoked agent's connection goes on")
	}
	if _, _, err := y.connect(c, pair); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a revoked agent connects: %v", err)
	}
	if err := renew(c.GetAgentId(), pair, testAudience, now); reasonOf(err) != ReasonRevoked {
		t.Errorf("a revoked agent renews: %v", err)
	}
	more, moreKept := y.createKey(&sallyportv1.CreateEnrolmentKeyRequest{Uses: 5, Repository: "acme/*"})
	if _, err := y.gate.Enrol(ctx, more, "vm-9", nkey, "192.0.2.1"); reasonOf(err) != ReasonRevoked {
		t.Errorf("a revoked nkey enrols: %v", err)
	}
	var cutAgain []string
	again := y.gate.cfg
	again.Registerer, again.CutOff = nil, func(nkey string) { cutAgain = append(cutAgain, nkey) }
	if _, err := Open(ctx, again); err != nil || len(cutAgain) != 1 || cutAgain[0] != nkey {
		t.Errorf("after a restart %v are cut off, %v", cutAgain, err)
	}
	// The name is free for another machine, and the old one does not come back with that.
	if _, err := y.gate.Enrol(ctx, more, "vm-1", third, "192.0.2.1"); err != nil {
		t.Error(err)
	}
	if err := renew(c.GetAgentId(), pair, testAudience, now); reasonOf(err) != ReasonProof {
		t.Errorf("the agent that had the name before renews: %v", err)
	}

	// A key that is revoked, and one that is too old.
	if _, err := y.gate.Revoke(ctx, moreKept.GetId()); err != nil {
		t.Fatal(err)
	}
	_, fourth := newUser(t)
	if _, err := y.gate.Enrol(ctx, more, "vm-4", fourth, "192.0.2.1"); reasonOf(err) != ReasonEnrolmentKey {
		t.Errorf("a revoked key: %v", err)
	}
	old, _ := y.createKey(&sallyportv1.CreateEnrolmentKeyRequest{LifetimeSeconds: 60})
	y.clock.pass(time.Minute)
	if _, err := y.gate.Enrol(ctx, old, "vm-4", fourth, "192.0.2.1"); reasonOf(err) != ReasonEnrolmentKey {
		t.Errorf("an old key: %v", err)
	}
	for _, id := range []string{"nobody", "", "a b", "key.x"} {
		if _, err := y.gate.Revoke(ctx, id); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("revoke %q: %v", id, err)
		}
	}

	keys, agents, err := y.gate.Enrolments(ctx)
	if err != nil || len(keys) != 3 || len(agents) != 2 {
		t.Fatalf("%d keys, %d agents, %v", len(keys), len(agents), err)
	}
	for _, k := range keys {
		if len(k.GetDigest()) > 0 {
			t.Error("the digest of a key is told")
		}
	}
	y.nothingKept(key, more, old)
}

// nothingKept fails if the log or a bucket holds a secret.
func (y *yard) nothingKept(secrets ...string) {
	y.t.Helper()
	s, err := y.js.Stream(y.t.Context(), "KV_"+stream.EnrolmentsBucket)
	if err != nil {
		y.t.Fatal(err)
	}
	all := y.log.String()
	for n := uint64(1); n <= s.CachedInfo().State.LastSeq; n++ {
		if m, err := s.GetMsg(y.t.Context(), n); err == nil {
			all += string(m.Data)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(all, secret) || strings.Contains(all, secret[strings.LastIndex(secret, "_")+1:]) {
			y.t.Errorf("a secret is kept: %s", secret)
		}
	}
}

// A key of one use lets one agent in, however many try at the same moment.
func TestKeyOfOneUse(t *testing.T) {
	y := newYard(t)
	key, _ := y.createKey(&sallyportv1.CreateEnrolmentKeyRequest{})
	var let atomic.Int32
	var wait sync.WaitGroup
	for i := range 6 {
		_, nkey := newUser(t)
		wait.Go(func() {
			_, err := y.gate.Enrol(context.WithoutCancel(t.Context()), key, fmt.Sprint("vm-", i), nkey, "192.0.2.1")
			if err == nil {
				let.Add(1)
			} else if reasonOf(err) != ReasonEnrolmentKey {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if let.Load() != 1 {
		t.Errorf("%d agents were let in", let.Load())
	}
}

func TestKeysThatNobodyCanMean(t *testing.T) {
	y := newYard(t)
	for _, q := range []*sallyportv1.CreateEnrolmentKeyRequest{
		{NamePattern: "a b"}, {NamePattern: "a.b"}, {NamePattern: strings.Repeat("a", 200)}, {Uses: maxKeyUses + 1},
		{LifetimeSeconds: 1 << 40}, {Repository: "acme"}, {Repository: "*/*"}, {Repository: "acme/sh*"},
	} {
		if _, _, err := y.gate.CreateKey(t.Context(), q); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", q, err)
		}
	}
	if _, err := NewSigner([]byte("garbage"), ""); err == nil || strings.Contains(err.Error(), "garbage") {
		t.Error(err)
	}
	user, _ := newUser(t)
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner(seed, ""); err == nil {
		t.Error("a user's key signs")
	}
}
