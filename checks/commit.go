package checks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/stream"
)

// commit is what is known of one: an entry of the bucket CHECKS.
type commit struct {
	Repository   string `json:"repository"`
	SHA          string `json:"sha"`
	Installation int64  `json:"installation"`
	// Began is when it was first heard of, Touched when something was last heard.
	Began   time.Time `json:"began"`
	Touched time.Time `json:"touched"`
	// Runs by their ID.
	Runs map[int64]*run `json:"runs,omitempty"`
	// Listed says that GitHub was asked for all runs on the commit.
	Listed bool `json:"listed,omitempty"`

	// Check is the check run of now; 0 before the first. Completed says that it was concluded, Said
	// what was last sent, Round counts the check runs that were begun.
	Check     int64  `json:"check,omitempty"`
	Completed bool   `json:"completed,omitempty"`
	Said      string `json:"said,omitempty"`
	Round     int    `json:"round,omitempty"`
	// Annotated are the findings that the check run has a remark for: GitHub only ever adds.
	Annotated []string `json:"annotated,omitempty"`
	// Findings are those that the check tells of.
	Findings []string `json:"findings,omitempty"`
	// Offers are the findings that buttons are about, by what the buttons are called.
	Offers map[string][]string `json:"offers,omitempty"`
	// Agreed says of jobs that nobody observed who has said that it may be so.
	Agreed map[string]string `json:"agreed,omitempty"`
	// Refused says why the last button that somebody pressed did nothing.
	Refused string `json:"refused,omitempty"`
	// Comments are the IDs of comments by pull request, Commented what they say.
	Comments  map[int]int64 `json:"comments,omitempty"`
	Commented string        `json:"commented,omitempty"`
	// Clicks are presses of buttons that are to be carried out.
	Clicks []click `json:"clicks,omitempty"`
	// Deliveries are the last webhooks that were carried out.
	Deliveries []string `json:"deliveries,omitempty"`
	// Claimer is the process that makes a check run, and Claimed since when.
	Claimer string    `json:"claimer,omitempty"`
	Claimed time.Time `json:"claimed,omitzero"`

	revision uint64 // of the entry
}

// click is somebody pressing a button.
type click struct {
	Login      string    `json:"login"`
	Identifier string    `json:"identifier"`
	Time       time.Time `json:"time"`
}

// run is a workflow run on a commit, in its last attempt.
type run struct {
	github.Run
	// Jobs of all attempts by their ID; Listed says that GitHub was asked for them after the end, and
	// listed them as ended.
	Jobs   map[int64]*github.Job `json:"jobs,omitempty"`
	Listed bool                  `json:"listed,omitempty"`
	// Ended is when its end was heard of.
	Ended time.Time `json:"ended"`
}

// maxDeliveries bounds the webhooks that are remembered of a commit.
const maxDeliveries = 64

func newCommit(repository, sha string, now time.Time) *commit {
	return &commit{Repository: repository, SHA: sha, Began: now, Touched: now, Runs: make(map[int64]*run)}
}

func keyOf(repository, sha string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(repository)))
	return hex.EncodeToString(sum[:16]) + "." + sha
}

func (c *commit) key() string { return keyOf(c.Repository, c.SHA) }

// rank orders what a run or a job can be: what comes later never comes before.
func rank(status string) int {
	switch status {
	case "completed":
		return 3
	case "in_progress":
		return 2
	default:
		return 1
	}
}

// place orders what a run can be. One of somebody from outside ends before it begins, until a person
// lets it begin.
func place(r github.Run) int {
	switch {
	case r.Status == "completed" && r.Conclusion == actionRequired:
		return 2
	case rank(r.Status) > 1:
		return 1 + rank(r.Status)
	default:
		return 1
	}
}

const actionRequired = "action_required"

// see takes what was heard of a run. What is older than what is known changes nothing.
func (c *commit) see(r github.Run, now time.Time) {
	old := c.Runs[r.ID]
	switch {
	case old == nil || r.Attempt > old.Attempt:
		c.Runs[r.ID] = &run{Run: r, Jobs: make(map[int64]*github.Job)}
		if old != nil { // what ran in earlier attempts, and what was heard of this one before it
			c.Runs[r.ID].Jobs = old.Jobs
		}
	case r.Attempt < old.Attempt || place(r) <= place(old.Run):
		return
	default:
		old.Run, old.Listed = r, false
	}
	if x := c.Runs[r.ID]; x.Status == "completed" {
		x.Ended = now
		c.Listed = false // others may have begun meanwhile, unheard
	}
}

