package slackfake

import (
	"regexp"
	"strings"

	"github.com/sallyport-ci/sallyport/report/terminal"
)

// RenderOptions says how a message is shown.
type RenderOptions struct {
	// Colour colours it.
	Colour bool
	// Width is its width in columns; 100 if zero, at least 40.
	Width int
}

// Render shows a message as text in a box, much as a channel would show it. Words
// from outside cannot steer the terminal.
func Render(m Message, o RenderOptions) string {
	if o.Width == 0 {
		o.Width = 100
	}
	v := &view{palette: terminal.Palette{On: o.Colour}, width: max(o.Width, 40) - 2}
	v.out.WriteString(v.palette.Dim("╭─ #alerts "+strings.Repeat("─", v.width-10)) + "\n")
	if len(m.Blocks) == 0 {
		v.words(unmark(Text{Type: "mrkdwn", Text: m.Text}), v.plain)
	}
	for i, b := range m.Blocks {
		if i > 0 && b.Type != "context" && m.Blocks[i-1].Type != "divider" && b.Type != "divider" {
			v.line("")
		}
		v.block(b)
	}
	v.out.WriteString(v.palette.Dim("╰"+strings.Repeat("─", v.width)) + "\n")
	return v.out.String()
}

type view struct {
	out     strings.Builder
	palette terminal.Palette
	width   int
}

func (v *view) plain(s string) string { return s }

func (v *view) line(s string) {
	v.out.WriteString(strings.TrimRight(v.palette.Dim("│")+" "+s, " ") + "\n")
}

func (v *view) words(s string, style func(string) string) {
	for _, l := range strings.Split(s, "\n") {
		for _, w := range terminal.Wrap(terminal.Escape(l), v.width-2) {
			v.line(style(w))
		}
	}
}

func (v *view) block(b Block) {
	switch b.Type {
	case "header":
		v.words(unmark(*b.Text), v.palette.Bold)
	case "divider":
		v.line(v.palette.Dim(strings.Repeat("─", v.width-2)))
	case "section":
		if b.Text != nil {
			v.section(*b.Text)
		}
		for _, f := range b.Fields {
			name, value, _ := strings.Cut(unmark(f), "\n")
			lines := terminal.Wrap(terminal.Escape(strings.ReplaceAll(value, "\n", " ")), v.width-16)
			for i, l := range lines {
				if i > 0 {
					name = ""
				}
				v.line(v.palette.Dim(terminal.Pad(terminal.Shorten(terminal.Escape(name), 11), 12)) + l)
			}
		}
	case "context":
		for _, e := range b.Elements {
			v.words(unmark(e), v.palette.Dim)
		}
	}
}

// section shows a text; what stands between ``` keeps its spaces.
func (v *view) section(t Text) {
	if t.Type != "mrkdwn" {
		v.words(unmark(t), v.plain)
		return
	}
	for i, part := range strings.Split(t.Text, "```") {
		if i%2 == 1 {
			for _, l := range strings.Split(strings.Trim(part, "\n"), "\n") {
				v.line("  " + v.palette.Cyan(terminal.Shorten(terminal.Escape(entities.Replace(l)), v.width-4)))
			}
			continue
		}
		if part = strings.Trim(part, "\n"); part == "" {
			continue
		}
		title, rest, _ := strings.Cut(part, "\n")
		if strings.HasPrefix(title, "*") && strings.HasSuffix(title, "*") && len(title) > 2 {
			v.words(unmark(Text{Type: "mrkdwn", Text: title}), v.palette.Bold)
			part = rest
		}
		if part != "" {
			v.words(unmark(Text{Type: "mrkdwn", Text: part}), v.plain)
		}
	}
}

var (
	entities = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&")
	sequence = regexp.MustCompile(`<([^<>]*)>`)
	marks    = strings.NewReplacer("`", "", "*", "")
)

// Sequences returns the control sequences of a text, without their brackets: links
// ("https://…|label"), mentions ("@U1", "!channel", "#C1") and dates. Plain text has
// none.
func (t Text) Sequences() []string {
	if t.Type != "mrkdwn" {
		return nil
	}
	var found []string
	for _, m := range sequence.FindAllStringSubmatch(t.Text, -1) {
		found = append(found, m[1])
	}
	return found
}

// Texts returns all text objects of a message, the fallback first (as mrkdwn, which
// it is).
func (m Message) Texts() []Text {
	texts := []Text{{Type: "mrkdwn", Text: m.Text}}
	for _, b := range m.Blocks {
		if b.Text != nil {
			texts = append(texts, *b.Text)
		}
		texts = append(texts, b.Fields...)
		texts = append(texts, b.Elements...)
	}
	return texts
}

// unmark returns a text without markup.
func unmark(t Text) string {
	if t.Type != "mrkdwn" {
		return t.Text
	}
	s := sequence.ReplaceAllStringFunc(t.Text, func(m string) string {
		address, label, ok := strings.Cut(m[1:len(m)-1], "|")
		switch {
		case strings.HasPrefix(address, "!date^"):
			return label
		case ok:
			return label + " " + address
		default:
			return m
		}
	})
	return entities.Replace(marks.Replace(s))
}
