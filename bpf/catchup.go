package bpf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
)

// catchUps are those who wait until all that happened before they asked has been read. The reader
// says twice that the ring is empty before they are told: the first time it may have looked into the
// ring before they asked.
type catchUps struct {
	mu           sync.Mutex
	asked, again []chan struct{}
}

// CatchUp waits until Read has returned, and was called again after, all that the kernel had seen
// before the call; or until ctx ends. It needs somebody who calls Read. It is safe for concurrent
// use; after Close it returns at once.
func (s *Sensor) CatchUp(ctx context.Context) error {
	if s.closing.Load() {
		return nil
	}
	done := make(chan struct{})
	s.catchUps.mu.Lock()
	s.catchUps.asked = append(s.catchUps.asked, done)
	s.catchUps.mu.Unlock()
	if err := s.reader.Flush(); err != nil {
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		return fmt.Errorf("wake reader: %w", err)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("read what was seen until now: %w", ctx.Err())
	}
}

// emptied notes that the ring was empty. It says whether somebody wants to hear that once more.
func (c *catchUps) emptied() (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, done := range c.again {
		close(done)
	}
	c.again, c.asked = c.asked, nil
	return len(c.again) > 0
}

// any says whether somebody waits.
func (c *catchUps) any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)+len(c.again) > 0
}
