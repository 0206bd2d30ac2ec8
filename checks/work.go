package checks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// work brings the check of one commit up to date, and says when it is to be looked at again.
func (s *Service) work(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	changed, again, err := s.round(ctx, key)
	now := s.config.Now()
	s.mu.Lock()
	if err == nil {
		delete(s.failures, key)
	} else {
		s.failures[key]++
	}
	failed := s.failures[key]
	s.mu.Unlock()
	switch {
	case err == nil:
		s.trouble.Store(nil)
		s.rounds.WithLabelValues(map[bool]string{true: "changed", false: "unchanged"}[changed]).Inc()
		if !again.IsZero() {
			s.queue.add(key, again)
		}
	case errors.Is(err, context.Canceled):
		s.queue.add(key, now) // for whoever comes after
	case errors.Is(err, errConflict):
		s.rounds.WithLabelValues("failed").Inc()
		s.log.Info("another process works on a check, too; there should be one", "key", key)
		s.queue.add(key, now.Add(retryConflict))
	default:
		s.rounds.WithLabelValues("failed").Inc()
		said := err.Error()
		s.trouble.Store(&said)
		gone := errors.Is(err, github.ErrNotFound) || errors.Is(err, github.ErrForbidden) || errors.Is(err, github.ErrRefused)
		s.log.Error("a check is not up to date", "key", key, "error", err, "tries", failed)
		if gone && failed >= 5 {
			return // the App is not there any more, or may not do it; a webhook tries again
		}
		s.queue.add(key, now.Add(min(time.Duration(failed*failed)*time.Second, 5*time.Minute)))
	}
}

// verdictsKept is for how long after something was last heard of a commit the verdicts on its jobs
// are surely there.
const verdictsKept = stream.VerdictWindow - 24*time.Hour

// retryConflict is how long another process is given.
const retryConflict = 500 * time.Millisecond

// round is one of them.
func (s *Service) round(ctx context.Context, key string) (changed bool, again time.Time, err error) {
	keys, letters, err := s.letters(ctx, key)
	if err != nil {
		return false, again, err
	}
	c, err := s.commits.get(ctx, key)
	if err != nil {
		return false, again, err
	}
	if c == nil {
		if len(letters) == 0 {
			return false, again, nil
		}
		c = newCommit(letters[0].Repository, letters[0].HeadSHA, s.config.Now())
	}
	for _, l := range letters {
		s.read(c, l)
	}
	if len(letters) == 0 && c.Completed && s.config.Now().Sub(c.Touched) > verdictsKept {
		return false, again, nil // what its jobs did is forgotten: what was said of it stands
	}
	// What webhooks said is in the commit's entry before they go.
	if len(letters) > 0 {
		if err := s.commits.put(ctx, c); err != nil {
			return false, again, err
		}
		s.index(c)
	}
	for _, k := range keys {
		if err := stream.RemoveKey(ctx, s.config.JetStream, stream.ChecksBucket, k); err != nil {
			return false, again, err
		}
	}
	before, err := json.Marshal(c)
	if err != nil {
		return false, again, fmt.Errorf("encode commit: %w", err)
	}
	s.mu.Lock()
	if s.unsure[key] {
		c.Said = "" // what stands at GitHub may be older than what was said last
	}
	s.mu.Unlock()
	client, err := s.clientOf(ctx, c)
	if err != nil {
		return false, again, err
	}
	again, err = s.bring(ctx, client, c)
	after, encodeErr := json.Marshal(c)
	if encodeErr != nil {
		return false, again, errors.Join(err, encodeErr)
	}
	if changed = string(before) != string(after); changed {
		// What was done is kept, also if the time is over.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
		defer cancel()
		err = errors.Join(err, s.commits.put(ctx, c))
		s.index(c)
	}
	s.mu.Lock()
	if errors.Is(err, errConflict) {
		s.unsure[key] = true
	} else if err == nil {
		delete(s.unsure, key)
	}
	s.mu.Unlock()
	return changed, again, err
}

