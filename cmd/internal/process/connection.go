package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// Connection is one to NATS that is made, and made again, beside everything else: nothing
// that asks it waits for the network, as methods of nats.Conn may while it connects. Its
// methods are safe for concurrent use.
type Connection struct {
	connected atomic.Bool
	failed    atomic.Pointer[error]

	mu     sync.Mutex
	nc     *nats.Conn // nil until the first attempt has come to an end
	closed bool
	done   chan struct{}
}

// ConnectBeside is Connect that does not wait for the first attempt. The error is one of
// wrong usage. Close it.
func (n *NATS) ConnectBeside(name, inbox string, log *slog.Logger, more ...nats.Option) (*Connection, error) {
	if err := n.Valid(); err != nil {
		return nil, err
	}
	c := &Connection{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		nc, err := n.Connect(name, inbox, log, append(more, c.options(log)...)...)
		if err != nil { // a file that was there is not any more
			log.Error("there will be no connection to NATS", "error", err)
			c.failed.Store(&err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.nc = nc; c.closed {
			nc.Close()
		}
	}()
	return c, nil
}

func (c *Connection) options(log *slog.Logger) []nats.Option {
	up := func(*nats.Conn) { c.connected.Store(true) }
	return []nats.Option{
		nats.ConnectHandler(func(nc *nats.Conn) {
			up(nc)
			log.Debug("connected to NATS", "server", nc.ConnectedServerName())
		}),
		func(o *nats.Options) error {
			again, lost, away := o.ReconnectedCB, o.DisconnectedErrCB, o.ReconnectErrCB
			o.ReconnectedCB = func(nc *nats.Conn) { up(nc); again(nc) }
			o.DisconnectedErrCB = func(nc *nats.Conn, err error) { c.connected.Store(false); lost(nc, err) }
			o.ReconnectErrCB = func(nc *nats.Conn, err error) {
				if !errors.Is(err, nats.ErrNoServers) { // which is no reason
					c.failed.Store(&err)
				}
				away(nc, err)
			}
			return nil
		},
	}
}

// Conn returns the connection while there is one, else nil.
func (c *Connection) Conn() *nats.Conn {
	if !c.connected.Load() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nc
}

// Again has it made anew, to show another credential. It does not wait for that.
func (c *Connection) Again() error {
	c.mu.Lock()
	nc := c.nc
	c.mu.Unlock()
	if nc == nil {
		return nil // it will be shown the first time
	}
	if err := nc.ForceReconnect(); err != nil {
		return fmt.Errorf("connect to NATS again: %w", err)
	}
	return nil
}

// Err returns nil while there is a connection, else why there is none.
func (c *Connection) Err() error {
	if c.Conn() != nil {
		return nil
	}
	if err := c.failed.Load(); err != nil {
		return errors.Join(errNotConnected, *err)
	}
	return errNotConnected
}

var errNotConnected = errors.New("not connected")

// Close ends the connection, now or when the attempt to make it ends. It waits for that
// until ctx ends.
func (c *Connection) Close(ctx context.Context) {
	c.connected.Store(false)
	c.mu.Lock()
	c.closed = true
	nc := c.nc
	c.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-c.done
		if nc != nil {
			nc.Close() // which waits for an attempt that is being made
		}
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
