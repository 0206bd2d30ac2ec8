package engine

import "strings"

// The kinds of token that matter when one only wants to know where a statement ends
// and which functions it names.
const (
	tokenWord   = 'w' // keyword or bare identifier
	tokenQuoted = 'q' // `identifier` or "identifier", text without the quotes
	tokenString = 's'
	tokenNumber = 'n'
	tokenPunct  = 'p' // one byte
)

type token struct {
	kind       byte
	text       string
	start, end int
}

func (t token) is(word string) bool   { return t.kind == tokenWord && strings.EqualFold(t.text, word) }
func (t token) isPunct(p string) bool { return t.kind == tokenPunct && t.text == p }
func (t token) isName() bool          { return t.kind == tokenWord || t.kind == tokenQuoted }

// A lexer cuts ClickHouse SQL into tokens, skipping space and comments. It accepts
// every text: an unfinished string or comment ends with the text.
type lexer struct {
	src string
	pos int
}

func (l *lexer) next() (token, bool) {
	l.skipSpace()
	if l.pos >= len(l.src) {
		return token{}, false
	}
	start := l.pos
	c := l.src[start]
	switch {
	case isWordStart(c):
		for l.pos < len(l.src) && isWordByte(l.src[l.pos]) {
			l.pos++
		}
		return l.token(tokenWord, start, l.src[start:l.pos]), true
	case c >= '0' && c <= '9':
		for l.pos < len(l.src) && isWordByte(l.src[l.pos]) {
			l.pos++
		}
		return l.token(tokenNumber, start, l.src[start:l.pos]), true
	case c == '\'':
		l.quoted('\'')
		return l.token(tokenString, start, ""), true
	case c == '`' || c == '"':
		name := l.quoted(c)
		return l.token(tokenQuoted, start, name), true
	case c == '$':
		if end, ok := heredocEnd(l.src[start:]); ok {
			l.pos = start + end
			return l.token(tokenString, start, ""), true
		}
	}
	l.pos++
	return l.token(tokenPunct, start, l.src[start:l.pos]), true
}

func (l *lexer) token(kind byte, start int, text string) token {
	return token{kind: kind, text: text, start: start, end: l.pos}
}

func (l *lexer) skipSpace() {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v\x00", rest[0]) >= 0:
			l.pos++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "#!"), strings.HasPrefix(rest, "# "):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				l.pos += i + 1
			} else {
				l.pos = len(l.src)
			}
		case strings.HasPrefix(rest, "/*"):
			l.pos += commentEnd(rest)
		default:
			return
		}
	}
}

// commentEnd finds the end of a block comment; ClickHouse's nest.
func commentEnd(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		if i+1 < len(s) && s[i] == '/' && s[i+1] == '*' {
			depth++
			i++
		} else if i+1 < len(s) && s[i] == '*' && s[i+1] == '/' {
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// quoted moves behind a quoted text and returns what stands between the quotes, with
// backslashes and doubled quotes undone.
func (l *lexer) quoted(quote byte) string {
	var b strings.Builder
	for l.pos++; l.pos < len(l.src); l.pos++ {
		c := l.src[l.pos]
		switch {
		case c == '\\' && l.pos+1 < len(l.src):
			l.pos++
			b.WriteByte(l.src[l.pos])
		case c == quote && l.pos+1 < len(l.src) && l.src[l.pos+1] == quote:
			l.pos++
			b.WriteByte(quote)
		case c == quote:
			l.pos++
			return b.String()
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// heredocEnd finds the end of $tag$ … $tag$.
func heredocEnd(s string) (int, bool) {
	i := strings.IndexByte(s[1:], '$')
	if i < 0 {
		return 0, false
	}
	tag := s[:i+2]
	for j := 1; j < len(tag)-1; j++ {
		if !isWordByte(tag[j]) {
			return 0, false
		}
	}
	end := strings.Index(s[len(tag):], tag)
	if end < 0 {
		return 0, false
	}
	return len(tag) + end + len(tag), true
}

func isWordStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func isWordByte(c byte) bool { return isWordStart(c) || c >= '0' && c <= '9' }