// read takes what a webhook says.
func (s *Service) read(c *commit, l letter) {
	if c.delivered(l.Delivery) {
		return
	}
	c.Touched = s.config.Now()
	if l.Installation != 0 {
		c.Installation = l.Installation
	}
	switch {
	case l.Run != nil:
		c.see(*l.Run, l.Received)
	case l.Job != nil:
		c.seeJob(*l.Job)
		if r := c.Runs[l.Job.RunID]; r == nil || l.Job.Attempt > r.Attempt {
			c.Listed = false // a run, or an attempt, that was not heard of
		}
	case l.Event == "check_run" && l.Action == "requested_action":
		c.Clicks = append(c.Clicks, click{l.Sender, l.Button, l.Received})
	case l.Event == "pull_request":
		c.Commented = "" // another one may have the same head, or this one had another meanwhile
	case l.Event == "check_run", l.Event == "check_suite":
		if c.Completed { // otherwise it is what there will be
			c.begin()
		}
		c.Listed = false
	}
}

// begin has the next thing that is said be a check run of its own, which takes the place of the one
// before.
func (c *commit) begin() {
	c.Check, c.Completed, c.Said, c.Annotated, c.Refused = 0, false, "", nil, ""
	c.Round++
}

// GitHub may list jobs as not ended for a while after their run did: how long that is waited for,
// and how often it is asked.
const (
	listPatience = 30 * time.Second
	askAgain     = time.Second
)

// longestPause is how long a run may be silent at most before GitHub is asked about it.
const longestPause = time.Hour

// pause is how long a commit's runs may be silent before GitHub is asked about them. It grows with
// their age: a run may wait a month for somebody to approve its deployment.
func (s *Service) pause(c *commit, now time.Time) time.Duration {
	return max(s.config.Resync, min(now.Sub(c.lastBegan())/8, longestPause))
}

// ask asks GitHub for what webhooks may have missed.
func (s *Service) ask(ctx context.Context, client *github.Client, c *commit) error {
	now := s.config.Now()
	asked := false
	var lost []*run
	for _, r := range c.Runs {
		if r.Status != "completed" && now.Sub(c.Touched) >= s.pause(c, now) {
			asked = true
			fresh, err := client.Run(ctx, c.Repository, r.ID)
			if errors.Is(err, github.ErrNotFound) {
				lost, c.Listed = append(lost, r), false
				continue
			}
			if err != nil {
				return err
			}
			c.see(fresh, now)
		}
	}
	if asked {
		c.Touched = now
	}
	if !c.Listed {
		list, err := client.RunsOf(ctx, c.Repository, c.SHA)
		if err != nil {
			return err
		}
		for _, r := range list {
			c.see(r, now)
		}
		c.Listed = true
		for _, r := range lost {
			// GitHub still answers for the repository: somebody deleted the run.
			if !slices.ContainsFunc(list, func(x github.Run) bool { return x.ID == r.ID }) {
				r.Status, r.Conclusion, r.Ended, r.Listed = "completed", "deleted", now, true
			}
		}
	}
	for _, r := range c.Runs {
		if r.Status != "completed" || r.Listed {
			continue
		}
		jobs, err := client.Jobs(ctx, c.Repository, r.ID)
		if errors.Is(err, github.ErrNotFound) { // deleted: what was heard of it stands
			r.Listed = true
			continue
		}
		if err != nil {
			return err
		}
		r.Listed = true
		for _, j := range jobs {
			if old := r.Jobs[j.ID]; old == nil || rank(j.Status) >= rank(old.Status) {
				r.Jobs[j.ID] = &j
			}
			// The list may be behind the end of the run.
			if r.Jobs[j.ID].Status != "completed" && now.Before(r.Ended.Add(listPatience)) {
				r.Listed = false
			}
		}
	}
	return nil
}

