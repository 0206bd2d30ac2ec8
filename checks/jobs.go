package checks

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// jobs are those of a run, each as it ran last, with its verdict.
//
// An attempt need not run all jobs of a run again: of "re-run failed jobs" the others stand as they
// were, and one that was cancelled before a machine took it did nothing that could stand for what
// it did before. So each job counts in the last attempt in which it ran.
func (f facts) jobs(w *run, r *result) []judged {
	all := executionsOf(w)
	unpaired := pair(w, all, f.verdicts[w.ID])
	var out []judged
	for _, x := range last(all) {
		attempt := x.attempt
		if attempt == 0 && x.verdict != nil {
			attempt = attemptOf(x.verdict.GetAttribution())
		}
		out = append(out, judged{run: w, job: x.job, name: x.job.Name, attempt: attempt, verdict: x.verdict})
	}
	for _, v := range unpaired { // of jobs that GitHub has not told of yet
		if a := v.GetAttribution(); !ranSince(all, a) {
			name := a.GetJob()
			if besides(all, a) {
				name += ", on another machine"
			}
			out = append(out, judged{run: w, name: name, attempt: attemptOf(a), verdict: v})
		}
	}
	slices.SortStableFunc(out, func(a, b judged) int { return cmp.Compare(a.name, b.name) })
	if until := w.Ended.Add(f.grace); w.Status == "completed" && f.now.Before(until) {
		r.wait(until)
	}
	return out
}

// execution is a job in an attempt.
type execution struct {
	job *github.Job
	// attempt in which it ran; 0 for one before that of the job.
	attempt int
	// until is the last attempt that lists it, as it was.
	until   int
	verdict *sallyportv1.Verdict
}

// ran says whether it got as far as a machine.
func (x *execution) ran() bool { return x.verdict != nil || ran(x.job) }

// ran says whether a job got as far as a machine.
func ran(j *github.Job) bool {
	switch {
	case j.Conclusion == "skipped" || rank(j.Status) < rank("in_progress"):
		return false
	default:
		return j.Runner != "" || j.Conclusion == success
	}
}

