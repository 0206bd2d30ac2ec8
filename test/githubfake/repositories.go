package githubfake

import (
	"cmp"
	"encoding/base64"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/object"
)

func (s *Server) repositoryHandlers() map[string]handler {
	return map[string]handler{
		"GET /orgs/{org}/repos": func(r *request) (any, error) {
			if a := s.accounts[strings.ToLower(r.PathValue("org"))]; a == nil || a.Type != kindOrganisation {
				return nil, errNotFound
			}
			var list []*Repository
			for _, repo := range s.order {
				if strings.EqualFold(repo.owner(), r.PathValue("org")) && (!repo.Private || r.by != nil) {
					list = append(list, repo)
				}
			}
			out := []any{}
			for _, repo := range page(r, list) {
				out = append(out, s.repositoryJSON(repo))
			}
			return out, nil
		},
		"GET /repos/{owner}/{repo}": s.in("metadata", "read", func(_ *request, repo *Repository) (any, error) {
			return s.repositoryJSON(repo), nil
		}),
		"GET /repos/{owner}/{repo}/branches": s.in("contents", "read", func(r *request, repo *Repository) (any, error) {
			return s.named(r, repo, "refs/heads/"), nil
		}),
		"GET /repos/{owner}/{repo}/tags": s.in("metadata", "read", func(r *request, repo *Repository) (any, error) {
			return s.named(r, repo, "refs/tags/"), nil
		}),
		"GET /repos/{owner}/{repo}/commits/{ref}": s.in("contents", "read", func(r *request, repo *Repository) (any, error) {
			h, ok := repo.resolve(r.PathValue("ref"))
			if !ok {
				return nil, fail(http.StatusUnprocessableEntity, "No commit found for SHA: %s", r.PathValue("ref"))
			}
			c, err := object.GetCommit(repo.store, h)
			if err != nil {
				return nil, errNotFound
			}
			return s.commitJSON(repo, c), nil
		}),
		"GET /repos/{owner}/{repo}/commits":             s.in("contents", "read", s.listCommits),
		"GET /repos/{owner}/{repo}/compare/{basehead}":  s.in("contents", "read", s.compare),
		"GET /repos/{owner}/{repo}/contents/{path}":     s.in("contents", "read", s.contents),
		"GET /repos/{owner}/{repo}/community/profile":   s.in("contents", "read", s.profile),
		"GET /repos/{owner}/{repo}/releases":            s.in("contents", "read", s.listReleases),
		"GET /repos/{owner}/{repo}/releases/tags/{tag}": s.in("contents", "read", s.getRelease),
		"GET /advisories": func(r *request) (any, error) {
			affects := r.URL.Query().Get("affects")
			out := []any{}
			for _, a := range s.advisory {
				if affects == "" || affects == a["package"] {
					out = append(out, a["advisory"])
				}
			}
			return page(r, out), nil
		},
		"GET /repos/{owner}/{repo}/collaborators/{username}/permission": s.in("metadata", "read", func(r *request, repo *Repository) (any, error) {
			who := s.accounts[strings.ToLower(r.PathValue("username"))]
			if who == nil {
				return nil, errNotFound
			}
			role := "write"
			if repo.readers[strings.ToLower(who.Login)] {
				role = "read"
			}
			if set := repo.roles[strings.ToLower(who.Login)]; set != "" {
				role = set
			}
			// What there was before roles knew three levels.
			permission := map[string]string{"maintain": "write", "triage": "read"}[role]
			return map[string]any{"permission": cmp.Or(permission, role), "role_name": role, "user": s.userJSON(who.Login)}, nil
		}),
	}
}

// Advisory publishes one about a package, OWNER/NAME.
func (s *Server) Advisory(of, id, severity, summary, versions string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advisory = append(s.advisory, map[string]any{"package": of, "advisory": map[string]any{
		"ghsa_id": id, "summary": summary, "severity": severity, "type": "reviewed", "cve_id": nil, "description": summary, "html_url": s.http.URL + "/advisories/" + id,
		"vulnerabilities": []any{map[string]any{
			"package": map[string]any{"ecosystem": "actions", "name": of}, "vulnerable_version_range": versions, "first_patched_version": nil, "vulnerable_functions": nil,
		}},
		"published_at": stamp(s.now()), "updated_at": stamp(s.now()), "references": []any{},
	}})
}

// named lists branches or tags with their commits.
func (s *Server) named(r *request, repo *Repository, prefix string) []any {
	var names []string
	for _, ref := range slices.Sorted(maps.Keys(repo.refs)) {
		if strings.HasPrefix(ref, prefix) {
			names = append(names, ref)
		}
	}
	out := []any{}
	for _, ref := range page(r, names) {
		entry := map[string]any{
			"name": strings.TrimPrefix(ref, prefix), "commit": map[string]any{"sha": repo.refs[ref].String(), "url": s.http.URL},
		}
		if prefix == "refs/tags/" {
			entry["zipball_url"], entry["tarball_url"], entry["node_id"] = s.http.URL, s.http.URL, "T_"+ref
		} else {
			entry["protected"] = repo.protects(ref)
		}
		out = append(out, entry)
	}
	return out
}

