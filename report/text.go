package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/report/terminal"
)

// Options says how a report is written for people.
type Options struct {
	// Colour colours it; see terminal.Coloured.
	Colour bool
	// Width is its width in columns; 100 if zero, at least 40.
	Width int
	// TreeLines is how many lines the process tree may have; 40 if zero.
	TreeLines int
}

const (
	maxRows  = 40 // of destinations and of look-ups
	maxDepth = 12 // of the process tree
)

// WriteJSON writes the report as one indented JSON object (docs/run-report.md).
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteText writes the report for people. Words from outside cannot steer the
// terminal.
func (r *Report) WriteText(w io.Writer, o Options) error {
	if o.Width == 0 {
		o.Width = 100
	}
	if o.TreeLines == 0 {
		o.TreeLines = 40
	}
	p := &page{palette: terminal.Palette{On: o.Colour}, width: max(o.Width, 40), treeLines: o.TreeLines}
	p.header(r)
	p.destinations(r.Destinations)
	p.lookups(r.Lookups)
	p.accesses(r.Accesses)
	p.files(r.Files)
	p.privileges(r.Privileges)
	p.requests(r.Requests)
	p.tree(r.Tree)
	p.findings(r.Findings)
	p.next(r)
	if _, err := io.WriteString(w, p.out.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

type page struct {
	out       strings.Builder
	palette   terminal.Palette
	width     int
	treeLines int
}

func (p *page) line(s string) { p.out.WriteString(strings.TrimRight(s, " ") + "\n") }

func (p *page) title(s string) { p.line(""); p.line(p.palette.Bold(s)) }

func (p *page) wrapped(indent, s string, style func(string) string) {
	for _, l := range terminal.Wrap(terminal.Escape(s), p.width-len(indent)) {
		p.line(indent + style(l))
	}
}

func plain(s string) string { return s }

func (p *page) header(r *Report) {
	outcome, style := "exit 0", p.palette.Green
	switch {
	case r.Signal != 0:
		outcome, style = fmt.Sprintf("killed by signal %d", r.Signal), p.palette.Red
	case r.ExitCode != 0:
		outcome, style = fmt.Sprintf("exit %d", r.ExitCode), p.palette.Yellow
	}
	p.line(p.palette.Bold("sallyport run ") + terminal.Shorten(terminal.Escape(strings.Join(r.Command, " ")), p.width-14))
	facts := fmt.Sprintf("%s · %s · %s · %s · sent %s, received %s", outcome,
		duration(r.DurationSeconds), terminal.Counted(r.Processes, "process", "processes"),
		terminal.Counted(len(r.Destinations), "destination", "destinations"), terminal.Bytes(r.BytesSent), terminal.Bytes(r.BytesReceived))
	for i, l := range terminal.Wrap(facts, p.width) {
		if i == 0 {
			l = style(outcome) + strings.TrimPrefix(l, outcome)
		}
		p.line(l)
	}
	if len(r.EventsLost) > 0 {
		var total uint64
		var kinds []string
		for _, kind := range slices.Sorted(maps.Keys(r.EventsLost)) {
			total += r.EventsLost[kind]
			kinds = append(kinds, fmt.Sprintf("%s %d", kind, r.EventsLost[kind]))
		}
		p.wrapped("", fmt.Sprintf("This report is not complete: %d events were lost (%s).", total, strings.Join(kinds, ", ")), p.palette.Red)
	}
}

func (p *page) destinations(all []Destination) {
	if len(all) == 0 {
		p.title("Destinations")
		p.line("  none: nothing was sent to the network")
		return
	}
	p.title("Destinations")
	// Programs in the order of their first, which has most bytes.
	var programs []string
	groups := make(map[string][]Destination)
	for i, d := range all {
		if i == maxRows {
			break
		}
		if groups[d.Executable] == nil {
			programs = append(programs, d.Executable)
		}
		groups[d.Executable] = append(groups[d.Executable], d)
	}
	for _, executable := range programs {
		name := groups[executable][0].Program
		line := "  " + p.palette.Cyan(terminal.Escape(name))
		if executable != "" && executable != name {
			line += "  " + p.palette.Dim(terminal.Shorten(terminal.Escape(executable), p.width-6-terminal.Cells(name)))
		}
		p.line(line)
		for _, d := range groups[executable] {
			p.destination(d)
		}
	}
	if n := len(all) - maxRows; n > 0 {
		p.line(p.palette.Dim(fmt.Sprintf("  … and %d more with fewer bytes (--json has them)", n)))
	}
}

func (p *page) destination(d Destination) {
	target := d.Domain
	if target == "" && len(d.Addresses) > 0 {
		target = d.Addresses[0]
	}
	if d.Port != 0 { // ICMP has none
		target = net.JoinHostPort(target, strconv.FormatUint(uint64(d.Port), 10))
	}
	amounts := fmt.Sprintf("↑ %s  ↓ %s", terminal.Pad(terminal.Bytes(d.BytesSent), 9), terminal.Bytes(d.BytesReceived))
	name := terminal.Escape(target) + " " + d.Protocol
	room := p.width - 4 - 26
	if terminal.Cells(name) > room {
		p.line("    " + terminal.Shorten(name, p.width-4))
		p.line("    " + strings.Repeat(" ", max(0, room)) + amounts)
	} else {
		p.line("    " + terminal.Pad(name, room) + amounts)
	}
	facts := []string{terminal.Counted(d.Connections, "connection", "connections")}
	if d.Protocol != "tcp" {
		facts[0] = terminal.Counted(d.Connections, "flow", "flows")
	}
	if d.Failed > 0 {
		facts = append(facts, fmt.Sprintf("%d failed", d.Failed))
	}
	switch {
	case d.Domain == "":
		facts = append(facts, "no name was looked up")
	case len(d.Addresses) > 3:
		facts = append(facts, fmt.Sprintf("%s and %d more", d.Addresses[0], len(d.Addresses)-1))
	default:
		facts = append(facts, strings.Join(d.Addresses, ", "))
	}
	if d.ServerName != "" && d.ServerName != d.Domain {
		facts = append(facts, "asked for "+d.ServerName+" by TLS")
	}
	switch d.DomainSource {
	case "job":
		facts = append(facts, "name looked up by another process of the command")
	case "host":
		facts = append(facts, "name looked up by another process on this machine")
	}
	p.wrapped("      ", strings.Join(facts, " · "), p.palette.Dim)
}

func (p *page) lookups(all []Lookup) {
	if len(all) == 0 {
		return
	}
	p.title("Looked up, but not connected to")
	for i, l := range all {
		if i == maxRows {
			p.line(p.palette.Dim(fmt.Sprintf("  … and %d more (--json has them)", len(all)-maxRows)))
			return
		}
		p.wrapped("  ", fmt.Sprintf("%s  %s %s by %s, %s", l.Name, strings.Join(l.Types, "/"), strings.Join(l.ResponseCodes, "/"),
			strings.Join(l.Programs, ", "), terminal.Counted(l.Count, "question", "questions")), plain)
	}
}

func (p *page) accesses(all []Access) {
	if len(all) == 0 {
		return
	}
	p.title("Reached into other processes")
	for i, a := range all {
		if i == maxRows {
			p.line(p.palette.Dim(fmt.Sprintf("  … and %d more (--json has them)", len(all)-maxRows)))
			return
		}
		p.wrapped("  ", fmt.Sprintf("%s [%d] → %s [%d]  %s ×%d", a.Program, a.PID, a.Target, a.TargetPID, a.Kind, a.Count), p.palette.Yellow)
	}
}

func (p *page) files(all []File) {
	if len(all) == 0 {
		return
	}
	p.title("Files that matter")
	for i, f := range all {
		if i == maxRows {
			p.line(p.palette.Dim(fmt.Sprintf("  … and %d more (--json has them)", len(all)-maxRows)))
			return
		}
		p.wrapped("  ", fmt.Sprintf("%s  %s by %s ×%d  %s, %s", f.Path, f.Operation, f.Program, f.Count, f.Category, f.Rule), p.palette.Yellow)
	}
}

func (p *page) privileges(all []Privilege) {
	if len(all) == 0 {
		return
	}
	p.title("Privileges")
	for i, x := range all {
		if i == maxRows {
			p.line(p.palette.Dim(fmt.Sprintf("  … and %d more (--json has them)", len(all)-maxRows)))
			return
		}
		p.wrapped("  ", fmt.Sprintf("%s %s ×%d", x.Program, privilegeText(x), x.Count), p.palette.Yellow)
	}
}

func privilegeText(x Privilege) string {
	switch x.Kind {
	case "gained":
		return "gained " + x.Detail
	case "namespaces":
		return "entered other namespaces: " + x.Detail
	case "module":
		return "loaded kernel module " + x.Detail
	case "bpf":
		return "loaded eBPF program " + x.Detail
	case "signal":
		return "sent signal " + x.Detail + " to the agent"
	case "packets":
		return "sent frames by a packet socket"
	default:
		return x.Kind + " " + x.Detail
	}
}

func (p *page) requests(all []Request) {
	if len(all) == 0 {
		return
	}
	p.title("Requests")
	for i, x := range all {
		if i == maxRows {
			p.line(p.palette.Dim(fmt.Sprintf("  … and %d more (--json has them)", len(all)-maxRows)))
			return
		}
		p.wrapped("  ", fmt.Sprintf("%s https://%s%s by %s ×%d", x.Method, x.Host, x.Path, x.Program, x.Count), plain)
	}
}

func (p *page) findings(all []Finding) {
	p.title("Findings")
	if len(all) == 0 {
		p.line("  " + p.palette.Green("none") + ": no policy holds anything that was seen to be wrong")
		return
	}
	for _, f := range all {
		tag := strings.ToUpper(f.Severity)
		switch f.Severity {
		case "critical", "high":
			tag = p.palette.Alarm(" " + tag + " ")
		case "medium":
			tag = p.palette.Yellow(" " + tag + " ")
		default:
			tag = p.palette.Cyan(" " + tag + " ")
		}
		title := f.Title
		if title == "" {
			title = f.Policy
		}
		p.line(" " + tag + " " + p.palette.Bold(terminal.Shorten(terminal.Escape(title), p.width-14)))
		for _, part := range []struct{ name, value string }{
			{"what", f.Message},
			{"process", strings.Join(append(slices.Clone(f.Ancestry), f.Process), " → ")},
			{"why", f.Description},
			{"what to do", f.Remediation},
			{"policy", strings.TrimSuffix(f.Policy+", "+f.Technique, ", ")},
		} {
			name := part.name
			if part.value == "" {
				continue
			}
			for _, l := range terminal.Wrap(terminal.Escape(part.value), p.width-15) {
				p.line("   " + p.palette.Dim(terminal.Pad(name, 11)) + " " + l)
				name = ""
			}
		}
	}
}

// next says what to do with all this.
func (p *page) next(r *Report) {
	p.line("")
	words := "Next: run it again with --json to keep the report, or `sudo sallyport up` to learn what is normal for your jobs."
	switch {
	case len(r.Findings) > 0:
		words = fmt.Sprintf("Next: look at %s above, worst first; each says what to do.", terminal.Counted(len(r.Findings), "finding", "findings"))
	case len(r.EventsLost) > 0:
		words = "Next: events were lost, so run it again on a machine that does less at the same time."
	}
	p.wrapped("", words, p.palette.Bold)
}

func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// commandOf returns how the tree shows a program.
func commandOf(n *Node) string {
	s := strings.Join(n.Arguments, " ")
	if s == "" {
		s = path.Base(n.Executable)
	}
	if n.Executable == "" && len(n.Arguments) == 0 {
		s = "(unknown program)"
	}
	if n.ArgumentsTruncated {
		s += " …"
	}
	return s
}
