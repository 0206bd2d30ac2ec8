package githubfake

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// issue is an issue or a pull request: they share their numbers.
type issue struct {
	id          int64
	number      int
	title, body string
	login       string
	state       string
	labels      []string
	created     time.Time
	comments    []*comment
	pull        *pull
}

type pull struct {
	head, base string // branches
	sha        plumbing.Hash
	merged     bool
	draft      bool
}

type comment struct {
	id          int64
	login, body string
}

// Issue is what a test sees of an issue or a pull request.
type Issue struct {
	Number                    int
	Title, Body, State, Login string
	Labels, Comments          []string
	Head, Base                string
	Pull, Draft, Merged       bool
}

// Issues lists issues and pull requests by number.
func (r *Repository) Issues() (out []Issue) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for _, i := range r.issues {
		e := Issue{Number: i.number, Title: i.title, Body: i.body, State: i.state, Login: i.login, Labels: slices.Clone(i.labels)}
		for _, c := range i.comments {
			e.Comments = append(e.Comments, c.body)
		}
		if i.pull != nil {
			e.Pull, e.Head, e.Base, e.Draft, e.Merged = true, i.pull.head, i.pull.base, i.pull.draft, i.pull.merged
		}
		out = append(out, e)
	}
	return out
}

// Close closes an issue or a pull request, as a person does.
func (r *Repository) Close(number int) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.issues[number-1].state = "closed"
}

// SetBody changes the text of an issue or a pull request, as a person does.
func (r *Repository) SetBody(number int, body string) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.issues[number-1].body = body
}

// Merge merges a pull request by a merge commit, as a person does, and deletes its branch.
func (r *Repository) Merge(number int) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	i := r.issues[number-1]
	base := "refs/heads/" + i.pull.base
	r.refs[base] = r.merged("Merge pull request", r.refs[base], i.pull.sha)
	i.state, i.pull.merged = "closed", true
	delete(r.refs, "refs/heads/"+i.pull.head)
}

// Update merges the base into the branch of a pull request, as GitHub's button does.
func (r *Repository) Update(number int) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	i := r.issues[number-1]
	head := "refs/heads/" + i.pull.head
	r.refs[head] = r.merged("Merge branch '"+i.pull.base+"' into "+i.pull.head, r.refs[head], r.refs["refs/heads/"+i.pull.base])
	r.sync()
}

// merged makes the commit that merges two; where both have changed a file it is the first one's.
func (r *Repository) merged(message string, into, from plumbing.Hash) plumbing.Hash {
	has := r.ancestors(from)
	at, err := object.GetCommit(r.store, into)
	for err == nil && !has[at.Hash] {
		at, err = object.GetCommit(r.store, at.ParentHashes[0])
	}
	if err != nil {
		panic(err)
	}
	files := make(map[plumbing.Hash]map[string]file)
	for _, h := range []plumbing.Hash{into, from, at.Hash} {
		c, err := object.GetCommit(r.store, h)
		if err != nil {
			panic(err)
		}
		files[h] = r.flat(c.TreeHash)
	}
	before, out := files[at.Hash], files[into]
	for name, f := range files[from] {
		if f != before[name] && out[name] == before[name] {
			out[name] = f
		}
	}
	for name, f := range before {
		if _, ok := files[from][name]; !ok && out[name] == f {
			delete(out, name)
		}
	}
	who := object.Signature{Name: "alice", Email: "alice@example.test", When: r.server.now()}
	return r.put(&object.Commit{Author: who, Committer: who, Message: message, TreeHash: r.tree(out), ParentHashes: []plumbing.Hash{into, from}})
}

