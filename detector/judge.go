package detector

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Judge judges batches in this process, without streams: what earlier runs teach, later
// ones are measured against. Its clock is the time of the events, so that the same batches
// give the same findings at any time. It is not safe for concurrent use.
type Judge struct {
	engine    *Engine
	baselines map[string]*sallyportv1.Baseline
	now       time.Time
	verdicts  []*sallyportv1.Verdict
}

// NewJudge returns a judge that has learned nothing. Baseline and Now of the configuration
// are its own.
func NewJudge(c EngineConfig) (*Judge, error) {
	j := &Judge{baselines: make(map[string]*sallyportv1.Baseline)}
	c.Now = func() time.Time { return j.now }
	c.Baseline = func(_ context.Context, repository, workflow, job string) (*sallyportv1.Baseline, error) {
		if b := j.baselines[baselineKey(repository, workflow, job)]; b != nil {
			return b, nil
		}
		return nil, ErrNoBaseline
	}
	var err error
	j.engine, err = NewEngine(c)
	return j, err
}

// Apply judges a batch that has passed stream.Decoder.
func (j *Judge) Apply(ctx context.Context, b *sallyportv1.EventBatch) ([]*sallyportv1.Finding, error) {
	for _, e := range b.GetEvents() {
		if t := time.Unix(0, int64(min(e.GetTimeUnixNano(), math.MaxInt64))); e.GetTimeUnixNano() > 0 && t.After(j.now) {
			j.now = t
		}
	}
	findings, err := j.engine.Apply(ctx, b)
	if err != nil {
		return findings, fmt.Errorf("judge batch: %w", err)
	}
	j.learn()
	return findings, nil
}

// End says that a recording is over: what has not come by now does not come.
func (j *Judge) End() {
	j.now = j.now.Add(gapPatience + time.Second)
	j.learn()
}

func (j *Judge) learn() {
	for _, v := range j.engine.conclusions() {
		j.verdicts = slices.DeleteFunc(j.verdicts, func(before *sallyportv1.Verdict) bool {
			return before.GetAttribution().GetExecutionId() == v.GetAttribution().GetExecutionId()
		})
		j.verdicts = append(j.verdicts, v)
	}
	for _, l := range j.engine.settle() {
		a := l.attribution
		key := baselineKey(a.GetRepository(), a.GetWorkflow(), a.GetJob())
		j.baselines[key] = learn(j.baselines[key], a.GetRepository(), a.GetWorkflow(), a.GetJob(), l.run, j.engine.config.RunsNeeded, j.engine.rules)
		l.x.settled()
		l.x.Taught = true
	}
}

// Verdicts returns the last verdict on each execution that ended, in the order in which
// they were given.
func (j *Judge) Verdicts() []*sallyportv1.Verdict { return j.verdicts }

// Baseline returns what was learned of a job, nil if nothing was.
func (j *Judge) Baseline(repository, workflow, job string) *sallyportv1.Baseline {
	return j.baselines[baselineKey(repository, workflow, job)]
}

// Counts returns the totals of what was judged.
func (j *Judge) Counts() EngineCounts { return j.engine.Counts() }
