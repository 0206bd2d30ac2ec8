package notify

import "time"

// Clock tells the time and waits. It is given from outside so that tests need not
// wait for real.
type Clock interface {
	// Now returns the time.
	Now() time.Time
	// After returns a channel that gets a value once d has passed.
	After(d time.Duration) <-chan time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
