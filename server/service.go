package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-ci/sallyport/detector"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store"
)

// Baselines are the baselines of jobs. Get returns detector.ErrNoBaseline where
// there is none; List orders by repository, workflow and job.
type Baselines interface {
	Get(ctx context.Context, repository, workflow, job string) (*sallyportv1.Baseline, error)
	List(ctx context.Context) ([]*sallyportv1.Baseline, error)
}

// service implements the calls.
type service struct {
	sallyportv1.UnimplementedSallyportServiceServer
	store     *store.Store
	baselines Baselines
	teacher   Teacher
	decisions Decisions
	verdicts  Verdicts
	health    func() []*sallyportv1.PartHealth
	log       *slog.Logger
}

// maxName bounds names in requests: GitHub's own limits are lower.
const maxName = 1024

func name(field, value string, needed bool) error {
	switch {
	case value == "" && needed:
		return status.Errorf(codes.InvalidArgument, "%s is missing", field)
	case len(value) > maxName:
		return status.Errorf(codes.InvalidArgument, "%s is longer than %d bytes", field, maxName)
	case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
		return status.Errorf(codes.InvalidArgument, "%s is not text", field)
	}
	return nil
}

func repository(value string, needed bool) error {
	if err := name("repository", value, needed); err != nil || value == "" {
		return err
	}
	owner, repo, ok := strings.Cut(value, "/")
	if !ok || owner == "" || repo == "" || strings.Contains(repo, "/") {
		return status.Errorf(codes.InvalidArgument, "repository is %q: it must be OWNER/NAME", value)
	}
	return nil
}

// run checks the names that single out a run or an execution in it.
func run(repo, runID, execution string) error {
	return first(repository(repo, true), name("run_id", runID, true), name("execution_id", execution, false))
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// failed turns an error of a part behind this one into what a client should hear.
func (s *service) failed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, store.ErrNotFound), errors.Is(err, detector.ErrNoBaseline):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, store.ErrCursor):
		return status.Error(codes.InvalidArgument, "page_token is not one that this list gave")
	case store.Refused(err):
		s.log.Error("question not answered", "error", err)
		return status.Error(codes.Internal, "the question could not be answered: see the server's log")
	default:
		s.log.Warn("question not answered", "error", err)
		return status.Error(codes.Unavailable, "the data cannot be reached now: GET /v1/health says which part is down")
	}
}

func (s *service) ListRuns(ctx context.Context, q *sallyportv1.ListRunsRequest) (*sallyportv1.ListRunsResponse, error) {
	size, err := pageSize(q.PageSize)
	if err = first(err, repository(q.Repository, false)); err != nil {
		return nil, err
	}
	list := listOf("runs", q.Repository)
	after, err := decodePage(list, q.PageToken)
	if err != nil {
		return nil, err
	}
	runs, next, err := s.store.Runs(ctx, q.Repository, after, size)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return &sallyportv1.ListRunsResponse{Runs: runs, NextPageToken: encodePage(list, next)}, nil
}

func (s *service) GetRun(ctx context.Context, q *sallyportv1.GetRunRequest) (*sallyportv1.GetRunResponse, error) {
	if err := run(q.Repository, q.RunId, ""); err != nil {
		return nil, err
	}
	run, jobs, err := s.store.Run(ctx, q.Repository, q.RunId, q.RunAttempt)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return &sallyportv1.GetRunResponse{Run: run, Jobs: jobs}, nil
}

func (s *service) ListProcesses(ctx context.Context, q *sallyportv1.ListProcessesRequest) (*sallyportv1.ListProcessesResponse, error) {
	size, err := pageSize(q.PageSize)
	if err = first(err, run(q.Repository, q.RunId, q.ExecutionId)); err != nil {
		return nil, err
	}
	list := listOf("processes", q.Repository, q.RunId, q.ExecutionId)
	after, err := decodePage(list, q.PageToken)
	if err != nil {
		return nil, err
	}
	processes, next, err := s.store.Processes(ctx, q.Repository, q.RunId, q.ExecutionId, after, size)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return &sallyportv1.ListProcessesResponse{Processes: processes, NextPageToken: encodePage(list, next)}, nil
}

func (s *service) ListDestinations(ctx context.Context, q *sallyportv1.ListDestinationsRequest) (*sallyportv1.ListDestinationsResponse, error) {
	size, err := pageSize(q.PageSize)
	if err = first(err, run(q.Repository, q.RunId, q.ExecutionId)); err != nil {
		return nil, err
	}
	list := listOf("destinations", q.Repository, q.RunId, q.ExecutionId)
	after, err := decodePage(list, q.PageToken)
	if err != nil {
		return nil, err
	}
	destinations, next, err := s.store.Destinations(ctx, q.Repository, q.RunId, q.ExecutionId, after, size)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return &sallyportv1.ListDestinationsResponse{Destinations: destinations, NextPageToken: encodePage(list, next)}, nil
}

