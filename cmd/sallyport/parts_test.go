package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestPartsStopInReverseOrder(t *testing.T) {
	var order []string
	p := newParts()
	for _, name := range []string{"database", "stream", "agent"} {
		p.onStop(name, func() error {
			order = append(order, name) // one after the other: no race
			if name == "stream" {
				return errors.New("stuck")
			}
			return nil
		})
	}
	err := p.stop()
	if want := []string{"agent", "stream", "database"}; !slices.Equal(order, want) {
		t.Errorf("stopped in order %v, want %v", order, want)
	}
	if err == nil || !strings.Contains(err.Error(), "stop stream: stuck") {
		t.Errorf("stop = %v, want the stream's error", err)
	}
}

func TestPartThatEndsIsAFailure(t *testing.T) {
	p := newParts()
	p.start("ingest", func(context.Context) error { return nil })
	p.start("agent", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	if err := p.wait(t.Context()); err == nil || err.Error() != "ingest ended by itself" {
		t.Errorf("wait = %v", err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stop = %v: being cancelled is no error", err)
	}
}
