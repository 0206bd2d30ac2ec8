package githubfake

import (
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

//go:embed contract/github.graphql
var graphDescription string

var graphSchema = sync.OnceValues(func() (*ast.Schema, error) {
	return gqlparser.LoadSchema(&ast.Source{Name: "github.graphql", Input: graphDescription})
})

func (s *Server) serveGraphQL(w http.ResponseWriter, raw *http.Request) {
	body, err := io.ReadAll(io.LimitReader(raw.Body, 50<<20))
	if err != nil {
		return
	}
	r := &request{Request: raw, body: body}
	if s.faulted(w, r, false) {
		return
	}
	s.mu.Lock()
	status, value := s.graph(r)
	s.mu.Unlock()
	if s.faulted(w, r, true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(w, r, status, value)
}

func (s *Server) graph(r *request) (int, any) {
	if err := errors.Join(s.authenticate(r), s.limited(r)); err != nil {
		return refusal(err)
	}
	if r.by == nil {
		return refusal(fail(http.StatusUnauthorized, "This endpoint requires you to be authenticated."))
	}
	var in struct {
		Query     string
		Variables map[string]any
	}
	schema, err := graphSchema()
	if err == nil {
		err = json.Unmarshal(r.body, &in)
	}
	if err != nil {
		return refusal(err)
	}
	query, parseErr := gqlparser.LoadQueryWithRules(schema, in.Query, rules.NewDefaultRules())
	if parseErr != nil {
		s.violation("GraphQL: %v in %s", parseErr, in.Query)
		return http.StatusOK, graphError("INVALID", parseErr.Error())
	}
	op := query.Operations[0]
	vars, err := validator.VariableValues(schema, op, in.Variables)
	if err != nil {
		s.violation("GraphQL: %v in %s of %v", err, in.Query, in.Variables)
		return http.StatusOK, graphError("INVALID", err.Error())
	}
	data := make(map[string]any)
	for _, sel := range op.SelectionSet {
		field, ok := sel.(*ast.Field)
		if !ok {
			continue
		}
		input, _ := field.ArgumentMap(vars)["input"].(map[string]any)
		var out any
		switch field.Name {
		case "createCommitOnBranch":
			out, err = s.graphCommit(r, input)
		case "updateRefs":
			out, err = s.graphRefs(r, input)
		}
		if err != nil {
			var f *failure
			kind := "UNPROCESSABLE"
			if errors.As(err, &f) && f.status == http.StatusForbidden {
				kind = "FORBIDDEN"
			}
			return http.StatusOK, graphError(kind, err.Error())
		}
		data[field.Alias] = out
	}
	return http.StatusOK, map[string]any{"data": data}
}

func graphError(kind, message string) map[string]any {
	return map[string]any{"data": nil, "errors": []any{map[string]any{"type": kind, "message": message}}}
}

// graphRefs moves several references at once, if all stand where they are expected to.
func (s *Server) graphRefs(r *request, input map[string]any) (any, error) {
	var repo *Repository
	for _, of := range s.order {
		if fmt.Sprint("R_", of.id) == input["repositoryId"] {
			repo = of
		}
	}
	if repo == nil {
		return nil, fail(http.StatusNotFound, "Could not resolve to a node with the global id of '%v'", input["repositoryId"])
	}
	if err := s.allowed(r, repo, "contents", "write"); err != nil {
		return nil, err
	}
	updates, _ := input["refUpdates"].([]any)
	before := make(map[string]plumbing.Hash, len(repo.refs))
	for k, v := range repo.refs {
		before[k] = v
	}
	for _, u := range updates {
		u, _ := u.(map[string]any)
		name, _ := u["name"].(string)
		after, _ := u["afterOid"].(string)
		force, _ := u["force"].(bool)
		if expected, ok := u["beforeOid"].(string); ok && repo.refs[name] != plumbing.NewHash(expected) {
			repo.refs = before
			return nil, fail(http.StatusUnprocessableEntity, "Reference update failed: %s is at %s but expected %s", name, repo.refs[name], expected)
		}
		if plumbing.NewHash(after).IsZero() {
			delete(repo.refs, name)
			continue
		}
		if err := s.moveRef(r, repo, name, after, force); err != nil {
			repo.refs = before
			return nil, err
		}
	}
	repo.sync()
	return map[string]any{"clientMutationId": nil}, nil
}

// graphCommit commits on top of a branch, if its head is the expected one; GitHub signs it.
func (s *Server) graphCommit(r *request, input map[string]any) (any, error) {
	branch, _ := input["branch"].(map[string]any)
	name, _ := branch["repositoryNameWithOwner"].(string)
	repo := s.repos[strings.ToLower(name)]
	if repo == nil {
		return nil, fail(http.StatusNotFound, "Could not resolve to a Repository with the name '%s'.", name)
	}
	if err := s.allowed(r, repo, "contents", "write"); err != nil {
		return nil, err
	}
	ref := "refs/heads/" + fmt.Sprint(branch["branchName"])
	expected := plumbing.NewHash(fmt.Sprint(input["expectedHeadOid"]))
	if repo.refs[ref] != expected {
		return nil, fail(http.StatusUnprocessableEntity, "Expected branch to point to %q but it did not. Pull and try again.", expected)
	}
	parent, err := object.GetCommit(repo.store, expected)
	if err != nil {
		return nil, errNotFound
	}
	files := repo.flat(parent.TreeHash)
	changes, _ := input["fileChanges"].(map[string]any)
	additions, _ := changes["additions"].([]any)
	for _, a := range additions {
		a, _ := a.(map[string]any)
		data, err := base64.StdEncoding.DecodeString(fmt.Sprint(a["contents"]))
		if err != nil {
			return nil, fail(http.StatusUnprocessableEntity, "contents is not Base64")
		}
		mode := filemode.Regular
		if old, ok := files[fmt.Sprint(a["path"])]; ok {
			mode = old.mode
		}
		files[fmt.Sprint(a["path"])] = file{mode, repo.putBlob(data)}
	}
	message, _ := input["message"].(map[string]any)
	text, _ := message["headline"].(string)
	if body, ok := message["body"].(string); ok && body != "" {
		text += "\n\n" + body
	}
	who := s.signature(r)
	c := s.keep(repo, &object.Commit{Author: who, Committer: who, Message: text, TreeHash: repo.tree(files), ParentHashes: []plumbing.Hash{expected}}, true)
	if err := s.moveRef(r, repo, ref, c.Hash.String(), false); err != nil {
		return nil, err
	}
	return map[string]any{"commit": map[string]any{"oid": c.Hash.String(), "signature": map[string]any{"isValid": true}}}, nil
}