// bring brings a commit's check, and comment, to where they should be.
func (s *Service) bring(ctx context.Context, client *github.Client, c *commit) (again time.Time, err error) {
	if err := s.ask(ctx, client, c); err != nil {
		return again, err
	}
	s.index(c) // before what there is is read: what comes after that is heard of
	rules, err := s.rulesOf(ctx, client, c)
	if err != nil {
		return again, err
	}
	f := s.factsOf(c, rules)
	if err := s.verdictsInto(ctx, f); err != nil {
		return again, err
	}
	for _, r := range c.Runs {
		s.indexFindings(c, f.verdicts[r.ID])
		if slices.ContainsFunc(f.verdicts[r.ID], func(v *sallyportv1.Verdict) bool { return attemptOf(v.GetAttribution()) > r.Attempt }) {
			// It was run again, and GitHub's word of it was lost.
			fresh, err := client.Run(ctx, c.Repository, r.ID)
			if err != nil && !errors.Is(err, github.ErrNotFound) {
				return again, err
			}
			if err == nil {
				c.see(fresh, s.config.Now())
			}
		}
	}
	r := s.evaluated(f)
	if _, _, queued := groupOf(c); queued && !r.clear() {
		if f.carried, err = s.carry(ctx, client, c, rules); err != nil {
			return again, err
		}
		r = s.evaluated(f)
	}
	for _, x := range r.byFile {
		by := fmt.Sprintf("%s, by %s", x.approval.Owner, RulesFile)
		if threat(x.finding) || x.approval.Until != "" { // what a baseline holds has no last day
			err = s.resolve(ctx, x.finding, outcomeExpected, by, x.approval.Reason)
		} else {
			err = s.approve(ctx, x.finding, false, by, x.approval.Reason, false)
		}
		if errors.Is(err, detector.ErrInvalid) { // as a baseline that is full: it is settled all the same
			s.log.Warn("what the repository approves does not go into the baseline", "repo", c.Repository, "finding", x.finding.GetId(), "error", err)
			err = nil
		}
		if err != nil {
			return again, err
		}
	}
	for len(c.Clicks) > 0 {
		refused, err := s.carryOut(ctx, c, c.Clicks[0], r, rules)
		if err != nil {
			return again, err
		}
		c.Clicks, c.Refused = c.Clicks[1:], refused
		if err := s.catchUp(ctx); err != nil {
			return again, err
		}
		r = s.evaluated(f)
	}
	if len(r.byFile) > 0 {
		if err := s.catchUp(ctx); err != nil {
			return again, err
		}
		r = s.evaluated(f)
	}
	if err := s.say(ctx, client, c, r, rules); err != nil {
		return again, err
	}
	again = r.again
	if c.unlisted() {
		if soon := s.config.Now().Add(askAgain); again.IsZero() || soon.Before(again) {
			again = soon
		}
	}
	if !c.Completed {
		now := s.config.Now()
		if later := now.Add(s.pause(c, now)); now.Sub(c.lastBegan()) < longestRun && (again.IsZero() || later.Before(again)) {
			again = later
		}
	}
	return again, nil
}

