package detector

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// TestAgentThatSpeaksForOthers: what it says of others is judged by nobody and kept as dead
// letters, the one whose name it used has no finding of it, and there is one finding about
// the agent.
func TestAgentThatSpeaksForOthers(t *testing.T) {
	s := tell(t)
	honest := parsed(t, "run 1", "step setup", "curl pipes into bash", "end")[0].Batch
	at := honest.Attributions[0]
	s.publish(t, honest)
	if got := s.judged(t, "1"); len(got) != 1 {
		t.Fatalf("findings %q", got)
	}

	liar := stream.JobAgentID("evil/corp", "666", 1, "U1")
	of := func(repository, run, execution string) *sallyportv1.EventBatch {
		b := proto.CloneOf(parsed(t, "run 2", "step setup", "python3 reads memory of worker", "end")[0].Batch)
		b.AgentId, b.Hostname = liar, "evil.example.test"
		for _, a := range b.Attributions {
			a.Repository, a.RunId, a.RunAttempt, a.ExecutionId = repository, run, 1, execution
		}
		return b
	}
	s.publish(t, of(at.GetRepository(), "2", "00000000000000aa")) // another repository
	s.publish(t, of("evil/corp", "667", "00000000000000ab"))      // another run
	s.publish(t, of("evil/corp", "666", at.GetExecutionId()))     // its own, but somebody else's execution
	s.publish(t, of("", "666", "00000000000000ac"))               // nobody's
	other := of("evil/corp", "666", "00000000000000ad")
	other.AgentId = stream.JobAgentID("evil/corp", "666", 1, "U2")
	data, err := s.encoder.Encode(nil, other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.js.Publish(t.Context(), stream.EventSubject(liar), data); err != nil { // another agent's batch
		t.Fatal(err)
	}
	s.publish(t, of("evil/corp", "666", "00000000000000ae")) // the truth
	s.waitDone(t)

	findings, err := s.js.Stream(t.Context(), stream.FindingsStream)
	if err != nil {
		t.Fatal(err)
	}
	about := make(map[string]int)
	state := findings.CachedInfo().State
	for n := state.FirstSeq; n <= state.LastSeq; n++ {
		m, err := findings.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		f, err := stream.DecodeFinding(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		a := f.GetAttribution()
		about[f.GetPolicy().GetId()+" "+a.GetRepository()+" "+a.GetRunId()]++
		if f.GetPolicy().GetId() == "agent_foreign" && (f.GetAgentId() != liar || !strings.Contains(f.GetMessage(), at.GetRepository())) {
			t.Errorf("%v", f)
		}
	}
	want := map[string]int{
		"pipe_to_interpreter " + at.GetRepository() + " 1": 1,
		"process_memory_read evil/corp 666":                1,
		"agent_foreign  ":                                  1,
	}
	if len(about) != len(want) {
		t.Errorf("findings %v, want %v", about, want)
	}
	for what, n := range want {
		if about[what] != n {
			t.Errorf("%d findings %q, want %d: %v", about[what], what, n, about)
		}
	}
	dead, err := s.js.Stream(t.Context(), stream.DeadLettersStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := dead.CachedInfo().State.Msgs; n != 5 {
		t.Errorf("%d dead letters, want 5", n)
	}
}

// A heartbeat that names another's job makes no findings there when the agent falls silent.
func TestHeartbeatForOthersIsNotHeard(t *testing.T) {
	s := tell(t)
	nc := s.js.Conn()
	heard, foreign := make(chan string, 8), make(chan error, 8)
	subscription, err := stream.SubscribeHeartbeats(nc, func(h *sallyportv1.Heartbeat) { heard <- h.GetJobs()[0].GetRepository() }, func(err error) { foreign <- err })
	if err != nil {
		t.Fatal(err)
	}
	defer subscription.Unsubscribe()
	for _, repository := range []string{"acme/bank", "acme/shop"} {
		h := &sallyportv1.Heartbeat{
			AgentId: stream.JobAgentID("acme/shop", "7", 1, "U1"), Epoch: 1,
			Jobs: []*sallyportv1.Attribution{{Repository: repository, RunId: "7", RunAttempt: 1}},
		}
		if err := stream.PublishHeartbeat(nc, h); err != nil {
			t.Fatal(err)
		}
	}
	if repository := <-heard; repository != "acme/shop" {
		t.Errorf("heard of %s", repository)
	}
	if err := <-foreign; !strings.Contains(err.Error(), "acme/bank") {
		t.Error(err)
	}
}
