package score

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// WriteFacts writes facts as JSON, one action a line.
func WriteFacts(out io.Writer, all []*Facts) error {
	for _, f := range all {
		text, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("write facts of %s: %w", f.Action, err)
		}
		if _, err := out.Write(append(text, '\n')); err != nil {
			return fmt.Errorf("write facts: %w", err)
		}
	}
	return nil
}

// ReadFacts reads what WriteFacts wrote. It is strict: a fact under another name would be one
// that nobody learned.
func ReadFacts(text []byte) ([]*Facts, error) {
	var out []*Facts
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		f := &Facts{}
		if err := d.Decode(f); err != nil {
			return nil, fmt.Errorf("read facts: line %d: %w", n, err)
		}
		if f.Action == "" || f.Ref == "" || f.Learned.IsZero() {
			return nil, fmt.Errorf("read facts: line %d: action, ref or learned is missing", n)
		}
		out = append(out, f)
	}
	return out, nil
}