func (s *service) ListFindings(ctx context.Context, q *sallyportv1.ListFindingsRequest) (*sallyportv1.ListFindingsResponse, error) {
	size, err := pageSize(q.PageSize)
	if err = first(err, repository(q.Repository, false), name("run_id", q.RunId, false)); err != nil {
		return nil, err
	}
	if _, ok := sallyportv1.Severity_name[int32(q.MinimumSeverity)]; !ok {
		return nil, status.Errorf(codes.InvalidArgument, "minimum_severity is %d: it must be one of the named values", q.MinimumSeverity)
	}
	list := listOf("findings", q.Repository, q.RunId, q.MinimumSeverity.String())
	after, err := decodePage(list, q.PageToken)
	if err != nil {
		return nil, err
	}
	findings, next, err := s.store.Findings(ctx, q.Repository, q.RunId, q.MinimumSeverity, after, size)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	listed := make(map[string]bool, len(findings))
	for _, f := range findings {
		listed[f.GetId()] = true
	}
	decisions, err := s.about(ctx, listed)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return &sallyportv1.ListFindingsResponse{Findings: findings, NextPageToken: encodePage(list, next), Decisions: standing(decisions)}, nil
}

func (s *service) GetFinding(ctx context.Context, q *sallyportv1.GetFindingRequest) (*sallyportv1.GetFindingResponse, error) {
	if err := name("id", q.Id, true); err != nil {
		return nil, err
	}
	finding, err := s.store.Finding(ctx, q.Id)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	decisions, err := s.about(ctx, map[string]bool{finding.GetId(): true})
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return &sallyportv1.GetFindingResponse{Finding: finding, Decisions: decisions}, nil
}

func (s *service) ListBaselines(ctx context.Context, q *sallyportv1.ListBaselinesRequest) (*sallyportv1.ListBaselinesResponse, error) {
	size, err := pageSize(q.PageSize)
	if err = first(err, repository(q.Repository, false)); err != nil {
		return nil, err
	}
	list := listOf("baselines", q.Repository)
	after, err := decodePage(list, q.PageToken)
	if err != nil {
		return nil, err
	}
	if len(after.Keys) != 0 && len(after.Keys) != 3 {
		return nil, status.Error(codes.InvalidArgument, "page_token is not one that this list gave")
	}
	all, err := s.baselines.List(ctx)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	answer := &sallyportv1.ListBaselinesResponse{}
	for _, b := range all {
		if q.Repository != "" && b.Repository != q.Repository || len(after.Keys) == 3 && !follows(b, after.Keys) {
			continue
		}
		if len(answer.Baselines) == size {
			last := answer.Baselines[size-1]
			answer.NextPageToken = encodePage(list, &store.Cursor{Keys: []string{last.Repository, last.Workflow, last.Job}})
			break
		}
		answer.Baselines = append(answer.Baselines, b)
	}
	return answer, nil
}

// follows says whether a baseline comes after one with these names.
func follows(b *sallyportv1.Baseline, names []string) bool {
	for i, own := range []string{b.Repository, b.Workflow, b.Job} {
		if c := strings.Compare(own, names[i]); c != 0 {
			return c > 0
		}
	}
	return false
}

func (s *service) GetBaseline(ctx context.Context, q *sallyportv1.GetBaselineRequest) (*sallyportv1.GetBaselineResponse, error) {
	if err := first(repository(q.Repository, true), name("workflow", q.Workflow, true), name("job", q.Job, true)); err != nil {
		return nil, err
	}
	baseline, err := s.baselines.Get(ctx, q.Repository, q.Workflow, q.Job)
	if err != nil {
		return nil, s.failed(ctx, fmt.Errorf("get baseline of job %s in workflow %s of %s: %w", q.Job, q.Workflow, q.Repository, err))
	}
	return &sallyportv1.GetBaselineResponse{Baseline: baseline}, nil
}

func (s *service) GetHealth(context.Context, *sallyportv1.GetHealthRequest) (*sallyportv1.GetHealthResponse, error) {
	answer := &sallyportv1.GetHealthResponse{Healthy: true, Parts: s.health()}
	for _, p := range answer.Parts {
		answer.Healthy = answer.Healthy && p.Healthy
	}
	return answer, nil
}