// listCommits are those on the way to a reference, newest first.
func (s *Server) listCommits(r *request, repo *Repository) (any, error) {
	q := r.URL.Query()
	ref := q.Get("sha")
	if ref == "" {
		ref = repo.DefaultBranch
	}
	h, ok := repo.resolve(ref)
	if !ok {
		return nil, errNotFound
	}
	until, err := time.Parse(time.RFC3339, q.Get("until"))
	if q.Get("until") != "" && err != nil {
		return nil, fail(http.StatusUnprocessableEntity, "until is no time")
	}
	var list []*object.Commit
	for h := range repo.ancestors(h) {
		c, err := object.GetCommit(repo.store, h)
		if err != nil {
			return nil, errNotFound
		}
		if until.IsZero() || !c.Committer.When.After(until) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *object.Commit) int { return b.Committer.When.Compare(a.Committer.When) })
	out := []any{}
	for _, c := range page(r, list) {
		out = append(out, s.commitJSON(repo, c))
	}
	return out, nil
}

func (s *Server) compare(r *request, repo *Repository) (any, error) {
	from, to, ok := strings.Cut(r.PathValue("basehead"), "...")
	base, okBase := repo.resolve(from)
	head, okHead := repo.resolve(to)
	if !ok || !okBase || !okHead {
		return nil, errNotFound
	}
	ahead, behind := repo.between(base, head), repo.between(head, base)
	status := "identical"
	switch {
	case len(ahead) > 0 && len(behind) > 0:
		status = "diverged"
	case len(ahead) > 0:
		status = "ahead"
	case len(behind) > 0:
		status = "behind"
	}
	c, err := object.GetCommit(repo.store, base)
	if err != nil {
		return nil, errNotFound
	}
	commits := []any{}
	for _, c := range page(r, ahead) {
		commits = append(commits, s.commitJSON(repo, c))
	}
	return map[string]any{
		"url": s.http.URL, "html_url": s.http.URL, "permalink_url": s.http.URL, "diff_url": s.http.URL, "patch_url": s.http.URL,
		"base_commit": s.commitJSON(repo, c), "merge_base_commit": s.commitJSON(repo, c), "status": status,
		"ahead_by": len(ahead), "behind_by": len(behind), "total_commits": len(ahead), "commits": commits, "files": []any{},
	}, nil
}

func (s *Server) contents(r *request, repo *Repository) (any, error) {
	ref := r.URL.Query().Get("ref")
	if ref == "" {
		ref = repo.DefaultBranch
	}
	h, ok := repo.resolve(ref)
	if !ok {
		return nil, fail(http.StatusNotFound, "No commit found for the ref %s", ref)
	}
	c, err := object.GetCommit(repo.store, h)
	if err != nil {
		return nil, errNotFound
	}
	name := r.PathValue("path")
	files := repo.flat(c.TreeHash)
	entry := func(name string, f file, kind string) map[string]any {
		data := repo.blob(f.hash)
		return map[string]any{
			"type": kind, "name": path.Base(name), "path": name, "sha": f.hash.String(), "size": len(data), "url": s.http.URL, "git_url": s.http.URL,
			"html_url": s.http.URL, "download_url": s.http.URL, "_links": map[string]any{"git": s.http.URL, "self": s.http.URL, "html": s.http.URL},
		}
	}
	if f, ok := files[name]; ok {
		out := entry(name, f, "file")
		out["encoding"], out["content"] = "base64", base64.StdEncoding.EncodeToString(repo.blob(f.hash))
		if data := repo.blob(f.hash); len(data) > 1<<20 { // larger ones are told of without their text
			out["encoding"], out["content"] = "none", ""
		}
		return out, nil
	}
	out := []any{}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if path.Dir(file) == name {
			out = append(out, entry(file, files[file], "file"))
		}
	}
	if len(out) == 0 {
		return nil, errNotFound
	}
	return out, nil
}

func (s *Server) profile(_ *request, repo *Repository) (any, error) {
	file := func(there bool) any {
		if !there {
			return nil
		}
		return map[string]any{"url": s.http.URL, "html_url": s.http.URL}
	}
	return map[string]any{
		"health_percentage": 50, "description": nil, "documentation": nil, "updated_at": nil,
		"files": map[string]any{"code_of_conduct": nil, "code_of_conduct_file": nil, "license": nil, "contributing": nil, "readme": file(true), "issue_template": nil, "pull_request_template": nil},
	}, nil
}

func (s *Server) releaseJSON(repo *Repository, rel *release) map[string]any {
	return map[string]any{
		"id": rel.id, "tag_name": rel.tag, "target_commitish": repo.DefaultBranch, "name": rel.tag, "draft": false, "prerelease": rel.prerelease,
		"immutable": rel.immutable, "created_at": stamp(rel.published), "published_at": stamp(rel.published), "author": s.userJSON(repo.owner()), "assets": []any{},
		"html_url": s.http.URL + "/" + repo.Name + "/releases/tag/" + rel.tag,
	}
}

func (s *Server) listReleases(r *request, repo *Repository) (any, error) {
	all := slices.Clone(repo.releases)
	slices.SortStableFunc(all, func(a, b *release) int { return b.published.Compare(a.published) })
	out := []any{}
	for _, rel := range page(r, all) {
		out = append(out, s.releaseJSON(repo, rel))
	}
	return out, nil
}

func (s *Server) getRelease(r *request, repo *Repository) (any, error) {
	for _, rel := range repo.releases {
		if rel.tag == r.PathValue("tag") {
			return s.releaseJSON(repo, rel), nil
		}
	}
	return nil, errNotFound
}
