package summary

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// row is a destination of a step of a job.
type row struct {
	job, step, action string
	*sallyportv1.JobDestination
}

var marks = map[sallyportv1.DestinationMark]string{
	sallyportv1.DestinationMark_DESTINATION_MARK_KNOWN:      "known",
	sallyportv1.DestinationMark_DESTINATION_MARK_FIRST_SEEN: "🆕 **first seen**",
	sallyportv1.DestinationMark_DESTINATION_MARK_LEARNING:   "👀 being learned",
}

func destinations(b *strings.Builder, l limits, jobs ...*sallyportv1.JobReport) {
	var open, all []row
	var resolvers []string
	left := uint64(0)
	for _, r := range jobs {
		left += r.GetStepsLeftOut()
		for _, s := range r.GetSteps() {
			left += s.GetFlowsLeftOut()
			var rows []row
			for _, d := range s.GetDestinations() {
				switch e := endpoint(d); {
				case !d.GetResolver():
					rows = append(rows, row{r.GetJob().GetJob(), s.GetStep(), s.GetAction(), d})
				case !slices.Contains(resolvers, e):
					resolvers = append(resolvers, e)
				}
			}
			slices.SortStableFunc(rows, func(x, y row) int { return cmp.Compare(rank(x), rank(y)) })
			all = append(all, rows...)
		}
	}
	for _, x := range all {
		if x.GetMark() == sallyportv1.DestinationMark_DESTINATION_MARK_FIRST_SEEN {
			open = append(open, x)
		}
	}
	switch {
	case len(all) == 0:
		b.WriteString("Nothing was sent to another machine.\n\n")
	case len(all) <= min(fewRows, l.rows):
		b.WriteString("#### Destinations\n\n")
		table(b, len(jobs) > 1, all)
	default:
		if len(open) > 0 {
			b.WriteString("#### New destinations\n\n")
			table(b, len(jobs) > 1, open[:min(len(open), l.rows/3)])
			if n := len(open) - l.rows/3; n > 0 {
				fmt.Fprintf(b, "And %d more that are new.\n\n", n)
			}
		}
		fmt.Fprintf(b, "<details><summary>%d destinations by step</summary>\n\n", len(all))
		table(b, len(jobs) > 1, all[:min(len(all), l.rows)])
		if n := len(all) - l.rows; n > 0 {
			fmt.Fprintf(b, "And %d more.\n\n", n)
		}
		b.WriteString("</details>\n\n")
	}
	if left > 0 {
		fmt.Fprintf(b, "%s not listed: there were more steps or destinations than are kept.\n\n", terminal.Counted(left, "event or flow is", "events or flows are"))
	}
	if len(resolvers) > 0 {
		const few = 3
		names := make([]string, 0, few)
		for _, e := range resolvers[:min(few, len(resolvers))] {
			names = append(names, word(e))
		}
		lookups := uint64(0)
		for _, r := range jobs {
			lookups += r.GetCounts().GetLookups()
		}
		fmt.Fprintf(b, "Names were asked for at %s: %s.\n\n", strings.Join(names, ", "), terminal.Counted(lookups, "question", "questions"))
	}
}

// rank puts what is new first.
func rank(r row) int {
	switch r.GetMark() {
	case sallyportv1.DestinationMark_DESTINATION_MARK_FIRST_SEEN:
		return 0
	case sallyportv1.DestinationMark_DESTINATION_MARK_LEARNING:
		return 1
	case sallyportv1.DestinationMark_DESTINATION_MARK_UNSPECIFIED:
		return 2
	default:
		return 3
	}
}

func table(b *strings.Builder, withJob bool, rows []row) {
	if withJob {
		b.WriteString("| job | step | destination | | sent | received | by |\n|---|---|---|---|--:|--:|---|\n")
	} else {
		b.WriteString("| step | destination | | sent | received | by |\n|---|---|---|--:|--:|---|\n")
	}
	job, step := "", "\x00"
	for _, r := range rows {
		b.WriteString("| ")
		if withJob {
			cell := ""
			if r.job != job {
				cell, job, step = word(r.job), r.job, "\x00"
			}
			b.WriteString(cell + " | ")
		}
		cell := ""
		if key := r.step + "\x00" + r.action; key != step {
			step = key
			if cell = "between steps"; r.step != "" {
				cell = word(r.step)
			}
			if r.action != "" {
				cell += " " + word(r.action)
			}
		}
		mark := marks[r.GetMark()]
		if mark == "" {
			mark = "❔ not known"
		}
		if r.GetFailed() > 0 {
			mark += ", " + strconv.FormatUint(r.GetFailed(), 10) + " of " + strconv.FormatUint(r.GetFlows(), 10) + " failed"
		} else if r.GetFlows() > 1 {
			mark += ", " + strconv.FormatUint(r.GetFlows(), 10) + " times"
		}
		protocol := ""
		if r.GetProtocol() != "tcp" {
			protocol = " " + text(r.GetProtocol())
		}
		var programs []string
		for _, p := range r.GetPrograms() {
			programs = append(programs, word(p))
		}
		if r.GetMorePrograms() {
			programs = append(programs, "…")
		}
		fmt.Fprintf(b, "%s | %s%s | %s | %s | %s | %s |\n", cell, word(endpoint(r.JobDestination)), protocol, mark,
			terminal.Bytes(r.GetBytesSent()), terminal.Bytes(r.GetBytesReceived()), strings.Join(programs, ", "))
	}
	b.WriteString("\n")
}
