package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
)

// approvalSource says where the approved actions are: in a file here, or in a repository at
// GitHub.
type approvalSource struct {
	file, repository string
}

func (s *approvalSource) flags(f *pflag.FlagSet) {
	f.StringVar(&s.file, "catalog", "", "file of approved actions (default "+harden.ApprovalsFile+"); with --catalog-repo its path there")
	f.StringVar(&s.repository, "catalog-repo", "", "repository at GitHub, OWNER/REPO, that holds it, on its default branch")
}

// path of the file.
func (s *approvalSource) path() string {
	if s.file == "" {
		return harden.ApprovalsFile
	}
	return s.file
}

func (s *approvalSource) check() error {
	if s.repository == "" {
		return nil
	}
	if owner, name, ok := strings.Cut(s.repository, "/"); !ok || owner == "" || name == "" || strings.Contains(name, "/") {
		return usageError(fmt.Errorf("--catalog-repo %q is not OWNER/REPO", s.repository))
	}
	return nil
}

// fetch reads the file from the repository.
func (s *approvalSource) fetch(ctx context.Context, client *github.Client, policy string) (*harden.Approvals, error) {
	repo, err := client.Repository(ctx, s.repository)
	if err != nil {
		return nil, fmt.Errorf("read approvals: %w", err)
	}
	text, err := client.File(ctx, repo.Name, repo.DefaultBranch, s.path())
	if err != nil {
		return nil, fmt.Errorf("read approvals: %w", err)
	}
	return harden.ParseApprovals(ctx, repo.Name+"/"+s.path(), text, policy, time.Now())
}

// read reads the approvals, which must be there.
func (s *approvalSource) read(ctx context.Context, g *githubOptions) (*harden.Approvals, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.repository == "" {
		a, err := harden.ReadApprovals(ctx, s.path(), "", time.Now())
		if err == nil && a == nil {
			err = errors.New("read approvals: there is no " + s.path() + " here; give --catalog or --catalog-repo")
		}
		return a, err
	}
	owner, _, _ := strings.Cut(s.repository, "/")
	client, err := g.client(ctx, owner, time.Second, nil)
	if err != nil {
		return nil, err
	}
	return s.fetch(ctx, client, "")
}