// executionsOf are a run's jobs in all attempts, the same once: of a job that is not run again
// GitHub's later attempts have copies, with the number of either attempt.
func executionsOf(w *run) []*execution {
	jobs := make([]*github.Job, 0, len(w.Jobs))
	for _, j := range w.Jobs {
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b *github.Job) int {
		return cmp.Or(cmp.Compare(a.Attempt, b.Attempt), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	type identity struct {
		name, runner string
		started      time.Time
	}
	known := make(map[identity]*execution)
	var out []*execution
	for _, j := range jobs {
		id := identity{j.Name, j.Runner, j.Started.UTC()}
		if old := known[id]; old != nil && ran(j) && !j.Started.IsZero() {
			old.until = j.Attempt
			continue
		}
		x := &execution{job: j, attempt: j.Attempt, until: j.Attempt}
		if j.Attempt == w.Attempt && j.Attempt > 1 && ran(j) && !j.Started.IsZero() && j.Started.Before(w.Began) {
			x.attempt = 0 // the copy of one that GitHub has not told of
		}
		if ran(j) {
			known[id] = x
		}
		out = append(out, x)
	}
	return out
}

// last are the executions that count: each job in the last attempt in which it ran, or in the last
// of all if it never did.
func last(all []*execution) []*execution {
	byName := make(map[string][]*execution)
	for _, x := range all {
		byName[x.job.Name] = append(byName[x.job.Name], x)
	}
	var out []*execution
	for _, same := range byName { // several jobs may have one name
		newest, copies := 0, false
		ranIn := make(map[int][]*execution)
		for _, x := range same {
			newest = max(newest, x.job.Attempt)
			copies = copies || x.until > x.attempt
			if x.ran() {
				ranIn[x.attempt] = append(ranIn[x.attempt], x)
			}
		}
		if len(ranIn) == 0 {
			for _, x := range same {
				if x.job.Attempt == newest {
					out = append(out, x)
				}
			}
			continue
		}
		stopped := several(same) && slices.ContainsFunc(same, func(x *execution) bool { return x.job.Attempt == newest && !x.ran() })
		later, since := 0, 0 // how many ran after an attempt, and in which attempt last
		for attempt := newest; attempt >= 0; attempt-- {
			for _, x := range ranIn[attempt] {
				// Of several of a name it is not known which were run again, if GitHub lists no
				// copies, or which were to be and did not get so far: those before stay.
				if later == 0 || stopped || copies && x.until >= since || !copies && later < len(ranIn[attempt]) {
					out = append(out, x)
				}
			}
			if later = max(later, len(ranIn[attempt])); later > 0 {
				since = max(since, attempt)
			}
		}
	}
	slices.SortFunc(out, func(a, b *execution) int {
		return cmp.Or(cmp.Compare(a.job.Name, b.job.Name), cmp.Compare(a.job.ID, b.job.ID))
	})
	return out
}

// several says whether an attempt lists more than one of executions with the same name.
func several(same []*execution) bool {
	listed := make(map[int]int)
	stopped := make(map[int]bool) // GitHub may list the same twice
	for _, x := range same {
		if !x.ran() {
			stopped[x.attempt] = true
			continue
		}
		for attempt := x.attempt; attempt <= x.until; attempt++ {
			listed[attempt]++
		}
	}
	for attempt := range stopped {
		listed[attempt]++
	}
	for _, n := range listed {
		if n > 1 {
			return true
		}
	}
	return false
}

// pair gives executions their verdicts, and returns those that are left.
func pair(w *run, all []*execution, verdicts []*sallyportv1.Verdict) (left []*sallyportv1.Verdict) {
	left = slices.Clone(verdicts)
	runners := make(map[string]bool)
	for _, x := range all {
		if x.job.Runner != "" {
			runners[x.job.Runner] = true
		}
	}
	for _, fits := range []func(j *github.Job, v *sallyportv1.Verdict) bool{
		// The runner's name is unique among the jobs that run at a time; on one's own machine
		// several jobs of a run may come one after another.
		func(j *github.Job, v *sallyportv1.Verdict) bool {
			return sameRunner(j, v) && named(j.Name, v.GetAttribution().GetJob())
		},
		func(j *github.Job, v *sallyportv1.Verdict) bool { return sameRunner(j, v) && atOnce(j, v) },
		func(j *github.Job, v *sallyportv1.Verdict) bool {
			// What was seen on the machine of another job is not on this one.
			return (j.Runner == "" || !runners[v.GetAttribution().GetRunner()]) && named(j.Name, v.GetAttribution().GetJob())
		},
	} {
		for _, x := range all {
			if x.verdict != nil || x.job.Conclusion == "skipped" {
				continue
			}
			best := -1
			for i, v := range left {
				a := min(attemptOf(v.GetAttribution()), w.Attempt) // GitHub was asked about later ones
				if a != x.attempt && (x.attempt != 0 || a >= x.job.Attempt) || !fits(x.job, v) {
					continue
				}
				if best < 0 || closer(x.job, v, left[best]) {
					best = i
				}
			}
			if best >= 0 {
				x.verdict = left[best]
				left = slices.Delete(left, best, best+1)
			}
		}
	}
	return left
}

func sameRunner(j *github.Job, v *sallyportv1.Verdict) bool {
	return j.Runner != "" && v.GetAttribution().GetRunner() == j.Runner
}

// skew is how far the clocks of GitHub and of a runner may be apart.
const skew = 5 * time.Minute

// atOnce says whether a verdict may be on a job by its time: a runner's name alone does not say
// which of its jobs it is on.
func atOnce(j *github.Job, v *sallyportv1.Verdict) bool {
	if j.Started.IsZero() || v.GetStarted() == nil {
		return true
	}
	began, ended := v.GetStarted().AsTime(), v.GetEnded().AsTime()
	return (j.Completed.IsZero() || began.Before(j.Completed.Add(skew))) && (v.GetEnded() == nil || ended.After(j.Started.Add(-skew)))
}

// closer says whether a verdict fits a job better than another: a later attempt, then by time.
func closer(j *github.Job, a, b *sallyportv1.Verdict) bool {
	if x, y := attemptOf(a.GetAttribution()), attemptOf(b.GetAttribution()); x != y {
		return x > y
	}
	if j.Started.IsZero() || a.GetStarted() == nil || b.GetStarted() == nil {
		return false
	}
	return a.GetStarted().AsTime().Sub(j.Started).Abs() < b.GetStarted().AsTime().Sub(j.Started).Abs()
}

// ranSince says whether the job of an attribution ran again in a later attempt.
func ranSince(all []*execution, a *sallyportv1.Attribution) bool {
	return slices.ContainsFunc(all, func(x *execution) bool {
		key := x.verdict.GetAttribution().GetJob()
		return x.attempt > attemptOf(a) && x.ran() && (key == a.GetJob() || key == "" && named(x.job.Name, a.GetJob()))
	})
}

// besides says whether a verdict that is left is of the second machine of a job that has one
// already: the node of its pod, where that is another one than the runner's.
func besides(all []*execution, a *sallyportv1.Attribution) bool {
	return a.GetRunner() != "" && slices.ContainsFunc(all, func(x *execution) bool {
		of := x.verdict.GetAttribution()
		return of.GetRunner() == a.GetRunner() && of.GetJob() == a.GetJob() && attemptOf(of) == attemptOf(a)
	})
}

func attemptOf(a *sallyportv1.Attribution) int { return max(1, int(a.GetRunAttempt())) }

// named says whether a job that is shown by a name may be the one with a key.
func named(name, key string) bool {
	if i := strings.LastIndex(name, " / "); i >= 0 { // a called workflow's
		name = name[i+3:]
	}
	return key != "" && (name == key || strings.HasPrefix(name, key+" ("))
}
