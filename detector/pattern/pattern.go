package pattern

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// piece is a part of a pattern.
type piece struct {
	kind pieceKind
	text string // of a literal
	// min and max are lengths of digits, or bounds of a range; of hashes min is the length.
	min, max int
}

type pieceKind byte

const (
	literal     pieceKind = iota
	number                // {n:MIN-MAX}: digits, so many
	between               // {MIN..MAX}: a number without leading zeros
	hexadecimal           // {hex:LENGTH}: digits and a-f
	mixed                 // {id:LENGTH}: digits and a-z
	region                // {region}
	same                  // {=}: one label or more of it, the same in all
)

// Pattern is a name of which parts vary. Its text form is what Parse reads.
type Pattern struct {
	text   string
	pieces []piece
}

// maxPattern bounds a pattern's length: a domain has at most 253 bytes.
const maxPattern = 1024

// ErrPattern says that a text is no pattern.
var ErrPattern = errors.New("it is no pattern")

// Parse reads a pattern's text form.
func Parse(text string) (Pattern, error) {
	fail := func(what string) (Pattern, error) {
		return Pattern{}, fmt.Errorf("read pattern %.100q: %w: %s", text, ErrPattern, what)
	}
	if text == "" || len(text) > maxPattern {
		return fail("it is empty or too long")
	}
	p := Pattern{text: text}
	for rest := text; rest != ""; {
		i := strings.IndexByte(rest, '{')
		if i != 0 {
			if i < 0 {
				i = len(rest)
			}
			if strings.IndexByte(rest[:i], '}') >= 0 {
				return fail("a } has no {")
			}
			p.pieces, rest = append(p.pieces, piece{text: rest[:i]}), rest[i:]
			continue
		}
		inside, after, ok := strings.Cut(rest[1:], "}")
		if !ok {
			return fail("a { has no }")
		}
		x, err := parsePiece(inside)
		if err != nil {
			return fail(err.Error())
		}
		if x.kind == same && slices.ContainsFunc(p.pieces, func(y piece) bool { return y.kind == same }) {
			return fail("it has {=} twice")
		}
		p.pieces, rest = append(p.pieces, x), after
	}
	return p, nil
}

func parsePiece(s string) (piece, error) {
	bounds := func(text, separator string) (a, b int, err error) {
		first, second, ok := strings.Cut(text, separator)
		if !ok {
			return 0, 0, fmt.Errorf("{%s} has no %s", s, separator)
		}
		if a, err = strconv.Atoi(first); err == nil {
			b, err = strconv.Atoi(second)
		}
		if err != nil || a < 0 || b < a || b > 1_000_000_000 || strconv.Itoa(a)+separator+strconv.Itoa(b) != text {
			return 0, 0, fmt.Errorf("{%s} has no such bounds", s)
		}
		return a, b, nil
	}
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case s == "region":
		return piece{kind: region}, nil
	case s == "=":
		return piece{kind: same}, nil
	case kind == "n":
		a, b, err := bounds(rest, "-")
		if err == nil && (a == 0 || b > 32) {
			err = fmt.Errorf("{%s} has no such lengths", s)
		}
		return piece{kind: number, min: a, max: b}, err
	case kind == "hex" || kind == "id":
		n, err := strconv.Atoi(rest)
		if err != nil || n < 1 || n > 128 || strconv.Itoa(n) != rest {
			return piece{}, fmt.Errorf("{%s} has no such length", s)
		}
		x := piece{kind: hexadecimal, min: n}
		if kind == "id" {
			x.kind = mixed
		}
		return x, nil
	}
	a, b, err := bounds(s, "..")
	return piece{kind: between, min: a, max: b}, err
}

// String returns the text form.
func (p Pattern) String() string { return p.text }

// Varies says whether the pattern stands for more than one name.
func (p Pattern) Varies() bool {
	return slices.ContainsFunc(p.pieces, func(x piece) bool { return x.kind != literal })
}

// Match says whether a name, lower case, is of the pattern, and what {=} stands for in it.
// regions are those that {region} may be, the longest first where one begins another.
func (p Pattern) Match(name string, regions []string) (kept string, ok bool) {
	if len(name) > maxPattern {
		return "", false
	}
	return match(p.pieces, name, regions)
}

func match(pieces []piece, s string, regions []string) (kept string, ok bool) {
	if len(pieces) == 0 {
		return "", s == ""
	}
	x, rest := pieces[0], pieces[1:]
	switch x.kind {
	case literal:
		if after, found := strings.CutPrefix(s, x.text); found {
			return match(rest, after, regions)
		}
	case number, between:
		// Greedily: a number ends where its digits do.
		n := leading(s, digit)
		if n == 0 || x.kind == number && (n < x.min || n > x.max) || x.kind == between && !within(s[:n], x.min, x.max) {
			return "", false
		}
		return match(rest, s[n:], regions)
	case hexadecimal, mixed:
		in := alphanumeric
		if x.kind == hexadecimal {
			in = hexDigit
		}
		if len(s) < x.min || leading(s[:x.min], in) != x.min || leading(s[x.min:], alphanumeric) > 0 {
			return "", false
		}
		return match(rest, s[x.min:], regions)
	case region:
		for _, r := range regions {
			if after, found := strings.CutPrefix(s, r); found {
				if kept, ok := match(rest, after, regions); ok {
					return kept, true
				}
			}
		}
	case same:
		// From the right: what follows is literal to the end.
		for n := len(s); n > 0; n-- {
			if _, ok := match(rest, s[n:], regions); ok {
				return s[:n], true
			}
		}
	}
	return "", false
}

func within(digits string, least, most int) bool {
	if len(digits) > 9 || len(digits) > 1 && digits[0] == '0' {
		return false
	}
	n, err := strconv.Atoi(digits)
	return err == nil && n >= least && n <= most
}

func leading(s string, in func(byte) bool) int {
	n := 0
	for n < len(s) && in(s[n]) {
		n++
	}
	return n
}

func digit(c byte) bool        { return c >= '0' && c <= '9' }
func hexDigit(c byte) bool     { return digit(c) || c >= 'a' && c <= 'f' }
func alphanumeric(c byte) bool { return digit(c) || c >= 'a' && c <= 'z' }
