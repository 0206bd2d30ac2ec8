package detector

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-ci/sallyport/detector/pattern"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// DefaultRunsNeeded is how many clean runs a baseline needs to be stable.
const DefaultRunsNeeded = 5

// Bounds of a baseline.
const (
	maxBaselineExecutions = 64
	maxBaselineBehaviours = 4096
	maxBaselineSteps      = 1024
	maxPrograms           = 32
)

// How what is not done any more fades: a behaviour that the last fadeRuns clean runs did
// not show, and that nobody did for fadeAge.
const (
	fadeRuns = 50
	fadeAge  = 60 * 24 * time.Hour
)

// reopenedRuns is for how many clean runs learning is open after a step or an action
// changed, the run that brought the change among them.
const reopenedRuns = 3

// learnedKinds are the kinds of behaviour that baselines hold, in their order.
var learnedKinds = []sallyportv1.BehaviourKind{kindEgress, kindExec, kindFile, kindLookup, kindRequest}

// cleanRun is what a run that ended clean has to teach.
type cleanRun struct {
	execution string
	ended     time.Time
	deeds     []*deed
	steps     []step
}

// learn returns the baseline after one more clean run. It is a pure function of
// its arguments: b, which may be nil, is not changed. A run that b has learned
// from before changes nothing, and neither does any run of a frozen baseline. Without
// rules no patterns are learned.
func learn(b *sallyportv1.Baseline, repository, workflow, job string, run cleanRun, runsNeeded uint32, rules *pattern.Rules) *sallyportv1.Baseline {
	if b == nil {
		b = &sallyportv1.Baseline{Repository: repository, Workflow: workflow, Job: job}
	}
	if slices.Contains(b.GetExecutionIds(), run.execution) || b.GetFrozen() {
		return b
	}
	b = proto.CloneOf(b)
	b.Runs++
	b.LearnedAt = timestamppb.New(run.ended)
	b.ExecutionIds = append(b.ExecutionIds, run.execution)
	if n := len(b.GetExecutionIds()) - maxBaselineExecutions; n > 0 {
		b.ExecutionIds = slices.Clone(b.GetExecutionIds()[n:])
	}
	learnSteps(b, run.steps)
	news := learnDeeds(b, run.deeds, rules)
	fade(b, run.ended)
	weigh(b, news, runsNeeded)
	return b
}

// learnDeeds adds what a run did, and returns of which kinds there was something new.
func learnDeeds(b *sallyportv1.Baseline, deeds []*deed, rules *pattern.Rules) (news map[sallyportv1.BehaviourKind]bool) {
	news = make(map[sallyportv1.BehaviourKind]bool)
	k := know(b, rules)
	counted := make(map[*sallyportv1.BaselineBehaviour]bool, len(deeds))
	for _, d := range deeds {
		known := k.find(d.key())
		if known == nil {
			news[d.Kind] = true
			if len(b.GetBehaviours()) >= maxBaselineBehaviours {
				continue // never stable any more, rather than half learned
			}
			known = &sallyportv1.BaselineBehaviour{
				Kind: d.Kind, Target: d.Target, Port: d.Port, Protocol: d.Protocol, Operation: d.Operation,
				Category: d.Category, Method: d.Method, Path: d.Path,
			}
			b.Behaviours = append(b.Behaviours, known)
			k.add(known)
		}
		if !counted[known] {
			counted[known] = true
			known.Runs++
		}
		known.LastRun = b.GetRuns()
		known.MostBytesSent = max(known.GetMostBytesSent(), d.Sent)
		if first := time.Unix(0, d.First); known.GetFirstSeen() == nil || first.Before(known.GetFirstSeen().AsTime()) {
			known.FirstSeen = timestamppb.New(first)
		}
		if last := time.Unix(0, d.Last); known.GetLastSeen() == nil || last.After(known.GetLastSeen().AsTime()) {
			known.LastSeen = timestamppb.New(last)
		}
		for _, p := range d.Programs {
			if i, ok := slices.BinarySearch(known.GetPrograms(), p); !ok && len(known.GetPrograms()) < maxPrograms {
				known.Programs = slices.Insert(known.Programs, i, p)
			}
		}
	}
	generalise(b, rules)
	slices.SortFunc(b.Behaviours, compareBehaviours)
	return news
}

