package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/sallyport-ci/sallyport/cmd/internal/process"
	"github.com/sallyport-ci/sallyport/identity"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/test/oidcissuer"
)

// TestCredentialsOfAnOperator does what docs/cluster.md says of many agents: an operator
// signs users, and the rights of permissions.conf belong to signing keys, one a role. That
// of agents names nobody: each may speak for itself alone, whoever it is.
func TestCredentialsOfAnOperator(t *testing.T) {
	c := &cluster{t: t, dir: t.TempDir()}
	c.certificates()
	server := &clusterServer{name: "nats-1", addr: fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0]), log: c.path("nats-1.log")}
	c.servers = []*clusterServer{server}

	claims := func(name string, encode func(nkeys.KeyPair) (string, error), by nkeys.KeyPair) string {
		text, err := encode(by)
		if err != nil {
			t.Fatalf("sign %s: %v", name, err)
		}
		return text
	}
	operatorKey, operatorID := pair(t, nkeys.CreateOperator)
	_, accountID := pair(t, nkeys.CreateAccount)
	_, systemID := pair(t, nkeys.CreateAccount)
	operator := jwt.NewOperatorClaims(operatorID)
	operator.SystemAccount = systemID
	system := jwt.NewAccountClaims(systemID)
	account := jwt.NewAccountClaims(accountID)
	account.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1}

	signers := make(map[string]nkeys.KeyPair)
	for role, p := range permissionsOfRoles(t) {
		key, id := pair(t, nkeys.CreateAccount)
		scope := jwt.NewUserScope()
		scope.Key, scope.Role = id, role
		scope.Template.Pub.Allow, scope.Template.Pub.Deny, scope.Template.Sub.Allow = p.Publish.Allow, p.Publish.Deny, p.Subscribe.Allow
		account.SigningKeys.AddScopedSigner(scope)
		signers[role] = key
	}
	user := func(role, name string) {
		key, id := pair(t, nkeys.CreateUser)
		u := jwt.NewUserClaims(id)
		u.Name, u.IssuerAccount = name, accountID
		u.SetScoped(true)
		seed, err := key.Seed()
		if err != nil {
			t.Fatal(err)
		}
		creds, err := jwt.FormatUserConfig(claims(name, u.Encode, signers[role]), seed)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.path(name+".nk"), creds, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// With this one the server signs credentials for agents that it lets in.
	lettingIn, lettingInID := pair(t, nkeys.CreateAccount)
	account.SigningKeys.Add(lettingInID)
	for _, role := range []string{"declare", "detector", "server"} {
		user(role, role)
	}
	user("agent", "runner-7")

	conf := c.path("nats-server.conf")
	text := fmt.Sprintf(`listen: "%s"
server_name: nats-1
tls { cert_file: "%s", key_file: "%s" }
jetstream { store_dir: "%s", max_file_store: 2GB }
operator: %s
resolver: MEMORY
resolver_preload { %s: %s, %s: %s }
`, server.addr, c.path("server.pem"), c.path("server.key"), c.path("store"), claims("operator", operator.Encode, operatorKey),
		accountID, claims("account", account.Encode, operatorKey), systemID, claims("system", system.Encode, operatorKey))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.startWith(server, conf)

	// Whom nobody knows waits, says why, and ends in order.
	c.nkey("notify")
	stranger := c.run("notify")
	eventually(t, time.Minute, func() error {
		stranger.mu.Lock()
		defer stranger.mu.Unlock()
		if log := strings.Join(stranger.log, "\n"); !strings.Contains(log, "Authorization Violation") {
			return fmt.Errorf("the log of a user whom NATS does not know:\n%s", log)
		}
		return nil
	})
	if code, body, err := stranger.get("/readyz"); err != nil || code != http.StatusServiceUnavailable || !strings.Contains(body, "nats: not connected") {
		t.Errorf("a user whom NATS does not know: /readyz says %d %q %v", code, body, err)
	}
	stranger.stop()

	c.declare("--events-bytes", "200000000", "--findings-bytes", "20000000", "--dead-letter-bytes", "20000000", "--bucket-bytes", "20000000")
	detector := c.run("detector")
	detector.waitReady()
	nc, js, refused := c.connect("runner-7", stream.AgentInbox("runner-7"))
	if _, err := js.Publish(t.Context(), stream.EventSubject("runner-7"), []byte("garbage")); err != nil {
		t.Errorf("an agent publishes its own events: %v", err)
	}
	for _, subject := range []string{stream.EventSubject("runner-8"), "sallyport.heartbeats.runner-8", "sallyport.reports.runner-8", "$JS.API.STREAM.DELETE.EVENTS"} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		expectRefusal(t, nc, refused, "Publish", subject)
	}
	for _, subject := range []string{stream.AgentInbox("runner-8") + ".>", "_INBOX.>", "sallyport.events.*", "sallyport.reports.*"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		expectRefusal(t, nc, refused, "Subscription", subject)
	}
	// It asks, and hears that it told of no such job.
	asking, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := stream.AskJudgement(asking, nc, "runner-7", &sallyportv1.JobJudgementRequest{ExecutionId: "x"}); !errors.Is(err, stream.ErrNotJudged) {
		t.Errorf("an agent asks for a judgement: %v", err)
	}
	_, admin, _ := c.connect("declare", stream.Inbox(stream.PartDeclare))
	eventually(t, time.Minute, func() error {
		letters, err := admin.Stream(t.Context(), stream.DeadLettersStream)
		if err != nil {
			return err
		}
		if n := letters.CachedInfo().State.Msgs; n != 1 {
			return fmt.Errorf("%d dead letters of the detector", n)
		}
		return nil
	})
	detector.stop()
	testLetIn(t, c, lettingIn, accountID)
}