func (s *Server) issueHandlers() map[string]handler {
	return map[string]handler{
		"GET /repos/{owner}/{repo}/pulls":                       s.in("pull_requests", "read", s.listPulls),
		"POST /repos/{owner}/{repo}/pulls":                      s.in("pull_requests", "write", s.newPull),
		"GET /repos/{owner}/{repo}/pulls/{pull_number}":         s.onIssue("pull_requests", "read", "pull_number", s.getIssue),
		"PATCH /repos/{owner}/{repo}/pulls/{pull_number}":       s.onIssue("pull_requests", "write", "pull_number", s.setIssue),
		"GET /repos/{owner}/{repo}/pulls/{pull_number}/commits": s.onIssue("pull_requests", "read", "pull_number", s.pullCommits),
		"GET /repos/{owner}/{repo}/issues":                      s.in("issues", "read", s.listIssues),
		"POST /repos/{owner}/{repo}/issues":                     s.in("issues", "write", s.newIssue),
		"PATCH /repos/{owner}/{repo}/issues/{issue_number}":     s.onIssue("issues", "write", "issue_number", s.setIssue),
		"POST /repos/{owner}/{repo}/issues/{issue_number}/comments": s.onIssue("issues", "write", "issue_number", func(r *request, repo *Repository, i *issue) (any, error) {
			var in struct{ Body string }
			if err := r.read(&in); err != nil {
				return nil, err
			}
			c := &comment{id: s.id(), login: r.by.login, body: in.Body}
			i.comments = append(i.comments, c)
			return s.commentJSON(repo, i, c), nil
		}),
		"GET /repos/{owner}/{repo}/issues/{issue_number}/comments": s.onIssue("issues", "read", "issue_number", func(r *request, repo *Repository, i *issue) (any, error) {
			out := []any{}
			for _, c := range page(r, i.comments) {
				out = append(out, s.commentJSON(repo, i, c))
			}
			return out, nil
		}),
		"PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}": s.in("metadata", "read", func(r *request, repo *Repository) (any, error) {
			var in struct{ Body string }
			if err := r.read(&in); err != nil {
				return nil, err
			}
			for _, i := range repo.issues {
				for _, c := range i.comments {
					if fmt.Sprint(c.id) == r.PathValue("comment_id") {
						if err := s.allowed(r, repo, map[bool]string{true: "pull_requests", false: "issues"}[i.pull != nil], "write"); err != nil {
							return nil, err
						}
						c.body = in.Body
						return s.commentJSON(repo, i, c), nil
					}
				}
			}
			return nil, errNotFound
		}),
		"GET /repos/{owner}/{repo}/commits/{commit_sha}/pulls": s.in("pull_requests", "read", func(r *request, repo *Repository) (any, error) {
			out := []any{}
			for _, i := range repo.issues {
				if i.pull != nil && repo.ancestors(i.pull.sha)[plumbing.NewHash(r.PathValue("commit_sha"))] {
					out = append(out, s.pullJSON(repo, i))
				}
			}
			return page(r, out), nil
		}),
	}
}

func (s *Server) onIssue(permission, level, param string, do func(r *request, repo *Repository, i *issue) (any, error)) handler {
	return s.in("metadata", "read", func(r *request, repo *Repository) (any, error) {
		for _, i := range repo.issues {
			if fmt.Sprint(i.number) == r.PathValue(param) {
				if param == "pull_number" && i.pull == nil {
					break
				}
				needs := permission
				if i.pull != nil {
					needs = "pull_requests" // which is enough for their comments, too
				}
				if err := s.allowed(r, repo, needs, level); err != nil {
					return nil, err
				}
				return do(r, repo, i)
			}
		}
		return nil, errNotFound
	})
}

func (s *Server) listPulls(r *request, repo *Repository) (any, error) {
	q := r.URL.Query()
	state := q.Get("state")
	if state == "" {
		state = "open"
	}
	var list []*issue
	for _, i := range slices.Backward(repo.issues) { // the newest first
		if i.pull == nil || state != "all" && i.state != state ||
			q.Get("base") != "" && q.Get("base") != i.pull.base ||
			q.Get("head") != "" && !strings.EqualFold(q.Get("head"), repo.owner()+":"+i.pull.head) {
			continue
		}
		list = append(list, i)
	}
	out := []any{}
	for _, i := range page(r, list) {
		out = append(out, s.pullJSON(repo, i))
	}
	return out, nil
}

func (s *Server) newPull(r *request, repo *Repository) (any, error) {
	var in struct {
		Title, Body, Head, Base string
		Draft                   bool
	}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	in.Head = strings.TrimPrefix(in.Head, repo.owner()+":")
	head, ok := repo.refs["refs/heads/"+in.Head]
	base, okBase := repo.refs["refs/heads/"+in.Base]
	switch {
	case repo.NoPulls:
		return nil, fail(http.StatusForbidden, "Resource not accessible by integration")
	case !ok:
		return nil, fail(http.StatusUnprocessableEntity, "Validation Failed: head is invalid")
	case !okBase:
		return nil, fail(http.StatusUnprocessableEntity, "Validation Failed: base is invalid")
	case len(repo.between(base, head)) == 0:
		return nil, fail(http.StatusUnprocessableEntity, "Validation Failed: No commits between %s and %s", in.Base, in.Head)
	case len(in.Body) > 65536:
		return nil, fail(http.StatusUnprocessableEntity, "Validation Failed: body is too long (maximum is 65536 characters)")
	}
	for _, i := range repo.issues {
		if i.pull != nil && i.state == "open" && i.pull.head == in.Head && i.pull.base == in.Base {
			return nil, fail(http.StatusUnprocessableEntity, "Validation Failed: A pull request already exists for %s:%s.", repo.owner(), in.Head)
		}
	}
	i := s.addIssue(repo, r.by.login, in.Title, in.Body)
	i.pull = &pull{head: in.Head, base: in.Base, sha: head, draft: in.Draft}
	return s.pullJSON(repo, i), nil
}

