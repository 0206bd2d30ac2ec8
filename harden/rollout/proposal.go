package rollout

import (
	"context"
	"crypto/sha1" // #nosec G505 -- git's name of a text
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/organisation"
)

// trailer names the digest of the changes of a commit.
const trailer = "Sallyport-Harden: "

// proposal is what is proposed to one repository.
type proposal struct {
	*run
	repo github.Repository

	base      github.Commit // of the default branch
	baseFiles organisation.Files
	// Of the branch, if it is there and ours.
	head      string
	headFiles organisation.Files
	digest    string
	stale     bool // a file that it changes has another text by now

	changes []github.Change
	results []*harden.Result
}

// bring brings a repository to where it should be.
func (p *proposal) bring(ctx context.Context) (out Outcome, err error) {
	if empty, err := p.readBase(ctx); err != nil || empty {
		return Outcome{Status: Skipped, Reason: "empty"}, err
	}
	list, err := p.client.PullRequests(ctx, p.repo.Name, p.Branch)
	if err != nil {
		return out, err
	}
	var open, last *github.PullRequest // the last that is not open
	for i := range list {
		switch {
		case list[i].Open && open == nil:
			open = &list[i]
		case !list[i].Open && last == nil:
			last = &list[i]
		}
	}
	if open != nil {
		out.PullRequest = open.URL
	}
	if open == nil && last != nil && !last.Merged && !strings.Contains(last.Body, closedMark) && !p.Reopen {
		return Outcome{Status: Declined, Reason: "a person has closed the pull request", PullRequest: last.URL}, nil
	}
	touched, err := p.readBranch(ctx)
	if err != nil {
		return out, err
	}
	if touched != "" {
		out.Status, out.Reason = Touched, touched
		return out, nil
	}
	if err := p.harden(ctx); err != nil {
		return out, err
	}
	p.tell(&out)
	return p.propose(ctx, out, open)
}

// readBase reads the default branch.
func (p *proposal) readBase(ctx context.Context) (empty bool, err error) {
	sha, err := p.client.Head(ctx, p.repo.Name, p.repo.DefaultBranch)
	if errors.Is(err, github.ErrNotFound) {
		return true, nil
	}
	if err == nil {
		p.base, p.baseFiles, err = organisation.ReadCommit(ctx, p.client, p.repo.Name, sha)
	}
	return false, err
}

// readBranch reads the branch of the proposal, and says why it is somebody else's if it is.
func (p *proposal) readBranch(ctx context.Context) (touched string, err error) {
	sha, err := p.client.Head(ctx, p.repo.Name, p.Branch)
	if errors.Is(err, github.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	commit, after, err := organisation.ReadCommit(ctx, p.client, p.repo.Name, sha)
	if err != nil {
		return "", err
	}
	theirs := "branch " + p.Branch + " has commits of somebody else"
	proposed := commit
	from := 0
	if len(commit.Parents) == 2 {
		// The default branch was merged into it, as GitHub's button does.
		if proposed, err = p.client.Commit(ctx, p.repo.Name, commit.Parents[0]); err != nil {
			return "", err
		}
		from = 1
	}
	digest, ok := digestIn(proposed.Message)
	if !ok || len(proposed.Parents) != 1 || len(commit.Parents) > 2 {
		return theirs, nil
	}
	on := commit.Parents[from]
	if inside, err := p.client.Contains(ctx, p.repo.Name, p.repo.DefaultBranch, on); err != nil || !inside {
		return theirs, err
	}
	_, before, err := organisation.ReadCommit(ctx, p.client, p.repo.Name, on)
	if err != nil {
		return "", err
	}
	changed := difference(before, after)
	if digestOf(changed) != digest {
		return theirs, nil
	}
	p.head, p.headFiles, p.digest = sha, after, digest
	p.stale = slices.ContainsFunc(changed, func(e github.Entry) bool {
		was, is := before[e.Path], p.baseFiles[e.Path]
		return was.SHA != is.SHA || was.Mode != is.Mode
	})
	return "", nil
}

// difference lists the files that are others after than before, by path; one that is gone has
// neither mode nor SHA.
func difference(before, after organisation.Files) []github.Entry {
	var out []github.Entry
	for name, a := range after {
		if b, ok := before[name]; !ok || a.SHA != b.SHA || a.Mode != b.Mode {
			out = append(out, a)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			out = append(out, github.Entry{Path: name})
		}
	}
	return out
}

// digestOf is the digest of changes: of what the files are afterwards.
func digestOf(changed []github.Entry) string {
	lines := make([]string, 0, len(changed))
	for _, e := range changed {
		lines = append(lines, fmt.Sprintf("%s %s %q\n", e.Mode, e.SHA, e.Path))
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:])
}

// digestIn finds the digest in a commit's message.
func digestIn(message string) (string, bool) {
	lines := strings.Split(strings.TrimSpace(message), "\n")
	return strings.CutPrefix(lines[len(lines)-1], trailer)
}

// blobSHA is git's name of a text.
func blobSHA(text []byte) string {
	h := sha1.New() // #nosec G401
	_, _ = h.Write([]byte("blob " + strconv.Itoa(len(text)) + "\x00"))
	_, _ = h.Write(text)
	return hex.EncodeToString(h.Sum(nil))
}

