package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/sallyport-ci/sallyport/agent"
	"github.com/sallyport-ci/sallyport/agent/credential"
	"github.com/sallyport-ci/sallyport/cmd/internal/process"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// link is the agent's way to NATS: a connection from the start (--nats), or one that is
// made when the server has given a credential (--server), and again when that says so.
type link struct {
	agentID string
	// spool is the folder of what waits for this identity.
	spool  string
	runOf  string // what it may speak for, if that is one run: OWNER/NAME/ID/ATTEMPT
	log    *slog.Logger
	holder *credential.Holder // nil with --nats

	mu         sync.Mutex
	connection *process.Connection // nil until there is a credential
	urls       []string
	ca         string
}

// link finds out who this agent is, and how it is let in.
func (o *options) link() (*link, error) {
	spool := filepath.Join(o.state, "spool")
	if !o.byServer {
		id := o.agentID
		if id == "" {
			var err error
			if id, err = agent.Identity(o.state); err != nil {
				return nil, err
			}
		}
		c, err := o.nats.ConnectBeside("sallyport-agent "+id, stream.AgentInbox(id), o.log)
		if err != nil {
			return nil, err
		}
		return &link{agentID: id, spool: spool, log: o.log, connection: c}, nil
	}
	source, of, err := o.source()
	if err != nil {
		return nil, err
	}
	l := &link{agentID: source.AgentID(), spool: spool, log: o.log, holder: credential.NewHolder(source, o.log)}
	if of != nil {
		// What another job's agent has left may not be published by this one.
		l.spool = filepath.Join(spool, l.agentID)
		l.runOf = fmt.Sprintf("%s/%s/%d", of.Repository, of.RunID, of.Attempt)
	}
	return l, nil
}

// source is where credentials come from: the enrolment of this machine, else the job that
// the agent was started in, which is returned, too.
func (o *options) source() (source credential.Source, job *credential.Job, err error) {
	// First, so that it is out of the environment whatever comes.
	request, requestErr := credential.TakeRequest(os.LookupEnv)
	enrolment, err := credential.LoadEnrolment(o.state)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, err
	default:
		address, ca := o.server, o.serverCA
		if address == "" {
			address = enrolment.Server
		}
		if ca == "" {
			ca = enrolment.ServerCA
		}
		api, err := credential.NewAPI(address, ca)
		if err != nil {
			return nil, nil, err
		}
		if api.URL != enrolment.Server {
			return nil, nil, fmt.Errorf("this machine is enrolled at %s, not at %s: enrol it there", enrolment.Server, api.URL)
		}
		source, err = credential.NewEnrolledSource(api, enrolment)
		return source, nil, err
	}
	api, err := credential.NewAPI(o.server, o.serverCA)
	if err != nil {
		return nil, nil, err
	}
	which, err := credential.JobOf(os.LookupEnv)
	if err = errors.Join(requestErr, err); err != nil {
		// The job goes on, and what it does is kept for whoever looks at it later.
		id, e := agent.Identity(o.state)
		if e != nil {
			return nil, nil, e
		}
		return nobody{id: id, err: err}, nil, nil
	}
	key, err := credential.JobKey(o.state, which)
	if err != nil {
		return nil, nil, err
	}
	source, err = credential.NewJobSource(api, request, which, key)
	return source, &which, err
}

// nobody is the source of an agent that cannot be let in.
type nobody struct {
	id  string
	err error
}

func (n nobody) AgentID() string    { return n.id }
func (n nobody) Key() nkeys.KeyPair { return nil }
func (n nobody) Get(context.Context) (*sallyportv1.Credential, error) {
	return nil, fmt.Errorf("this machine is not enrolled (sallyport-agent enrol), and it is not in a job that is let in: %w", n.err)
}

// errNotLetIn says that there is no connection yet.
var errNotLetIn = errors.New("the server has not let this agent in yet")

// made returns the connection that there is or will be; nil before the first credential.
func (l *link) made() *process.Connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.connection
}

// conn returns the connection while there is one, else nil, and at once.
func (l *link) conn() *nats.Conn {
	if c := l.made(); c != nil {
		return c.Conn()
	}
	return nil
}

// check says whether the agent can publish now.
func (l *link) check() error {
	if c := l.made(); c != nil {
		return c.Err()
	}
	if why := l.holder.Err(); why != nil {
		return why
	}
	return errNotLetIn
}

// judge asks for the judgement of a job.
func (l *link) judge(ctx context.Context, q *sallyportv1.JobJudgementRequest) (*sallyportv1.JobJudgement, error) {
	nc := l.conn()
	if nc == nil {
		return nil, errNoServer
	}
	return stream.AskJudgement(ctx, nc, l.agentID, q)
}

// run keeps the credential and the connection new until ctx ends.
func (l *link) run(ctx context.Context) {
	if l.holder == nil {
		return
	}
	l.holder.Run(ctx, func(c *sallyportv1.Credential) {
		if err := l.connect(c); err != nil {
			l.log.Error("the agent was let in, and cannot use that", "error", err)
		}
	})
}

// connect connects with a credential. A connection that is there to the same servers shows
// the new one by connecting again, before the old one ends.
func (l *link) connect(c *sallyportv1.Credential) error {
	l.mu.Lock()
	old := l.connection
	same := old != nil && slices.Equal(l.urls, c.GetNatsUrls()) && l.ca == c.GetNatsCa()
	l.mu.Unlock()
	if same {
		return old.Again()
	}
	to := process.NATS{URL: strings.Join(c.GetNatsUrls(), ",")}
	options := stream.CredentialOptions(l.holder.JWT, l.holder.Sign)
	if c.GetNatsCa() != "" {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(c.GetNatsCa())) {
			return errors.New("the server's answer holds no certificates for NATS where it should")
		}
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}))
	}
	for _, address := range c.GetNatsUrls() {
		if u, err := url.Parse(address); err == nil && u.Scheme == "nats" && c.GetNatsCa() == "" && !loopback(u.Hostname()) {
			l.log.Warn("what this agent sees goes to NATS for everybody on the way to read: it has no TLS", "address", u.Host)
		}
	}
	fresh, err := to.ConnectBeside("sallyport-agent "+l.agentID, stream.AgentInbox(l.agentID), l.log, options...)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.connection, l.urls, l.ca = fresh, c.GetNatsUrls(), c.GetNatsCa()
	l.mu.Unlock()
	if old != nil {
		closeConnection(old)
	}
	l.log.Info("the agent is let in", "agent", l.agentID, "until", c.GetExpires().AsTime().Format(time.RFC3339))
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (l *link) close() {
	if c := l.made(); c != nil {
		closeConnection(c)
	}
}

// closeConnection does not wait long for an attempt to connect that leads nowhere.
func closeConnection(c *process.Connection) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	c.Close(ctx)
}