func (s *Server) addIssue(repo *Repository, login, title, body string) *issue {
	i := &issue{id: s.id(), number: len(repo.issues) + 1, title: title, body: body, login: login, state: "open", created: s.now()}
	repo.issues = append(repo.issues, i)
	return i
}

func (s *Server) newIssue(r *request, repo *Repository) (any, error) {
	var in struct {
		Title, Body string
		Labels      []string
	}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	i := s.addIssue(repo, r.by.login, in.Title, in.Body)
	i.labels = in.Labels
	return s.issueJSON(repo, i), nil
}

func (s *Server) listIssues(r *request, repo *Repository) (any, error) {
	state := r.URL.Query().Get("state")
	if state == "" {
		state = "open"
	}
	var list []*issue
	for _, i := range slices.Backward(repo.issues) {
		want := r.URL.Query().Get("labels")
		if (state == "all" || i.state == state) && (want == "" || slices.Contains(i.labels, want)) {
			list = append(list, i)
		}
	}
	out := []any{}
	for _, i := range page(r, list) {
		out = append(out, s.issueJSON(repo, i))
	}
	return out, nil
}

func (s *Server) getIssue(_ *request, repo *Repository, i *issue) (any, error) {
	return s.pullJSON(repo, i), nil
}

func (s *Server) setIssue(r *request, repo *Repository, i *issue) (any, error) {
	var in struct {
		Title, Body, State *string
		StateReason        *string `json:"state_reason"`
		Labels             *[]string
	}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	if in.Title != nil {
		i.title = *in.Title
	}
	if in.Body != nil {
		i.body = *in.Body
	}
	if in.State != nil {
		i.state = *in.State
	}
	if in.Labels != nil {
		i.labels = *in.Labels
	}
	if strings.Contains(r.URL.Path, "/pulls/") {
		return s.pullJSON(repo, i), nil
	}
	return s.issueJSON(repo, i), nil
}

func (s *Server) pullCommits(r *request, repo *Repository, i *issue) (any, error) {
	out := []any{}
	for _, c := range page(r, repo.between(repo.refs["refs/heads/"+i.pull.base], i.pull.sha)) {
		out = append(out, s.commitJSON(repo, c))
	}
	return out, nil
}

func (s *Server) issueJSON(repo *Repository, i *issue) map[string]any {
	labels := []any{}
	for _, l := range i.labels {
		labels = append(labels, map[string]any{"id": 1, "name": l, "color": "ededed", //nolint:misspell // GitHub's
			"default": false, "description": nil, "node_id": "L", "url": s.http.URL})
	}
	out := map[string]any{
		"id": i.id, "node_id": fmt.Sprint("I_", i.id), "number": i.number, "title": i.title, "body": i.body, "state": i.state, "user": s.userJSON(i.login),
		"labels": labels, "html_url": fmt.Sprintf("%s/%s/issues/%d", s.http.URL, repo.Name, i.number), "created_at": stamp(i.created), "updated_at": stamp(i.created),
		"comments": len(i.comments),
	}
	if i.pull != nil {
		out["pull_request"] = map[string]any{"url": s.http.URL, "html_url": s.http.URL, "diff_url": s.http.URL, "patch_url": s.http.URL}
	}
	return out
}

func (s *Server) pullJSON(repo *Repository, i *issue) map[string]any {
	out := s.issueJSON(repo, i)
	delete(out, "pull_request")
	side := func(branch string, sha plumbing.Hash) map[string]any {
		return map[string]any{"label": repo.owner() + ":" + branch, "ref": branch, "sha": sha.String(), "repo": s.repositoryJSON(repo), "user": s.userJSON(repo.owner())}
	}
	out["html_url"] = fmt.Sprintf("%s/%s/pull/%d", s.http.URL, repo.Name, i.number)
	out["head"], out["base"] = side(i.pull.head, i.pull.sha), side(i.pull.base, repo.refs["refs/heads/"+i.pull.base])
	out["merged"], out["draft"], out["merged_at"] = i.pull.merged, i.pull.draft, nil
	if i.pull.merged {
		out["merged_at"] = stamp(i.created)
	}
	return out
}

func (s *Server) commentJSON(repo *Repository, i *issue, c *comment) map[string]any {
	return map[string]any{
		"id": c.id, "node_id": fmt.Sprint("IC_", c.id), "body": c.body, "user": s.userJSON(c.login), "created_at": stamp(i.created), "updated_at": stamp(i.created),
		"html_url": fmt.Sprintf("%s/%s/issues/%d#issuecomment-%d", s.http.URL, repo.Name, i.number, c.id), "issue_url": s.http.URL,
	}
}
