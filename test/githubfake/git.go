package githubfake

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// repo finds the repository of a request, for somebody who may do something in it.
func (s *Server) repo(r *request, permission, level string) (*Repository, error) {
	repo := s.repos[strings.ToLower(r.PathValue("owner")+"/"+r.PathValue("repo"))]
	if repo == nil {
		return nil, errNotFound
	}
	if err := s.allowed(r, repo, permission, level); err != nil {
		return nil, err
	}
	if level == "write" && repo.Archived {
		return nil, fail(http.StatusForbidden, "Repository was archived so is read-only.")
	}
	return repo, nil
}

// in makes a handler of one that needs a repository.
func (s *Server) in(permission, level string, do func(r *request, repo *Repository) (any, error)) handler {
	return func(r *request) (any, error) {
		repo, err := s.repo(r, permission, level)
		if err != nil {
			return nil, err
		}
		return do(r, repo)
	}
}

func (s *Server) gitHandlers() map[string]handler {
	return map[string]handler{
		"GET /repos/{owner}/{repo}/git/ref/{ref}": s.in("contents", "read", func(r *request, repo *Repository) (any, error) {
			h, ok := repo.refs["refs/"+r.PathValue("ref")]
			if !ok {
				return nil, errNotFound
			}
			return s.refJSON(repo, "refs/"+r.PathValue("ref"), h), nil
		}),
		"GET /repos/{owner}/{repo}/git/matching-refs/{ref}": s.in("contents", "read", func(r *request, repo *Repository) (any, error) {
			out := []any{}
			for _, name := range slices.Sorted(maps.Keys(repo.refs)) {
				if strings.HasPrefix(name, "refs/"+r.PathValue("ref")) {
					out = append(out, s.refJSON(repo, name, repo.refs[name]))
				}
			}
			return out, nil
		}),
		"POST /repos/{owner}/{repo}/git/refs":         s.in("contents", "write", s.newRef),
		"PATCH /repos/{owner}/{repo}/git/refs/{ref}":  s.in("contents", "write", s.setRef),
		"DELETE /repos/{owner}/{repo}/git/refs/{ref}": s.in("contents", "write", s.deleteRef),
		"GET /repos/{owner}/{repo}/git/commits/{commit_sha}": s.in("contents", "read", func(r *request, repo *Repository) (any, error) {
			c, err := object.GetCommit(repo.store, plumbing.NewHash(r.PathValue("commit_sha")))
			if err != nil {
				return nil, errNotFound
			}
			return s.gitCommitJSON(repo, c), nil
		}),
		"POST /repos/{owner}/{repo}/git/commits":         s.in("contents", "write", s.newCommit),
		"GET /repos/{owner}/{repo}/git/trees/{tree_sha}": s.in("contents", "read", s.getTree),
		"POST /repos/{owner}/{repo}/git/trees":           s.in("contents", "write", s.newTree),
		"GET /repos/{owner}/{repo}/git/blobs/{file_sha}": s.in("contents", "read", func(r *request, repo *Repository) (any, error) {
			h := plumbing.NewHash(r.PathValue("file_sha"))
			if _, err := object.GetBlob(repo.store, h); err != nil {
				return nil, errNotFound
			}
			data := repo.blob(h)
			return map[string]any{"sha": h.String(), "size": len(data), "encoding": "base64", "content": base64.StdEncoding.EncodeToString(data), "node_id": "B_" + h.String(), "url": s.http.URL}, nil
		}),
		"POST /repos/{owner}/{repo}/git/blobs": s.in("contents", "write", func(r *request, repo *Repository) (any, error) {
			var in struct{ Content, Encoding string }
			if err := r.read(&in); err != nil {
				return nil, err
			}
			data := []byte(in.Content)
			if in.Encoding == "base64" {
				var err error
				if data, err = base64.StdEncoding.DecodeString(in.Content); err != nil {
					return nil, fail(http.StatusUnprocessableEntity, "content is not valid Base64")
				}
			}
			return map[string]any{"sha": repo.putBlob(data).String(), "url": s.http.URL}, nil
		}),
	}
}

func (s *Server) refJSON(repo *Repository, name string, h plumbing.Hash) map[string]any {
	return map[string]any{
		"ref": name, "node_id": "REF_" + name, "url": s.http.URL + "/repos/" + repo.Name + "/git/" + name,
		"object": map[string]any{"type": "commit", "sha": h.String(), "url": s.http.URL},
	}
}

func (s *Server) newRef(r *request, repo *Repository) (any, error) {
	var in struct{ Ref, Sha string }
	if err := r.read(&in); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(in.Ref, "refs/") || strings.Count(in.Ref, "/") < 2 {
		return nil, fail(http.StatusUnprocessableEntity, "Reference name does not start with 'refs'")
	}
	if _, ok := repo.refs[in.Ref]; ok {
		return nil, fail(http.StatusUnprocessableEntity, "Reference already exists")
	}
	if err := s.moveRef(r, repo, in.Ref, in.Sha, false); err != nil {
		return nil, err
	}
	return s.refJSON(repo, in.Ref, repo.refs[in.Ref]), nil
}

