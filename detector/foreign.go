package detector

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// foreignPolicy is told like a policy that was broken. The finding is of no repository:
// who made the agent lie could otherwise put findings on other people's pages.
var foreignPolicy = &sallyportv1.Policy{
	Id: "agent_foreign", Title: "An agent spoke for what it is not", Severity: sallyportv1.Severity_SEVERITY_CRITICAL, Technique: "T1036",
	Description: "The credential of this agent stands for one repository, or one run of it, and the agent published events of another one. " +
		"An agent that works as it should cannot do that: somebody has its credential, or changed it. What it said was not used; it is among the dead letters.",
	Remediation: "Look at the run that the agent was started in: a step of it took the agent's credential, or runs an agent of its own. " +
		"`sallyport dlq list` has what was said. For an enrolled machine: `sallyport enrol revoke`, and replace the machine.",
}

// decode unpacks a message of EVENTS and checks what needs more than the batch itself:
// that the agent published it on its own subject, and that an agent that is bound to
// something names no execution that is another's.
func (d *Detector) decode(m jetstream.Msg, b *sallyportv1.EventBatch) error {
	if err := d.decoder.Decode(m.Data(), b); err != nil {
		return err
	}
	if stream.PublishedSubject(m.Subject()) != stream.EventSubject(b.GetAgentId()) {
		return fmt.Errorf("%w: agent %s published on subject %s", stream.ErrMalformed, b.GetAgentId(), m.Subject())
	}
	if !stream.Bound(b.GetAgentId()) {
		return nil
	}
	for _, a := range b.GetAttributions() {
		if x := d.engine.executions[a.GetExecutionId()]; x != nil && !sameRun(x.attribution, a) {
			return fmt.Errorf("%w: %w: agent %s of repository %s, run %s names execution %s, which is of repository %s, run %s", stream.ErrMalformed, stream.ErrForeign,
				b.GetAgentId(), a.GetRepository(), a.GetRunId(), a.GetExecutionId(), x.attribution.GetRepository(), x.attribution.GetRunId())
		}
	}
	return nil
}

func sameRun(a, b *sallyportv1.Attribution) bool {
	return a.GetRepository() == b.GetRepository() && a.GetRunId() == b.GetRunId() && a.GetRunAttempt() == b.GetRunAttempt()
}

// foreignFinding returns the finding about a batch that was not used because of err; nil
// if err does not say that the agent lied. There is one for each agent, however often it
// does.
func foreignFinding(b *sallyportv1.EventBatch, err error, now time.Time) *sallyportv1.Finding {
	if !errors.Is(err, stream.ErrForeign) {
		return nil
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", foreignPolicy.GetId(), b.GetAgentId()))
	id := hex.EncodeToString(sum[:16])
	return &sallyportv1.Finding{
		Id: id, Fingerprint: id, Time: timestamppb.New(now), Policy: foreignPolicy,
		Message:   fmt.Sprintf("The agent on %.100s published what it may not: %s.", b.GetHostname(), err),
		Behaviour: &sallyportv1.Behaviour{Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_AGENT, Target: b.GetHostname()},
		AgentId:   b.GetAgentId(), Hostname: b.GetHostname(),
	}
}
