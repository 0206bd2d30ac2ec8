package githubfake

import (
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/memory"
)

// Repository is one, with its git objects. Its exported fields are set before it is asked for;
// its methods are safe for concurrent use.
type Repository struct {
	// Name is OWNER/NAME.
	Name                              string
	DefaultBranch                     string
	Private, Fork, Archived, Disabled bool
	Stars                             int
	Topics                            []string
	License                           string
	SecurityPolicy                    bool
	PushedAt                          time.Time
	// Protected are branches, with *, that nobody may make or push to but by a pull request.
	Protected []string
	// NoPulls refuses pull requests.
	NoPulls bool
	// TreeLimit is how many files a whole tree is listed with at most; 100,000 at GitHub, no limit
	// here if it is 0.
	TreeLimit int

	server   *Server
	id       int64
	created  time.Time
	store    *memory.Storage
	refs     map[string]plumbing.Hash // by whole name
	readers  map[string]bool
	roles    map[string]string // by login, where it is not write or read
	issues   []*issue          // pull requests, too
	releases []*release
	runs     []*run
	checks   []*checkRun
	signed   map[plumbing.Hash]bool
}

type release struct {
	id         int64
	tag        string
	published  time.Time
	immutable  bool
	prerelease bool
}

// Repository makes one with an empty branch main, or returns the one that there is.
func (s *Server) Repository(name string) *Repository {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.repos[strings.ToLower(name)]; r != nil {
		return r
	}
	owner, _, _ := strings.Cut(name, "/")
	if s.accounts[strings.ToLower(owner)] == nil {
		s.accountLocked(owner, kindOrganisation)
	}
	r := &Repository{
		Name: name, DefaultBranch: "main", server: s, id: s.id(), store: memory.NewStorage(), refs: make(map[string]plumbing.Hash),
		readers: make(map[string]bool), roles: make(map[string]string), signed: make(map[plumbing.Hash]bool), created: s.now(), PushedAt: s.now(),
	}
	s.repos[strings.ToLower(name)] = r
	s.order = append(s.order, r)
	return r
}

func (r *Repository) owner() string { return path.Dir(r.Name) }
func (r *Repository) short() string { return path.Base(r.Name) }

// SetRole gives a user a role: none, read, triage, write, maintain or admin.
func (r *Repository) SetRole(login, role string) {
	r.server.User(login)
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.roles[strings.ToLower(login)] = role
}

// OnlyReads takes the right to write away from a user.
func (r *Repository) OnlyReads(login string) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.readers[strings.ToLower(login)] = true
}

// Commit puts files (path to text; an empty text removes one) on top of a branch, which is made
// if it is not there, and returns the commit.
func (r *Repository) Commit(branch, login, message string, files map[string]string) string {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	ref := "refs/heads/" + branch
	parent := r.refs[ref]
	if parent.IsZero() {
		parent = r.refs["refs/heads/"+r.DefaultBranch]
	}
	hash := r.commitFiles(parent, login, message, files)
	r.refs[ref] = hash
	r.PushedAt = r.server.now()
	r.sync()
	return hash.String()
}

// Force lets a branch name a commit, whatever it named before; without one it is removed.
func (r *Repository) Force(branch, commit string) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	if commit == "" {
		delete(r.refs, "refs/heads/"+branch)
	} else {
		r.refs["refs/heads/"+branch] = plumbing.NewHash(commit)
	}
	r.sync()
}

// Loose makes a commit on top of another that no reference leads to, as in a fork.
func (r *Repository) Loose(parent, login, message string, files map[string]string) string {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	return r.commitFiles(plumbing.NewHash(parent), login, message, files).String()
}

// Tag names a commit, whether it named another before or not.
func (r *Repository) Tag(name, commit string) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.refs["refs/tags/"+name] = plumbing.NewHash(commit)
}

// Release publishes a tag.
func (r *Repository) Release(tag string, published time.Time, immutable bool) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.releases = append(r.releases, &release{id: r.server.id(), tag: tag, published: published, immutable: immutable})
}

