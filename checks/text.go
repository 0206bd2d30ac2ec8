package checks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/markdown"
	"github.com/sallyport-ci/sallyport/report/summary"
)

// Name is the check's.
const Name = "Sallyport"

// maxListed bounds the list of findings in the summary, so that jobs and what to do have room.
const maxListed = 30_000

// maxComment bounds a comment; GitHub takes 65,536 characters.
const maxComment = 30_000

// marks of states in the table of jobs.
var marks = map[string]string{success: "✅", neutral: "⚪", failure: "❌", running: "⏳"}

// checkRun is what a result looks like at GitHub, without annotations.
func (r *result) checkRun(c *commit, rules *Rules, details string) github.CheckRun {
	out := github.CheckRun{Name: Name, HeadSHA: c.SHA, Title: r.title, DetailsURL: details, Status: "in_progress", Conclusion: r.conclusion}
	if r.conclusion != running {
		out.Status = "completed"
	} else if len(c.Runs) == 0 {
		out.Status = "queued"
	}
	out.Summary = markdown.Cut(r.summary(c, rules), github.MaxCheckText-1000, func(n int) string { return fmt.Sprintf("\n%d more lines are left out.\n", n) })
	out.Text = r.text()
	out.Actions = r.buttons()
	return out
}

// summary says in ten seconds what there is.
func (r *result) summary(c *commit, rules *Rules) string {
	var b strings.Builder
	if c.Refused != "" {
		fmt.Fprintf(&b, "> [!WARNING]\n> %s\n\n", c.Refused)
	}
	if rules.problem != nil {
		fmt.Fprintf(&b, "> [!WARNING]\n> %s does not count until it is repaired: %s\n\n", markdown.Code(RulesFile), markdown.Text(markdown.Shorten(rules.problem.Error(), 500)))
	}
	for i, f := range r.open {
		if b.Len() > maxListed {
			fmt.Fprintf(&b, "- %s more; `sallyport findings` lists them\n", count(len(r.open)-i, "finding"))
			break
		}
		mark := "🆕"
		if r.grave(f) {
			mark = "❌"
		}
		a := f.GetAttribution()
		where := markdown.Code(markdown.Shorten(a.GetJob(), 100))
		if a.GetStep() != "" {
			where += ", step " + markdown.Code(markdown.Shorten(a.GetStep(), 100))
		}
		fmt.Fprintf(&b, "- %s **%s** in job %s: %s\n", mark, markdown.Text(f.GetPolicy().GetTitle()), where, markdown.Text(markdown.Shorten(f.GetMessage(), 400)))
	}
	if len(r.open) > 0 {
		b.WriteString("\n")
	}
	if len(r.jobs) > 0 {
		b.WriteString("| | Job | Workflow | |\n|---|---|---|---|\n")
		for _, j := range r.jobs {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", marks[j.conclusion], markdown.Code(markdown.Shorten(j.name, 100)), markdown.Code(markdown.Shorten(j.run.Name, 100)), r.about(j))
		}
		b.WriteString("\n")
	}
	b.WriteString(r.meaning(rules))
	return b.String()
}

// about says of a job what is known in a line.
func (r *result) about(j judged) string {
	said := r.aboutState(j)
	if j.attempt != 0 && j.attempt < j.run.Attempt && j.state != "not run" {
		said += fmt.Sprintf(", in attempt %d", j.attempt)
	}
	return said
}

func (r *result) aboutState(j judged) string {
	v := j.verdict
	switch {
	case v.GetIncomplete() != "":
		said := notSeenWhole + ": " + markdown.Text(markdown.Shorten(v.GetIncomplete(), 200))
		if j.agreed != "" {
			said += ", which is agreed: " + markdown.Text(markdown.Shorten(j.agreed, 300))
		}
		return said
	case j.state == notObserved:
		return "**not observed**: no agent saw it"
	case j.agreed != "":
		return "**not observed**, which is agreed: " + markdown.Text(markdown.Shorten(j.agreed, 300))
	case strings.HasPrefix(j.state, "learning"):
		return markdown.Text(j.state) + " clean runs"
	default:
		return markdown.Text(j.state)
	}
}

