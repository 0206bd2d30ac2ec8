package notify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Slack's published limits (docs.slack.dev/reference/block-kit), in characters.
// Ours stay below them, and count UTF-16 units: it is not published what a
// character is, and no other count gives more.
const (
	slackHeaderLimit  = 140  // of 150
	slackSectionLimit = 2900 // of 3000
	slackFieldLimit   = 600  // of 2000
	slackContextLimit = 1500 // of 3000
	slackTextLimit    = 3900 // of 40000, 4000 advised
	slackLineLimit    = 400  // one command line
	slackMaxAncestors = 12   // lines of the ancestry
	slackMaxRuns      = 5    // runs named in a follow-up
)

type slackMessage struct {
	// Text is what notifications and screen readers show.
	Text   string       `json:"text"`
	Blocks []slackBlock `json:"blocks,omitempty"`
	// Unfurling would make Slack fetch what an attacker named.
	UnfurlLinks bool `json:"unfurl_links"`
	UnfurlMedia bool `json:"unfurl_media"`
}

type slackBlock struct {
	Type     string       `json:"type"`
	Text     *slackText   `json:"text,omitempty"`
	Fields   []*slackText `json:"fields,omitempty"`
	Elements []*slackText `json:"elements,omitempty"`
}

type slackText struct {
	Type string `json:"type"`
	Text string `json:"text"`
	// Emoji is for plain text: ":name:" stays as it is.
	Emoji *bool `json:"emoji,omitempty"`
	// Verbatim is for mrkdwn: addresses and names do not become links.
	Verbatim bool `json:"verbatim,omitempty"`
}

var slackMarks = map[sallyportv1.Severity]string{
	sallyportv1.Severity_SEVERITY_LOW:      "🔵",
	sallyportv1.Severity_SEVERITY_MEDIUM:   "🟡",
	sallyportv1.Severity_SEVERITY_HIGH:     "🟠",
	sallyportv1.Severity_SEVERITY_CRITICAL: "🔴",
}

// slackMessageOf returns the message for an alert. One item gets all its facts;
// several get a paragraph each; an alert that was refused before goes as text alone.
func slackMessageOf(a Alert, server string) slackMessage {
	m := slackMessage{Text: slackFallback(a)}
	switch {
	case a.Refused:
	case a.HeldBack != "" && len(a.Items) > 1:
		m.Text, m.Blocks = summaryText(a), summaryBlocks(a, server)
	case len(a.Items) > 1:
		m.Blocks = digestBlocks(a.Items, server)
	case a.Items[0].FollowUp:
		m.Blocks = followUpBlocks(a.Items[0], server)
	default:
		m.Blocks = findingBlocks(a.Items[0], server)
	}
	return m
}

func headline(item Item) string {
	f := item.Finding
	s := severityName(f.GetPolicy().GetSeverity()) + ": " + policyTitle(f.GetPolicy())
	if item.FollowUp {
		s = fmt.Sprintf("%d more: %s", len(item.More), policyTitle(f.GetPolicy()))
	}
	if mark := slackMarks[f.GetPolicy().GetSeverity()]; mark != "" {
		s = mark + " " + s
	}
	return s
}