// Head is the commit of a branch; empty if there is none.
func (r *Repository) Head(branch string) string {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	h, ok := r.refs["refs/heads/"+branch]
	if !ok {
		return ""
	}
	return h.String()
}

// Branches lists their names, ordered.
func (r *Repository) Branches() (out []string) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for _, ref := range slices.Sorted(maps.Keys(r.refs)) {
		if name, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
			out = append(out, name)
		}
	}
	return out
}

// Files are those of a commit.
func (r *Repository) Files(commit string) map[string]string {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	out := make(map[string]string)
	c, err := object.GetCommit(r.store, plumbing.NewHash(commit))
	if err != nil {
		return nil
	}
	for name, f := range r.flat(c.TreeHash) {
		out[name] = string(r.blob(f.hash))
	}
	return out
}

// Message of a commit, and whether GitHub signed it, and its parents.
func (r *Repository) Message(commit string) (message string, signed bool, parents []string) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	c, err := object.GetCommit(r.store, plumbing.NewHash(commit))
	if err != nil {
		return "", false, nil
	}
	for _, p := range c.ParentHashes {
		parents = append(parents, p.String())
	}
	return c.Message, r.signed[c.Hash], parents
}

type file struct {
	mode filemode.FileMode
	hash plumbing.Hash
}

func (r *Repository) commitFiles(parent plumbing.Hash, login, message string, files map[string]string) plumbing.Hash {
	all := make(map[string]file)
	var parents []plumbing.Hash
	if !parent.IsZero() {
		c, err := object.GetCommit(r.store, parent)
		if err != nil {
			panic(err)
		}
		all = r.flat(c.TreeHash)
		parents = []plumbing.Hash{parent}
	}
	for name, text := range files {
		if text == "" {
			delete(all, name)
			continue
		}
		all[name] = file{filemode.Regular, r.putBlob([]byte(text))}
	}
	who := object.Signature{Name: login, Email: login + "@example.test", When: r.server.now()}
	return r.put(&object.Commit{Author: who, Committer: who, Message: message, TreeHash: r.tree(all), ParentHashes: parents})
}

type encoder interface {
	Encode(o plumbing.EncodedObject) error
}

func (r *Repository) put(e encoder) plumbing.Hash {
	o := r.store.NewEncodedObject()
	if err := e.Encode(o); err != nil {
		panic(err)
	}
	hash, err := r.store.SetEncodedObject(o)
	if err != nil {
		panic(err)
	}
	return hash
}

func (r *Repository) putBlob(data []byte) plumbing.Hash {
	o := r.store.NewEncodedObject()
	o.SetType(plumbing.BlobObject)
	w, err := o.Writer()
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		panic(err)
	}
	hash, err := r.store.SetEncodedObject(o)
	if err != nil {
		panic(err)
	}
	return hash
}

func (r *Repository) blob(hash plumbing.Hash) []byte {
	b, err := object.GetBlob(r.store, hash)
	if err != nil {
		return nil
	}
	in, err := b.Reader()
	if err != nil {
		return nil
	}
	data, _ := io.ReadAll(in)
	return data
}

// flat are all files of a tree, by path.
func (r *Repository) flat(tree plumbing.Hash) map[string]file {
	out := make(map[string]file)
	t, err := object.GetTree(r.store, tree)
	if err != nil {
		return out
	}
	w := object.NewTreeWalker(t, true, nil)
	defer w.Close()
	for {
		name, entry, err := w.Next()
		if err != nil {
			return out
		}
		if entry.Mode != filemode.Dir {
			out[name] = file{entry.Mode, entry.Hash}
		}
	}
}

// tree makes the trees of files.
func (r *Repository) tree(files map[string]file) plumbing.Hash {
	entries := make(map[string]object.TreeEntry)
	below := make(map[string]map[string]file)
	for name, f := range files {
		dir, rest, deep := strings.Cut(name, "/")
		if !deep {
			entries[name] = object.TreeEntry{Name: name, Mode: f.mode, Hash: f.hash}
			continue
		}
		if below[dir] == nil {
			below[dir] = make(map[string]file)
		}
		below[dir][rest] = f
	}
	for dir, of := range below {
		entries[dir] = object.TreeEntry{Name: dir, Mode: filemode.Dir, Hash: r.tree(of)}
	}
	t := &object.Tree{Entries: slices.Collect(maps.Values(entries))}
	sort.Sort(object.TreeEntrySorter(t.Entries))
	return r.put(t)
}

