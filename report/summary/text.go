package summary

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/markdown"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// Text writes the summary of a job for a terminal. Words from outside cannot steer it.
func Text(w io.Writer, r *sallyportv1.JobReport) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n", plain(r.GetJob().GetJob()), Verdict(r))
	for i, f := range r.GetJudgement().GetFindings() {
		if i == most.findings {
			break
		}
		severity := severities[f.GetPolicy().GetSeverity()]
		fmt.Fprintf(&b, "\n%s: %s\n  %s\n", severity, plain(f.GetPolicy().GetTitle()), plain(f.GetMessage()))
		if s := f.GetAttribution().GetStep(); s != "" {
			fmt.Fprintf(&b, "  step        %s\n", plain(s))
		}
		if p := f.GetPolicy().GetRemediation(); p != "" {
			fmt.Fprintf(&b, "  what to do  %s\n", plain(p))
		}
	}
	rows := 0
	for _, s := range r.GetSteps() {
		first := true
		for _, d := range s.GetDestinations() {
			if rows++; d.GetResolver() || rows > most.rows {
				continue
			}
			if first {
				first = false
				name := plain(s.GetStep())
				if name == "" {
					name = "between steps"
				}
				fmt.Fprintf(&b, "\n%s\n", name)
			}
			mark := map[sallyportv1.DestinationMark]string{
				sallyportv1.DestinationMark_DESTINATION_MARK_KNOWN:      "known",
				sallyportv1.DestinationMark_DESTINATION_MARK_FIRST_SEEN: "FIRST SEEN",
				sallyportv1.DestinationMark_DESTINATION_MARK_LEARNING:   "being learned",
			}[d.GetMark()]
			if mark == "" {
				mark = "not known"
			}
			fmt.Fprintf(&b, "  %s  %s  ↑ %s  ↓ %s", terminal.Pad(plain(endpoint(d))+" "+plain(d.GetProtocol()), 48), terminal.Pad(mark, 13),
				terminal.Pad(terminal.Bytes(d.GetBytesSent()), 9), terminal.Bytes(d.GetBytesReceived()))
			if d.GetFailed() > 0 {
				fmt.Fprintf(&b, "  %d of %d failed", d.GetFailed(), d.GetFlows())
			}
			b.WriteString("\n")
		}
	}
	if rows > most.rows {
		fmt.Fprintf(&b, "\n%d more destinations are in --json\n", rows-most.rows)
	}
	for i, m := range r.GetRemarks() {
		if i == 0 {
			b.WriteString("\nworth knowing\n")
		}
		if i == most.remarks {
			fmt.Fprintf(&b, "  and %d more\n", len(r.GetRemarks())-most.remarks)
			break
		}
		line := strings.TrimRight(plain(m.GetProgram())+" "+plain(m.GetDeed())+" "+plain(m.GetObject()), " ")
		if m.GetTimes() > 1 {
			line += " ×" + strconv.FormatUint(m.GetTimes(), 10)
		}
		fmt.Fprintf(&b, "  %s\n", line)
	}
	for i, l := range gaps(r, plain) {
		if i == 0 {
			b.WriteString("\nmissing\n")
		}
		fmt.Fprintf(&b, "  %s\n", l)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return nil
}

// plain is text from outside on a terminal.
func plain(s string) string { return markdown.Shorten(terminal.Escape(s), maxText) }