// slackFallback is the whole alert as a line for each item: what must not be missing
// first, the rest as far as there is room.
func slackFallback(a Alert) string {
	var lines []string
	for _, item := range a.Items {
		f := item.Finding
		line := mrkdwnEscape(headline(item), 200) + " — finding " + mrkdwnEscape(f.GetId(), 40)
		if item.PossibleRepeat {
			line += " — " + possibleRepeat
		}
		rest := []string{messageOf(f)}
		if item.FollowUp {
			rest = nil
		}
		rest = append(rest, moreSentence(item.More), whereLine(f.GetAttribution()))
		line += " — " + mrkdwnEscape(strings.Join(nonEmpty(rest...), " — "), max(100, slackTextLimit/len(a.Items)-300))
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func findingBlocks(item Item, server string) []slackBlock {
	f := item.Finding
	a := f.GetAttribution()
	blocks := []slackBlock{
		header(headline(item)),
		plainSection(messageOf(f), slackSectionLimit),
		fieldsSection(
			field("Repository", a.GetRepository()),
			field("Workflow", a.GetWorkflow()),
			runField(a, server),
			field("Job", a.GetJob()),
			field("Step", stepOf(a)),
			field("Started by", startedBy(a)),
			field("Commit", a.GetCommit()),
			field("Runner", strings.Join(nonEmpty(a.GetRunner(), prefixed("on ", f.GetHostname()), prefixed("agent ", f.GetAgentId())), " ")),
		),
	}
	if lines := ancestryLines(f.GetAncestry()); lines != "" {
		blocks = append(blocks, mrkdwnSection("*Process*\n"+lines))
	}
	if title, value := destination(f.GetBehaviour()); value != "" {
		blocks = append(blocks, mrkdwnSection("*"+mrkdwnEscape(title, 100)+"*\n"+code(value, slackFieldLimit)))
	}
	blocks = append(blocks,
		mrkdwnSection("*Why*\nPolicy "+code(f.GetPolicy().GetId(), 200)+techniqueText(f.GetPolicy().GetTechnique())),
		plainSection(strings.Join(nonEmpty(f.GetPolicy().GetDescription(), baselineSentence(f)), "\n"), slackSectionLimit))
	if r := f.GetPolicy().GetRemediation(); r != "" {
		blocks = append(blocks, mrkdwnSection("*What to do*"), plainSection(r, slackSectionLimit))
	}
	if len(item.More) > 0 {
		blocks = append(blocks, mrkdwnSection(repeatsText(item, server)))
	}
	return append(blocks, footer([]Item{item}))
}

func followUpBlocks(item Item, server string) []slackBlock {
	a := item.Finding.GetAttribution()
	return []slackBlock{
		header(headline(item)),
		mrkdwnSection(repeatsText(item, server)),
		plainSection(messageOf(item.Finding), slackContextLimit),
		fieldsSection(field("Repository", a.GetRepository()), field("Workflow", a.GetWorkflow()), field("Job", a.GetJob())),
		footer([]Item{item}),
	}
}

func digestBlocks(items []Item, server string) []slackBlock {
	blocks := []slackBlock{
		header(fmt.Sprintf("%d findings", len(items))),
	}
	for _, item := range items {
		f := item.Finding
		a := f.GetAttribution()
		// Escaped text takes up to five times the room, hence the small parts.
		lines := []string{"*" + mrkdwnEscape(headline(item), 300) + "*"}
		if item.FollowUp {
			lines = append(lines, mrkdwnEscape(moreSentence(item.More), 200))
		} else {
			lines = append(lines, code(messageOf(f), 900))
		}
		lines = append(lines, code(whereLine(a), 500)+prefixed(" ", link(runURL(server, a.GetRepository(), a.GetRunId(), a.GetRunAttempt()), "run")))
		if r := f.GetPolicy().GetRemediation(); r != "" && !item.FollowUp {
			lines = append(lines, "What to do: "+mrkdwnEscape(r, 500))
		}
		if len(item.More) > 0 && !item.FollowUp {
			lines = append(lines, mrkdwnEscape("And "+moreSentence(item.More)+".", 200))
		}
		if item.PossibleRepeat {
			lines = append(lines, possibleRepeat)
		}
		blocks = append(blocks, mrkdwnSection(strings.Join(lines, "\n")), slackBlock{Type: "divider"})
	}
	return append(blocks, footer(items))
}

// summaryText says in a line what was held back.
func summaryText(a Alert) string {
	findings := 0
	worst := a.Items[0].Finding.GetPolicy().GetSeverity()
	for _, item := range a.Items {
		findings += len(item.More)
		if !item.FollowUp {
			findings++
		}
		worst = max(worst, item.Finding.GetPolicy().GetSeverity())
	}
	return fmt.Sprintf("%s %d findings were held back, the severest %s", slackMarks[worst], findings, strings.ToLower(severityName(worst)))
}

// summaryLines is how many kinds of findings a summary names.
const summaryLines = 30

// summaryBlocks tells what was held back: how much of what kind where, the severest first.
func summaryBlocks(a Alert, server string) []slackBlock {
	type kind struct{ policy, repository string }
	counts := make(map[kind]int)
	example := make(map[kind]*sallyportv1.Finding)
	for _, item := range a.Items {
		k := kind{item.Finding.GetPolicy().GetId(), item.Finding.GetAttribution().GetRepository()}
		counts[k] += len(item.More)
		if !item.FollowUp {
			counts[k]++
		}
		if e := example[k]; e == nil || e.GetPolicy().GetSeverity() < item.Finding.GetPolicy().GetSeverity() {
			example[k] = item.Finding
		}
	}
	kinds := slices.SortedFunc(maps.Keys(counts), func(x, y kind) int {
		return cmp.Or(cmp.Compare(example[y].GetPolicy().GetSeverity(), example[x].GetPolicy().GetSeverity()), counts[y]-counts[x],
			strings.Compare(x.repository, y.repository), strings.Compare(x.policy, y.policy))
	})
	blocks := []slackBlock{header(summaryText(a)), plainSection("Held back: "+a.HeldBack, slackContextLimit)}
	for i, k := range kinds {
		if i == summaryLines {
			blocks = append(blocks, plainSection(fmt.Sprintf("and %d more kinds; sallyport findings list", len(kinds)-i), slackContextLimit))
			break
		}
		f := example[k]
		at := f.GetAttribution()
		line := fmt.Sprintf("%s *%d ×* %s in %s %s\n%s", slackMarks[f.GetPolicy().GetSeverity()], counts[k], mrkdwnEscape(policyTitle(f.GetPolicy()), 200),
			code(k.repository, 200), link(runURL(server, at.GetRepository(), at.GetRunId(), at.GetRunAttempt()), "run"), code(messageOf(f), 500))
		blocks = append(blocks, mrkdwnSection(line))
	}
	return append(blocks, slackBlock{Type: "context", Elements: []*slackText{{Type: "mrkdwn", Text: "Sallyport · " + fmt.Sprintf("%d kinds", len(kinds)), Verbatim: true}}})
}

// repeatsText says how many repeats there are, since when, and names some runs.
func repeatsText(item Item, server string) string {
	a := item.Finding.GetAttribution()
	first, last := item.More[0].Time, item.More[0].Time
	var runs []string
	seen := make(map[string]bool)
	for _, r := range item.More {
		if r.Time.Before(first) {
			first = r.Time
		}
		if r.Time.After(last) {
			last = r.Time
		}
		if r.RunID == "" || seen[r.RunID] {
			continue
		}
		seen[r.RunID] = true
		if len(runs) == slackMaxRuns {
			continue
		}
		if l := link(runURL(server, a.GetRepository(), r.RunID, 1), "run "+r.RunID); l != "" {
			runs = append(runs, l)
		} else {
			runs = append(runs, code(r.RunID, 100))
		}
	}
	s := "*" + mrkdwnEscape(moreSentence(item.More), 200) + "*, " + date(first) + " to " + date(last)
	if len(runs) > 0 {
		s += "\n" + strings.Join(runs, ", ")
		if len(seen) > len(runs) {
			s += fmt.Sprintf(" and %d more", len(seen)-len(runs))
		}
	}
	return s
}

func ancestryLines(ancestry []*sallyportv1.Process) string {
	if len(ancestry) == 0 {
		return ""
	}
	var lines []string
	// Each line takes its share, with room for the indentation and the pid.
	room := (slackSectionLimit-100)/(slackMaxAncestors+1) - 32
	skipped := 0
	for i := range ancestry {
		p := ancestry[len(ancestry)-1-i]
		// The root and those nearest to the deed say most.
		if i > 0 && len(ancestry)-i >= slackMaxAncestors {
			skipped++
			continue
		}
		if skipped > 0 {
			lines = append(lines, fmt.Sprintf("%s… %d more", strings.Repeat(" ", len(lines)), skipped))
			skipped = 0
		}
		line := strings.Repeat(" ", len(lines)) + preformatted(commandOf(p.GetExecutable(), p.GetArguments(), programOf(p)),
			min(slackLineLimit, room))
		lines = append(lines, fmt.Sprintf("%s  [%d]", line, p.GetPid()))
	}
	return "```\n" + strings.Join(lines, "\n") + "\n```"
}

func techniqueText(t string) string {
	if t == "" {
		return ""
	}
	return ", MITRE ATT&amp;CK " + code(t, 50)
}

func runField(a *sallyportv1.Attribution, server string) *slackText {
	if a.GetRunId() == "" {
		return nil
	}
	label := "run " + a.GetRunId()
	if a.GetRunNumber() != 0 {
		label = fmt.Sprintf("#%d", a.GetRunNumber())
	}
	if a.GetRunAttempt() > 1 {
		label += fmt.Sprintf(" (attempt %d)", a.GetRunAttempt())
	}
	value := link(runURL(server, a.GetRepository(), a.GetRunId(), a.GetRunAttempt()), label)
	if value == "" {
		value = code(label, slackFieldLimit)
	}
	return &slackText{Type: "mrkdwn", Text: "*Run*\n" + value, Verbatim: true}
}

func footer(items []Item) slackBlock {
	var ids []string
	repeat := false
	for _, item := range items {
		ids = append(ids, code(item.Finding.GetId(), 40))
		repeat = repeat || item.PossibleRepeat
	}
	text := "Sallyport · finding " + strings.Join(ids, " ")
	if len(items) == 1 {
		text += " · " + date(timeOf(items[0].Finding.GetTime()))
	}
	elements := []*slackText{{Type: "mrkdwn", Text: text, Verbatim: true}}
	if repeat {
		elements = append(elements, &slackText{Type: "mrkdwn", Text: possibleRepeat, Verbatim: true})
	}
	return slackBlock{Type: "context", Elements: elements}
}

// date returns a time that Slack shows in each reader's own zone.
func date(t time.Time) string {
	return fmt.Sprintf("<!date^%d^{date_short} {time_secs}|%s>", t.Unix(), t.UTC().Format("2006-01-02 15:04:05 UTC"))
}

func header(s string) slackBlock {
	return slackBlock{Type: "header", Text: plain(strings.ReplaceAll(s, "\n", " "), slackHeaderLimit)}
}

func plainSection(s string, limit int) slackBlock {
	return slackBlock{Type: "section", Text: plain(s, limit)}
}

func mrkdwnSection(s string) slackBlock {
	return slackBlock{Type: "section", Text: &slackText{Type: "mrkdwn", Text: s, Verbatim: true}}
}

func fieldsSection(fields ...*slackText) slackBlock {
	b := slackBlock{Type: "section"}
	for _, f := range fields {
		if f != nil {
			b.Fields = append(b.Fields, f)
		}
	}
	if len(b.Fields) == 0 {
		return plainSection("Outside of every job.", slackSectionLimit)
	}
	return b
}

func field(name, value string) *slackText {
	if value == "" {
		return nil
	}
	return &slackText{Type: "mrkdwn", Text: "*" + name + "*\n" + code(value, slackFieldLimit), Verbatim: true}
}
