package markdown

import (
	"strings"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport/report/terminal"
)

// apart is put where two characters must not be read as one thing: nobody sees it.
const apart = "\u200b"

// special are those that may mean something where they stand within a line.
const special = "!#$&()*+-<=>@[\\]^_`{|}~"

// Text makes a string from outside part of a line of text.
func Text(s string) string {
	s = terminal.Escape(s)
	var b strings.Builder
	b.Grow(len(s) + len(s)/4)
	for i, r := range s {
		rest := s[i:]
		switch {
		case r == '@' || r == '#' || r == '^':
			// No mention, no number of an issue, no footnote.
			b.WriteString(`\` + string(r) + apart)
		case strings.HasPrefix(rest, "://") || r == '.' && i >= 3 && strings.EqualFold(s[i-3:i], "www"):
			b.WriteString(apart + string(r))
		case strings.HasPrefix(rest, "GH-") || strings.HasPrefix(rest, "gh-"):
			b.WriteString(string(r) + apart)
		case r == '.' || r == ')':
			// "1." at the beginning of a line is a list.
			b.WriteString(`\` + string(r))
		case strings.ContainsRune(special, r):
			b.WriteString(`\` + string(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Code makes a string from outside a span of code, in which nothing else is read. It can stand in
// a cell of a table.
func Code(s string) string {
	s = terminal.Escape(s)
	if s == "" {
		return "` `"
	}
	// A bar ends a cell even in code, and a backslash before it is taken away there only.
	s = strings.ReplaceAll(s, "|", "\u01c0")
	fence := strings.Repeat("`", longestRun(s, '`')+1)
	pad := ""
	if s[0] == '`' || s[len(s)-1] == '`' || s[0] == ' ' && s[len(s)-1] == ' ' {
		pad = " "
	}
	return fence + pad + s + pad + fence
}

// Block makes text from outside a block of code: lines stay lines.
func Block(language, text string) string {
	fence := strings.Repeat("`", max(3, longestRun(text, '`')+1))
	var b strings.Builder
	b.WriteString(fence + language + "\n")
	for line := range strings.Lines(text) {
		b.WriteString(terminal.Escape(strings.TrimRight(line, "\r\n")) + "\n")
	}
	b.WriteString(fence + "\n")
	return b.String()
}

// Cut shortens Markdown of whole lines to at most limit bytes, and says at its end how many
// lines are missing, in the words of more: "%d" there stands for the number.
func Cut(text string, limit int, more func(lines int) string) string {
	if len(text) <= limit {
		return text
	}
	total := strings.Count(text, "\n")
	room := limit - len(more(total))
	kept := 0
	if room > 0 {
		kept = strings.LastIndexByte(text[:min(room, len(text))], '\n') + 1
	}
	return text[:kept] + more(total-strings.Count(text[:kept], "\n"))
}

func longestRun(s string, of byte) int {
	longest, run := 0, 0
	for i := range len(s) {
		if s[i] != of {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

// Shorten cuts a string to at most n characters, with an ellipsis if something was cut.
func Shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:max(n-1, 0)]) + "…"
}
