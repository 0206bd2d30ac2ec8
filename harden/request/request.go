package request

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/organisation"
)

// ErrTouched says that the branch of a request has commits of somebody else.
var ErrTouched = errors.New("its branch has commits of somebody else")

// trailer names the digest of the file in a commit's message.
const trailer = "Sallyport-Request: "

// branches of requests begin so.
const branchPrefix = "sallyport/request/"

// Request is a decision that is asked for.
type Request struct {
	// Repository that holds the file, OWNER/NAME, and the file's path in it.
	Repository, File string
	// Decision that is to be in it.
	Decision harden.Approval
	// Title and Body are those of the pull request or the issue; the body is Markdown, in which
	// words from outside are escaped.
	Title, Body string
}

// Status is what came of a request.
type Status string

// What came of requests.
const (
	Opened    Status = "opened"
	Updated   Status = "updated"
	Unchanged Status = "unchanged"
)

// Outcome is what came of a request.
type Outcome struct {
	Status Status `json:"status"`
	// URL is that of the pull request or the issue.
	URL string `json:"url"`
}

// branch of the requests about an action. Two actions never share one.
func (r *Request) branch() string {
	sum := sha256.Sum256([]byte(strings.ToLower(r.Decision.Action)))
	slug := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(r.Decision.Action), "-"), "-")
	return branchPrefix + slug[:min(len(slug), 60)] + "-" + hex.EncodeToString(sum[:4])
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// PullRequest brings a pull request for the decision to where it should be. Errors wrap
// harden.ErrDecided if the default branch says so already, and ErrTouched.
func (r *Request) PullRequest(ctx context.Context, client *github.Client) (out Outcome, err error) {
	repo, err := client.Repository(ctx, r.Repository)
	if err != nil {
		return out, err
	}
	sha, err := client.Head(ctx, repo.Name, repo.DefaultBranch)
	if err != nil {
		return out, err
	}
	base, files, err := organisation.ReadCommit(ctx, client, repo.Name, sha)
	if err != nil {
		return out, err
	}
	var before []byte
	mode := "100644"
	if e, ok := files[r.File]; ok {
		if before, err = client.Blob(ctx, repo.Name, e.SHA); err != nil {
			return out, err
		}
		mode = e.Mode
	}
	after, err := harden.EditApprovals(repo.Name+"/"+r.File, before, r.Decision)
	if err != nil {
		return out, err
	}
	list, err := client.PullRequests(ctx, repo.Name, r.branch())
	if err != nil {
		return out, err
	}
	var open *github.PullRequest
	for i := range list {
		if list[i].Open && open == nil {
			open = &list[i]
		}
	}
	head, same, err := r.readBranch(ctx, client, repo, files, after)
	if err != nil {
		if open != nil {
			err = fmt.Errorf("%s: %w", open.URL, err)
		}
		return out, err
	}
	if !same {
		made, err := client.CommitOn(ctx, repo, base, []github.Change{{Path: r.File, Mode: mode, Text: after}},
			r.Title+"\n\n"+r.Decision.Reason+"\n\n"+trailer+digest(after)+"\n", r.branch()+"-passing")
		if err != nil {
			return out, err
		}
		if head == "" {
			err = client.CreateBranch(ctx, repo.Name, r.branch(), made.SHA)
		} else {
			err = client.MoveBranch(ctx, repo, r.branch(), head, made.SHA)
		}
		if err != nil {
			return out, err
		}
	}
	if open == nil {
		made, err := client.OpenPullRequest(ctx, repo.Name, github.PullRequest{Title: r.Title, Body: r.Body, Head: r.branch(), Base: repo.DefaultBranch})
		return Outcome{Opened, made.URL}, err
	}
	if same && open.Title == r.Title && open.Body == r.Body {
		return Outcome{Unchanged, open.URL}, nil
	}
	return Outcome{Updated, open.URL}, client.SetPullRequest(ctx, repo.Name, open.Number, r.Title, r.Body)
}

// readBranch reads the branch of the request, if it is there, and says whether it holds just what
// is wanted, on the file as it is now.
func (r *Request) readBranch(ctx context.Context, client *github.Client, repo github.Repository, now organisation.Files, wanted []byte) (head string, same bool, err error) {
	sha, err := client.Head(ctx, repo.Name, r.branch())
	if errors.Is(err, github.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	commit, after, err := organisation.ReadCommit(ctx, client, repo.Name, sha)
	if err != nil {
		return "", false, err
	}
	lines := strings.Split(strings.TrimSpace(commit.Message), "\n")
	said, ours := strings.CutPrefix(lines[len(lines)-1], trailer)
	if !ours || len(commit.Parents) != 1 {
		return "", false, fmt.Errorf("request in %s: %w", repo.Name, ErrTouched)
	}
	if inside, err := client.Contains(ctx, repo.Name, repo.DefaultBranch, commit.Parents[0]); err != nil || !inside {
		return "", false, errors.Join(fmt.Errorf("request in %s: %w", repo.Name, ErrTouched), err)
	}
	_, before, err := organisation.ReadCommit(ctx, client, repo.Name, commit.Parents[0])
	if err != nil {
		return "", false, err
	}
	text, err := client.Blob(ctx, repo.Name, after[r.File].SHA)
	if err != nil || digest(text) != said || !only(before, after, r.File) {
		return "", false, errors.Join(fmt.Errorf("request in %s: %w", repo.Name, ErrTouched), err)
	}
	return sha, digest(wanted) == said && before[r.File].SHA == now[r.File].SHA, nil
}

// only says whether two commits differ in nothing but one file.
func only(before, after organisation.Files, file string) bool {
	for name, e := range after {
		if b := before[name]; name != file && (b.SHA != e.SHA || b.Mode != e.Mode) {
			return false
		}
	}
	for name := range before {
		if _, there := after[name]; !there {
			return false
		}
	}
	return true
}

// mark is how an issue about an action is found again.
func (r *Request) mark() string {
	return "<!-- sallyport:request " + strings.TrimPrefix(r.branch(), branchPrefix) + " -->"
}

// Issue brings an issue that asks for the decision to where it should be: its own open one is
// updated. One that somebody else has opened is not taken for it.
func (r *Request) Issue(ctx context.Context, client *github.Client) (Outcome, error) {
	login, err := client.Login(ctx)
	if err != nil {
		return Outcome{}, err
	}
	list, err := client.OpenIssues(ctx, r.Repository)
	if err != nil {
		return Outcome{}, err
	}
	body := r.mark() + "\n" + r.Body
	for _, i := range list {
		// An App is not told its own name; GitHub writes [bot] behind those of all Apps.
		own := i.Login == login || login == "" && strings.HasSuffix(i.Login, "[bot]")
		if !own || !strings.HasPrefix(i.Body, r.mark()) {
			continue
		}
		if i.Title == r.Title && i.Body == body {
			return Outcome{Unchanged, i.URL}, nil
		}
		return Outcome{Updated, i.URL}, client.SetIssue(ctx, r.Repository, i.Number, r.Title, body)
	}
	made, err := client.OpenIssue(ctx, r.Repository, r.Title, body)
	return Outcome{Opened, made.URL}, err
}
