package spooled_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sallyport-ci/sallyport/agent"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording/pipeline"
	"github.com/sallyport-ci/sallyport/spooled"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// TestAgentSentItToo: an agent leaves batches in its spool, somebody copies that, and then the
// agent sends a part after all. All of the copy is sent, and the stream has each batch once.
func TestAgentSentItToo(t *testing.T) {
	const all, part = 20, 7
	dir := t.TempDir()
	spool := filepath.Join(dir, "spool")
	id := stream.JobAgentID("acme/shop", "4711", 1, "UAKEY")
	p, err := agent.NewPublisher(agent.PublisherConfig{AgentID: id, Dir: spool}) // no connection
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(all) {
		err := p.Publish(t.Context(), &sallyportv1.EventBatch{
			AgentId: id, Epoch: 7, FirstSequence: 2*i + 1, Attributions: []*sallyportv1.Attribution{{Repository: "acme/shop", RunId: "4711", RunAttempt: 1}},
			Events: []*sallyportv1.Event{{TimeUnixNano: uint64(time.Now().UnixNano()), Attribution: 1}, {}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	p.Close()
	left, err := filepath.Glob(filepath.Join(spool, "*"))
	if err != nil || len(left) != all {
		t.Fatalf("%d files in the spool, %v", len(left), err)
	}
	artifact := filepath.Join(dir, "artifact")
	if err := os.CopyFS(artifact, os.DirFS(spool)); err != nil {
		t.Fatal(err)
	}
	for _, path := range left[part:] { // the agent is not there any more when it would be their turn
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}

	_, js := natstest.StartDeclared(t, natsserver.Config{})
	p, err = agent.NewPublisher(agent.PublisherConfig{AgentID: id, Dir: spool, Conn: func() *nats.Conn { return js.Conn() }})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if n := p.Waiting(); n != 0 {
		t.Fatalf("%d batches were not sent", n)
	}

	for _, known := range []uint64{part, all} {
		found, err := spooled.Examine(t.Context(), []string{artifact}, spooled.Rules{Repository: "acme/shop", Runs: []string{"4711"}})
		if err != nil || len(found.Refused) > 0 || len(found.Batches) != all {
			t.Fatalf("%d batches, refused %v, %v", len(found.Batches), found.Refused, err)
		}
		player, err := pipeline.NewPlayer(pipeline.PlayConfig{JetStream: js, Speed: pipeline.AsFast})
		if err != nil {
			t.Fatal(err)
		}
		for i := range found.Batches {
			b, err := found.Read(&found.Batches[i])
			if err == nil {
				err = player.Send(t.Context(), b)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := player.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		found.Close()
		if c := player.Counts(); c.Batches != all || c.Events != 2*all || c.Known != known {
			t.Errorf("sent %+v, want %d known", c, known)
		}
		s, err := js.Stream(t.Context(), stream.EventsStream)
		if err != nil {
			t.Fatal(err)
		}
		if n := s.CachedInfo().State.Msgs; n != all {
			t.Errorf("the stream has %d batches, want %d", n, all)
		}
	}
}