// meaning says what the colour means, and what to do.
func (r *result) meaning(rules *Rules) string {
	threats := slices.ContainsFunc(r.open, r.grave)
	switch {
	case r.conclusion == failure && threats:
		return fmt.Sprintf("**What to do:** find out which step did it and rotate what it could read. If it is meant, somebody with the role %s settles it: by a button above, by a command below, or by an entry in %s on the default branch.\n",
			markdown.Code(rules.Check.Approvers.Threat), markdown.Code(RulesFile))
	case len(r.missing) > 0:
		return fmt.Sprintf("**What to do:** a job that nobody observed, or not completely, may have done anything: put the agent into it (`sallyport harden`), or onto its machine; `sallyport doctor` and the agent's log say why something is missing. If it may be so, somebody with the role %s settles it by a button above, or an entry under %s in %s on the default branch does.\n",
			markdown.Code(rules.Check.Approvers.Threat), markdown.Code("unobserved"), markdown.Code(RulesFile))
	case len(r.open) > 0:
		return fmt.Sprintf("**What to do:** if it is meant, somebody with the role %s approves it, by a button above, by a command below, or by an entry in %s on the default branch. It is a note, not a failure, unless the repository says otherwise.\n",
			markdown.Code(rules.Check.Approvers.New), markdown.Code(RulesFile))
	case slices.ContainsFunc(r.jobs, func(j judged) bool { return j.state == notObserved }):
		return "A job that nobody observed may have done anything: put the agent into it (`sallyport harden`), or onto its machine.\n"
	case slices.ContainsFunc(r.jobs, func(j judged) bool { return strings.HasPrefix(j.state, "learning") }):
		return "What these jobs normally do is still being learned: nothing new is told of until then, and what is wrong whatever is normal is told of all the same.\n"
	default:
		return ""
	}
}

// text is all that there is to say of findings.
func (r *result) text() string {
	var b strings.Builder
	for i, f := range r.open {
		var one strings.Builder
		a := f.GetAttribution()
		_ = summary.Finding(&one, f) // a strings.Builder takes everything
		said := one.String() + fmt.Sprintf("Job %s of %s, run %s. Finding %s.\n\n", markdown.Code(markdown.Shorten(a.GetJob(), 100)), markdown.Code(markdown.Shorten(a.GetWorkflow(), 100)),
			markdown.Code(markdown.Shorten(a.GetRunId(), 40)), markdown.Code(f.GetId())) + approvalEntry(f)
		if b.Len()+len(said) > github.MaxCheckText-10_000 {
			fmt.Fprintf(&b, "%s more; `sallyport findings` lists them.\n\n", count(len(r.open)-i, "finding"))
			break
		}
		b.WriteString(said)
	}
	if len(r.settled)+len(r.byFile) > 0 {
		b.WriteString("#### Settled\n\n")
	}
	for _, s := range append(slices.Clone(r.settled), r.byFile...) {
		line := fmt.Sprintf("- %s: %s\n", markdown.Text(markdown.Shorten(s.finding.GetMessage(), 300)), s.by())
		if b.Len()+len(line) > github.MaxCheckText-1000 {
			b.WriteString("- and more\n")
			break
		}
		b.WriteString(line)
	}
	return b.String()
}

// by says who settled it and why.
func (s settlement) by() string {
	if s.approval != nil {
		return fmt.Sprintf("approved in %s by %s: %s", markdown.Code(RulesFile), markdown.Text(markdown.Shorten(s.approval.Owner, 100)), markdown.Text(markdown.Shorten(s.approval.Reason, 300)))
	}
	d, what := s.decision, "approved"
	if d.GetKind() == sallyportv1.DecisionKind_DECISION_KIND_RESOLVE {
		what = "settled as " + d.GetOutcome()
	}
	return fmt.Sprintf("%s by %s: %s", markdown.Text(what), markdown.Text(markdown.Shorten(d.GetPerson(), 100)), markdown.Text(markdown.Shorten(d.GetReason(), 300)))
}

