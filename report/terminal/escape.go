package terminal

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// Escape makes a string from outside safe to print: control characters, invalid
// UTF-8 and characters that are invisible or change the direction of writing come
// out as \n, \t, \xNN or \u{N}. A backslash stays as it is: this is for reading,
// not for decoding.
func Escape(s string) string {
	if strings.IndexFunc(s, unsafe) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case unsafe(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case unsafe(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// unsafe says whether a character may do more on a terminal than take room.
// unicode.IsGraphic leaves out controls (C0 and C1), format characters such as
// bidirectional overrides and zero-width joiners, private use and surrogates.
func unsafe(r rune) bool {
	return !unicode.IsGraphic(r) || (unicode.Is(unicode.Zs, r) && r != ' ')
}

// Cells returns how many columns an escaped string takes.
func Cells(s string) int { return runewidth.StringWidth(s) }

// Shorten cuts an escaped string to at most cells columns, ending in "…" when
// something was cut. It returns "" for cells below 1.
func Shorten(s string, cells int) string {
	if cells < 1 {
		return ""
	}
	return runewidth.Truncate(s, cells, "…")
}

// Pad fills an escaped string with spaces up to cells columns.
func Pad(s string, cells int) string {
	if n := cells - Cells(s); n > 0 {
		return s + strings.Repeat(" ", n)
	}
	return s
}

// Wrap breaks an escaped string at spaces into lines of at most cells columns; a
// longer word is broken where the line ends. It returns at least one line.
func Wrap(s string, cells int) []string {
	cells = max(cells, 8)
	var lines []string
	line, used := "", 0
	for _, word := range strings.Fields(s) {
		for {
			w, gap := Cells(word), 0
			if used > 0 {
				gap = 1
			}
			if used+gap+w <= cells {
				line += strings.Repeat(" ", gap) + word
				used += gap + w
				break
			}
			if used > 0 {
				lines = append(lines, line)
				line, used = "", 0
				continue
			}
			head := runewidth.Truncate(word, cells, "")
			if head == "" { // one cluster of characters that is wider than the line
				_, n := utf8.DecodeRuneInString(word)
				head = word[:n]
			}
			lines = append(lines, head)
			word = word[len(head):]
		}
	}
	if used > 0 || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}
