package checks

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// What a check can come to, as GitHub calls it.
const (
	running = "" // not concluded
	success = "success"
	neutral = "neutral"
	failure = "failure"
)

// facts are what a check depends on.
type facts struct {
	commit *commit
	// verdicts by run ID, those of all attempts.
	verdicts map[int64][]*sallyportv1.Verdict
	// decisions about findings, the last of each by finding.
	decisions map[string]*sallyportv1.Decision
	rules     *Rules
	now       time.Time
	// grace is how long after the end of a run its verdicts are waited for, patience how long a
	// commit without any run.
	grace, patience time.Duration
}

// result is what a check says.
type result struct {
	conclusion string
	title      string
	jobs       []judged
	// open are the findings that nobody has settled, threats first; settled those that somebody
	// has, with what they decided.
	open    []*sallyportv1.Finding
	settled []settlement
	// byFile are open findings that the repository's file settles.
	byFile []settlement
	// again is when it has to be worked out again though nothing came in; zero for never.
	again time.Time
}

// settlement is a finding and why it counts no more.
type settlement struct {
	finding  *sallyportv1.Finding
	decision *sallyportv1.Decision // nil if the file settles it
	approval *Approval
}

// judged is a job with what is known of it.
type judged struct {
	run  *run
	job  *github.Job // nil if GitHub has not told of it
	name string
	// verdict is nil if nobody observed it, or not yet.
	verdict *sallyportv1.Verdict
	// state says it in a word or two: running, nothing new, learning, not observed and so on.
	state      string
	conclusion string
}

// evaluate works out what a check says.
func evaluate(f facts) *result {
	r := &result{}
	settled := f.settledFingerprints()
	seen := make(map[string]bool)
	for _, w := range f.commit.ordered() {
		for _, j := range f.jobs(w, r) {
			if j.verdict != nil {
				f.findings(r, j.verdict, settled, seen)
			}
			r.jobs = append(r.jobs, j)
		}
	}
	slices.SortStableFunc(r.open, func(a, b *sallyportv1.Finding) int {
		return cmp.Or(rankOf(threat(b))-rankOf(threat(a)), cmp.Compare(b.GetPolicy().GetSeverity(), a.GetPolicy().GetSeverity()))
	})
	for i := range r.jobs {
		f.judge(r, &r.jobs[i])
	}
	f.conclude(r)
	return r
}

func rankOf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// jobs pairs the jobs of a run with their verdicts.
func (f facts) jobs(w *run, r *result) []judged {
	var verdicts []*sallyportv1.Verdict
	for _, v := range f.verdicts[w.ID] {
		if int(v.GetAttribution().GetRunAttempt()) == w.Attempt {
			verdicts = append(verdicts, v)
		}
	}
	var jobs []*github.Job
	for _, j := range w.Jobs {
		// An attempt that runs some jobs again lists the others as they were.
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b *github.Job) int { return cmp.Or(cmp.Compare(a.Name, b.Name), int(a.ID-b.ID)) })
	var out []judged
	used := make(map[*sallyportv1.Verdict]bool)
	pair := func(fits func(a *sallyportv1.Attribution) bool) *sallyportv1.Verdict {
		for _, v := range verdicts {
			if !used[v] && fits(v.GetAttribution()) {
				used[v] = true
				return v
			}
		}
		return nil
	}
	waits := w.Status == "completed" && f.now.Before(w.Ended.Add(f.grace))
	for _, pass := range []func(j *github.Job, a *sallyportv1.Attribution) bool{
		// The runner's name is unique among the jobs that run at a time; on one's own machine
		// several jobs of a run may come one after another.
		func(j *github.Job, a *sallyportv1.Attribution) bool {
			return j.Runner != "" && a.GetRunner() == j.Runner && named(j.Name, a.GetJob())
		},
		func(j *github.Job, a *sallyportv1.Attribution) bool {
			return j.Runner != "" && a.GetRunner() == j.Runner
		},
		func(j *github.Job, a *sallyportv1.Attribution) bool { return named(j.Name, a.GetJob()) },
	} {
		for _, j := range jobs {
			if slices.ContainsFunc(out, func(x judged) bool { return x.job == j }) {
				continue
			}
			if v := pair(func(a *sallyportv1.Attribution) bool { return pass(j, a) }); v != nil {
				out = append(out, judged{run: w, job: j, name: j.Name, verdict: v})
			}
		}
	}
	for _, j := range jobs {
		if !slices.ContainsFunc(out, func(x judged) bool { return x.job == j }) {
			out = append(out, judged{run: w, job: j, name: j.Name})
		}
	}
	for _, v := range verdicts { // of jobs that GitHub has not told of yet
		if !used[v] {
			out = append(out, judged{run: w, name: v.GetAttribution().GetJob(), verdict: v})
		}
	}
	slices.SortStableFunc(out, func(a, b judged) int { return cmp.Compare(a.name, b.name) })
	if waits {
		r.wait(w.Ended.Add(f.grace))
	}
	return out
}