// testLetIn lets a job's agent in with a signing key of the account, as `sallyport server`
// does with the rights of its role, and tries what the agent may.
func testLetIn(t *testing.T, c *cluster, key nkeys.KeyPair, account string) {
	issuer, err := oidcissuer.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := identity.NewSigner(seed, account)
	if err != nil {
		t.Fatal(err)
	}
	allow, err := identity.NewAllow([]string{"acme/*"})
	if err != nil {
		t.Fatal(err)
	}
	const audience = "https://sallyport.example.test"
	verifier, err := identity.NewVerifier(identity.VerifierConfig{Issuer: issuer.URL, Audience: audience, Allow: allow})
	if err != nil {
		t.Fatal(err)
	}
	_, js, _ := c.connect("server", stream.Inbox(stream.PartServer))
	gate, err := identity.Open(t.Context(), identity.Config{JetStream: js, Verifier: verifier, Signer: signer, Audience: audience, NATSURLs: strings.Split(c.urls(), ",")})
	if err != nil {
		t.Fatal(err)
	}
	mine, nkey := pair(t, nkeys.CreateUser)
	token := issuer.Token(map[string]any{"aud": audience})
	credential, err := gate.Exchange(t.Context(), token, nkey, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gate.Exchange(t.Context(), token, nkey, "192.0.2.1"); err == nil || !strings.Contains(err.Error(), "replayed") {
		t.Errorf("the same token again: %v", err)
	}
	if list, err := gate.Refusals(t.Context(), 10); err != nil || len(list) != 1 {
		t.Errorf("refusals: %v, %v", list, err)
	}
	enrolmentKey, _, err := gate.CreateKey(t.Context(), &sallyportv1.CreateEnrolmentKeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, machine := pair(t, nkeys.CreateUser)
	if _, err := gate.Enrol(t.Context(), enrolmentKey, "vm-1", machine, "192.0.2.1"); err != nil {
		t.Error(err)
	}
	if keys, agents, err := gate.Enrolments(t.Context()); err != nil || len(keys) != 1 || len(agents) != 1 {
		t.Errorf("enrolments: %v, %v, %v", keys, agents, err)
	}
	if _, err := gate.Revoke(t.Context(), "vm-1"); err != nil {
		t.Error(err)
	}

	id := credential.GetAgentId()
	as := &process.NATS{URL: c.urls(), CA: c.path("ca.pem")}
	nc, err := as.Connect("test", stream.AgentInbox(id), slog.New(slog.DiscardHandler),
		stream.CredentialOptions(func() (string, error) { return credential.GetJwt(), nil }, mine.Sign)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	refused := make(chan error, 64)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	eventually(t, time.Minute, func() error { return process.Connected(nc) })
	agent, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Publish(t.Context(), stream.EventSubject(id), []byte("batch")); err != nil {
		t.Errorf("an agent that is let in publishes its own events: %v", err)
	}
	for _, subject := range []string{
		stream.EventSubject("runner-7"), stream.HeartbeatSubject("runner-7"), stream.PolicySubject("acme/bank"), "$JS.API.STREAM.DELETE.EVENTS",
		"$JS.API.STREAM.INFO.EVENTS", "$KV.ENROLMENTS.agent.x", "sallyport.findings",
	} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		expectRefusal(t, nc, refused, "Publish", subject)
	}
	for _, subject := range []string{stream.AgentInbox("runner-7") + ".>", "_INBOX.>", "sallyport.events.*", ">"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		expectRefusal(t, nc, refused, "Subscription", subject)
	}
}

func pair(t *testing.T, create func() (nkeys.KeyPair, error)) (key nkeys.KeyPair, public string) {
	t.Helper()
	key, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = key.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return key, public
}

// permissionsOfRoles reads deployments/nats/permissions.conf as the server does. The agent
// that it has as an example stands for all.
func permissionsOfRoles(t *testing.T) map[string]*natsserver.Permissions {
	t.Helper()
	roles := make(map[string]string) // by public key
	for user, variable := range clusterUsers {
		_, public := pair(t, nkeys.CreateUser)
		t.Setenv(variable, public)
		roles[public] = user
	}
	options, err := natsserver.ProcessConfigFile(filepath.Join("..", "..", "deployments", "nats", "permissions.conf"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*natsserver.Permissions)
	for _, user := range options.Nkeys {
		role := roles[user.Nkey]
		if role == "sys" {
			continue
		}
		p := user.Permissions
		if role == "runner-1" {
			role = "agent"
			for _, list := range [][]string{p.Publish.Allow, p.Subscribe.Allow} {
				for i := range list {
					list[i] = strings.ReplaceAll(list[i], "runner-1", "{{name()}}")
				}
			}
		}
		all[role] = p
	}
	return all
}
