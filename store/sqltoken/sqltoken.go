// Package sqltoken cuts ClickHouse's SQL into tokens: enough to know where a statement
// ends, which functions it names, and which tables it makes. It does not parse.
package sqltoken

import "strings"

// Kinds of token.
const (
	Word   = 'w' // keyword or bare identifier
	Quoted = 'q' // `identifier` or "identifier", text without the quotes
	String = 's' // its text is left out
	Number = 'n'
	Punct  = 'p' // one byte
)

// Token is a piece of SQL: src[Start:End].
type Token struct {
	Kind       byte
	Text       string
	Start, End int
}

// Is says whether the token is a keyword, in whatever case.
func (t Token) Is(word string) bool { return t.Kind == Word && strings.EqualFold(t.Text, word) }

// IsPunct says whether the token is a punctuation mark.
func (t Token) IsPunct(p string) bool { return t.Kind == Punct && t.Text == p }

// IsName says whether the token can be a name.
func (t Token) IsName() bool { return t.Kind == Word || t.Kind == Quoted }

// A Lexer cuts ClickHouse SQL into tokens, skipping space and comments. It accepts
// every text: an unfinished string or comment ends with the text.
type Lexer struct {
	src string
	pos int
}

// New returns a lexer of src that begins at a byte.
func New(src string, pos int) *Lexer { return &Lexer{src: src, pos: pos} }

// Pos is the byte behind the last token.
func (l *Lexer) Pos() int { return l.pos }

// Next returns the next token, false at the end of the text.
func (l *Lexer) Next() (Token, bool) {
	l.skipSpace()
	if l.pos >= len(l.src) {
		return Token{}, false
	}
	start := l.pos
	c := l.src[start]
	switch {
	case isWordStart(c):
		for l.pos < len(l.src) && IsWordByte(l.src[l.pos]) {
			l.pos++
		}
		return l.token(Word, start, l.src[start:l.pos]), true
	case c >= '0' && c <= '9':
		for l.pos < len(l.src) && IsWordByte(l.src[l.pos]) {
			l.pos++
		}
		return l.token(Number, start, l.src[start:l.pos]), true
	case c == '\'':
		l.quoted('\'')
		return l.token(String, start, ""), true
	case c == '`' || c == '"':
		name := l.quoted(c)
		return l.token(Quoted, start, name), true
	case c == '$':
		if end, ok := heredocEnd(l.src[start:]); ok {
			l.pos = start + end
			return l.token(String, start, ""), true
		}
	}
	l.pos++
	return l.token(Punct, start, l.src[start:l.pos]), true
}

func (l *Lexer) token(kind byte, start int, text string) Token {
	return Token{Kind: kind, Text: text, Start: start, End: l.pos}
}

func (l *Lexer) skipSpace() {
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
func (l *Lexer) quoted(quote byte) string {
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
		if !IsWordByte(tag[j]) {
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

// IsWordByte says whether a byte may stand in a word, though not first.
func IsWordByte(c byte) bool { return isWordStart(c) || c >= '0' && c <= '9' }