// resolve finds a commit by branch, tag, whole or short hash.
func (r *Repository) resolve(ref string) (plumbing.Hash, bool) {
	for _, name := range []string{ref, "refs/heads/" + ref, "refs/tags/" + ref, "refs/" + ref} {
		if h, ok := r.refs[name]; ok {
			return h, true
		}
	}
	if len(ref) < 7 || strings.Trim(ref, "0123456789abcdef") != "" {
		return plumbing.ZeroHash, false
	}
	for h := range r.store.Commits {
		if strings.HasPrefix(h.String(), ref) {
			return h, true
		}
	}
	return plumbing.ZeroHash, false
}

// ancestors of a commit, itself included.
func (r *Repository) ancestors(of plumbing.Hash) map[plumbing.Hash]bool {
	out := make(map[plumbing.Hash]bool)
	next := []plumbing.Hash{of}
	for len(next) > 0 {
		h := next[0]
		next = next[1:]
		if out[h] {
			continue
		}
		c, err := object.GetCommit(r.store, h)
		if err != nil {
			continue
		}
		out[h] = true
		next = append(next, c.ParentHashes...)
	}
	return out
}

// between are the commits of head that base has not, oldest first.
func (r *Repository) between(base, head plumbing.Hash) []*object.Commit {
	has := r.ancestors(base)
	var out []*object.Commit
	seen := make(map[plumbing.Hash]bool)
	var walk func(plumbing.Hash)
	walk = func(h plumbing.Hash) {
		if has[h] || seen[h] {
			return
		}
		seen[h] = true
		c, err := object.GetCommit(r.store, h)
		if err != nil {
			return
		}
		for _, p := range c.ParentHashes {
			walk(p)
		}
		out = append(out, c)
	}
	walk(head)
	return out
}

// protects says whether a branch may only change by pull requests.
func (r *Repository) protects(ref string) bool {
	branch, isBranch := strings.CutPrefix(ref, "refs/heads/")
	return isBranch && slices.ContainsFunc(r.Protected, func(p string) bool {
		ok, err := path.Match(p, branch)
		return err == nil && ok
	})
}

// sync brings pull requests up to their branches, as GitHub does after a push: one without
// commits is closed.
func (r *Repository) sync() {
	for _, i := range r.issues {
		if i.pull == nil || i.state != "open" {
			continue
		}
		head, ok := r.refs["refs/heads/"+i.pull.head]
		if !ok {
			i.state = "closed"
			continue
		}
		i.pull.sha = head
		base := r.refs["refs/heads/"+i.pull.base]
		if r.ancestors(base)[head] {
			i.state = "closed"
		}
	}
}

func (s *Server) repositoryJSON(r *Repository) map[string]any {
	license := any(nil)
	if r.License != "" {
		license = map[string]any{"key": strings.ToLower(r.License), "name": r.License, "spdx_id": r.License, "url": nil, "node_id": "L_1"}
	}
	return map[string]any{
		"id": r.id, "node_id": fmt.Sprint("R_", r.id), "name": r.short(), "full_name": r.Name, "owner": s.userJSON(r.owner()),
		"private": r.Private, "fork": r.Fork, "archived": r.Archived, "disabled": r.Disabled, "default_branch": r.DefaultBranch,
		"visibility": map[bool]string{true: "private", false: "public"}[r.Private], "stargazers_count": r.Stars, "topics": append([]string{}, r.Topics...),
		"html_url": s.http.URL + "/" + r.Name, "license": license, "pushed_at": stamp(r.PushedAt), "created_at": stamp(r.created), "updated_at": stamp(r.PushedAt),
		"size": len(r.store.Objects), "forks_count": 0, "open_issues_count": 0, "watchers_count": r.Stars,
		"permissions": map[string]any{"admin": false, "push": true, "pull": true},
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
