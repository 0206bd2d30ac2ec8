package detector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-ci/sallyport/detector/pattern"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// ErrNoBaseline says that no clean run of a job was seen.
var ErrNoBaseline = errors.New("no baseline")

// Baselines reads and teaches the baselines in the bucket BASELINES. It is safe
// for concurrent use, also by several processes.
type Baselines struct {
	js     jetstream.JetStream
	bucket jetstream.KeyValue
}

// OpenBaselines opens the bucket, which stream.Declare has made.
func OpenBaselines(ctx context.Context, js jetstream.JetStream) (*Baselines, error) {
	bucket, err := js.KeyValue(ctx, stream.BaselinesBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", stream.BaselinesBucket, err)
	}
	return &Baselines{js: js, bucket: bucket}, nil
}

// baselineKey is a job's key: names hold characters that keys cannot.
func baselineKey(repository, workflow, job string) string {
	h := sha256.Sum256([]byte(fmt.Sprintf("%q%q%q", repository, workflow, job)))
	return hex.EncodeToString(h[:])
}

// Get returns the baseline of a job, or ErrNoBaseline.
func (b *Baselines) Get(ctx context.Context, repository, workflow, job string) (*sallyportv1.Baseline, error) {
	baseline, _, err := b.get(ctx, baselineKey(repository, workflow, job))
	return baseline, err
}

func (b *Baselines) get(ctx context.Context, key string) (*sallyportv1.Baseline, uint64, error) {
	entry, err := b.bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, ErrNoBaseline
	}
	if err != nil {
		return nil, 0, fmt.Errorf("get baseline %s: %w", key, err)
	}
	out := new(sallyportv1.Baseline)
	if err := proto.Unmarshal(entry.Value(), out); err != nil {
		return nil, 0, fmt.Errorf("decode baseline %s: %w", key, err)
	}
	return out, entry.Revision(), nil
}

// List returns all baselines, ordered by repository, workflow and job.
func (b *Baselines) List(ctx context.Context) ([]*sallyportv1.Baseline, error) {
	names, err := stream.Keys(ctx, b.js, stream.BaselinesBucket)
	if err != nil {
		return nil, fmt.Errorf("list baselines: %w", err)
	}
	var out []*sallyportv1.Baseline
	for _, k := range names {
		baseline, _, err := b.get(ctx, k)
		if errors.Is(err, ErrNoBaseline) { // forgotten
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, baseline)
	}
	slices.SortFunc(out, func(x, y *sallyportv1.Baseline) int {
		return strings.Compare(
			fmt.Sprintf("%q%q%q", x.GetRepository(), x.GetWorkflow(), x.GetJob()),
			fmt.Sprintf("%q%q%q", y.GetRepository(), y.GetWorkflow(), y.GetJob()))
	})
	return out, nil
}

// ErrNotHeld says that a behaviour is of a kind that baselines do not hold.
var ErrNotHeld = errors.New("baselines do not hold behaviours of this kind")

// ErrInvalid says what of a baseline or of a behaviour cannot be.
var ErrInvalid = errors.New("it is not valid")

// Held returns what a baseline holds of a behaviour, approved by somebody. ErrNotHeld if
// baselines do not hold such.
func Held(b *sallyportv1.Behaviour) (*sallyportv1.BaselineBehaviour, error) {
	d, ok := deedOf(b)
	if !ok {
		return nil, ErrNotHeld
	}
	out := &sallyportv1.BaselineBehaviour{
		Kind: d.kind, Target: d.target, Port: d.port, Protocol: d.protocol, Operation: d.operation, Category: d.category,
		Method: d.method, Path: d.path, MostBytesSent: b.GetBytesSent(),
	}
	if b.GetProgram() != "" {
		out.Programs = []string{b.GetProgram()}
	}
	return out, nil
}