// seeJob takes what was heard of a job.
func (c *commit) seeJob(j github.Job) {
	r := c.Runs[j.RunID]
	if r == nil {
		return // its run is asked for
	}
	old := r.Jobs[j.ID]
	if old != nil && (j.Attempt < old.Attempt || j.Attempt == old.Attempt && rank(j.Status) <= rank(old.Status)) {
		return
	}
	r.Jobs[j.ID] = &j
}

// delivered says whether a webhook was carried out before, and notes that it is now.
func (c *commit) delivered(id string) bool {
	if slices.Contains(c.Deliveries, id) {
		return true
	}
	c.Deliveries = append(c.Deliveries, id)
	c.Deliveries = c.Deliveries[max(0, len(c.Deliveries)-maxDeliveries):]
	return false
}

// over says whether a run ended and its jobs are known.
func (r *run) over() bool { return r.Status == "completed" && r.Listed }

// unlisted says whether a run ended whose jobs GitHub has not listed as ended.
func (c *commit) unlisted() bool {
	for _, r := range c.Runs {
		if r.Status == "completed" && !r.Listed {
			return true
		}
	}
	return false
}

// lastBegan is when the last run that has not ended began, or else when the commit was heard of.
func (c *commit) lastBegan() time.Time {
	began := c.Began
	for _, r := range c.Runs {
		if r.Status != "completed" && r.Began.After(began) {
			began = r.Began
		}
	}
	return began
}

// ordered are the runs in the order in which GitHub made them.
func (c *commit) ordered() []*run {
	out := make([]*run, 0, len(c.Runs))
	for _, r := range c.Runs {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *run) int { return int(a.ID - b.ID) })
	return out
}

// commits keeps them in the bucket CHECKS.
type commits struct {
	js     jetstream.JetStream
	bucket jetstream.KeyValue
	pack   *zstd.Encoder
	unpack *zstd.Decoder
}

const (
	// packed is from how many bytes on an entry is packed: those of a commit with thousands of
	// jobs would not fit into a message.
	packed = 64 << 10
	// maxUnpacked bounds what an entry is unpacked to.
	maxUnpacked = 64 << 20
)

// errConflict says that another process changed a commit's entry meanwhile: as while one version
// takes the place of another.
var errConflict = errors.New("another process works on it")

func openCommits(ctx context.Context, js jetstream.JetStream) (*commits, error) {
	bucket, err := js.KeyValue(ctx, stream.ChecksBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", stream.ChecksBucket, err)
	}
	pack, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("new zstd encoder: %w", err)
	}
	unpack, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked))
	if err != nil {
		return nil, fmt.Errorf("new zstd decoder: %w", err)
	}
	return &commits{js, bucket, pack, unpack}, nil
}

// get returns nil if there is none.
func (s *commits) get(ctx context.Context, key string) (*commit, error) {
	entry, err := s.bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get commit %s: %w", key, err)
	}
	data := entry.Value()
	if len(data) > 0 && data[0] != '{' {
		if data, err = s.unpack.DecodeAll(data, nil); err != nil {
			return nil, fmt.Errorf("unpack commit %s: %w", key, err)
		}
	}
	c := &commit{revision: entry.Revision()}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("decode commit %s: %w", key, err)
	}
	if c.Runs == nil {
		c.Runs = make(map[int64]*run)
	}
	for _, r := range c.Runs {
		if r.Jobs == nil {
			r.Jobs = make(map[int64]*github.Job)
		}
	}
	return c, nil
}

// put keeps a commit in the place of what was read. Errors wrap errConflict if something else is
// there by now.
func (s *commits) put(ctx context.Context, c *commit) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode commit %s: %w", c.key(), err)
	}
	if len(data) > packed {
		data = s.pack.EncodeAll(data, nil)
	}
	var revision uint64
	if c.revision == 0 {
		revision, err = s.bucket.Create(ctx, c.key(), data)
	} else {
		revision, err = s.bucket.Update(ctx, c.key(), data, c.revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return fmt.Errorf("keep commit %s of %s: %w", c.SHA, c.Repository, errConflict)
	}
	if err != nil {
		return fmt.Errorf("keep commit %s of %s: %w", c.SHA, c.Repository, err)
	}
	c.revision = revision
	return nil
}

// keys lists all.
func (s *commits) keys(ctx context.Context) ([]string, error) {
	keys, err := stream.Keys(ctx, s.js, stream.ChecksBucket)
	if err != nil {
		return nil, fmt.Errorf("list commits: %w", err)
	}
	return keys, nil
}
