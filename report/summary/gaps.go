package summary

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// missing says what the report does not know.
func missing(b *strings.Builder, r *sallyportv1.JobReport) {
	lines := gaps(r, text)
	if len(lines) == 0 {
		return
	}
	b.WriteString("#### What is missing\n\n")
	for _, l := range lines {
		b.WriteString("- " + l + "\n")
	}
	b.WriteString("\n")
}

// gaps are sentences; text makes words from outside a part of them.
func gaps(r *sallyportv1.JobReport, text func(string) string) (lines []string) {
	g := r.GetGaps()
	for i, d := range g.GetDamage() {
		const few = 5
		if i == few {
			break
		}
		lines = append(lines, "Somebody damaged the agent: "+text(d)+". It does not see everything any more.")
	}
	if n := lost(g); n > 0 {
		var kinds []string
		for _, k := range slices.Sorted(maps.Keys(g.GetEventsLost())) {
			kinds = append(kinds, fmt.Sprintf("%s %d", text(k), g.GetEventsLost()[k]))
		}
		lines = append(lines, terminal.Counted(n, "event was", "events were")+" lost ("+strings.Join(kinds[:min(len(kinds), most.findings)], ", ")+"): what happened in them is not in here.")
	}
	if g.GetBeganBefore() {
		line := "The job ran already when this agent began to keep account of it at " + clock(r.GetStarted()) + ": what it did before is not in here."
		seen := ""
		if g.GetPreviousSeen() != nil {
			seen = " Its last sign of life was at " + clock(g.GetPreviousSeen()) + "."
		}
		switch g.GetPreviousEnd() {
		case sallyportv1.AgentEnd_AGENT_END_REPLACED:
			line += " Another agent saw that and told the server."
		case sallyportv1.AgentEnd_AGENT_END_STOPPED:
			line += " The agent before it had been stopped." + seen
		case sallyportv1.AgentEnd_AGENT_END_KILLED:
			line += " The agent before it was killed." + seen
		case sallyportv1.AgentEnd_AGENT_END_MACHINE_DOWN:
			line += " The machine had gone down." + seen
		default:
		}
		lines = append(lines, line)
	}
	switch j := r.GetJudgement(); {
	case j == nil:
		why := r.GetUnasked()
		if why == "" {
			why = "nobody asked"
		}
		lines = append(lines, "The server could not be asked ("+text(why)+"): what of this is new or wrong is not known here.")
	case j.GetIncomplete() != "":
		lines = append(lines, "The server has not seen all of this job: "+text(j.GetIncomplete())+".")
	case !j.GetComplete():
		lines = append(lines, "The server had not judged everything when this was written.")
	}
	if n := g.GetBatchesWaiting(); n > 0 {
		lines = append(lines, terminal.Counted(n, "batch of events waits", "batches of events wait")+" on this machine until the server takes them; they go out then, none twice.")
	}
	return lines
}

func clock(t *timestamppb.Timestamp) string { return t.AsTime().UTC().Format("15:04:05 UTC") }
