package harden

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport/wholefile"
)

// ErrDecided says that a file of approvals says already what was decided.
var ErrDecided = errors.New("the file says so already")

// newApprovals is a file of approvals without any.
const newApprovals = "# Which actions may be used: sallyport harden --check holds workflows to it.\nversion: 1\nactions:\n"

// Decide puts a decision into a file of approvals, which is made if it is not there; see
// EditApprovals.
func Decide(name string, a Approval) error {
	before, err := os.ReadFile(name)
	mode := fs.FileMode(0o644)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("decide about %s: %w", a.Action, err)
	default:
		if info, err := os.Stat(name); err == nil {
			mode = info.Mode().Perm()
		}
	}
	after, err := EditApprovals(name, before, a)
	if err != nil {
		return err
	}
	if err := wholefile.Sync(name, mode, after); err != nil {
		return fmt.Errorf("decide about %s: %w", a.Action, err)
	}
	return nil
}

// EditApprovals puts a decision into the text of a file of approvals; an empty text is a new
// file. What the file says of the same action is changed, field by field, where the decision
// says otherwise (what it leaves empty stays), else it is added at the end. Nothing else changes
// by a byte, and that is proved. Errors wrap ErrDecided if there is nothing to change.
func EditApprovals(name string, before []byte, a Approval) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("decide about %s: %w", a.Action, err) }
	if err := a.check(); err != nil {
		return fail(err)
	}
	if len(bytes.TrimSpace(before)) == 0 {
		before = []byte(newApprovals)
	}
	list, err := parseApprovals(name, before)
	if err != nil {
		return nil, err
	}
	d, err := Parse(name, before)
	if err != nil {
		return fail(err)
	}
	if !a.Deny && slices.ContainsFunc(list, func(x Approval) bool { return x.Action == a.Action && x.Deny }) {
		return fail(fmt.Errorf("%s denies it, which counts before an approval: take that out first", name))
	}
	want := slices.Clone(list)
	var after []byte
	if at := slices.IndexFunc(list, func(x Approval) bool { return x.Action == a.Action && x.Deny == a.Deny }); at >= 0 {
		want[at] = list[at].with(a)
		if sameDecision(want[at], list[at]) {
			return fail(fmt.Errorf("%s: %w", name, ErrDecided))
		}
		after, err = d.changeEntry(value(d.Root, "actions").Content[at], a)
	} else {
		want = append(want, a)
		after, err = d.appendEntry(a)
	}
	if err == nil {
		var got []Approval
		if got, err = parseApprovals(name, after); err == nil && !slices.EqualFunc(got, want, sameDecision) {
			err = errUnfit
		}
	}
	if err != nil {
		return fail(fmt.Errorf("%s is written in a way that it cannot be put into; do it by hand: %w", name, err))
	}
	return after, nil
}

// fields are those of a decision that may be changed, in the order of the file.
func (a Approval) fields() []struct{ name, value string } {
	return []struct{ name, value string }{{"versions", a.Versions}, {"owner", a.Owner}, {"reviewer", a.Reviewer}, {"reason", a.Reason}, {"until", a.Until}}
}

// with is the decision with what another one says.
func (a Approval) with(b Approval) Approval {
	a.Versions, a.Owner, a.Reviewer, a.Reason, a.Until = cmp.Or(b.Versions, a.Versions), cmp.Or(b.Owner, a.Owner), cmp.Or(b.Reviewer, a.Reviewer), cmp.Or(b.Reason, a.Reason), cmp.Or(b.Until, a.Until)
	return a
}

func sameDecision(a, b Approval) bool {
	return a.Action == b.Action && a.Deny == b.Deny && slices.Equal(a.fields(), b.fields())
}

// changeEntry changes what an entry says otherwise, and adds what it does not say.
func (d *Document) changeEntry(entry *yaml.Node, a Approval) ([]byte, error) {
	if entry.Kind != yaml.MappingNode || len(entry.Content) == 0 {
		return nil, errUnfit
	}
	flow := entry.Style&yaml.FlowStyle != 0 || inFlow(d.Root, entry)
	last := -1 // where what is new goes: behind the last value of one line
	for i := 1; i < len(entry.Content); i += 2 {
		if _, end, ok := d.scalar(entry.Content[i]); ok {
			last = max(last, end)
		}
	}
	var edits []Edit
	added := ""
	for _, f := range a.fields() {
		if f.value == "" {
			continue
		}
		switch key, was := field(entry, f.name); {
		case key == nil && flow:
			added += ", " + f.name + ": " + written(f.value, true)
		case key == nil:
			added += strings.Repeat(" ", entry.Content[0].Column-1) + f.name + ": " + written(f.value, false) + d.newline()
		case text(was) != f.value:
			begin, end, ok := d.scalar(was)
			if !ok {
				return nil, errUnfit
			}
			edits = append(edits, Edit{begin, end, d.Text[begin:end], []byte(written(f.value, flow))})
		}
	}
	if added != "" {
		if last < 0 {
			return nil, errUnfit
		}
		if !flow {
			_, end, next := d.lineOf(last)
			if last = next; end == next { // the file ends without a line break
				added = d.newline() + strings.TrimSuffix(added, d.newline())
			}
		}
		edits = append(edits, Edit{last, last, nil, []byte(added)})
	}
	return apply(d.Text, edits)
}

// appendEntry adds an entry at the end of the file.
func (d *Document) appendEntry(a Approval) ([]byte, error) {
	text, err := yaml.Marshal([]Approval{a})
	if err != nil {
		return nil, err
	}
	indent := "  "
	if list := value(d.Root, "actions"); list != nil && list.Kind == yaml.SequenceNode && list.Style&yaml.FlowStyle == 0 {
		indent = strings.Repeat(" ", list.Column-1)
	}
	after := bytes.Clone(d.Text)
	if len(after) > 0 && after[len(after)-1] != '\n' {
		after = append(after, d.newline()...)
	}
	for line := range strings.Lines(string(text)) {
		after = append(after, indent+strings.TrimSuffix(line, "\n")+d.newline()...)
	}
	return after, nil
}

// written is a text as a YAML scalar of one line.
func written(s string, flow bool) string {
	plain, err := yaml.Marshal(s)
	out := strings.TrimSuffix(string(plain), "\n")
	if err != nil || strings.Contains(out, "\n") || flow && strings.ContainsAny(out, ",[]{}") && !strings.HasPrefix(out, `"`) {
		quoted, err := json.Marshal(s) // JSON's strings are YAML's, too
		if err == nil {
			return string(quoted)
		}
	}
	return out
}