// harden makes the changes.
func (p *proposal) harden(ctx context.Context) error {
	c := p.Harden
	c.Repository = p.repo.Name
	var err error
	if c.Lock, err = p.lock(ctx, p.baseFiles); err != nil {
		return err
	}
	if p.head != "" && p.headFiles[harden.LockFile].SHA != p.baseFiles[harden.LockFile].SHA {
		proposed, err := p.lock(ctx, p.headFiles)
		if err != nil {
			return err
		}
		c.Lock.Propose(proposed)
	}
	sources, err := p.sources(ctx)
	if err != nil {
		return err
	}
	if p.results, err = harden.Texts(ctx, c, sources); err != nil {
		return err
	}
	for _, r := range p.results {
		if r.After == nil {
			continue
		}
		mode := "100644"
		if before, ok := p.baseFiles[r.File]; ok {
			mode = before.Mode
		}
		p.changes = append(p.changes, github.Change{Path: r.File, Mode: mode, Text: r.After})
	}
	if len(p.changes) > 0 && c.Lock.Changed() {
		text, err := c.Lock.Text()
		if err != nil {
			return err
		}
		p.changes = append(p.changes, github.Change{Path: harden.LockFile, Mode: "100644", Text: text})
	}
	return nil
}

func (p *proposal) lock(ctx context.Context, in organisation.Files) (*harden.Lock, error) {
	e, ok := in[harden.LockFile]
	if !ok {
		return harden.NewLock(), nil
	}
	text, err := p.client.Blob(ctx, p.repo.Name, e.SHA)
	if err != nil {
		return nil, err
	}
	return harden.ParseLock(harden.LockFile, text)
}

// sources reads the files that can be hardened.
func (p *proposal) sources(ctx context.Context) ([]harden.Source, error) {
	out, err := organisation.Sources(ctx, p.client, p.repo.Name, p.baseFiles, func(harden.Kind) bool { return true })
	if err != nil {
		return nil, err
	}
	workflows := slices.ContainsFunc(out, func(s harden.Source) bool { return path.Dir(s.Name) == ".github/workflows" })
	dependabot := ".github/dependabot.yml"
	_, there := p.baseFiles[dependabot]
	if workflows && !there && harden.Wanted(func(file string) bool { _, ok := p.baseFiles[file]; return ok }) {
		out = append(out, harden.Source{Name: dependabot, Mode: 0o644})
	}
	return out, nil
}

// tell says what was found.
func (p *proposal) tell(out *Outcome) {
	out.Results = p.results
	for _, r := range p.results {
		if r.After != nil {
			out.Files++
			out.Fixes += len(r.Fixes)
		}
		if r.Problem != nil {
			out.Problems = append(out.Problems, r.Problem.Error())
		}
		for _, f := range r.Findings {
			out.Findings = append(out.Findings, Finding{r.File, f})
		}
	}
}

// propose brings branch and pull request to what was made.
func (p *proposal) propose(ctx context.Context, out Outcome, open *github.PullRequest) (Outcome, error) {
	if len(p.changes) == 0 {
		return p.withdraw(ctx, out, open)
	}
	changed := make([]github.Entry, 0, len(p.changes))
	for _, c := range p.changes {
		changed = append(changed, github.Entry{Path: c.Path, Mode: c.Mode, SHA: blobSHA(c.Text)})
	}
	digest := digestOf(changed)
	commits := p.head == "" || p.stale || p.digest != digest
	out.Status = Unchanged
	body := p.body()
	if open == nil {
		if !p.reserve() {
			out.Status, out.Reason = Waiting, fmt.Sprintf("no more than %d pull requests at once", p.MaxNew)
			return out, nil
		}
		out.Status = Opened
		if p.DryRun {
			return out, nil
		}
		if err := p.commit(ctx, commits, digest); err != nil {
			p.release()
			return out, err
		}
		made, err := p.client.OpenPullRequest(ctx, p.repo.Name, github.PullRequest{
			Title: p.title(), Body: body, Head: p.Branch, Base: p.repo.DefaultBranch, Draft: p.Draft,
		})
		if err != nil {
			p.release()
		}
		out.PullRequest = made.URL
		return out, err
	}
	merged := within(open.Body, body)
	if commits || merged != open.Body {
		out.Status = Updated
	}
	if p.DryRun || out.Status == Unchanged {
		return out, nil
	}
	if err := p.commit(ctx, commits, digest); err != nil {
		return out, err
	}
	if merged == open.Body {
		return out, nil
	}
	return out, p.client.SetPullRequest(ctx, p.repo.Name, open.Number, open.Title, merged)
}

// commit makes the commit of the changes, if it is not there, and lets the branch name it.
func (p *proposal) commit(ctx context.Context, needed bool, digest string) error {
	if !needed {
		return nil
	}
	made, err := p.client.CommitOn(ctx, p.repo, p.base, p.changes, p.message(digest), p.Branch+passing)
	if err != nil {
		return err
	}
	if p.head == "" {
		return p.client.CreateBranch(ctx, p.repo.Name, p.Branch, made.SHA)
	}
	return p.client.MoveBranch(ctx, p.repo, p.Branch, p.head, made.SHA)
}

// withdraw closes a pull request that has become needless.
func (p *proposal) withdraw(ctx context.Context, out Outcome, open *github.PullRequest) (Outcome, error) {
	out.Status = Clean
	if open == nil {
		return out, nil
	}
	out.Status = Closed
	if p.DryRun {
		return out, nil
	}
	// The mark first: a run that is stopped in between is not taken for a person.
	if !strings.Contains(open.Body, closedMark) {
		if err := p.client.SetPullRequest(ctx, p.repo.Name, open.Number, open.Title, open.Body+"\n"+closedMark+"\n"); err != nil {
			return out, err
		}
	}
	if err := p.client.ClosePullRequest(ctx, p.repo.Name, open.Number, "Nothing is left to change: the default branch has it all by now."); err != nil {
		return out, err
	}
	if p.head == "" {
		return out, nil
	}
	return out, p.client.MoveBranch(ctx, p.repo, p.Branch, p.head, "")
}
