package ingest

import (
	"strings"
	"testing"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// TestForeignBatchMakesNoRows: what an agent says of another repository is kept as a dead
// letter, and what it says of its own is inserted.
func TestForeignBatchMakesNoRows(t *testing.T) {
	l := newLab(t)
	encoder, err := stream.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	agent := stream.JobAgentID("acme/shop", "7", 1, "U1")
	for i, repository := range []string{"acme/bank", "acme/shop"} {
		data, err := encoder.Encode(nil, &sallyportv1.EventBatch{
			AgentId: agent, Epoch: 1, FirstSequence: uint64(i + 1),
			Attributions: []*sallyportv1.Attribution{{Repository: repository, RunId: "7", RunAttempt: 1, Job: "build", ExecutionId: "0123456789abcdef"}},
			Events: []*sallyportv1.Event{{
				TimeUnixNano: uint64(time.Now().UnixNano()), Attribution: 1, Body: &sallyportv1.Event_JobStarted{JobStarted: &sallyportv1.JobStarted{}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.js.Publish(t.Context(), stream.EventSubject(agent), data); err != nil {
			t.Fatal(err)
		}
	}
	_, stop := l.start(t, nil)
	defer stop()
	for deadline := time.Now().Add(30 * time.Second); l.count(t, "SELECT count() FROM job_events") == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was inserted")
		}
	}
	if n := l.count(t, "SELECT count() FROM job_events WHERE repository != 'acme/shop'"); n != 0 {
		t.Errorf("%d rows of another repository", n)
	}
	letters := l.deadLetters(t)
	if len(letters) != 1 || !strings.Contains(letters[0].Header.Get(stream.ReasonHeader), `"acme/bank"`) {
		t.Errorf("dead letters: %v", letters)
	}
}