// approvalEntry is what settles a finding in the repository's file.
func approvalEntry(f *sallyportv1.Finding) string {
	a, b := f.GetAttribution(), f.GetBehaviour()
	if b == nil {
		return ""
	}
	var y strings.Builder
	line := func(indent, key, value string) {
		if value != "" {
			fmt.Fprintf(&y, "%s%s: %q\n", indent, key, patternOf(value))
		}
	}
	y.WriteString("approve:\n")
	fmt.Fprintf(&y, "  - policy: %q\n", f.GetPolicy().GetId())
	line("    ", "workflow", a.GetWorkflow())
	line("    ", "job", a.GetJob())
	line("    ", "target", b.GetTarget())
	if b.GetPort() != 0 {
		fmt.Fprintf(&y, "    port: %d\n", b.GetPort())
	}
	y.WriteString("    owner: \"you\"\n    reason: \"why it is meant\"\n")
	return "<details><summary>As an entry in the repository's file</summary>\n\n" + markdown.Block("yaml", y.String()) + "\n</details>\n\n"
}

// patternOf is a pattern that fits a word and nothing else.
func patternOf(word string) string {
	// What looks like a URL is meant as it stands: an entry refuses one that somebody wrote.
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, "://", ":[/]/").Replace(word)
}

// buttons are what can be pressed: what they do is bound to the findings that are shown, so that
// nobody approves what came in meanwhile.
func (r *result) buttons() []github.CheckAction {
	if len(r.open)+len(r.missing) == 0 || r.conclusion == running {
		return nil
	}
	id := r.offer()
	threats, news := 0, 0
	for _, f := range r.open {
		if r.grave(f) {
			threats++
		} else {
			news++
		}
	}
	var out []github.CheckAction
	if news > 0 {
		out = append(out, github.CheckAction{Label: "Approve for this job", Description: "What is new is normal for these jobs", Identifier: doApproveJob + id})
	}
	switch {
	case threats > 0 || len(r.missing) > 0:
		out = append(out, github.CheckAction{Label: "Settle: it is meant", Description: "All of it, threats and unseen jobs, too", Identifier: doSettle + id})
	case news > 0:
		out = append(out, github.CheckAction{Label: "Approve for repo", Description: "The same for every job of the repository", Identifier: doApproveAll + id})
	}
	if len(r.open) == 0 {
		return out
	}
	return append(out, github.CheckAction{Label: "Report", Description: "It is an incident: keep it red", Identifier: doReport + id})
}

// Identifiers of buttons: at most 20 characters with the offer.
const (
	doApproveJob = "job:"
	doApproveAll = "repo:"
	doSettle     = "settle:"
	doReport     = "report:"
)

// offered are what buttons are about: the open findings and the jobs that were not observed.
func (r *result) offered() []string {
	return append(r.shown(), r.missing[:min(len(r.missing), maxShown)]...)
}

// offer is their digest.
func (r *result) offer() string {
	ids := r.offered()
	slices.Sort(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, " ")))
	return hex.EncodeToString(sum[:6])
}

// commentMark says that a comment is ours.
const commentMark = "<!-- sallyport:check -->"

// comment is the same for the pull request's page.
func (r *result) comment(c *commit, rules *Rules, url string) string {
	head := fmt.Sprintf("%s\n### %s Sallyport: %s\n\n", commentMark, marks[r.conclusion], markdown.Text(r.title))
	body := markdown.Cut(r.summary(c, rules), maxComment, func(n int) string { return fmt.Sprintf("\n%d more lines are in the check.\n", n) })
	foot := "\nFor commit " + c.SHA + "."
	if url != "" {
		foot += " [The check](" + url + ") has the details."
	}
	return head + body + foot + "\n"
}
