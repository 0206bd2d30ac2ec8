package request

import (
	"fmt"
	"strings"

	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/score"
	"github.com/sallyport-ci/sallyport/report/markdown"
)

// maxPlaces bounds how many places that use an action are listed.
const maxPlaces = 30

// Title of a request, for instance "Approve actions/checkout >=5".
func Title(a harden.Approval) string {
	verb := "Approve "
	if a.Deny {
		verb = "Deny "
	}
	return markdown.Shorten(strings.TrimSpace(verb+a.Action+" "+a.Versions), 200)
}

// Body says what is asked for and why, how far the action can be trusted, what it may do, and who
// uses it. Scores may be none, where nobody asked; used is nil where nobody looked.
func Body(a harden.Approval, scores []*score.Score, facts []*score.Facts, used *harden.UsedAction) string {
	var b strings.Builder
	b.WriteString("| | |\n|---|---|\n")
	for _, f := range []struct{ name, value string }{
		{"Action", a.Action}, {"Versions", a.Versions}, {"Owner", a.Owner}, {"Reviewer", a.Reviewer}, {"Until", a.Until},
	} {
		if f.value != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", f.name, cell(f.value))
		}
	}
	fmt.Fprintf(&b, "\n**Why:** %s\n", markdown.Text(a.Reason))
	for i, s := range scores {
		fmt.Fprintf(&b, "\n#### %s: %s\n\n", markdown.Text(s.Action+"@"+s.Ref), number(s))
		if s.Commit != "" && s.Commit != s.Ref {
			fmt.Fprintf(&b, "Commit %s\n\n", markdown.Code(s.Commit))
		}
		for _, l := range s.Limits {
			fmt.Fprintf(&b, "At most %g: %s\n\n", l.Most, markdown.Text(l.Reason))
		}
		b.WriteString("| part | points | weight | reason |\n|---|--:|--:|---|\n")
		for _, p := range s.Parts {
			points := "?"
			if p.Known {
				points = fmt.Sprint(p.Points)
			}
			fmt.Fprintf(&b, "| %s | %s | %d | %s |\n", p.Name, points, p.Weight, cell(p.Reason))
		}
		if i < len(facts) {
			b.WriteString("\n**Permissions of the job's token:** " + permissions(facts[i]) + "\n")
		}
	}
	if used == nil {
		return b.String()
	}
	places := used.Places()
	fmt.Fprintf(&b, "\n#### Used in %d places\n\n", len(places))
	for i, p := range places {
		if i == maxPlaces {
			fmt.Fprintf(&b, "- and %d more\n", len(places)-i)
			break
		}
		fmt.Fprintf(&b, "- %s\n", markdown.Text(p.String()))
	}
	return b.String()
}

func cell(s string) string { return markdown.Text(markdown.Shorten(s, 500)) }

func number(s *score.Score) string {
	if s.Score == nil {
		return fmt.Sprintf("not scored, 0 of %d parts known", s.Of)
	}
	return fmt.Sprintf("%.1f of 10, %d of %d parts known", *s.Score, s.Known, s.Of)
}

func permissions(f *score.Facts) string {
	if f.Permissions == nil {
		return "not known, " + markdown.Text(f.Unknown["permissions"])
	}
	var out []string
	for _, p := range *f.Permissions {
		access := ": read"
		if p.Write {
			access = ": write"
		}
		out = append(out, markdown.Code(p.Scope+access))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
