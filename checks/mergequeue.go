package checks

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// carried is what was settled on the pull requests that a merge queue's group is made of, and holds
// for the group: a red check there throws them out of the queue before anybody could press a button.
type carried struct {
	// decisions by the fingerprint of the finding.
	decisions map[string]*sallyportv1.Decision
	// agreed says of jobs that nobody observed, by jobKey, who has said that it may be so.
	agreed map[string]string
}

// jobKey is the same for a job in the runs of all commits.
func jobKey(w *run, name string) string { return w.Path + "\n" + name }

// mergeGroup is GitHub's name of the event that starts runs in a merge queue; nobody else can.
const mergeGroup = "merge_group"

// maxGroup bounds the pull requests of a group that are looked at; GitHub's queues build at most 100
// at a time.
const maxGroup = 100

// queueBranch is how GitHub names the branch of a group: after its last pull request and the commit
// that it is built on, which is that of the group before it in the queue.
var queueBranch = regexp.MustCompile(`^gh-readonly-queue/.+/pr-(\d+)-([0-9a-f]{40})$`)

// groupOf says which pull request a merge queue added last to make a commit, and to which commit.
func groupOf(c *commit) (number int, base string, ok bool) {
	for _, r := range c.ordered() {
		if m := queueBranch.FindStringSubmatch(strings.TrimPrefix(r.HeadBranch, "refs/heads/")); r.Event == mergeGroup && m != nil {
			if number, err := strconv.Atoi(m[1]); err == nil {
				return number, m[2], true
			}
		}
	}
	return 0, "", false
}

// carry collects what was settled on the pull requests of a merge queue's group.
func (s *Service) carry(ctx context.Context, client *github.Client, c *commit, rules *Rules) (carried, error) {
	out := carried{decisions: make(map[string]*sallyportv1.Decision), agreed: make(map[string]string)}
	at := c
	for range maxGroup {
		number, base, ok := groupOf(at)
		if !ok {
			return out, nil
		}
		pull, err := client.PullRequest(ctx, c.Repository, number)
		if err != nil && !errors.Is(err, github.ErrNotFound) {
			return out, err
		}
		if validSHA(pull.HeadSHA) {
			if err := s.carryFrom(ctx, keyOf(c.Repository, pull.HeadSHA), rules, &out); err != nil {
				return out, err
			}
		}
		if at, err = s.commits.get(ctx, keyOf(c.Repository, base)); err != nil || at == nil {
			return out, err
		}
	}
	return out, nil
}

func (s *Service) carryFrom(ctx context.Context, key string, rules *Rules, into *carried) error {
	head, err := s.commits.get(ctx, key)
	if err != nil || head == nil {
		return err
	}
	f := s.factsOf(head, rules)
	if err := s.verdictsInto(ctx, f); err != nil {
		return err
	}
	r := s.evaluated(f)
	for _, x := range r.settled {
		if mark := x.finding.GetFingerprint(); mark != "" && detector.Stands(x.decision, into.decisions[mark]) {
			into.decisions[mark] = x.decision
		}
	}
	for i := range r.jobs {
		if who := head.Agreed[r.jobs[i].identity()]; who != "" {
			into.agreed[jobKey(r.jobs[i].run, r.jobs[i].name)] = who
		}
	}
	return nil
}
