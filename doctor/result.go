package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// State is how well something is.
type State string

// States, from good to bad.
const (
	OK   State = "ok"
	Warn State = "warn" // works, or is not needed by everybody
	Fail State = "fail" // does not work
)

// Result is what one check found.
type Result struct {
	// Check is its name, the same for ever.
	Check string `json:"check"`
	State State  `json:"state"`
	// Found is what was found, in one line.
	Found string `json:"found"`
	// Advice is what to do; empty if nothing.
	Advice string `json:"advice,omitempty"`
}

// Results are those of all checks, in order.
type Results []Result

func (r *Results) add(state State, check, found, advice string) {
	*r = append(*r, Result{Check: check, State: state, Found: found, Advice: advice})
}

// Failed says whether any check failed.
func (r Results) Failed() bool { return r.count(Fail) > 0 }

func (r Results) count(s State) (n int) {
	for _, one := range r {
		if one.State == s {
			n++
		}
	}
	return n
}

// WriteText writes the results for a person; escape makes text from outside fit for a
// terminal.
func (r Results) WriteText(out io.Writer, escape func(string) string) error {
	var text strings.Builder
	for _, one := range r {
		fmt.Fprintf(&text, "%-4s  %-14s %s\n", one.State, one.Check, escape(one.Found))
		if one.Advice != "" {
			fmt.Fprintf(&text, "      %-14s to do: %s\n", "", escape(one.Advice))
		}
	}
	fmt.Fprintf(&text, "\n%d ok, %d warnings, %d failures\n", r.count(OK), r.count(Warn), r.count(Fail))
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// WriteJSON writes the results, one object a line.
func (r Results) WriteJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	for _, one := range r {
		if err := e.Encode(one); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	return nil
}