func (s *Server) setRef(r *request, repo *Repository) (any, error) {
	var in struct {
		Sha   string
		Force bool
	}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	name := "refs/" + r.PathValue("ref")
	if _, ok := repo.refs[name]; !ok {
		return nil, fail(http.StatusUnprocessableEntity, "Reference does not exist")
	}
	if err := s.moveRef(r, repo, name, in.Sha, in.Force); err != nil {
		return nil, err
	}
	return s.refJSON(repo, name, repo.refs[name]), nil
}

// moveRef lets a reference name a commit, as far as GitHub would.
func (s *Server) moveRef(r *request, repo *Repository, name, sha string, force bool) error {
	to := plumbing.NewHash(sha)
	c, err := object.GetCommit(repo.store, to)
	if err != nil {
		return fail(http.StatusUnprocessableEntity, "Object does not exist")
	}
	if repo.protects(name) {
		return fail(http.StatusUnprocessableEntity, "Repository rule violations found\n\nChanges must be made through a pull request.\n\n")
	}
	from, there := repo.refs[name]
	if there && !force && !repo.ancestors(to)[from] {
		return fail(http.StatusUnprocessableEntity, "Update is not a fast forward")
	}
	if r.by != nil && r.by.permissions["workflows"] != "write" && strings.HasPrefix(name, "refs/heads/") {
		if changed := s.workflowsChanged(repo, c); changed != "" {
			return fail(http.StatusForbidden, "refusing to allow a GitHub App to create or update workflow `%s` without `workflows` permission", changed)
		}
	}
	repo.refs[name] = to
	repo.PushedAt = s.now()
	repo.sync()
	return nil
}

// workflowsChanged is a workflow that the commit changes.
func (s *Server) workflowsChanged(repo *Repository, c *object.Commit) string {
	before := make(map[string]file)
	if len(c.ParentHashes) > 0 {
		if p, err := object.GetCommit(repo.store, c.ParentHashes[0]); err == nil {
			before = repo.flat(p.TreeHash)
		}
	}
	for name, f := range repo.flat(c.TreeHash) {
		if path.Dir(name) == ".github/workflows" && before[name] != f {
			return name
		}
	}
	return ""
}

func (s *Server) deleteRef(r *request, repo *Repository) (any, error) {
	name := "refs/" + r.PathValue("ref")
	if _, ok := repo.refs[name]; !ok {
		return nil, fail(http.StatusUnprocessableEntity, "Reference does not exist")
	}
	if repo.protects(name) {
		return nil, fail(http.StatusUnprocessableEntity, "Cannot delete this branch")
	}
	delete(repo.refs, name)
	repo.sync()
	return nil, nil
}

func (s *Server) newCommit(r *request, repo *Repository) (any, error) {
	var in struct {
		Message, Tree, Signature string
		Parents                  []string
		Author, Committer        *struct{ Name, Email, Date string }
	}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	c := &object.Commit{Message: in.Message, TreeHash: plumbing.NewHash(in.Tree)}
	if _, err := object.GetTree(repo.store, c.TreeHash); err != nil {
		return nil, fail(http.StatusUnprocessableEntity, "Tree SHA does not exist")
	}
	for _, p := range in.Parents {
		h := plumbing.NewHash(p)
		if _, err := object.GetCommit(repo.store, h); err != nil {
			return nil, fail(http.StatusUnprocessableEntity, "Parent SHA does not exist or is not a commit object")
		}
		c.ParentHashes = append(c.ParentHashes, h)
	}
	c.Author = s.signature(r)
	c.Committer = c.Author
	if in.Author != nil {
		c.Author.Name, c.Author.Email = in.Author.Name, in.Author.Email
	}
	// GitHub signs what an App commits under its own name.
	signs := r.by.installation != nil && in.Author == nil && in.Committer == nil && in.Signature == ""
	return s.gitCommitJSON(repo, s.keep(repo, c, signs)), nil
}

func (s *Server) keep(repo *Repository, c *object.Commit, signs bool) *object.Commit {
	if signs {
		c.Committer.Name, c.Committer.Email = "GitHub", "noreply@github.com"
		c.PGPSignature = "-----BEGIN PGP SIGNATURE-----\n\nfake\n-----END PGP SIGNATURE-----\n"
	}
	c.Hash = repo.put(c)
	repo.signed[c.Hash] = signs
	return c
}

// signature is under whose name somebody commits.
func (s *Server) signature(r *request) object.Signature {
	a := s.accounts[strings.ToLower(r.by.login)]
	return object.Signature{Name: a.Login, Email: fmt.Sprintf("%d+%s@users.noreply.github.com", a.ID, a.Login), When: s.now()}
}

