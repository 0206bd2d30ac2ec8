package summary

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/markdown"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// MaxBytes is more than any summary of one job takes. GitHub takes 1 MiB a step, and shows
// nothing of what is more.
const MaxBytes = 512 << 10

// Bounds of what is shown; what is left out is counted.
const (
	fewRows     = 15  // that stand open
	maxWord     = 80  // characters of a name
	maxText     = 400 // characters of a text
	maxRemedies = 4
)

// limits are how many are shown of what there may be many of.
type limits struct{ findings, rows, remarks int }

// most is what is shown unless that would be too much, as with words that are all as long
// as they can be.
var most = limits{findings: 20, rows: 150, remarks: 60}

func (l limits) fewer() limits {
	return limits{max(l.findings/2, 1), max(l.rows/2, 1), max(l.remarks/2, 1)}
}

// Job writes the summary of a job as Markdown: the verdict, findings, destinations by step,
// what is worth knowing of processes, and what is missing.
func Job(w io.Writer, r *sallyportv1.JobReport) error {
	text := job(r, most)
	for l := most.fewer(); len(text) > MaxBytes && l.rows > 1; l = l.fewer() {
		text = job(r, l)
	}
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return nil
}

func job(r *sallyportv1.JobReport, l limits) string {
	var b strings.Builder
	title := "Sallyport"
	if r.GetJob().GetJob() != "" {
		title += ": " + word(r.GetJob().GetJob())
	}
	fmt.Fprintf(&b, "### %s\n\n**%s**\n\n", title, Verdict(r))
	findings := r.GetJudgement().GetFindings()
	for i, f := range findings {
		if i == l.findings {
			break
		}
		finding(&b, f)
	}
	if n := max(len(findings)-l.findings, 0) + int(r.GetJudgement().GetFindingsLeftOut()); n > 0 {
		fmt.Fprintf(&b, "%s not shown here.\n\n", terminal.Counted(n, "more finding is", "more findings are"))
	}
	destinations(&b, l, r)
	remarks(&b, l, r)
	missing(&b, r)
	footer(&b, r)
	return b.String()
}

// Destinations writes where jobs sent, by step, as a table; with several jobs, by job, too.
func Destinations(w io.Writer, jobs ...*sallyportv1.JobReport) error {
	var b strings.Builder
	destinations(&b, most, jobs...)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write destinations: %w", err)
	}
	return nil
}

// Finding writes a finding: what, where, why and what settles it.
func Finding(w io.Writer, f *sallyportv1.Finding) error {
	var b strings.Builder
	finding(&b, f)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write finding: %w", err)
	}
	return nil
}

// word is a name from outside within a line or a cell.
func word(s string) string { return markdown.Code(markdown.Shorten(terminal.Escape(s), maxWord)) }

// text is a sentence with words from outside.
func text(s string) string {
	return markdown.Text(markdown.Shorten(terminal.Escape(strings.Join(strings.Fields(s), " ")), maxText))
}

var severities = map[sallyportv1.Severity]string{
	sallyportv1.Severity_SEVERITY_CRITICAL: "🔴 Critical",
	sallyportv1.Severity_SEVERITY_HIGH:     "🟠 High",
	sallyportv1.Severity_SEVERITY_MEDIUM:   "🟡 Medium",
	sallyportv1.Severity_SEVERITY_LOW:      "🔵 Low",
}

func finding(b *strings.Builder, f *sallyportv1.Finding) {
	p := f.GetPolicy()
	severity := severities[p.GetSeverity()]
	if severity == "" {
		severity = "⚪ Finding"
	}
	title := p.GetTitle()
	if title == "" {
		title = p.GetId()
	}
	if title == "" {
		title = "A finding of which no more is kept"
	}
	fmt.Fprintf(b, "#### %s: %s\n\n", severity, text(title))
	if f.GetMessage() != "" {
		fmt.Fprintf(b, "%s\n\n", text(f.GetMessage()))
	}
	var where []string
	if s := f.GetAttribution().GetStep(); s != "" {
		where = append(where, "step "+word(s))
	}
	if a := f.GetAttribution().GetAction(); a != "" {
		where = append(where, "of "+word(a))
	}
	if chain := ancestry(f); chain != "" {
		where = append(where, "by "+chain)
	}
	if len(where) > 0 {
		fmt.Fprintf(b, "- **Where:** %s\n", strings.Join(where, " "))
	}
	if d := f.GetBehaviour(); d.GetKind() == sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS {
		fmt.Fprintf(b, "- **Destination:** %s %s\n", word(joined(d.GetTarget(), d.GetPort())), text(d.GetProtocol()))
	}
	if p.GetDescription() != "" {
		fmt.Fprintf(b, "- **Why:** %s\n", text(p.GetDescription()))
	}
	if p.GetRemediation() != "" {
		fmt.Fprintf(b, "- **What to do:** %s\n", text(p.GetRemediation()))
	}
	b.WriteString("\n")
	if len(f.GetRemedies()) == 0 {
		return
	}
	b.WriteString("<details><summary>Commands that settle it</summary>\n\n")
	for i, r := range f.GetRemedies() {
		if i == maxRemedies {
			break
		}
		fmt.Fprintf(b, "%s:\n\n%s\n", text(r.GetTitle()), markdown.Block("", markdown.Shorten(r.GetText(), maxText)))
	}
	b.WriteString("</details>\n\n")
}

