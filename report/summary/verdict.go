package summary

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// Verdict is a job's report in one line, without any word from outside: "✅ Nothing new · 12
// destinations · 340 processes".
func Verdict(r *sallyportv1.JobReport) string {
	shown := make(map[string]bool)
	fresh := make(map[string]bool)
	for _, s := range r.GetSteps() {
		for _, d := range s.GetDestinations() {
			if d.GetResolver() {
				continue
			}
			shown[endpoint(d)+d.GetProtocol()] = true
			if d.GetMark() == sallyportv1.DestinationMark_DESTINATION_MARK_FIRST_SEEN {
				fresh[endpoint(d)+d.GetProtocol()] = true
			}
		}
	}
	return strings.Join([]string{
		said(r, len(fresh)),
		terminal.Counted(len(shown), "destination", "destinations"),
		terminal.Counted(r.GetCounts().GetProcesses(), "process", "processes"),
	}, " · ")
}

// said is what the verdict comes to.
func said(r *sallyportv1.JobReport, fresh int) string {
	j := r.GetJudgement()
	gap := gapInShort(r)
	if n := len(j.GetFindings()) + int(j.GetFindingsLeftOut()); n > 0 {
		icon := "⚠️ "
		if slices.ContainsFunc(j.GetFindings(), func(f *sallyportv1.Finding) bool {
			return f.GetPolicy().GetSeverity() >= sallyportv1.Severity_SEVERITY_HIGH
		}) {
			icon = "🔴 "
		}
		words := icon + terminal.Counted(n, "finding", "findings")
		if gap != "" {
			words += " · not complete: " + gap
		}
		return words
	}
	judged := judgedInShort(r, fresh)
	if gap == "" {
		return judged
	}
	_, words, _ := strings.Cut(judged, " ")
	return "❗ Not complete: " + gap + " · " + strings.ToLower(words[:1]) + words[1:]
}

// judgedInShort is what the server thinks of a job without findings.
func judgedInShort(r *sallyportv1.JobReport, fresh int) string {
	j := r.GetJudgement()
	b := j.GetBaseline()
	switch {
	case j == nil:
		return "❔ Not judged: the server could not be asked"
	case fresh > 0:
		return "🆕 " + terminal.Counted(fresh, "new destination", "new destinations")
	case !b.GetStable() && (strings.HasPrefix(r.GetJob().GetEvent(), "pull_request") || b.GetRuns() >= b.GetRunsNeeded()):
		// Such a run teaches nothing, or it is no matter of a number of runs any more.
		return "👀 Learning, " + terminal.Counted(b.GetRuns(), "clean run", "clean runs") + " so far"
	case !b.GetStable():
		return "👀 Learning, run " + strconv.FormatUint(uint64(b.GetRuns())+1, 10) + " of " + strconv.FormatUint(uint64(b.GetRunsNeeded()), 10)
	case !j.GetComplete():
		return "⏳ Nothing new so far"
	default:
		return "✅ Nothing new"
	}
}

// gapInShort says why the report is not complete, empty if it is.
func gapInShort(r *sallyportv1.JobReport) string {
	g := r.GetGaps()
	switch n := lost(g); {
	case len(g.GetDamage()) > 0:
		return "the agent was damaged"
	case n == 1:
		return "1 event was lost"
	case n > 1:
		return terminal.Counted(n, "", "events were lost")
	case g.GetBeganBefore():
		return "the agent was there only later"
	case r.GetJudgement().GetIncomplete() != "":
		return "the server has not seen all"
	}
	return ""
}

func lost(g *sallyportv1.JobGaps) (total uint64) {
	for n := range maps.Values(g.GetEventsLost()) {
		total += n
	}
	return total
}
