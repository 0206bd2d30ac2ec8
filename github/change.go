package github

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	gh "github.com/google/go-github/v88/github"
)

func decode(content, encoding string) ([]byte, error) {
	switch encoding {
	case "base64":
		return base64.StdEncoding.DecodeString(strings.ReplaceAll(content, "\n", ""))
	case "utf-8", "":
		return []byte(content), nil
	default:
		return nil, fmt.Errorf("GitHub sent it as %q", encoding)
	}
}

// Change is a file's new text.
type Change struct {
	Path string
	// Mode is git's, six digits.
	Mode string
	Text []byte
}

// CommitOn makes a commit of changes on top of another, which no branch names yet. GitHub signs it:
// that of an App as it is, that of a token by way of a branch of the name given in passing, which
// is gone afterwards. A token's commit with a mode other than 100644 is not signed.
func (c *Client) CommitOn(ctx context.Context, r Repository, parent Commit, changes []Change, message, passing string) (Commit, error) {
	plain := true
	for _, ch := range changes {
		plain = plain && ch.Mode == "100644"
	}
	if c.app || !plain {
		return c.commitByParts(ctx, r, parent, changes, message)
	}
	return c.commitByBranch(ctx, r, parent, changes, message, passing)
}

func (c *Client) commitByParts(ctx context.Context, r Repository, parent Commit, changes []Change, message string) (Commit, error) {
	owner, name := split(r.Name)
	var entries []*gh.TreeEntry
	for _, ch := range changes {
		blob, _, err := c.api.Git.CreateBlob(ctx, owner, name, gh.Blob{Content: gh.Ptr(base64.StdEncoding.EncodeToString(ch.Text)), Encoding: gh.Ptr("base64")})
		if err != nil {
			return Commit{}, said(fmt.Sprintf("write %s of %s", ch.Path, r.Name), err)
		}
		entries = append(entries, &gh.TreeEntry{Path: gh.Ptr(ch.Path), Mode: gh.Ptr(ch.Mode), Type: gh.Ptr("blob"), SHA: blob.SHA})
	}
	tree, _, err := c.api.Git.CreateTree(ctx, owner, name, parent.Tree, entries)
	if err != nil {
		return Commit{}, said("write a tree of "+r.Name, err)
	}
	commit, _, err := c.api.Git.CreateCommit(ctx, owner, name, gh.Commit{Message: gh.Ptr(message), Tree: tree, Parents: []*gh.Commit{{SHA: gh.Ptr(parent.SHA)}}}, nil)
	if err != nil {
		return Commit{}, said("write a commit of "+r.Name, err)
	}
	return commitOf(commit), nil
}

// commitByBranch lets GitHub commit, and sign, what a token may not sign itself.
func (c *Client) commitByBranch(ctx context.Context, r Repository, parent Commit, changes []Change, message, passing string) (Commit, error) {
	if err := c.CreateBranch(ctx, r.Name, passing, parent.SHA); errors.Is(err, errExists) {
		// Left by a run that was stopped: it is ours by its name.
		if err := c.DeleteBranch(ctx, r.Name, passing); err != nil {
			return Commit{}, err
		}
		if err := c.CreateBranch(ctx, r.Name, passing, parent.SHA); err != nil {
			return Commit{}, err
		}
	} else if err != nil {
		return Commit{}, err
	}
	type addition struct {
		Path     string `json:"path"`
		Contents string `json:"contents"`
	}
	var additions []addition
	for _, ch := range changes {
		additions = append(additions, addition{ch.Path, base64.StdEncoding.EncodeToString(ch.Text)})
	}
	headline, body, _ := strings.Cut(message, "\n\n")
	var out struct {
		CreateCommitOnBranch struct{ Commit struct{ OID string } }
	}
	err := c.graph(ctx, `mutation($input: CreateCommitOnBranchInput!) { createCommitOnBranch(input: $input) { commit { oid } } }`, map[string]any{
		"branch":          map[string]any{"repositoryNameWithOwner": r.Name, "branchName": passing},
		"expectedHeadOid": parent.SHA,
		"message":         map[string]any{"headline": headline, "body": body},
		"fileChanges":     map[string]any{"additions": additions},
	}, &out)
	if err != nil {
		return Commit{}, errors.Join(fmt.Errorf("commit to %s: %w", r.Name, err), c.DeleteBranch(ctx, r.Name, passing))
	}
	commit, err := c.Commit(ctx, r.Name, out.CreateCommitOnBranch.Commit.OID)
	return commit, errors.Join(err, c.DeleteBranch(ctx, r.Name, passing))
}