// ancestry is the process of a finding below those that started it.
func ancestry(f *sallyportv1.Finding) string {
	var names []string
	for i, p := range slices.Backward(f.GetAncestry()) {
		name := path.Base(p.GetExecutable())
		if p.GetExecutable() == "" {
			name = "?"
		}
		if i == 0 && len(p.GetArguments()) > 0 {
			name = strings.Join(p.GetArguments(), " ")
			if p.GetArgumentsTruncated() {
				name += " …"
			}
		}
		names = append(names, word(name))
	}
	return strings.Join(names, " → ")
}

func joined(target string, port uint32) string {
	if port == 0 { // ICMP has none
		return target
	}
	return net.JoinHostPort(target, strconv.FormatUint(uint64(port), 10))
}

func endpoint(d *sallyportv1.JobDestination) string {
	if d.GetDomain() != "" {
		return joined(d.GetDomain(), d.GetPort())
	}
	return joined(d.GetAddress(), d.GetPort())
}

func remarks(b *strings.Builder, l limits, r *sallyportv1.JobReport) {
	if len(r.GetRemarks()) == 0 {
		return
	}
	b.WriteString("#### Processes worth knowing\n\n")
	// The order of the kinds is that of how much they say.
	all := slices.Clone(r.GetRemarks())
	slices.SortStableFunc(all, func(x, y *sallyportv1.JobRemark) int { return cmp.Compare(x.GetKind(), y.GetKind()) })
	folded := len(all) > fewRows
	if folded {
		fmt.Fprintf(b, "<details><summary>%d remarks</summary>\n\n", len(all))
	}
	for i, m := range all {
		if i == l.remarks {
			fmt.Fprintf(b, "- And %d more.\n", len(all)-l.remarks)
			break
		}
		line := "- " + word(m.GetProgram()) + " " + text(m.GetDeed())
		if m.GetObject() != "" {
			line += " " + word(m.GetObject())
		}
		if m.GetBecause() != "" {
			line += " (" + text(m.GetBecause()) + ")"
		}
		if m.GetStep() != "" {
			line += ", step " + word(m.GetStep())
		}
		if m.GetTimes() > 1 {
			line += fmt.Sprintf(" ×%d", m.GetTimes())
		}
		b.WriteString(line + "\n")
	}
	left := uint64(0)
	for n := range maps.Values(r.GetRemarksLeftOut()) {
		left += n
	}
	if left > 0 {
		fmt.Fprintf(b, "- And %d more of which there were too many to keep.\n", left)
	}
	b.WriteString("\n")
	if folded {
		b.WriteString("</details>\n\n")
	}
}

func footer(b *strings.Builder, r *sallyportv1.JobReport) {
	c := r.GetCounts()
	facts := []string{
		terminal.Counted(c.GetPrograms(), "program", "programs"),
		terminal.Counted(c.GetFlows(), "connection", "connections"),
		"sent " + terminal.Bytes(c.GetBytesSent()) + ", received " + terminal.Bytes(c.GetBytesReceived()),
	}
	if base := r.GetJudgement().GetBaseline(); base.GetStable() {
		facts = append(facts, "baseline stable after "+terminal.Counted(base.GetRuns(), "clean run", "clean runs"))
	}
	if r.GetMade() != nil {
		facts = append(facts, "seen until "+r.GetMade().AsTime().UTC().Format(time.DateTime)+" UTC")
	}
	b.WriteString(strings.Join(facts, " · "))
	if l := link(r.GetJudgement().GetLink()); l != "" {
		b.WriteString(" · [this run](" + l + ")")
	}
	b.WriteString("\n")
}

// link is an address as Markdown takes it, empty for what is none.
func link(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || len(s) > 2048 {
		return ""
	}
	for _, c := range u.String() {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune("()<>[]\\\"'`|*_", c) && c != '_' {
			return ""
		}
	}
	return u.String()
}
