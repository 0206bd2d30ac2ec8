package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/nats-io/nats.go"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// heart sends heartbeats beside the agent, which may not wait for the network: to publish
// waits while a connection is made.
type heart struct {
	conn  func() *nats.Conn // nil while there is none
	beats chan *sallyportv1.Heartbeat
}

func newHeart(conn func() *nats.Conn) *heart {
	return &heart{conn: conn, beats: make(chan *sallyportv1.Heartbeat, 4)}
}

// beat takes a heartbeat; one that has no room is not sent.
func (h *heart) beat(b *sallyportv1.Heartbeat) error {
	select {
	case h.beats <- b:
		return nil
	default:
		return errors.New("those before have not been sent")
	}
}

// send sends heartbeats until ctx ends, and then those that wait.
func (h *heart) send(ctx context.Context, log *slog.Logger) error {
	for {
		select {
		case b := <-h.beats:
			h.publish(b, log)
		case <-ctx.Done():
			for {
				select {
				case b := <-h.beats:
					h.publish(b, log)
				default:
					return nil
				}
			}
		}
	}
}

func (h *heart) publish(b *sallyportv1.Heartbeat, log *slog.Logger) {
	nc := h.conn()
	if nc == nil {
		return // the spool says that nobody listens
	}
	if err := stream.PublishHeartbeat(nc, b); err != nil {
		log.Debug("a heartbeat is not heard", "error", err)
	}
}
