package notify

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport/report/terminal"
)

// In Slack's mrkdwn, "<" opens mentions (<!channel>, <@U1>) and links
// (<https://…|text>), and "&" an entity. Escaping these two and ">" is what Slack
// asks for; code spans keep the rest (*, _, ~, bare addresses) from meaning
// anything, and end only at a backtick, which no span lets in.

// plain returns a text object in which nothing means anything, of at most limit
// characters.
func plain(s string, limit int) *slackText {
	no := false
	return &slackText{Type: "plain_text", Text: cut(readable(s), limit), Emoji: &no}
}

// mrkdwnEscape escapes a string for mrkdwn, in at most limit characters.
func mrkdwnEscape(s string, limit int) string {
	return escapeWithin(readable(s), limit, func(r rune) string {
		switch r {
		case '`', '*', '~':
			return string(unmarked[r])
		}
		return ""
	})
}

// unmarked are characters that look like mrkdwn's marks and are none.
var unmarked = map[rune]rune{'`': 'ˋ', '*': '∗', '~': '∼'}

// code returns a string as a code span, in at most limit characters. Nothing in it
// has a meaning, and what is copied from it is what was there, but for backticks.
func code(s string, limit int) string {
	return "`" + preformatted(strings.ReplaceAll(s, "\n", " "), limit-2) + "`"
}

// preformatted escapes a string for the inside of a code span or block.
func preformatted(s string, limit int) string {
	s = strings.TrimSpace(terminal.Escape(s))
	if s == "" {
		s = "–"
	}
	return escapeWithin(s, limit, func(r rune) string {
		if r == '`' {
			return string(unmarked[r])
		}
		return ""
	})
}

// link returns a link to an address of our own making, "" if there is none.
func link(url, label string) string {
	if url == "" {
		return ""
	}
	return "<" + escapeWithin(url, 1000, nil) + "|" + strings.ReplaceAll(mrkdwnEscape(label, 100), "|", "∣") + ">"
}

// escapeWithin replaces &, < and > by Slack's entities and what replace says by
// something else, and stops before the result gets longer than limit characters.
func escapeWithin(s string, limit int, replace func(rune) string) string {
	var b strings.Builder
	used := 0
	for i, r := range s {
		out := ""
		if replace != nil {
			out = replace(r)
		}
		switch {
		case out != "":
		case r == '&':
			out = "&amp;"
		case r == '<':
			out = "&lt;"
		case r == '>':
			out = "&gt;"
		default:
			out = string(r)
		}
		n := units(out)
		last := i+utf8.RuneLen(r) >= len(s)
		if used+n > limit || (used+n == limit && !last) { // "…" takes the last place
			b.WriteString("…")
			return b.String()
		}
		b.WriteString(out)
		used += n
	}
	return b.String()
}

// units counts UTF-16 units, never fewer than there are characters.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += max(1, utf16.RuneLen(r))
	}
	return n
}

// cut shortens a string to at most limit units. It never returns "", which Slack
// refuses.
func cut(s string, limit int) string {
	if s == "" {
		return "–"
	}
	if units(s) <= limit {
		return s
	}
	used := 0
	for i, r := range s {
		used += max(1, utf16.RuneLen(r))
		if used > limit-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// readable escapes what could deceive a reader, but keeps line breaks.
func readable(s string) string {
	lines := strings.Split(strings.TrimRightFunc(s, unicode.IsSpace), "\n")
	for i, l := range lines {
		lines[i] = terminal.Escape(l)
	}
	return strings.Join(lines, "\n")
}