// Approve puts a behaviour into a job's baseline, which is begun if there is none, and
// returns the baseline. It approves what is known already, too, and then adds programs.
func (b *Baselines) Approve(ctx context.Context, repository, workflow, job string, x *sallyportv1.BaselineBehaviour, person, reason string, now time.Time) (*sallyportv1.Baseline, error) {
	if !slices.Contains(learnedKinds, x.GetKind()) {
		return nil, ErrNotHeld
	}
	if x.GetTarget() == "" {
		return nil, fmt.Errorf("approve: %w: it has no target", ErrInvalid)
	}
	return b.change(ctx, repository, workflow, job, func(baseline *sallyportv1.Baseline) (*sallyportv1.Baseline, error) {
		if baseline == nil {
			baseline = &sallyportv1.Baseline{Repository: repository, Workflow: workflow, Job: job}
		}
		known := know(baseline, nil).get(keyOf(x))
		if known == nil {
			if len(baseline.GetBehaviours()) >= maxBaselineBehaviours {
				return nil, fmt.Errorf("approve: %w: the baseline holds %d behaviours, which is as many as it can", ErrInvalid, maxBaselineBehaviours)
			}
			known = proto.CloneOf(x)
			known.Runs, known.LastRun, known.Programs = 0, baseline.GetRuns(), nil
			known.FirstSeen, known.LastSeen = timestamppb.New(now), timestamppb.New(now)
			baseline.Behaviours = append(baseline.Behaviours, known)
		}
		for _, p := range x.GetPrograms() {
			if i, ok := slices.BinarySearch(known.GetPrograms(), p); !ok && len(known.GetPrograms()) < maxPrograms {
				known.Programs = slices.Insert(known.Programs, i, p)
			}
		}
		known.MostBytesSent = max(known.GetMostBytesSent(), x.GetMostBytesSent())
		known.ApprovedBy, known.ApprovedBecause = person, reason
		slices.SortFunc(baseline.Behaviours, compareBehaviours)
		return baseline, nil
	})
}

// Forget deletes the baseline of a job, so that it is learned again; with target only what
// it holds of that. It returns how many behaviours were forgotten. ErrNoBaseline if there
// is none of the job, or nothing with the target.
func (b *Baselines) Forget(ctx context.Context, repository, workflow, job, target string) (int, error) {
	if target == "" {
		old, _, err := b.get(ctx, baselineKey(repository, workflow, job))
		if err != nil {
			return 0, fmt.Errorf("forget baseline of %s, %s, %s: %w", repository, workflow, job, err)
		}
		if err := b.bucket.Delete(ctx, baselineKey(repository, workflow, job)); err != nil {
			return 0, fmt.Errorf("forget baseline of %s, %s, %s: %w", repository, workflow, job, err)
		}
		return len(old.GetBehaviours()), nil
	}
	forgotten := 0
	_, err := b.change(ctx, repository, workflow, job, func(baseline *sallyportv1.Baseline) (*sallyportv1.Baseline, error) {
		if baseline == nil {
			return nil, ErrNoBaseline
		}
		before := len(baseline.GetBehaviours())
		baseline.Behaviours = slices.DeleteFunc(baseline.GetBehaviours(), func(x *sallyportv1.BaselineBehaviour) bool { return x.GetTarget() == target })
		if forgotten = before - len(baseline.GetBehaviours()); forgotten == 0 {
			return nil, fmt.Errorf("%w holds %q", ErrNoBaseline, target)
		}
		return baseline, nil
	})
	return forgotten, err
}

// Freeze makes a baseline learn no more, or again.
func (b *Baselines) Freeze(ctx context.Context, repository, workflow, job string, frozen bool) error {
	_, err := b.change(ctx, repository, workflow, job, func(baseline *sallyportv1.Baseline) (*sallyportv1.Baseline, error) {
		if baseline == nil {
			return nil, ErrNoBaseline
		}
		baseline.Frozen = frozen
		return baseline, nil
	})
	return err
}

// Import puts a baseline in the place of its job's. ErrInvalid says what is wrong with it.
func (b *Baselines) Import(ctx context.Context, baseline *sallyportv1.Baseline) error {
	if err := Valid(baseline); err != nil {
		return err
	}
	_, err := b.change(ctx, baseline.GetRepository(), baseline.GetWorkflow(), baseline.GetJob(),
		func(*sallyportv1.Baseline) (*sallyportv1.Baseline, error) {
			slices.SortFunc(baseline.Behaviours, compareBehaviours)
			return baseline, nil
		})
	return err
}

