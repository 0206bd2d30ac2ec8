package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// ErrNotJudged is wrapped by errors that say why the detector gives no judgement.
var ErrNotJudged = errors.New("not judged")

// AskJudgement asks the detector what it thinks of a job that an agent told of, and waits
// for the answer until ctx ends. While the connection is away it fails at once.
func AskJudgement(ctx context.Context, nc *nats.Conn, agentID string, q *sallyportv1.JobJudgementRequest) (*sallyportv1.JobJudgement, error) {
	if !nc.IsConnected() {
		return nil, errors.New("there is no connection to the server")
	}
	data, err := proto.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("ask for judgement: %w", err)
	}
	// Whatever inbox the connection has: the detector answers here alone.
	inbox := AgentInbox(agentID) + "." + nuid.Next()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask for judgement: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection is away: it is gone with it
	if err := nc.PublishRequest(reportPrefix+agentID, inbox, data); err != nil {
		return nil, fmt.Errorf("ask for judgement: %w", err)
	}
	m, err := answers.NextMsgWithContext(ctx)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, errors.New("no detector runs on the server")
	case errors.Is(err, context.DeadlineExceeded):
		return nil, errors.New("the server did not answer in time")
	case err != nil:
		return nil, fmt.Errorf("ask for judgement: %w", err)
	}
	a := new(sallyportv1.JobJudgementAnswer)
	if err := proto.Unmarshal(m.Data, a); err != nil {
		return nil, fmt.Errorf("%w: decode judgement of %d bytes: %w", ErrMalformed, len(m.Data), err)
	}
	if a.GetError() != "" {
		return nil, fmt.Errorf("%w: %s", ErrNotJudged, a.GetError())
	}
	if a.GetJudgement() == nil {
		return nil, fmt.Errorf("%w: an answer without a judgement", ErrMalformed)
	}
	return a.GetJudgement(), nil
}

// JudgementQuestion is what an agent asks. It must be answered or dropped.
type JudgementQuestion struct {
	// AgentID of the agent, by the subject that it asked on.
	AgentID string
	// Request is what it asks.
	Request *sallyportv1.JobJudgementRequest

	nc    *nats.Conn
	reply string
}

// Answer answers it. It does not wait.
func (q *JudgementQuestion) Answer(a *sallyportv1.JobJudgementAnswer) error {
	data, err := proto.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode judgement: %w", err)
	}
	if err := q.nc.Publish(q.reply, data); err != nil {
		return fmt.Errorf("answer agent %s: %w", q.AgentID, err)
	}
	return nil
}

// SubscribeJudgements calls asked for each question of any agent, and foreign for each
// message on their subjects that is none, one at a time, until the subscription ends. Whoever
// asks names where the answer goes: only the inbox of the very agent will do, or anybody who
// may ask could have something published anywhere.
func SubscribeJudgements(nc *nats.Conn, asked func(*JudgementQuestion), foreign func(error)) (*nats.Subscription, error) {
	s, err := nc.Subscribe(reportPrefix+"*", func(m *nats.Msg) {
		agentID := strings.TrimPrefix(m.Subject, reportPrefix)
		below, own := strings.CutPrefix(m.Reply, AgentInbox(agentID)+".")
		if !ValidAgentID(agentID) || !own || below == "" || strings.ContainsAny(below, "*> \t\r\n") {
			foreign(fmt.Errorf("%w: question on %s whose answer would go to %q", ErrMalformed, m.Subject, m.Reply))
			return
		}
		q := new(sallyportv1.JobJudgementRequest)
		if err := proto.Unmarshal(m.Data, q); err != nil {
			foreign(fmt.Errorf("%w: decode question of %d bytes on %s: %w", ErrMalformed, len(m.Data), m.Subject, err))
			return
		}
		asked(&JudgementQuestion{AgentID: agentID, Request: q, nc: nc, reply: m.Reply})
	})
	if err != nil {
		return nil, fmt.Errorf("listen for questions: %w", err)
	}
	return s, nil
}