// named says whether a job that is shown by a name may be the one with a key.
func named(name, key string) bool {
	if i := strings.LastIndex(name, " / "); i >= 0 { // a called workflow's
		name = name[i+3:]
	}
	return key != "" && (name == key || strings.HasPrefix(name, key+" ("))
}

func (r *result) wait(until time.Time) {
	if r.again.IsZero() || until.Before(r.again) {
		r.again = until
	}
}

// settledFingerprints are the fingerprints of findings that somebody has decided about: the same
// in another job of a matrix is decided, too.
func (f facts) settledFingerprints() map[string]*sallyportv1.Decision {
	out := make(map[string]*sallyportv1.Decision)
	for _, list := range f.verdicts {
		for _, v := range list {
			for _, x := range v.GetFindings() {
				if d := f.decisions[x.GetId()]; d != nil && settles(d) {
					out[x.GetFingerprint()] = d
				}
			}
		}
	}
	return out
}

// settles says whether a decision settles a finding: that somebody looks at it does not, nor that
// it is an incident.
func settles(d *sallyportv1.Decision) bool {
	switch d.GetKind() {
	case sallyportv1.DecisionKind_DECISION_KIND_APPROVE:
		return true
	case sallyportv1.DecisionKind_DECISION_KIND_RESOLVE:
		return d.GetOutcome() != outcomeIncident
	default:
		return false
	}
}

const (
	outcomeIncident = "incident"
	outcomeExpected = "expected"
)

// findings sorts those of a verdict.
func (f facts) findings(r *result, v *sallyportv1.Verdict, settled map[string]*sallyportv1.Decision, seen map[string]bool) {
	whole := make(map[string]bool)
	add := func(x *sallyportv1.Finding) {
		mark := cmp.Or(x.GetFingerprint(), x.GetId())
		if seen[mark] {
			return
		}
		seen[mark] = true
		d := f.decisions[x.GetId()]
		if d == nil || !settles(d) {
			d = settled[x.GetFingerprint()]
		}
		switch {
		case d != nil:
			r.settled = append(r.settled, settlement{finding: x, decision: d})
		case f.rules.settles(x, f.now) != nil && f.decisions[x.GetId()].GetOutcome() != outcomeIncident:
			r.byFile = append(r.byFile, settlement{finding: x, approval: f.rules.settles(x, f.now)})
		default:
			r.open = append(r.open, x)
		}
	}
	for _, x := range v.GetFindings() {
		whole[x.GetId()] = true
		add(x)
	}
	// Those that the verdict only names: of what is not known the worst is assumed.
	for i, id := range v.GetFindingIds() {
		if whole[id] {
			continue
		}
		class := sallyportv1.PolicyClass_POLICY_CLASS_NEW_BEHAVIOUR
		if v.GetConclusion() == sallyportv1.Conclusion_CONCLUSION_THREAT {
			class = sallyportv1.PolicyClass_POLICY_CLASS_THREAT
		}
		message := "one of many findings, which `sallyport findings` lists"
		if i < len(v.GetReasons()) {
			message = v.GetReasons()[i]
		}
		add(&sallyportv1.Finding{
			Id: id, Message: message, Attribution: v.GetAttribution(), Policy: &sallyportv1.Policy{Title: "Finding", Class: class, Severity: sallyportv1.Severity_SEVERITY_MEDIUM},
		})
	}
}

