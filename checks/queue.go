package checks

import (
	"context"
	"sync"
	"time"
)

// queue says what is to be worked on when. The same key is worked on once at a time; what is added
// meanwhile is done afterwards.
type queue struct {
	now  func() time.Time
	wake chan struct{}

	mu   sync.Mutex
	due  map[string]time.Time
	busy map[string]bool
}

func newQueue(now func() time.Time) *queue {
	return &queue{now: now, wake: make(chan struct{}, 1), due: make(map[string]time.Time), busy: make(map[string]bool)}
}

// add has a key worked on at a time, or before if it is there already.
func (q *queue) add(key string, at time.Time) {
	q.mu.Lock()
	if old, ok := q.due[key]; !ok || at.Before(old) {
		q.due[key] = at
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next takes what is due, or says when something will be; zero if there is nothing.
func (q *queue) next() (key string, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	var first time.Time
	for k, at := range q.due {
		if !q.busy[k] && (first.IsZero() || at.Before(first)) {
			key, first = k, at
		}
	}
	if key == "" {
		return "", 0, false
	}
	if wait = first.Sub(now); wait > 0 {
		return "", wait, false
	}
	delete(q.due, key)
	q.busy[key] = true
	return key, 0, true
}

func (q *queue) done(key string) {
	q.mu.Lock()
	delete(q.busy, key)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run works on what is due, so many at once, until ctx ends, and waits for what it began.
func (q *queue) run(ctx context.Context, parallel int, work func(ctx context.Context, key string)) {
	var workers sync.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, parallel)
	for ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		key, wait, ok := q.next()
		if ok {
			workers.Go(func() {
				defer func() { <-slots; q.done(key) }()
				work(ctx, key)
			})
			continue
		}
		<-slots
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer:
		}
	}
}
