package agent

import (
	"slices"
	"strings"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

const (
	// beatInterval is how often the agent gives a sign of life, and looks after its hold
	// on the kernel.
	beatInterval = time.Second
	// lifeInterval is how often it notes one for the next agent.
	lifeInterval = 5 * time.Second
	// newFor is how long a heartbeat says how the agent before ended.
	newFor = time.Minute
)

// look notes how long the agent did not run, and what was done to the sensor.
func (a *Agent) look() {
	if a.lastTick != 0 && a.now > a.lastTick {
		a.longestPause = max(a.longestPause, a.now-a.lastTick)
	}
	a.lastTick = a.now
	if a.now < a.nextBeat {
		return
	}
	a.nextBeat = a.now + uint64(beatInterval)
	if damage := a.cfg.Source.Damage(); !slices.Equal(damage, a.damage) {
		a.damage = damage
		a.log.Error("the agent's hold on the kernel was damaged", "damage", strings.Join(damage, "; "))
		a.emitStatus(false)
		a.urgent()
	}
	a.beat(false)
}

// beat gives a sign of life: to whoever listens, and now and then to the next agent.
func (a *Agent) beat(stopping bool) {
	if a.cfg.Life != nil && !stopping && a.now >= a.nextLife {
		a.nextLife = a.now + uint64(lifeInterval)
		if err := a.cfg.Life.seen(a.wall(a.now)); err != nil && !a.lifeFailed {
			a.lifeFailed = true
			a.log.Warn("the next agent will not know how this one ended", "error", err)
		}
	}
	if a.cfg.Beat == nil {
		return
	}
	h := &sallyportv1.Heartbeat{
		AgentId: a.cfg.AgentID, Epoch: a.builder.epoch, Hostname: a.cfg.Hostname, Stopping: stopping,
		Damage: a.damage,
	}
	if a.cfg.Life != nil && a.now < a.started+uint64(newFor) {
		h.PreviousEnd, h.PreviousSeenUnixNano = a.cfg.Life.PreviousEnd, a.cfg.Life.PreviousSeen
	}
	a.processes.eachWorker(func(w *process) {
		for _, e := range w.worker.executions {
			if !e.ended {
				h.Jobs = append(h.Jobs, e.between.message)
			}
		}
	})
	if err := a.cfg.Beat(h); err != nil {
		a.log.Debug("a heartbeat is not heard", "error", err)
	}
}

// HandOver has Run end as one agent ends whose work another goes on with: jobs are not
// said to be over. It returns the time before which this agent tells what happened, by
// the clock of the records; call it before the context of Run ends.
func (a *Agent) HandOver() (boot uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.readClock()
	a.tellUntil = a.now
	return a.now
}

// Flush sends what the agent has seen until now. It does not wait for it to arrive.
func (a *Agent) Flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flush()
}
