package stream

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// PublishHeartbeat sends an agent's heartbeat to whoever listens. It does not wait; while
// the connection is away it fails.
func PublishHeartbeat(nc *nats.Conn, h *sallyportv1.Heartbeat) error {
	data, err := proto.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode heartbeat: %w", err)
	}
	if err := nc.Publish(heartbeatPrefix+h.GetAgentId(), data); err != nil {
		return fmt.Errorf("publish heartbeat: %w", err)
	}
	return nil
}

// SubscribeHeartbeats calls heard for each heartbeat of any agent, and foreign for each
// message on their subjects that is none, one at a time, until the subscription ends.
func SubscribeHeartbeats(nc *nats.Conn, heard func(*sallyportv1.Heartbeat), foreign func(error)) (*nats.Subscription, error) {
	s, err := nc.Subscribe(heartbeatPrefix+"*", func(m *nats.Msg) {
		h := new(sallyportv1.Heartbeat)
		if err := proto.Unmarshal(m.Data, h); err != nil {
			foreign(fmt.Errorf("%w: decode heartbeat of %d bytes on %s: %w", ErrMalformed, len(m.Data), m.Subject, err))
			return
		}
		if strings.TrimPrefix(m.Subject, heartbeatPrefix) != h.GetAgentId() {
			foreign(fmt.Errorf("%w: heartbeat of agent %q on %s", ErrMalformed, h.GetAgentId(), m.Subject))
			return
		}
		if err := checkBinding(h.GetAgentId(), h.GetJobs()); err != nil {
			foreign(fmt.Errorf("%w: heartbeat: %w", ErrMalformed, err))
			return
		}
		heard(h)
	})
	if err != nil {
		return nil, fmt.Errorf("listen for heartbeats: %w", err)
	}
	return s, nil
}
