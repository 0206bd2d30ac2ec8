package harden

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Edit is a change of bytes.
type Edit struct {
	// Begin and End are the bytes that are replaced, offsets in the file.
	Begin, End int
	// Expect is what has to be there, New what takes its place.
	Expect, New []byte
}

// Fix is one change with its reason.
type Fix struct {
	// Rule that asks for it, for instance "pin".
	Rule string `json:"rule"`
	// At is where.
	At Position `json:"at"`
	// Reason for people, a sentence.
	Reason string `json:"reason"`

	edits  []Edit
	mutate func() // what it means for the nodes
}

// errUnfit says that edits do not fit the text.
var errUnfit = errors.New("the text is not what the edit expects")

// apply applies edits to a text, from its end on. Edits must not overlap; two insertions at
// one place keep their order.
func apply(text []byte, edits []Edit) ([]byte, error) {
	sorted := slices.Clone(edits)
	slices.SortStableFunc(sorted, func(a, b Edit) int { return a.Begin - b.Begin })
	var out bytes.Buffer
	at := 0
	for _, e := range sorted {
		if e.Begin < at || e.End < e.Begin || e.End > len(text) || !bytes.Equal(text[e.Begin:e.End], e.Expect) {
			return nil, fmt.Errorf("bytes %d to %d: %w", e.Begin, e.End, errUnfit)
		}
		out.Write(text[at:e.Begin])
		out.Write(e.New)
		at = e.End
	}
	out.Write(text[at:])
	return out.Bytes(), nil
}

// replaceScalar returns the edits that give a scalar of one line another value, in the quotes
// that it has, and its line another comment: "" keeps what is there. In flow style, where a
// comment would take in what follows, there is none.
func (d *Document) replaceScalar(n *yaml.Node, value, comment string) ([]Edit, error) {
	begin, end, ok := d.scalar(n)
	if !ok {
		return nil, &ProblemError{File: d.Name, At: position(n), Message: "it goes over several lines, or is written in a way that is not edited"}
	}
	quoted := value
	switch d.Text[begin] {
	case '"':
		quoted = `"` + value + `"`
	case '\'':
		quoted = "'" + value + "'"
	}
	edits := []Edit{}
	if string(d.Text[begin:end]) != quoted {
		edits = append(edits, Edit{begin, end, d.Text[begin:end], []byte(quoted)})
	}
	if comment == "" {
		return edits, nil
	}
	_, lineEnd, _ := d.lineOf(begin)
	rest := d.Text[end:lineEnd]
	trimmed := bytes.TrimLeft(rest, " \t")
	switch {
	case len(trimmed) == 0:
		edits = append(edits, Edit{end, lineEnd, rest, []byte(" # " + comment)})
	case trimmed[0] == '#' && len(trimmed) < len(rest):
		if old := string(trimmed); versionComment(old) != comment {
			edits = append(edits, Edit{lineEnd - len(trimmed), lineEnd, trimmed, []byte("# " + keptComment(old, comment))})
		}
	}
	return edits, nil
}

// insertLines returns the edit that puts lines, without their breaks, before the line at an
// offset, which must be a line's beginning or the end of the text.
func (d *Document) insertLines(at int, lines []string) Edit {
	nl := d.newline()
	var b bytes.Buffer
	if at == len(d.Text) && at > 0 && d.Text[at-1] != '\n' && d.Text[at-1] != '\r' {
		b.WriteString(nl)
	}
	for _, l := range lines {
		b.WriteString(l)
		b.WriteString(nl)
	}
	return Edit{at, at, nil, b.Bytes()}
}

// prove applies fixes and returns the new text, if it is what the fixes mean: it parses, and
// its tree is the old one with their changes. The document's nodes are not what they were
// afterwards.
func (d *Document) prove(fixes []Fix) ([]byte, error) {
	var edits []Edit
	for _, f := range fixes {
		edits = append(edits, f.edits...)
	}
	out, err := apply(d.Text, edits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name, err)
	}
	for _, f := range fixes {
		if f.mutate != nil {
			f.mutate()
		}
	}
	want, err := tree(d.Root)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name, err)
	}
	after, err := Parse(d.Name, out)
	if err != nil {
		return nil, fmt.Errorf("after the change: %w", err)
	}
	got, err := tree(after.Root)
	if err != nil {
		return nil, fmt.Errorf("after the change: %s: %w", d.Name, err)
	}
	if !reflect.DeepEqual(want, got) {
		return nil, fmt.Errorf("%s: the change would mean something else than it should", d.Name)
	}
	return out, nil
}
