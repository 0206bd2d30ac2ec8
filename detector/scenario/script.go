package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Script is what a file tells: runs of jobs, in order.
type Script struct {
	// Name of the file, for messages.
	Name string
	// Runs in the order in which they ended.
	Runs []*Run
}

// Run is one run of a job with what is expected of it.
type Run struct {
	// Line on which it begins, from 1.
	Line int
	// Attribution of the run, without a step.
	Attribution *sallyportv1.Attribution
	// Batch is everything that happened, in one batch. Pieces cuts it.
	Batch *sallyportv1.EventBatch
	// Expectations, in the order of the lines.
	Expectations []Expectation
}

// Expectation is one line that begins with expect or baseline.
type Expectation struct {
	// Line in the file, from 1.
	Line int
	// Words of the line.
	Words []string
}

// maxRuns bounds the runs of a script.
const maxRuns = 10_000

// Parse reads a script. Errors begin with NAME:LINE.
func Parse(name, text string) (*Script, error) {
	p := &parser{script: &Script{Name: name}, sequence: 1, process: 100, now: start, repository: "acme/shop", workflow: "CI", job: "build"}
	for i, line := range strings.Split(text, "\n") {
		words, err := split(line)
		if err == nil && len(words) > 0 {
			err = p.sentence(i+1, words)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	if p.open {
		return nil, fmt.Errorf("%s:%d: run %s has no end", name, p.told[0].line, p.runs[0])
	}
	return p.script, nil
}

// Findings returns the expected findings of a run as "POLICY STEP", ordered, and whether
// the run says anything about findings.
func (r *Run) Findings() (want []string, said bool) {
	for _, e := range r.Expectations {
		if e.Words[0] != "expect" || e.Words[1] == "verdict" {
			continue
		}
		said = true
		if e.Words[1] != "none" {
			want = append(want, strings.Join(e.Words[1:], " "))
		}
	}
	slices.Sort(want)
	return want, said
}

// Verdict returns the expected verdict, for instance "clean", and its line; empty if the
// run says nothing about it.
func (r *Run) Verdict() (string, int) {
	for _, e := range r.Expectations {
		if e.Words[0] == "expect" && e.Words[1] == "verdict" {
			return e.Words[2], e.Line
		}
	}
	return "", 0
}

// Baseline returns what the baseline is expected to come to after the run: "RUNS
// stable|learning ENDPOINTS", and the line; empty if the run says nothing about it.
func (r *Run) Baseline() (string, int) {
	for _, e := range r.Expectations {
		if e.Words[0] == "baseline" {
			return strings.Join(e.Words[1:], " "), e.Line
		}
	}
	return "", 0
}

// Pieces cuts the run's batch into batches of at most n events.
func (r *Run) Pieces(n int) []*sallyportv1.EventBatch {
	var out []*sallyportv1.EventBatch
	first := r.Batch.GetFirstSequence()
	for events := range slices.Chunk(r.Batch.GetEvents(), n) {
		out = append(out, &sallyportv1.EventBatch{
			AgentId: r.Batch.GetAgentId(), Epoch: r.Batch.GetEpoch(), FirstSequence: first, Hostname: r.Batch.GetHostname(),
			Attributions: r.Batch.GetAttributions(), Processes: r.Batch.GetProcesses(), Events: events,
		})
		first += uint64(len(events))
	}
	return out
}

// split cuts a line into words; double quotes hold words together, # begins a comment.
func split(line string) ([]string, error) {
	var words []string
	var b strings.Builder
	quoted, inWord := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, inWord = !quoted, true
		case quoted:
			b.WriteRune(r)
		case r == '#' && !inWord:
			return words, nil
		case r == ' ' || r == '\t' || r == '\r':
			if inWord {
				words, inWord = append(words, b.String()), false
				b.Reset()
			}
		default:
			b.WriteRune(r)
			inWord = true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if inWord {
		words = append(words, b.String())
	}
	return words, nil
}

// told is a line that belongs to the runs being told.
type told struct {
	line  int
	words []string
}

type parser struct {
	script                    *Script
	repository, workflow, job string

	open       bool
	runs       []string // being told
	on, ref    string
	protected  bool
	told       []told
	sequence   uint64
	process    uint64
	now        int64
	executions int
}

func (p *parser) sentence(line int, words []string) error {
	switch words[0] {
	case "job":
		if p.open || len(words) != 4 {
			return errors.New("job OWNER/NAME WORKFLOW JOB stands between runs")
		}
		p.repository, p.workflow, p.job = words[1], words[2], words[3]
		return nil
	case "run":
		if p.open {
			return fmt.Errorf("run %s has no end", p.runs[0])
		}
		return p.begin(line, words[1:])
	case "expect", "baseline":
		return p.expect(line, words)
	case "end", "stopped":
		if !p.open || len(words) != 1 {
			return fmt.Errorf("%s ends a run", words[0])
		}
		p.told = append(p.told, told{line, words})
		p.open = false
		for _, id := range p.runs {
			r, err := p.tell(id)
			if err != nil {
				return err
			}
			p.script.Runs = append(p.script.Runs, r)
		}
		return nil
	}
	if !p.open {
		return fmt.Errorf("%q: no run was begun", strings.Join(words, " "))
	}
	p.told = append(p.told, told{line, words})
	return nil
}

// begin reads: run ID [to ID] [on EVENT] [ref REF] [protected].
func (p *parser) begin(line int, words []string) error {
	if len(words) == 0 {
		return errors.New("run ID [to ID] [on EVENT] [ref REF] [protected]")
	}
	p.runs, p.on, p.ref, p.protected, p.open = []string{words[0]}, "push", "refs/heads/main", false, true
	p.told = []told{{line, nil}}
	for words = words[1:]; len(words) > 0; words = words[1:] {
		if words[0] == "protected" {
			p.protected = true
			continue
		}
		if len(words) < 2 {
			return fmt.Errorf("%s: what?", words[0])
		}
		switch words[0] {
		case "on":
			p.on = words[1]
		case "ref":
			p.ref = words[1]
		case "to":
			first, err1 := strconv.Atoi(p.runs[0])
			last, err2 := strconv.Atoi(words[1])
			if err1 != nil || err2 != nil || last < first || last-first >= maxRuns {
				return fmt.Errorf("run %s to %s: no such runs", p.runs[0], words[1])
			}
			for id := first + 1; id <= last; id++ {
				p.runs = append(p.runs, strconv.Itoa(id))
			}
		default:
			return fmt.Errorf("run ... %s: there is on EVENT, ref REF and protected", words[0])
		}
		words = words[1:]
	}
	return nil
}

// expect notes an expectation of the runs told last.
func (p *parser) expect(line int, words []string) error {
	if p.open || len(p.script.Runs) == 0 {
		return fmt.Errorf("%s follows the end of a run", words[0])
	}
	ok := len(words) == 4
	if words[0] == "expect" {
		ok = len(words) == 2 && words[1] == "none" || len(words) == 3
	} else if ok {
		_, err1 := strconv.ParseUint(words[1], 10, 32)
		_, err2 := strconv.ParseUint(words[3], 10, 32)
		ok = err1 == nil && err2 == nil && (words[2] == "stable" || words[2] == "learning")
	}
	if !ok {
		return errors.New("expect none, expect POLICY STEP, expect verdict clean|new_behaviour|threat, or baseline RUNS stable|learning ENDPOINTS")
	}
	runs := p.script.Runs
	if words[0] == "expect" {
		runs = runs[len(runs)-len(p.runs):]
	} else {
		runs = runs[len(runs)-1:] // of the last only: a baseline grows
	}
	for _, r := range runs {
		r.Expectations = append(r.Expectations, Expectation{line, words})
	}
	return nil
}
