package spooled

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// ErrNotTheirs is wrapped by the refusal of a batch that speaks of something else, or for
// somebody else, than the Rules allow.
var ErrNotTheirs = errors.New("it may not speak for that")

// AnyAgent in Rules.Agents is every agent.
const AnyAgent = "*"

// Rules say what is believed. Each job can upload an artifact with any content to its own
// repository: files are evidence of nothing but where they were found.
type Rules struct {
	// Repository, OWNER/NAME, is the only one that batches may speak of; any if empty.
	Repository string
	// Runs are the only runs of it; any if empty.
	Runs []string
	// Agents are believed though their identity does not stand for a run of Repository. Their
	// name could be taken by anybody, and what is sent under it counts as theirs.
	Agents []string
}

// speaks checks what a batch speaks of.
func (r Rules) speaks(b *sallyportv1.EventBatch) error {
	if r.Repository == "" {
		return nil
	}
	for _, a := range b.GetAttributions() {
		if !strings.EqualFold(a.GetRepository(), r.Repository) {
			return fmt.Errorf("%w: it speaks of repository %.120q", ErrNotTheirs, a.GetRepository())
		}
		if len(r.Runs) > 0 && !slices.Contains(r.Runs, a.GetRunId()) {
			return fmt.Errorf("%w: it speaks of run %.40q", ErrNotTheirs, a.GetRunId())
		}
	}
	return nil
}

// maxAttempts bounds the attempts of a run among which an agent's is looked for. GitHub allows
// a run to be started again 50 times.
const maxAttempts = 100

// believes says whether an agent is who it says. proven: a batch of it named a job that its
// identity stands for, and that speaks allows.
func (r Rules) believes(agentID string, proven bool) error {
	if r.Repository == "" || slices.Contains(r.Agents, AnyAgent) || slices.Contains(r.Agents, agentID) {
		return nil
	}
	if !stream.BoundToRun(agentID) {
		return fmt.Errorf("%w: nothing ties agent %s to a run of %s, so that anybody could have taken its name; --agent %[2]s believes it", ErrNotTheirs, agentID, r.Repository)
	}
	if proven {
		return nil
	}
	for _, run := range r.Runs {
		for attempt := range uint32(maxAttempts) {
			if stream.MaySpeakFor(agentID, &sallyportv1.Attribution{Repository: r.Repository, RunId: run, RunAttempt: attempt + 1}) {
				return nil
			}
		}
	}
	if len(r.Runs) == 0 {
		return fmt.Errorf("%w: none of the batches of agent %s names a job, so that --run has to say of which run it is", ErrNotTheirs, agentID)
	}
	return fmt.Errorf("%w: agent %s is of another run", ErrNotTheirs, agentID)
}
