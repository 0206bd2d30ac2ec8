package checks

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/detector"
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
	// decisions about findings, the one that counts of each by finding.
	decisions map[string]*sallyportv1.Decision
	carried   carried
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
	// marks of the open findings; true are grave ones.
	marks map[string]bool
	// incidents are those that somebody has said to be one.
	incidents map[string]bool
	// missing are the jobs that turn the check red because nobody observed them.
	missing []string
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
	// attempt of the run in which it ran last.
	attempt int
	// verdict is nil if nobody observed it, or not yet.
	verdict *sallyportv1.Verdict
	// state says it in a word or two: running, nothing new, learning, not observed and so on.
	state      string
	conclusion string
	// agreed says by whom, and why, it need not be observed.
	agreed string
}

// States of jobs that nobody observed, or not all of them, and of those of which that is agreed.
const (
	notObserved        = "not observed"
	notObservedAgreed  = "not observed, as agreed"
	notSeenWhole       = "not seen completely"
	notSeenWholeAgreed = "not seen completely, as agreed"
)

// identity of a job in the attempt in which it ran.
func (j *judged) identity() string {
	var id int64 // 0 while GitHub has not told of the job
	if j.job != nil {
		id = j.job.ID
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %s", j.run.ID, j.attempt, id, j.name))
	return hex.EncodeToString(sum[:16])
}

// evaluate works out what a check says.
func evaluate(f facts) *result {
	r := &result{incidents: make(map[string]bool)}
	decided := f.decided()
	seen := make(map[string]bool)
	for _, w := range f.commit.ordered() {
		for _, j := range f.jobs(w, r) {
			if j.verdict != nil {
				f.findings(r, j.verdict, decided, seen)
			}
			r.jobs = append(r.jobs, j)
		}
	}
	r.marks = make(map[string]bool, len(r.open))
	for _, x := range r.open {
		r.marks[markOf(x)] = r.grave(x)
	}
	slices.SortStableFunc(r.open, func(a, b *sallyportv1.Finding) int {
		return cmp.Or(rankOf(r.grave(b))-rankOf(r.grave(a)), cmp.Compare(b.GetPolicy().GetSeverity(), a.GetPolicy().GetSeverity()))
	})
	for i := range r.jobs {
		f.judge(r, &r.jobs[i])
	}
	f.conclude(r)
	return r
}

// clear says whether there is nothing that anybody would have to settle.
func (r *result) clear() bool {
	return len(r.open)+len(r.missing) == 0 && !slices.ContainsFunc(r.jobs, func(j judged) bool { return j.state == notObserved || j.state == notSeenWhole })
}

// grave says whether a finding turns the check red in any repository, and needs the role for threats
// to be settled: a threat, and what somebody has said to be an incident.
func (r *result) grave(f *sallyportv1.Finding) bool { return threat(f) || r.incidents[f.GetId()] }

func rankOf(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r *result) wait(until time.Time) {
	if r.again.IsZero() || until.Before(r.again) {
		r.again = until
	}
}

// decided are the decisions that count by the fingerprint of findings: what is decided about one is
// about the same in another job of a matrix, too.
func (f facts) decided() map[string]*sallyportv1.Decision {
	out := maps.Clone(f.carried.decisions)
	if out == nil {
		out = make(map[string]*sallyportv1.Decision)
	}
	for _, list := range f.verdicts {
		for _, v := range list {
			for _, x := range v.GetFindings() {
				if d := f.decisions[x.GetId()]; d != nil && detector.Stands(d, out[markOf(x)]) {
					out[markOf(x)] = d
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
func (f facts) findings(r *result, v *sallyportv1.Verdict, decided map[string]*sallyportv1.Decision, seen map[string]bool) {
	whole := make(map[string]bool)
	add := func(x *sallyportv1.Finding) {
		mark := markOf(x)
		if seen[mark] {
			return
		}
		seen[mark] = true
		d := f.decisions[x.GetId()] // also of one that the verdict only names
		if same := decided[mark]; detector.Stands(same, d) {
			d = same
		}
		incident := d.GetKind() == sallyportv1.DecisionKind_DECISION_KIND_RESOLVE && d.GetOutcome() == outcomeIncident
		switch approval := f.rules.settles(x, f.now); {
		case d != nil && settles(d):
			r.settled = append(r.settled, settlement{finding: x, decision: d})
		case approval != nil && !incident:
			r.byFile = append(r.byFile, settlement{finding: x, approval: approval})
		default:
			r.open = append(r.open, x)
			if incident {
				r.incidents[x.GetId()] = true
			}
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

// markOf is the same for findings of the same in several jobs of a matrix, which are told of once.
func markOf(x *sallyportv1.Finding) string { return cmp.Or(x.GetFingerprint(), x.GetId()) }

// marksOf are those of a verdict's findings, each once.
func marksOf(v *sallyportv1.Verdict) []string {
	whole := make(map[string]string, len(v.GetFindings()))
	for _, x := range v.GetFindings() {
		whole[x.GetId()] = markOf(x)
	}
	seen := make(map[string]bool, len(v.GetFindingIds()))
	var out []string
	for _, id := range v.GetFindingIds() {
		if mark := cmp.Or(whole[id], id); !seen[mark] {
			seen[mark] = true
			out = append(out, mark)
		}
	}
	return out
}

// judge says of a job what it comes to.
func (f facts) judge(r *result, j *judged) {
	v := j.verdict
	threats, news := 0, 0
	for _, mark := range marksOf(v) {
		switch isThreat, isOpen := r.marks[mark]; {
		case isThreat:
			threats++
		case isOpen:
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
		j.state, j.conclusion = notSeenWhole, neutral
		switch {
		case j.agree(f):
			j.state, j.conclusion = notSeenWholeAgreed, success
		case f.rules.Check.RequireObserved && (!j.run.over() || f.now.Before(j.run.Ended.Add(f.grace))):
			j.state, j.conclusion = "waiting for the agent", running // for the rest
		case f.rules.Check.RequireObserved:
			j.conclusion = failure
			r.missing = append(r.missing, j.identity())
		}
	case v != nil && !v.GetBaseline().GetStable():
		j.state, j.conclusion = fmt.Sprintf("learning, %d of %d", v.GetBaseline().GetRuns(), v.GetBaseline().GetRunsNeeded()), neutral
	case v != nil && len(v.GetFindingIds()) > 0:
		j.state, j.conclusion = "settled", success
	case v != nil:
		j.state, j.conclusion = "nothing new", success
	case !j.run.over() && (j.job == nil || j.job.Status != "completed"):
		j.state, j.conclusion = "running", running
	case j.job == nil || !ran(j.job):
		j.state, j.conclusion = "not run", success
	case !j.run.over() || f.now.Before(j.run.Ended.Add(f.grace)):
		j.state, j.conclusion = "waiting for the agent", running
	case j.agree(f):
		j.state, j.conclusion = notObservedAgreed, success
	default:
		j.state, j.conclusion = notObserved, neutral
		if f.rules.Check.RequireObserved {
			j.conclusion = failure
			r.missing = append(r.missing, j.identity())
		}
	}
}

// agree notes by whom it is agreed that a job need not be observed, or not completely, and says
// whether it is.
func (j *judged) agree(f facts) bool {
	entry := f.rules.agrees(j.run, j.name, f.now)
	here, queued := f.commit.Agreed[j.identity()], f.carried.agreed[jobKey(j.run, j.name)]
	switch {
	case entry != nil:
		j.agreed = entry.by()
	case here != "":
		j.agreed = "settled by " + here
	case queued != "":
		j.agreed = "settled by " + queued + " on the pull request"
	}
	return j.agreed != ""
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
		if r.grave(x) {
			threats++
		}
	}
	news := len(r.open) - threats
	states := make(map[string]int)
	worst := success
	unfinished := false
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
		// A run may end before its jobs were asked for, or before GitHub lists all of them as ended.
		unfinished = unfinished || !w.over()
	}
	observed := 0
	for _, j := range r.jobs {
		if j.verdict != nil {
			observed++
		}
	}
	missing := states[notObserved]
	waiting := 0
	for _, w := range f.commit.Runs {
		if w.Conclusion == actionRequired {
			waiting++
		}
	}
	if waiting > 0 && worst == success {
		worst = neutral
	}
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
	if n := states[notSeenWhole]; n > 0 {
		parts = append(parts, fmt.Sprintf("%s not seen completely", count(n, "job")))
	}
	if waiting > 0 {
		parts = append(parts, count(waiting, "run")+" not approved yet")
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
		if n := states[notObservedAgreed]; n > 0 {
			r.title += ", " + count(n, "job") + " not observed as agreed"
		}
		if n := states[notSeenWholeAgreed]; n > 0 {
			r.title += ", " + count(n, "job") + " not seen completely as agreed"
		}
	}
	if f.rules.problem != nil && r.conclusion == success {
		r.conclusion = neutral // what the repository wants is not known
	}
}