func compareBehaviours(x, y *sallyportv1.BaselineBehaviour) int {
	return cmp.Or(
		cmp.Compare(x.GetKind(), y.GetKind()), cmp.Compare(x.GetTarget(), y.GetTarget()), cmp.Compare(x.GetPort(), y.GetPort()),
		cmp.Compare(x.GetProtocol(), y.GetProtocol()), cmp.Compare(x.GetOperation(), y.GetOperation()),
		cmp.Compare(x.GetCategory(), y.GetCategory()), cmp.Compare(x.GetMethod(), y.GetMethod()), cmp.Compare(x.GetPath(), y.GetPath()),
	)
}

// fade drops what was not done for long. What somebody approved stays.
func fade(b *sallyportv1.Baseline, now time.Time) {
	before := len(b.GetBehaviours())
	b.Behaviours = slices.DeleteFunc(b.GetBehaviours(), func(x *sallyportv1.BaselineBehaviour) bool {
		return x.GetApprovedBy() == "" && b.GetRuns()-x.GetLastRun() >= fadeRuns && now.Sub(x.GetLastSeen().AsTime()) >= fadeAge
	})
	b.Faded += uint32(before - len(b.GetBehaviours()))
}

// learnSteps adds steps and their actions, and opens learning again when they are others
// than before.
func learnSteps(b *sallyportv1.Baseline, steps []step) {
	first := len(b.GetSteps()) == 0
	for _, s := range steps {
		if changed := changedStep(b, s); changed != "" && !first {
			b.Reopened, b.ReopenedUntilRun = changed, b.GetRuns()+reopenedRuns-1
		}
		if hasStep(b, s) {
			continue
		}
		// An action that was bumped has taken the place of its former version.
		b.Steps = slices.DeleteFunc(b.GetSteps(), func(x *sallyportv1.BaselineStep) bool {
			return !first && x.GetStep() == s.Step && actionName(x.GetAction()) == actionName(s.Action) && x.GetAction() != ""
		})
		if len(b.GetSteps()) < maxBaselineSteps {
			b.Steps = append(b.Steps, &sallyportv1.BaselineStep{Step: s.Step, Action: s.Action})
		}
	}
	slices.SortFunc(b.Steps, func(x, y *sallyportv1.BaselineStep) int {
		return cmp.Or(cmp.Compare(x.GetStep(), y.GetStep()), cmp.Compare(x.GetAction(), y.GetAction()))
	})
}

func hasStep(b *sallyportv1.Baseline, s step) bool {
	return slices.ContainsFunc(b.GetSteps(), func(x *sallyportv1.BaselineStep) bool {
		return x.GetStep() == s.Step && x.GetAction() == s.Action
	})
}

// changedStep says how a step differs from what clean runs had, empty if it does not.
func changedStep(b *sallyportv1.Baseline, s step) string {
	if s.Step == "" || len(b.GetSteps()) == 0 || hasStep(b, s) {
		return ""
	}
	for _, x := range b.GetSteps() {
		if name := actionName(s.Action); name != "" && actionName(x.GetAction()) == name {
			_, before, _ := strings.Cut(x.GetAction(), "@")
			_, after, _ := strings.Cut(s.Action, "@")
			if before != after {
				return fmt.Sprintf("%s went from %s to %s", name, before, after)
			}
		}
	}
	if s.Action != "" {
		return fmt.Sprintf("step %s uses %s, which it did not", s.Step, s.Action)
	}
	return fmt.Sprintf("step %s is new", s.Step)
}

// actionName is an action without its version.
func actionName(action string) string {
	name, _, _ := strings.Cut(action, "@")
	return name
}

