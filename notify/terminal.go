package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// TerminalOptions says how findings are written for people or programs.
type TerminalOptions struct {
	// JSON writes one JSON object a line instead of text (docs/alerts.md).
	JSON bool
	// Colour colours the text; see terminal.Coloured.
	Colour bool
	// Width is the width of the text in columns; 100 if zero, at least 40.
	Width int
	// GitHubURL is the server that links to runs point to; https://github.com by
	// default.
	GitHubURL string
}

// Terminal writes findings to a stream, for people or as JSON lines. Words from
// outside are escaped, so that they cannot steer a terminal.
type Terminal struct {
	w       io.Writer
	json    bool
	palette terminal.Palette
	width   int
	server  string
}

// NewTerminal returns a Terminal that writes each message to w with one Write.
func NewTerminal(w io.Writer, o TerminalOptions) (*Terminal, error) {
	server, err := checkServerURL(o.GitHubURL)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	if o.Width == 0 {
		o.Width = 100
	}
	return &Terminal{
		w: w, json: o.JSON, palette: terminal.Palette{On: o.Colour}, width: max(o.Width, 40), server: server,
	}, nil
}

// Deliver implements Target. If writing fails it cannot tell how much was seen.
func (t *Terminal) Deliver(_ context.Context, a Alert) error {
	var b strings.Builder
	for _, item := range a.Items {
		if t.json {
			line, err := jsonLine(item)
			if err != nil {
				return &RejectedError{Err: err}
			}
			b.Write(line)
			b.WriteByte('\n')
		} else {
			t.write(&b, item)
		}
	}
	if _, err := io.WriteString(t.w, b.String()); err != nil {
		return fmt.Errorf("write finding: %w", err)
	}
	return nil
}

func jsonLine(item Item) ([]byte, error) {
	finding, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(item.Finding)
	if err != nil {
		return nil, fmt.Errorf("encode finding %s: %w", item.Finding.GetId(), err)
	}
	line, err := json.Marshal(struct {
		Finding        json.RawMessage `json:"finding"`
		FollowUp       bool            `json:"follow_up,omitempty"`
		More           []Repeat        `json:"more,omitempty"`
		PossibleRepeat bool            `json:"possible_repeat,omitempty"`
	}{finding, item.FollowUp, item.More, item.PossibleRepeat})
	if err != nil {
		return nil, fmt.Errorf("encode finding %s: %w", item.Finding.GetId(), err)
	}
	return line, nil
}

func (t *Terminal) write(b *strings.Builder, item Item) {
	f, p := item.Finding, t.palette
	a := f.GetAttribution()
	tag := " " + strings.ToUpper(severityName(f.GetPolicy().GetSeverity())) + " "
	switch s := f.GetPolicy().GetSeverity(); {
	case s >= sallyportv1.Severity_SEVERITY_HIGH:
		tag = p.Alarm(tag)
	case s == sallyportv1.Severity_SEVERITY_MEDIUM:
		tag = p.Yellow(tag)
	default:
		tag = p.Cyan(tag)
	}
	title := terminal.Escape(policyTitle(f.GetPolicy()))
	if item.FollowUp {
		title = moreSentence(item.More) + ": " + title
	}
	fmt.Fprintf(b, "%s %s  %s\n", tag, p.Bold(title), p.Dim(timeOf(f.GetTime()).UTC().Format("2006-01-02 15:04:05 UTC")))
	line := func(name, value string) {
		if value == "" {
			return
		}
		for i, l := range terminal.Wrap(terminal.Escape(value), t.width-14) {
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(b, "  %s %s\n", p.Dim(terminal.Pad(name, 11)), l)
		}
	}
	if !item.FollowUp {
		line("what", messageOf(f))
	}
	line("where", whereLine(a))
	line("run", runURL(t.server, a.GetRepository(), a.GetRunId(), a.GetRunAttempt()))
	if !item.FollowUp {
		line("who", strings.Join(nonEmpty(startedBy(a), prefixed("on ", a.GetRunner()), prefixed("host ", f.GetHostname())), " "))
		if n := len(f.GetAncestry()); n > 0 {
			var names []string
			for i := range n {
				names = append(names, programOf(f.GetAncestry()[n-1-i]))
			}
			line("process", strings.Join(names, " → "))
			line("command", commandOf("", f.GetAncestry()[0].GetArguments(), ""))
		}
		if title, value := destination(f.GetBehaviour()); value != "" {
			line(strings.ToLower(strings.SplitN(title, " (", 2)[0]), value)
		}
		line("why", strings.Join(nonEmpty(f.GetPolicy().GetDescription(), baselineSentence(f),
			"Policy "+f.GetPolicy().GetId()+prefixed(", ", f.GetPolicy().GetTechnique())+"."), " "))
		line("what to do", f.GetPolicy().GetRemediation())
		line("more", moreSentence(item.More))
	}
	line("finding", f.GetId())
	if item.PossibleRepeat {
		line("note", possibleRepeat)
	}
	b.WriteByte('\n')
}

// possibleRepeat explains a message that may be there twice.
const possibleRepeat = "Possibly a repeat: an earlier attempt to tell this was not answered."

func whereLine(a *sallyportv1.Attribution) string {
	if a.GetRepository() == "" && a.GetJob() == "" {
		return "outside of every job"
	}
	run := prefixed("run ", a.GetRunId())
	if a.GetRunNumber() != 0 {
		run = fmt.Sprintf("run %d", a.GetRunNumber())
	}
	return strings.Join(nonEmpty(a.GetRepository(), a.GetWorkflow(), run, a.GetJob(), stepOf(a)), " › ")
}

func nonEmpty(words ...string) []string {
	var kept []string
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return kept
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