// Valid says what of a baseline cannot be, wrapping ErrInvalid.
func Valid(b *sallyportv1.Baseline) error {
	seen := make(map[deedKey]bool)
	switch {
	case b.GetRepository() == "" || b.GetJob() == "":
		return fmt.Errorf("baseline: %w: it names no repository or no job", ErrInvalid)
	case len(b.GetBehaviours()) > maxBaselineBehaviours, len(b.GetExecutionIds()) > maxBaselineExecutions, len(b.GetSteps()) > maxBaselineSteps:
		return fmt.Errorf("baseline: %w: it holds more than %d behaviours, %d executions or %d steps", ErrInvalid, maxBaselineBehaviours, maxBaselineExecutions, maxBaselineSteps)
	}
	for i, x := range b.GetBehaviours() {
		switch {
		case !slices.Contains(learnedKinds, x.GetKind()):
			return fmt.Errorf("baseline: behaviour %d: %w: %w", i+1, ErrInvalid, ErrNotHeld)
		case x.GetTarget() == "":
			return fmt.Errorf("baseline: behaviour %d: %w: it has no target", i+1, ErrInvalid)
		case seen[keyOf(x)]:
			return fmt.Errorf("baseline: behaviour %d, %s: %w: it is there twice", i+1, x.GetTarget(), ErrInvalid)
		case x.GetRuns() > b.GetRuns() || x.GetLastRun() > b.GetRuns():
			return fmt.Errorf("baseline: behaviour %d, %s: %w: more runs did it than there were", i+1, x.GetTarget(), ErrInvalid)
		case !slices.IsSorted(x.GetPrograms()) || len(x.GetPrograms()) > maxPrograms:
			return fmt.Errorf("baseline: behaviour %d, %s: %w: its programs are not in order, or more than %d", i+1, x.GetTarget(), ErrInvalid, maxPrograms)
		}
		seen[keyOf(x)] = true
	}
	return nil
}

// teach learns a clean run.
func (b *Baselines) teach(ctx context.Context, a *sallyportv1.Attribution, run cleanRun, runsNeeded uint32, rules *pattern.Rules) error {
	_, err := b.change(ctx, a.GetRepository(), a.GetWorkflow(), a.GetJob(), func(old *sallyportv1.Baseline) (*sallyportv1.Baseline, error) {
		return learn(old, a.GetRepository(), a.GetWorkflow(), a.GetJob(), run, runsNeeded, rules), nil
	})
	return err
}

// change puts what f makes of a baseline, nil if there is none, in its place, by compare
// and swap: f may be called again when somebody else changed it meanwhile. If f returns
// what it was given unchanged in content, nothing is written.
func (b *Baselines) change(ctx context.Context, repository, workflow, job string, f func(*sallyportv1.Baseline) (*sallyportv1.Baseline, error)) (*sallyportv1.Baseline, error) {
	key := baselineKey(repository, workflow, job)
	for {
		old, revision, err := b.get(ctx, key)
		if err != nil && !errors.Is(err, ErrNoBaseline) {
			return nil, err
		}
		var before *sallyportv1.Baseline
		if old != nil {
			before = proto.CloneOf(old)
		}
		baseline, err := f(old)
		if err != nil {
			return nil, fmt.Errorf("change baseline of %s, %s, %s: %w", repository, workflow, job, err)
		}
		if proto.Equal(baseline, before) {
			return baseline, nil
		}
		data, err := proto.Marshal(baseline)
		if err != nil {
			return nil, fmt.Errorf("encode baseline %s: %w", key, err)
		}
		if before == nil {
			_, err = b.bucket.Create(ctx, key, data)
		} else {
			_, err = b.bucket.Update(ctx, key, data, revision)
		}
		if err == nil {
			return baseline, nil
		}
		// With replicas both say so by another code, which only the first of these knows.
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) && !errors.Is(err, jetstream.ErrKeyExists) {
			return nil, fmt.Errorf("save baseline %s: %w", key, err)
		}
	}
}
