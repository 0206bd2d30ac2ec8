package credential

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nkeys"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Source is where an agent gets its credentials.
type Source interface {
	// AgentID is the identity that the credentials are for.
	AgentID() string
	// Key is the nkey that they are for.
	Key() nkeys.KeyPair
	// Get asks for a credential.
	Get(ctx context.Context) (*sallyportv1.Credential, error)
}

// How long to wait until the next try: longer each time, and not all agents at once.
const (
	firstPause = time.Second
	maxPause   = time.Minute
	// leastPause is the least time between two credentials, if clocks differ much.
	leastPause = 10 * time.Second
)

// errNone says that there is no credential yet.
var errNone = errors.New("there is no credential yet")

// Holder has the newest credential of an agent. It is safe for concurrent use.
type Holder struct {
	source Source
	log    *slog.Logger
	now    func() time.Time

	mu         sync.Mutex
	credential *sallyportv1.Credential
	err        error
}

// NewHolder returns a holder. Run it.
func NewHolder(source Source, log *slog.Logger) *Holder {
	return &Holder{source: source, log: log, now: time.Now, err: errNone}
}

// JWT returns the user JWT, or an error while there is none.
func (h *Holder) JWT() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.credential == nil {
		return "", h.err
	}
	return h.credential.GetJwt(), nil
}

// Sign signs with the nkey.
func (h *Holder) Sign(nonce []byte) ([]byte, error) { return h.source.Key().Sign(nonce) }

// Err is why there is no credential, or why it was not renewed; nil if all is well.
func (h *Holder) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Run gets credentials until ctx ends, each before the one before ends, and tells got of
// each. It goes on trying whatever the server says: somebody may put it right.
func (h *Holder) Run(ctx context.Context, got func(*sallyportv1.Credential)) {
	pause, told := firstPause, ""
	for {
		c, err := h.get(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := h.renewIn(c)
		h.mu.Lock()
		h.err = err
		if err == nil {
			h.credential = c
		}
		h.mu.Unlock()
		if err == nil {
			if told != "" {
				h.log.Info("the agent has a credential again", "agent", c.GetAgentId())
			}
			h.log.Debug("the agent has a credential", "agent", c.GetAgentId(), "until", c.GetExpires().AsTime())
			pause, told = firstPause, ""
			got(c)
		} else {
			if text := err.Error(); text != told { // each reason once, for the tries are many
				told = text
				h.log.Error("the agent gets no credential: what it sees is kept on disk; it tries again", "error", err)
			}
			wait = pause/2 + rand.N(pause)
			pause = min(2*pause, maxPause)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (h *Holder) get(ctx context.Context) (*sallyportv1.Credential, error) {
	c, err := h.source.Get(ctx)
	switch {
	case err != nil:
		return nil, err
	case c.GetJwt() == "" || len(c.GetNatsUrls()) == 0:
		return nil, errors.New("the server's answer holds no credential")
	case c.GetAgentId() != h.source.AgentID():
		return nil, fmt.Errorf("the server takes this agent for %q: it would be believed nothing as %s", c.GetAgentId(), h.source.AgentID())
	}
	return c, nil
}

// renewIn is when the next credential is asked for: when two thirds of the time are over.
func (h *Holder) renewIn(c *sallyportv1.Credential) time.Duration {
	if c == nil {
		return 0
	}
	left := c.GetExpires().AsTime().Sub(h.now())
	return max(left*2/3-rand.N(max(left/20, 1)), leastPause)
}