// reopenedFor says why learning is open for a step of a run now, empty if it is not.
func reopenedFor(b *sallyportv1.Baseline, s step) string {
	if b == nil {
		return ""
	}
	if changed := changedStep(b, s); changed != "" {
		return changed
	}
	if b.GetReopened() != "" && b.GetRuns() < b.GetReopenedUntilRun() {
		return b.GetReopened()
	}
	return ""
}

// Stability by the rule in docs/baseline.md: enough runs, nothing new in the last one,
// and an estimate of at most this many percent that the next one brings something new.
// Somebody who asks for fewer runs asks for less certainty.
func mostNovelty(runsNeeded uint32) uint32 { return max(20, noveltyPercent(0, runsNeeded)) }

// weigh writes down how stable each kind of behaviour is.
func weigh(b *sallyportv1.Baseline, news map[sallyportv1.BehaviourKind]bool, runsNeeded uint32) {
	before := make(map[sallyportv1.BehaviourKind]*sallyportv1.KindStability)
	for _, s := range b.GetStability() {
		before[s.GetKind()] = s
	}
	b.Stability = nil
	for _, kind := range learnedKinds {
		s := &sallyportv1.KindStability{Kind: kind, RunsWithoutChange: before[kind].GetRunsWithoutChange() + 1}
		if news[kind] {
			s.RunsWithoutChange = 0
		}
		for _, x := range b.GetBehaviours() {
			if x.GetKind() == kind {
				s.Behaviours++
				if x.GetRuns() == 1 && x.GetApprovedBy() == "" {
					s.SeenOnce++
				}
			}
		}
		s.NoveltyPercent = noveltyPercent(s.GetSeenOnce(), b.GetRuns())
		// Once stable a kind stays so: a clean run of a stable job cannot bring anything
		// new but by exception, and must not open the gate to more of it.
		s.Stable = before[kind].GetStable() ||
			b.GetRuns() >= runsNeeded && s.GetRunsWithoutChange() >= 1 && s.GetNoveltyPercent() <= mostNovelty(runsNeeded)
		b.Stability = append(b.Stability, s)
	}
	egress := b.GetStability()[0]
	b.RunsNeeded, b.Stable, b.RunsWithoutChange = runsNeeded, egress.GetStable(), egress.GetRunsWithoutChange()
}

// noveltyPercent estimates the chance that the next run shows something that none did:
// Good and Turing's share of what was seen once, each run being one sample, with one
// added to both so that few runs do not look certain (Good, Biometrika 40, 1953).
func noveltyPercent(seenOnce, runs uint32) uint32 {
	return min(100, (seenOnce+1)*100/(runs+1))
}

// facts says what a baseline, maybe nil, knows of a behaviour in a step.
func facts(k *knowledge, runsNeeded uint32, b *sallyportv1.Behaviour, s step) *sallyportv1.BaselineFacts {
	f := &sallyportv1.BaselineFacts{RunsNeeded: runsNeeded}
	if k == nil {
		return f
	}
	f.Runs, f.Frozen, f.Reopened = k.baseline.GetRuns(), k.baseline.GetFrozen(), reopenedFor(k.baseline, s)
	kind := b.GetKind()
	if !slices.Contains(learnedKinds, kind) {
		kind = kindEgress
	}
	for _, s := range k.baseline.GetStability() {
		if s.GetKind() == kind {
			f.Stable, f.RunsWithoutChange, f.Behaviours = s.GetStable(), s.GetRunsWithoutChange(), s.GetBehaviours()
			f.SeenOnce, f.NoveltyPercent = s.GetSeenOnce(), s.GetNoveltyPercent()
		}
	}
	d, ok := deedOf(b)
	if !ok {
		return f
	}
	if known, by := k.match(d); known != nil {
		f.Known, f.Matched, f.MostBytesSent = true, by, known.GetMostBytesSent()
		f.ProgramKnown = len(known.GetPrograms()) == 0 || len(known.GetPrograms()) >= maxPrograms || slices.Contains(known.GetPrograms(), b.GetProgram())
	}
	return f
}