var errExists = errors.New("it is there already")

// CreateBranch makes a branch at a commit.
func (c *Client) CreateBranch(ctx context.Context, repository, branch, sha string) error {
	owner, name := split(repository)
	_, _, err := c.api.Git.CreateRef(ctx, owner, name, gh.CreateRef{Ref: "refs/heads/" + branch, SHA: sha})
	if err != nil && strings.Contains(strings.ToLower(err.Error()), "already exists") {
		return fmt.Errorf("make branch %s of %s: %w", branch, repository, errExists)
	}
	return said(fmt.Sprintf("make branch %s of %s", branch, repository), err)
}

// DeleteBranch removes a branch; one that is not there is no error.
func (c *Client) DeleteBranch(ctx context.Context, repository, branch string) error {
	owner, name := split(repository)
	_, err := c.api.Git.DeleteRef(ctx, owner, name, "heads/"+branch)
	if err != nil && strings.Contains(strings.ToLower(err.Error()), "does not exist") {
		return nil
	}
	return said(fmt.Sprintf("remove branch %s of %s", branch, repository), err)
}

// MoveBranch lets a branch name another commit, if it still names the one that it was seen at.
// Errors wrap ErrMoved if it does not. An empty to removes the branch.
func (c *Client) MoveBranch(ctx context.Context, r Repository, branch, from, to string) error {
	doing := "move"
	if to == "" {
		doing, to = "remove", strings.Repeat("0", len(from))
	}
	err := c.graph(ctx, `mutation($input: UpdateRefsInput!) { updateRefs(input: $input) { clientMutationId } }`, map[string]any{
		"repositoryId": r.ID,
		"refUpdates":   []map[string]any{{"name": "refs/heads/" + branch, "beforeOid": from, "afterOid": to, "force": true}},
	}, nil)
	if err == nil {
		return nil
	}
	now, headErr := c.Head(ctx, r.Name, branch)
	switch {
	case headErr == nil && now == to, errors.Is(headErr, ErrNotFound) && doing == "remove":
		return nil // it was done, and the answer was lost
	case headErr == nil && now != from:
		err = ErrMoved
	}
	return fmt.Errorf("%s branch %s of %s: %w", doing, branch, r.Name, err)
}

// graph asks GitHub's GraphQL interface, with one variable input.
func (c *Client) graph(ctx context.Context, query string, input, into any) error {
	path := "graphql"
	if strings.HasSuffix(c.config.URL, "/api/v3/") {
		path = strings.TrimSuffix(c.config.URL, "v3/") + "graphql"
	}
	req, err := c.api.NewRequest(ctx, http.MethodPost, path, map[string]any{"query": query, "variables": map[string]any{"input": input}})
	if err != nil {
		return err
	}
	var answer struct {
		Data   any
		Errors []struct{ Type, Message string }
	}
	answer.Data = into
	if _, err := c.api.Do(req, &answer); err != nil {
		return said("ask", err)
	}
	if len(answer.Errors) == 0 {
		return nil
	}
	e := answer.Errors[0]
	lower := strings.ToLower(e.Message)
	switch {
	case strings.Contains(lower, "rule violation"):
		return fmt.Errorf("%w (%s)", ErrProtected, oneLine(e.Message))
	case e.Type == "FORBIDDEN" || strings.Contains(lower, "workflows` permission") || strings.Contains(lower, "workflow` scope"):
		return fmt.Errorf("%w (%s)", ErrForbidden, oneLine(e.Message))
	case e.Type == "NOT_FOUND":
		return fmt.Errorf("%w (%s)", ErrNotFound, oneLine(e.Message))
	default:
		return errors.New("GitHub says: " + oneLine(e.Message))
	}
}
