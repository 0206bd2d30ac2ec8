package detector

import (
	"slices"
	"strings"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// How long executions are followed.
const (
	// gapPatience is how long after the end of a job missing batches may still come
	// in before the job is held to be seen incompletely.
	gapPatience = 2 * time.Minute
	// afterlife is how long after the last event of an ended job its state is kept,
	// so that processes that outlive it are judged.
	afterlife = time.Hour
	// silence is how long an execution may say nothing before it is given up.
	silence = 24 * time.Hour
	// tombstone is how long a finished execution is remembered as finished.
	tombstone = 25 * time.Hour
)

// lesson is an execution that ended clean, ready to teach.
type lesson struct {
	x           *execution
	attribution *sallyportv1.Attribution
	run         cleanRun
}

// settle decides what has ended: executions that teach are returned, and stay
// unsettled until the caller has taught them (settled). Others that ended are
// settled here; those that are over are forgotten.
func (e *Engine) settle() []lesson {
	now := e.config.Now()
	var lessons []lesson
	for id, x := range e.unsettled {
		idle := now.Sub(time.Unix(0, x.Touched))
		switch {
		case !x.Settled && !x.seen():
			if idle > gapPatience {
				x.incomplete("events are missing")
				x.settled()
			}
		case !x.Settled && x.Incomplete == "" && e.teachesNot(x) == "":
			lessons = append(lessons, lesson{x, x.attribution, cleanRun{
				execution: id, ended: time.Unix(0, x.EndedAt), deeds: x.Deeds, steps: x.Steps,
			}})
		case !x.Settled:
			x.settled()
		case idle > afterlife:
			e.over(id, x)
		}
	}
	// In the order in which they ended, so that a replay learns the same.
	slices.SortFunc(lessons, func(a, b lesson) int {
		if c := a.run.ended.Compare(b.run.ended); c != 0 {
			return c
		}
		return strings.Compare(a.run.execution, b.run.execution)
	})
	return lessons
}

func (x *execution) settled() { x.Settled, x.dirty = true, true }

// expired removes and returns finished executions that nobody will speak of again.
func (e *Engine) expired() []string {
	now := e.config.Now()
	var out []string
	for id, x := range e.executions {
		if !x.Ended && !x.Finished && now.Sub(time.Unix(0, x.Touched)) > silence {
			x.incomplete("the end of the job was never seen")
			e.over(id, x)
		}
		if x.Finished && now.Sub(time.Unix(0, x.Touched)) > tombstone {
			delete(e.executions, id)
			out = append(out, id)
		}
	}
	return out
}
