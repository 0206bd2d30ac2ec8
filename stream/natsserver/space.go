package natsserver

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/stream"
)

// Space keeps a file system from being filled by the stream EVENTS: a JetStream that was
// once refused room to write takes nothing more until its server is started again. While
// less than a reserve is free, EVENTS is held at the size that it has: it refuses what
// agents publish, and they keep it on their disks. Reading goes on, so what is there
// drains.
type Space struct {
	// JS reaches the stream.
	JS jetstream.JetStream
	// Dir is on the file system that is watched.
	Dir string
	// Reserve is how many bytes are to stay free; a twentieth of the file system, but at
	// most 1 GiB, by default.
	Reserve int64
	// Interval is how often to look; two seconds by default.
	Interval time.Duration
	// Logger takes what operators should know; discarded by default.
	Logger *slog.Logger

	short atomic.Bool
}

const (
	maxReserve = 1 << 30
	// easing is how much more than the reserve has to be free, in parts of it, before
	// EVENTS may grow again.
	easing = 4
)

// Short says whether EVENTS is being held. It is safe for concurrent use.
func (s *Space) Short() bool { return s.short.Load() }

// Run watches until ctx ends. EVENTS must have been declared with the limit that it is to
// have again.
func (s *Space) Run(ctx context.Context) error {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	interval := s.Interval
	if interval <= 0 {
		interval = 2 * time.Second
	}
	events, err := s.JS.Stream(ctx, stream.EventsStream)
	if err != nil {
		return fmt.Errorf("watch disk space: %w", err)
	}
	limit := events.CachedInfo().Config.MaxBytes
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	failing := false
	for {
		err := s.look(ctx, limit)
		if err != nil && ctx.Err() == nil && !failing {
			s.Logger.Warn("disk space is not watched, trying again", "dir", s.Dir, "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *Space) look(ctx context.Context, limit int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.Dir, &fs); err != nil {
		return fmt.Errorf("look at the file system of %s: %w", s.Dir, err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	reserve := s.Reserve
	if reserve <= 0 {
		reserve = min(int64(fs.Blocks)*fs.Bsize/20, maxReserve)
	}
	short := s.short.Load()
	switch {
	case !short && free < reserve:
		events, err := s.JS.Stream(ctx, stream.EventsStream)
		if err != nil {
			return fmt.Errorf("hold stream %s: %w", stream.EventsStream, err)
		}
		// A stream takes no limit below what it holds for a reason to drop any of it.
		if err := s.limit(ctx, max(int64(events.CachedInfo().State.Bytes), 1)); err != nil {
			return err
		}
		s.short.Store(true)
		s.Logger.Error("the disk is nearly full: agents keep their events until there is room",
			"dir", s.Dir, "free_bytes", free, "reserve_bytes", reserve)
	case short && free > reserve+reserve/easing:
		if err := s.limit(ctx, limit); err != nil {
			return err
		}
		s.short.Store(false)
		s.Logger.Info("there is room on the disk again", "dir", s.Dir, "free_bytes", free)
	}
	return nil
}

func (s *Space) limit(ctx context.Context, bytes int64) error {
	events, err := s.JS.Stream(ctx, stream.EventsStream)
	if err != nil {
		return fmt.Errorf("limit stream %s: %w", stream.EventsStream, err)
	}
	config := events.CachedInfo().Config
	config.MaxBytes = bytes
	if _, err := s.JS.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("limit stream %s to %d bytes: %w", stream.EventsStream, bytes, err)
	}
	return nil
}
