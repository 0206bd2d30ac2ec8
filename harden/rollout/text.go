package rollout

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/report/markdown"
)

// What is ours of a pull request's text stands between two marks: a person's words around them
// stay. The third says that it was not a person who closed it.
const (
	beginMark  = "<!-- sallyport:begin -->"
	endMark    = "<!-- sallyport:end -->"
	closedMark = "<!-- sallyport:closed -->"
)

// GitHub takes 65,536 characters; a person may have written some, too.
const (
	maxBody     = 60_000
	maxListed   = 20_000
	maxFindings = 50
)

// explained is a rule in the words of a pull request.
type explained struct {
	rule, title, short, why, back string
}

var explanations = []explained{
	{
		"pin", "Pins", "pin actions and images",
		"A tag or a branch can be moved to other code at any time: that is how the compromises of 2025 and 2026 reached those who used them. A commit or a digest stays what it is. The version stands in the comment behind it.",
		"put the name from the comment back in the place of the commit; what a digest stood for is in `" + harden.LockFile + "`.",
	},
	{
		"permissions", "Permissions", "cut token permissions",
		"Without `permissions` the token of each job may do what the repository's settings allow, often all. Now it may do what its steps are known to need.",
		"take the `permissions` out again, or add the one that is missing: a step that lacks one says `Resource not accessible by integration`.",
	},
	{
		"credentials", "Credentials", "keep credentials out of checkouts",
		"`actions/checkout` leaves its token in `.git/config`, where every later step, and every upload of the folder, has it.",
		"take `persist-credentials: false` out of a job that pushes.",
	},
	{
		"agent", "Agent", "put the agent into jobs",
		"The agent watches what the steps after it connect to, run and read, and stops nothing.",
		"take the step out.",
	},
	{
		"dependabot", "Updates", "keep pins up to date",
		"A pin that nobody updates is a version that nobody repairs. Dependabot opens a pull request for each new one.",
		"take the `github-actions` entry out of `.github/dependabot.yml`.",
	},
	{
		"template-injection", "Scripts", "keep what strangers choose out of scripts",
		"A title, a branch's name or an input was put into the text of a shell, so that whoever chooses it could write commands. Now it comes by a variable, whose value is not run.",
		"put the expression back in the place of the variable, and take the variable out of `env`.",
	},
	{"approvals", "Approvals", "use approved actions", "Your organisation says which actions may be used.", "revert the change."},
	{"audit", "Repairs", "repair what is unsafe", "What was found is safer in another form that does the same.", "revert the change."},
}

// used returns the explanations of the rules that changed something.
func (p *proposal) used() []explained {
	var out []explained
	for _, e := range explanations {
		if slices.ContainsFunc(p.results, func(r *harden.Result) bool {
			return r.After != nil && slices.ContainsFunc(r.Fixes, func(f harden.Fix) bool { return f.Rule == e.rule })
		}) {
			out = append(out, e)
		}
	}
	return out
}

func (p *proposal) title() string {
	var parts []string
	for _, e := range p.used() {
		parts = append(parts, e.short)
	}
	return markdown.Shorten("Harden workflows: "+strings.Join(parts, ", "), 250)
}

func (p *proposal) message(digest string) string {
	var b strings.Builder
	b.WriteString("Harden workflows\n\n")
	for _, e := range p.used() {
		fmt.Fprintf(&b, "- %s\n", e.short)
	}
	fmt.Fprintf(&b, "\nEach change is explained in the pull request.\n\n%s%s\n", trailer, digest)
	return b.String()
}

// body is our part of a pull request's text.
func (p *proposal) body() string {
	var b strings.Builder
	files, fixes := 0, 0
	for _, r := range p.results {
		if r.After != nil {
			files++
			fixes += len(r.Fixes)
		}
	}
	b.WriteString(beginMark + "\n")
	fmt.Fprintf(&b, "This makes the workflows of this repository harder to abuse: %d changes in %d files. ", fixes, files)
	b.WriteString("Each was proved before it was proposed: the file parses, means what it meant but for the change, and actionlint has nothing new to say.\n")
	used := p.used()
	room := maxListed
	for _, e := range used {
		list := p.listed(e.rule)
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n", e.title, e.why)
		list = markdown.Cut(list, max(room, 2000), func(lines int) string { return fmt.Sprintf("- and %d more, which the diff shows\n", lines) })
		room -= len(list)
		b.WriteString(list)
		fmt.Fprintf(&b, "\n**Roll back:** %s\n", e.back)
	}
	b.WriteString(p.unsettled())
	fmt.Fprintf(&b, `
### About this pull request

To roll all of it back, revert the merge: nothing outside these files was changed. Until it is merged it is kept up to date: branch %s is replaced when the files change, unless somebody else has pushed to it; then it is left alone. Closed, it is not opened again. The commit is signed by GitHub.
`, markdown.Code(p.Branch))
	b.WriteString(endMark)
	return markdown.Cut(b.String(), maxBody, func(int) string { return "\nThe rest is left out; the diff shows it.\n" + endMark })
}

// listed lists the changes of a rule.
func (p *proposal) listed(rule string) string {
	var b strings.Builder
	for _, r := range p.results {
		if r.After == nil {
			continue
		}
		for _, f := range r.Fixes {
			if f.Rule == rule {
				fmt.Fprintf(&b, "- %s: %s\n", markdown.Code(fmt.Sprintf("%s:%d", r.File, f.At.Line)), markdown.Text(f.Reason))
			}
		}
	}
	return b.String()
}

// unsettled lists what a person should look at, the worst first.
func (p *proposal) unsettled() string {
	var lines []string
	for _, severity := range []harden.Severity{harden.SeverityError, harden.SeverityWarning} {
		for _, r := range p.results {
			for _, f := range r.Findings {
				if f.Severity == severity {
					lines = append(lines, fmt.Sprintf("- %s %s: %s\n", severity, markdown.Code(fmt.Sprintf("%s:%d", r.File, f.At.Line)), markdown.Text(f.Message)))
				}
			}
		}
	}
	for _, r := range p.results {
		if r.Problem != nil {
			lines = append(lines, "- not read: "+markdown.Text(r.Problem.Error())+"\n")
		}
	}
	if len(lines) == 0 {
		return ""
	}
	more := ""
	if len(lines) > maxFindings {
		more = fmt.Sprintf("- and %d more, which `sallyport harden` lists\n", len(lines)-maxFindings)
		lines = lines[:maxFindings]
	}
	list := markdown.Cut(strings.Join(lines, ""), maxListed, func(n int) string { return fmt.Sprintf("- and %d more, which `sallyport harden` lists\n", n) })
	return "\n### For a person to look at\n\nThis is as it was before; it cannot be repaired without knowing what is meant.\n\n" + list + more
}

// within puts our part into a pull request's text, in the place of the one before. Where somebody
// has taken the marks out, the text stays as it is.
func within(text, ours string) string {
	text = strings.ReplaceAll(text, "\n"+closedMark+"\n", "")
	text = strings.ReplaceAll(text, closedMark, "") // somebody has opened it again
	// GitHub's editor makes line ends \r\n.
	begin, end := strings.Index(text, beginMark), strings.LastIndex(text, endMark)
	if begin < 0 || end < begin || strings.ReplaceAll(text[begin:end+len(endMark)], "\r\n", "\n") == ours {
		return text
	}
	return text[:begin] + ours + text[end+len(endMark):]
}
