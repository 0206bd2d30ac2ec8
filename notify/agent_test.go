package notify

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

// TestFindingOnAnAgent: one that concerns no process, and perhaps no job.
func TestFindingOnAnAgent(t *testing.T) {
	f := &sallyportv1.Finding{
		Id: strings.Repeat("a", 32), Time: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
		Policy: &sallyportv1.Policy{
			Id: "agent_killed", Title: "The agent was killed", Severity: sallyportv1.Severity_SEVERITY_MEDIUM,
			Description: "It ended without a word.", Remediation: "Look in the machine's log.", Technique: "T1562.001",
		},
		Message:   "The agent on runner-1 ended without a word.",
		Behaviour: &sallyportv1.Behaviour{Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_AGENT, Target: "runner-1"},
		AgentId:   "a1", Hostname: "runner-1",
	}
	alert := Alert{Items: []Item{{Finding: f}}}
	var out bytes.Buffer
	people, err := NewTerminal(&out, TerminalOptions{Width: 100})
	if err != nil {
		t.Fatal(err)
	}
	if err := people.Deliver(t.Context(), alert); err != nil {
		t.Fatal(err)
	}
	shown := slackfake.Render(posted(t, alert), slackfake.RenderOptions{Width: 100})
	for name, text := range map[string]string{"terminal": out.String(), "Slack": shown} {
		for _, words := range []string{"The agent was killed", "runner-1 ended without a word", "Look in the machine's log"} {
			if !strings.Contains(text, words) {
				t.Errorf("%s does not say %q:\n%s", name, words, text)
			}
		}
		for _, words := range []string{"pid 0", "baseline", "Process  "} {
			if strings.Contains(text, words) {
				t.Errorf("%s says %q:\n%s", name, words, text)
			}
		}
	}
}