func (s *Server) verification(repo *Repository, c *object.Commit) map[string]any {
	if repo.signed[c.Hash] {
		return map[string]any{"verified": true, "reason": "valid", "signature": c.PGPSignature, "payload": "tree " + c.TreeHash.String(), "verified_at": stamp(c.Committer.When)}
	}
	return map[string]any{"verified": false, "reason": "unsigned", "signature": nil, "payload": nil, "verified_at": nil}
}

func (s *Server) gitCommitJSON(repo *Repository, c *object.Commit) map[string]any {
	parents := []any{}
	for _, p := range c.ParentHashes {
		parents = append(parents, map[string]any{"sha": p.String(), "url": s.http.URL, "html_url": s.http.URL})
	}
	return map[string]any{
		"sha": c.Hash.String(), "node_id": "C_" + c.Hash.String(), "url": s.http.URL, "html_url": s.http.URL, "message": c.Message,
		"tree": map[string]any{"sha": c.TreeHash.String(), "url": s.http.URL}, "parents": parents,
		"author":       map[string]any{"name": c.Author.Name, "email": c.Author.Email, "date": stamp(c.Author.When)},
		"committer":    map[string]any{"name": c.Committer.Name, "email": c.Committer.Email, "date": stamp(c.Committer.When)},
		"verification": s.verification(repo, c),
	}
}

// commitJSON is a commit as lists of commits have it.
func (s *Server) commitJSON(repo *Repository, c *object.Commit) map[string]any {
	git := s.gitCommitJSON(repo, c)
	login := c.Author.Name
	return map[string]any{
		"sha": git["sha"], "node_id": git["node_id"], "url": s.http.URL, "html_url": s.http.URL, "comments_url": s.http.URL, "parents": git["parents"],
		"author": s.userJSON(login), "committer": s.userJSON(c.Committer.Name),
		"commit": map[string]any{
			"message": c.Message, "tree": git["tree"], "author": git["author"], "committer": git["committer"], "verification": git["verification"],
			"url": s.http.URL, "comment_count": 0,
		},
	}
}

func (s *Server) getTree(r *request, repo *Repository) (any, error) {
	h := plumbing.NewHash(r.PathValue("tree_sha"))
	if at, ok := repo.resolve(r.PathValue("tree_sha")); ok {
		if c, err := object.GetCommit(repo.store, at); err == nil {
			h = c.TreeHash
		}
	}
	t, err := object.GetTree(repo.store, h)
	if err != nil {
		return nil, errNotFound
	}
	entries := []any{}
	add := func(name string, mode filemode.FileMode, hash plumbing.Hash) {
		e := map[string]any{"path": name, "mode": fmt.Sprintf("%06o", uint32(mode)), "type": "blob", "sha": hash.String(), "url": s.http.URL}
		if mode == filemode.Dir {
			e["type"] = "tree"
		} else {
			e["size"] = len(repo.blob(hash))
		}
		entries = append(entries, e)
	}
	if r.URL.Query().Get("recursive") == "" {
		for _, e := range t.Entries {
			add(e.Name, e.Mode, e.Hash)
		}
		return map[string]any{"sha": h.String(), "url": s.http.URL, "truncated": false, "tree": entries}, nil
	}
	files := repo.flat(h)
	names := slices.Sorted(maps.Keys(files))
	cut := repo.TreeLimit > 0 && len(names) > repo.TreeLimit
	if cut {
		names = names[:repo.TreeLimit]
	}
	for _, name := range names {
		add(name, files[name].mode, files[name].hash)
	}
	return map[string]any{"sha": h.String(), "url": s.http.URL, "truncated": cut, "tree": entries}, nil
}

func (s *Server) newTree(r *request, repo *Repository) (any, error) {
	var in struct {
		BaseTree string `json:"base_tree"`
		Tree     []struct {
			Path, Mode, Type string
			Sha, Content     *string
		}
	}
	if err := r.read(&in); err != nil {
		return nil, err
	}
	files := make(map[string]file)
	if in.BaseTree != "" {
		h := plumbing.NewHash(in.BaseTree)
		if _, err := object.GetTree(repo.store, h); err != nil {
			return nil, fail(http.StatusUnprocessableEntity, "base_tree is not a valid tree oid")
		}
		files = repo.flat(h)
	}
	for _, e := range in.Tree {
		mode, err := filemode.New(e.Mode)
		switch {
		case err != nil:
			return nil, fail(http.StatusUnprocessableEntity, "tree.mode %q", e.Mode)
		case e.Content != nil:
			files[e.Path] = file{mode, repo.putBlob([]byte(*e.Content))}
		case e.Sha == nil:
			delete(files, e.Path)
		default:
			h := plumbing.NewHash(*e.Sha)
			if _, err := object.GetBlob(repo.store, h); err != nil {
				return nil, fail(http.StatusUnprocessableEntity, "tree.sha %s is not a valid blob", *e.Sha)
			}
			files[e.Path] = file{mode, h}
		}
	}
	h := repo.tree(files)
	return map[string]any{"sha": h.String(), "url": s.http.URL, "truncated": false, "tree": []any{}}, nil
}
