package harden

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Document is the text of a YAML file with its nodes and where they are. The library counts
// columns in characters, does not say where a node ends, and takes a node's anchor and tag for
// its beginning: offsets are found here and checked against the text.
type Document struct {
	// Name of the file, for messages.
	Name string
	// Text of the file, as it is.
	Text []byte
	// Root is the content of its only document; nil for an empty file.
	Root *yaml.Node

	lines []int // offsets at which lines begin
}

// Position is a place in a file: line and column from 1, the column in characters.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// ProblemError says why a file is left alone.
type ProblemError struct {
	// File is its name.
	File string
	// At is where; the zero Position if it is about the whole file.
	At Position
	// Message for people.
	Message string
}

// Error implements error.
func (e *ProblemError) Error() string {
	if e.At.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.At.Line, e.At.Column, e.Message)
}

// maxFile bounds the files that are read, in bytes.
const maxFile = 4 << 20

var byteOrderMark = []byte("\xEF\xBB\xBF")

// Parse reads a file. Errors are *ProblemError.
func Parse(name string, text []byte) (*Document, error) {
	d := &Document{Name: name, Text: text}
	fail := func(at Position, format string, args ...any) (*Document, error) {
		return nil, &ProblemError{File: name, At: at, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case len(text) > maxFile:
		return fail(Position{}, "it has more than %d bytes", maxFile)
	case !utf8.Valid(text):
		return fail(Position{}, "it is not UTF-8")
	}
	d.lines = lineStarts(text)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	switch err := decode(decoder, &root); {
	case errors.Is(err, errEmpty):
		return d, nil
	case err != nil:
		at, message := libraryError(err)
		return fail(at, "%s", message)
	}
	if err := decode(decoder, new(yaml.Node)); !errors.Is(err, errEmpty) {
		return fail(Position{}, "it holds more than one document, or what follows the first is none")
	}
	if len(root.Content) != 1 {
		return d, nil
	}
	d.Root = root.Content[0]
	if key := duplicate(d.Root, make(map[*yaml.Node]bool)); key != nil {
		return fail(Position{key.Line, key.Column}, "the key %q is there twice", key.Value)
	}
	return d, nil
}

// lineStarts returns where lines begin as the YAML library counts them: after LF, CR LF, a CR
// alone, NEL, LS and PS.
func lineStarts(text []byte) []int {
	starts := []int{0}
	if bytes.HasPrefix(text, byteOrderMark) {
		starts[0] = len(byteOrderMark)
	}
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		i += n
		switch r {
		case '\r':
			if i < len(text) && text[i] == '\n' {
				i++
			}
			starts = append(starts, i)
		case '\n', '\u0085', '\u2028', '\u2029':
			starts = append(starts, i)
		}
	}
	return starts
}

// offset returns where a line and column of the library are in the text; false if it is not
// there.
func (d *Document) offset(line, column int) (int, bool) {
	if line < 1 || line > len(d.lines) || column < 1 {
		return 0, false
	}
	at := d.lines[line-1]
	for range column - 1 {
		if at >= len(d.Text) {
			return 0, false
		}
		_, n := utf8.DecodeRune(d.Text[at:])
		at += n
	}
	return at, true
}

// lineOf returns where the line of an offset begins and ends, its line break apart, and where
// the next one begins.
func (d *Document) lineOf(at int) (begin, end, next int) {
	i, exact := slices.BinarySearch(d.lines, at)
	if !exact {
		i = max(i-1, 0)
	}
	begin, next = d.lines[i], len(d.Text)
	if i+1 < len(d.lines) {
		next = d.lines[i+1]
	}
	end = next
	for end > begin && (d.Text[end-1] == '\n' || d.Text[end-1] == '\r') {
		end--
	}
	return begin, end, next
}

// newline is how lines end in the file.
func (d *Document) newline() string {
	if i := bytes.IndexByte(d.Text, '\n'); i > 0 && d.Text[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// scalar returns the bytes that a scalar of one line takes, without anchor and tag, with its
// quotes; false if it goes over several lines, or stands otherwise than the library says.
func (d *Document) scalar(n *yaml.Node) (begin, end int, ok bool) {
	if n.Kind != yaml.ScalarNode {
		return 0, 0, false
	}
	begin, ok = d.offset(n.Line, n.Column)
	if !ok {
		return 0, 0, false
	}
	rest := d.Text[begin:]
	for len(rest) > 0 && (rest[0] == '&' || rest[0] == '!') { // anchor and tag, in any order
		i := bytes.IndexAny(rest, " \t\r\n")
		if i < 0 {
			return 0, 0, false
		}
		rest = bytes.TrimLeft(rest[i:], " \t")
	}
	begin = len(d.Text) - len(rest)
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		if len(rest) < 2 || rest[0] != '"' {
			return 0, 0, false
		}
		for i := 1; i < len(rest); i++ {
			switch rest[i] {
			case '\\':
				i++
			case '\n', '\r':
				return 0, 0, false
			case '"':
				return begin, begin + i + 1, true
			}
		}
	case n.Style&yaml.SingleQuotedStyle != 0:
		if len(rest) < 2 || rest[0] != '\'' {
			return 0, 0, false
		}
		for i := 1; i < len(rest); i++ {
			switch {
			case rest[i] == '\n' || rest[i] == '\r':
				return 0, 0, false
			case rest[i] == '\'' && i+1 < len(rest) && rest[i+1] == '\'':
				i++
			case rest[i] == '\'':
				return begin, begin + i + 1, true
			}
		}
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 && bytes.HasPrefix(rest, []byte(n.Value)) && n.Value != "":
		return begin, begin + len(n.Value), true
	}
	return 0, 0, false
}

// position is where a node is for people.
func position(n *yaml.Node) Position { return Position{n.Line, n.Column} }

// field returns the key and the value of a mapping's field, nil if it has none. Merged keys
// (<<) are not looked into: what stands in an anchor is changed there.
func field(m *yaml.Node, name string) (key, value *yaml.Node) {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name && m.Content[i].Kind == yaml.ScalarNode {
			return m.Content[i], m.Content[i+1]
		}
	}
	return nil, nil
}

// value is the value of a mapping's field, without its key; aliases are followed.
func value(m *yaml.Node, name string) *yaml.Node {
	_, v := field(follow(m), name)
	return follow(v)
}

func follow(n *yaml.Node) *yaml.Node {
	for range 100 {
		if n == nil || n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return nil
}

// text is a scalar's value, empty for anything else.
func text(n *yaml.Node) string {
	if n = follow(n); n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// duplicate returns a key that a mapping has twice.
func duplicate(n *yaml.Node, seen map[*yaml.Node]bool) *yaml.Node {
	if n == nil || seen[n] || n.Kind == yaml.AliasNode {
		return nil
	}
	seen[n] = true
	if n.Kind == yaml.MappingNode {
		keys := make(map[string]bool)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
				continue
			}
			if keys[k.Value] {
				return k
			}
			keys[k.Value] = true
		}
	}
	for _, c := range n.Content {
		if k := duplicate(c, seen); k != nil {
			return k
		}
	}
	return nil
}

// commentBehind is the comment behind a scalar, with its #; empty if there is none that can be
// told.
func (d *Document) commentBehind(n *yaml.Node) string {
	_, end, ok := d.scalar(n)
	if !ok || inFlow(d.Root, n) {
		return ""
	}
	_, lineEnd, _ := d.lineOf(end)
	return string(bytes.TrimSpace(d.Text[end:lineEnd]))
}