// judge says of a job what it comes to.
func (f facts) judge(r *result, j *judged) {
	v := j.verdict
	mine := func(x *sallyportv1.Finding) bool {
		return v != nil && slices.Contains(v.GetFindingIds(), x.GetId())
	}
	threats, news := 0, 0
	for _, x := range r.open {
		if mine(x) && threat(x) {
			threats++
		} else if mine(x) {
			news++
		}
	}
	switch {
	case threats > 0:
		j.state, j.conclusion = count(threats, "threat"), failure
	case news > 0:
		j.state, j.conclusion = count(news, "new behaviour"), neutral
		if f.rules.Check.Strict {
			j.conclusion = failure
		}
	case v != nil && v.GetIncomplete() != "":
		j.state, j.conclusion = "not seen completely", neutral
	case v != nil && !v.GetBaseline().GetStable():
		j.state, j.conclusion = fmt.Sprintf("learning, %d of %d", v.GetBaseline().GetRuns(), v.GetBaseline().GetRunsNeeded()), neutral
	case v != nil && len(v.GetFindingIds()) > 0:
		j.state, j.conclusion = "settled", success
	case v != nil:
		j.state, j.conclusion = "nothing new", success
	case j.job == nil || j.job.Status != "completed":
		j.state, j.conclusion = "running", running
		if j.run.Status == "completed" { // it never ran
			j.state, j.conclusion = "not run", success
		}
	case j.job.Conclusion == "skipped" || j.job.Runner == "":
		j.state, j.conclusion = "not run", success
	case f.now.Before(j.run.Ended.Add(f.grace)) || j.run.Status != "completed":
		j.state, j.conclusion = "waiting for the agent", running
	default:
		j.state, j.conclusion = "not observed", neutral
		if f.rules.Check.RequireObserved {
			j.conclusion = failure
		}
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// conclude says what all of it comes to.
func (f facts) conclude(r *result) {
	threats := 0
	for _, x := range r.open {
		if threat(x) {
			threats++
		}
	}
	news := len(r.open) - threats
	states := make(map[string]int)
	worst := success
	unfinished := f.commit.running()
	for _, j := range r.jobs {
		switch {
		case strings.HasPrefix(j.state, "learning"):
			states["learning"]++
		default:
			states[j.state]++
		}
		switch j.conclusion {
		case running:
			unfinished = true
		case failure:
			worst = failure
		case neutral:
			if worst == success {
				worst = neutral
			}
		}
	}
	for _, w := range f.commit.Runs {
		// A run may end before its jobs were asked for.
		unfinished = unfinished || w.Status == "completed" && len(w.Jobs) == 0 && !w.Listed
	}
	observed := 0
	for _, j := range r.jobs {
		if j.verdict != nil {
			observed++
		}
	}
	missing := states["not observed"]
	var parts []string
	if threats > 0 {
		parts = append(parts, count(threats, "threat"))
	}
	if news > 0 {
		parts = append(parts, count(news, "new behaviour"))
	}
	if missing > 0 {
		parts = append(parts, fmt.Sprintf("%s not observed", count(missing, "job")))
	}
	if n := states["not seen completely"]; n > 0 {
		parts = append(parts, fmt.Sprintf("%s not seen completely", count(n, "job")))
	}
	if states["learning"] > 0 {
		parts = append(parts, "learning")
	}
	switch {
	case len(f.commit.Runs) == 0 && f.now.Before(f.commit.Began.Add(f.patience)):
		r.title = "Waiting for a workflow to start"
		r.wait(f.commit.Began.Add(f.patience))
		return
	case len(f.commit.Runs) == 0:
		r.conclusion, r.title = neutral, "No workflow ran on this commit"
		return
	case unfinished:
		r.title = "Watching"
		if len(parts) > 0 {
			r.title += ", so far " + strings.Join(parts, ", ")
		}
		return
	}
	r.conclusion = worst
	switch {
	case len(parts) > 0:
		r.title = strings.ToUpper(parts[0][:1]) + strings.Join(parts, ", ")[1:]
	case observed == 0:
		r.conclusion, r.title = neutral, "No job ran"
	default:
		r.title = "Nothing new in " + count(observed, "job")
		if n := len(r.settled) + len(r.byFile); n > 0 {
			r.title += ", " + count(n, "finding") + " settled"
		}
	}
	if f.rules.problem != nil && r.conclusion == success {
		r.conclusion = neutral // what the repository wants is not known
	}
}