// catchUp takes the decisions that were just written down, before the watch brings them.
func (s *Service) catchUp(ctx context.Context) error {
	list, err := s.config.Decisions.List(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range list {
		if d.GetFindingId() != "" && detector.Stands(d, s.decisions[d.GetFindingId()]) {
			s.decisions[d.GetFindingId()] = d
		}
	}
	return nil
}

func (s *Service) factsOf(c *commit, rules *Rules) facts {
	return facts{commit: c, rules: rules, verdicts: make(map[int64][]*sallyportv1.Verdict), grace: s.config.Grace, patience: s.config.Patience}
}

// verdictsInto reads those on the jobs of a commit's runs.
func (s *Service) verdictsInto(ctx context.Context, f facts) error {
	for _, r := range f.commit.Runs {
		var err error
		if f.verdicts[r.ID], err = s.config.Verdicts.OfRun(ctx, f.commit.Repository, strconv.FormatInt(r.ID, 10)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) evaluated(f facts) *result {
	f.now = s.config.Now()
	f.decisions = make(map[string]*sallyportv1.Decision)
	s.mu.Lock()
	for _, list := range f.verdicts {
		for _, v := range list {
			for _, id := range v.GetFindingIds() {
				if d := s.decisions[id]; d != nil {
					f.decisions[id] = d
				}
			}
		}
	}
	s.mu.Unlock()
	return evaluate(f)
}

// maxOffers bounds the sets of findings that buttons may still be pressed for.
const maxOffers = 8

// maxShown bounds the findings that are kept of a commit, and that its buttons are about: whoever
// makes more does not get a check that cannot be kept.
const maxShown = 4000

// shown are the identities of the open findings, the severest first.
func (r *result) shown() []string {
	out := make([]string, 0, min(len(r.open), maxShown))
	for _, f := range r.open[:cap(out)] {
		out = append(out, f.GetId())
	}
	return out
}

// say says it at GitHub, if it is something else than before.
func (s *Service) say(ctx context.Context, client *github.Client, c *commit, r *result, rules *Rules) error {
	c.Findings = r.shown()
	for _, x := range append(slices.Clone(r.settled), r.byFile...) {
		if len(c.Findings) < maxShown {
			c.Findings = append(c.Findings, x.finding.GetId())
		}
	}
	if c.Completed && r.conclusion == running {
		c.begin()
	}
	check := r.checkRun(c, rules, s.config.DetailsURL)
	check.ExternalID = fmt.Sprintf("%s/%d", c.SHA[:12], c.Round)
	said := digestOf(check)
	if said == c.Said && c.Check != 0 {
		return s.commentOn(ctx, client, c, r, rules)
	}
	if r.conclusion != running {
		check.Completed = s.config.Now()
		annotated, err := s.annotate(ctx, client, c, r)
		if err != nil {
			return err
		}
		check.Annotations = annotated
	}
	switch err := s.send(ctx, client, c, check); {
	case errors.Is(err, github.ErrNotFound) && c.Check != 0: // GitHub deletes old ones
		c.begin()
		check.ExternalID = fmt.Sprintf("%s/%d", c.SHA[:12], c.Round)
		if err := s.send(ctx, client, c, check); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	if !c.Completed && r.conclusion != running {
		s.concluded(c, r)
	}
	c.Said, c.Completed = said, r.conclusion != running
	for _, f := range r.shown() {
		if r.conclusion != running && len(c.Annotated) < maxRemarks && !slices.Contains(c.Annotated, f) {
			c.Annotated = append(c.Annotated, f)
		}
	}
	if len(check.Actions) > 0 {
		all := len(r.offered())
		for _, ids := range c.Offers {
			all += len(ids)
		}
		if c.Offers == nil || len(c.Offers) >= maxOffers || all > maxShown {
			c.Offers = make(map[string][]string)
		}
		c.Offers[r.offer()] = r.offered()
	}
	return s.commentOn(ctx, client, c, r, rules)
}

// send makes or changes the check run. Of what GitHub does not take it leaves out what can be left
// out: a check without remarks, or without its text, is better than one that is not true.
func (s *Service) send(ctx context.Context, client *github.Client, c *commit, check github.CheckRun) error {
	try := func() error {
		if c.Check == 0 {
			return s.create(ctx, client, c, check)
		}
		check.ID = c.Check
		return client.UpdateCheckRun(ctx, c.Repository, check)
	}
	err := try()
	if errors.Is(err, github.ErrRefused) && len(check.Annotations) > 0 {
		s.log.Warn("GitHub does not take the remarks", "repo", c.Repository, "commit", c.SHA, "error", err)
		check.Annotations = nil
		err = try()
	}
	if errors.Is(err, github.ErrRefused) {
		s.log.Warn("GitHub does not take the text", "repo", c.Repository, "commit", c.SHA, "error", err)
		check.Summary, check.Text = "GitHub did not take the whole text. `sallyport findings` lists what there is.\n", ""
		err = try()
	}
	return err
}

// create makes the check run, or takes the one that an earlier try made.
func (s *Service) create(ctx context.Context, client *github.Client, c *commit, check github.CheckRun) error {
	list, err := client.CheckRuns(ctx, c.Repository, c.SHA, Name)
	if err != nil {
		return err
	}
	for _, old := range list {
		if old.ExternalID == check.ExternalID {
			c.Check, check.ID = old.ID, old.ID
			return client.UpdateCheckRun(ctx, c.Repository, check)
		}
	}
	// GitHub takes any number of the same name: who makes it says so before.
	if now := s.config.Now(); c.Claimer != "" && c.Claimer != s.id && now.Sub(c.Claimed) < callTimeout {
		return fmt.Errorf("make a check of %s on %s: %w", c.Repository, c.SHA, errConflict)
	} else if c.Claimer != s.id {
		c.Claimer, c.Claimed = s.id, now
		if err := s.commits.put(ctx, c); err != nil {
			return err
		}
	}
	check.Started = c.Began
	if c.Check, err = client.CreateCheckRun(ctx, c.Repository, check); c.Check != 0 {
		c.Claimer, c.Claimed = "", time.Time{}
	}
	return err
}

// concluded measures and logs.
func (s *Service) concluded(c *commit, r *result) {
	var ended time.Time
	for _, x := range c.Runs {
		if x.Ended.After(ended) {
			ended = x.Ended
		}
	}
	took := time.Duration(0)
	if !ended.IsZero() {
		took = s.config.Now().Sub(ended)
		s.delay.Observe(took.Seconds())
	}
	s.log.Info("check", "repo", c.Repository, "commit", c.SHA, "conclusion", r.conclusion, "title", r.title, "findings", len(r.open), "took", took.Round(time.Millisecond).String())
}

// digestOf is the digest of what a check says.
func digestOf(check github.CheckRun) string {
	data, err := json.Marshal(check)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:12])
}

// maxRemarks bounds the remarks of a check run.
const maxRemarks = 100

// annotate makes the remarks about findings that have none yet.
func (s *Service) annotate(ctx context.Context, client *github.Client, c *commit, r *result) ([]github.Annotation, error) {
	texts := make(map[string][]byte)
	var out []github.Annotation
	for _, f := range r.open {
		if slices.Contains(c.Annotated, f.GetId()) || len(c.Annotated)+len(out) >= maxRemarks {
			continue
		}
		id, err := strconv.ParseInt(f.GetAttribution().GetRunId(), 10, 64)
		run := c.Runs[id]
		if err != nil || run == nil || !strings.HasPrefix(run.Path, ".github/") {
			continue
		}
		text, ok := texts[run.Path]
		if !ok {
			if text, err = workflowOf(ctx, client, c, run); err != nil {
				return nil, err
			}
			texts[run.Path] = text
		}
		if a, ok := annotation(f, run.Path, text); ok {
			out = append(out, a)
		}
	}
	return out, nil
}

// workflowOf is the text of a run's workflow as it is in the commit; empty if it cannot be read, or is
// another than the one that ran.
func workflowOf(ctx context.Context, client *github.Client, c *commit, w *run) ([]byte, error) {
	read := func(at string) ([]byte, error) {
		text, err := client.File(ctx, c.Repository, at, w.Path)
		if errors.Is(err, github.ErrNotFound) || errors.Is(err, github.ErrTooLarge) || errors.Is(err, github.ErrForbidden) {
			return nil, nil
		}
		return text, err
	}
	text, err := read(c.SHA)
	if err != nil || w.Event != "pull_request_target" {
		return text, err
	}
	// What runs is the default branch's, and the commit is whoever's.
	ran, err := read("")
	if err != nil || !bytes.Equal(text, ran) {
		return nil, err
	}
	return text, nil
}

// commentOn puts what the check says into a comment, where the repository wants one.
func (s *Service) commentOn(ctx context.Context, client *github.Client, c *commit, r *result, rules *Rules) error {
	if !rules.Check.Comment || r.conclusion == running {
		return nil
	}
	body := r.comment(c, rules, "")
	sum := sha256.Sum256([]byte(body))
	said := hex.EncodeToString(sum[:12])
	if said == c.Commented {
		return nil
	}
	pulls, err := client.PullRequestsOf(ctx, c.Repository, c.SHA)
	if err != nil {
		return err
	}
	me, err := client.Login(ctx)
	if err != nil {
		return err
	}
	for _, p := range pulls {
		id := c.Comments[p.Number]
		if id == 0 {
			list, err := client.Comments(ctx, c.Repository, p.Number)
			if err != nil {
				return err
			}
			for _, x := range list {
				if x.Login == me && strings.Contains(x.Body, commentMark) {
					id = x.ID
				}
			}
		}
		if id != 0 {
			err = client.SetComment(ctx, c.Repository, id, body)
		}
		if id == 0 || errors.Is(err, github.ErrNotFound) { // somebody deleted it
			id, err = client.AddComment(ctx, c.Repository, p.Number, body)
		}
		if errors.Is(err, github.ErrForbidden) || errors.Is(err, github.ErrRefused) { // a locked conversation
			s.log.Warn("a pull request takes no comment", "repo", c.Repository, "pull", p.Number, "error", err)
			continue
		}
		if err != nil {
			return err
		}
		if c.Comments == nil {
			c.Comments = make(map[int]int64)
		}
		c.Comments[p.Number] = id
	}
	c.Commented = said
	return nil
}
