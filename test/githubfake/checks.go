package githubfake

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// maxText and maxAnnotations are GitHub's limits of a check run's texts and of the annotations
// of one request.
const (
	maxText        = 65535
	maxAnnotations = 50
)

type checkRun struct {
	id                 int64
	app                *App
	name               string
	sha                plumbing.Hash
	externalID         string
	status, conclusion string
	detailsURL         string
	title              string
	summary, text      string
	annotations        []Annotation
	actions            []Action
	started, completed time.Time
}

// Annotation is a line of a check.
type Annotation struct {
	Path      string `json:"path"`
	StartLine int    `json:"start_line"`
	EndLine   int    `json:"end_line"`
	Level     string `json:"annotation_level"`
	Message   string `json:"message"`
	Title     string `json:"title"`
}

// Action is a button of a check.
type Action struct {
	Label       string `json:"label"`
	Description string `json:"description"`
	Identifier  string `json:"identifier"`
}

// Check is what a test sees of a check run.
type Check struct {
	ID                                    int64
	Name, SHA, ExternalID                 string
	Status, Conclusion                    string
	Title, Summary, Text, DetailsURL, App string
	Annotations                           []Annotation
	Actions                               []Action
}

// Checks lists the check runs of a repository, oldest first.
func (r *Repository) Checks() (out []Check) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for _, c := range r.checks {
		out = append(out, Check{
			c.id, c.name, c.sha.String(), c.externalID, c.status, c.conclusion, c.title, c.summary, c.text, c.detailsURL, c.app.Slug,
			slices.Clone(c.annotations), slices.Clone(c.actions),
		})
	}
	return out
}

// DropCheck deletes a check run, as GitHub does with old ones.
func (r *Repository) DropCheck(id int64) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.checks = slices.DeleteFunc(r.checks, func(c *checkRun) bool { return c.id == id })
}

// DropRun deletes a workflow run.
func (r *Repository) DropRun(id int64) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.runs = slices.DeleteFunc(r.runs, func(w *run) bool { return w.ID == id })
}

// run is a workflow run.
type run struct {
	Run
	id int64
}

// Run is a workflow run, as GitHub lists it.
type Run struct {
	ID                     int64
	Name, Path, Event, SHA string
	Branch                 string
	Attempt                int
	Status, Conclusion     string
	Jobs                   []Job
	HeadRepository         string // OWNER/NAME; the repository itself if empty
	// Past are the jobs of earlier attempts.
	Past []Job
	// Began is when its attempt did; not told if it is zero.
	Began time.Time
}

// Job is one of a run.
type Job struct {
	ID                 int64
	Name               string
	Status, Conclusion string
	Runner             string
	Labels             []string
	Steps              []string
	Started            time.Time // now if it is zero
	Attempt            int       // that of the run if it is zero
}

// SetRun adds a workflow run, or replaces the one with its ID.
func (r *Repository) SetRun(w Run) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.runs = slices.DeleteFunc(r.runs, func(old *run) bool { return old.ID == w.ID })
	r.runs = append(r.runs, &run{w, w.ID})
}

func (s *Server) checkHandlers() map[string]handler {
	return map[string]handler{
		"POST /repos/{owner}/{repo}/check-runs": s.in("checks", "write", func(r *request, repo *Repository) (any, error) {
			c := &checkRun{id: s.id(), app: r.by.app, status: "queued", started: s.now()}
			var in struct {
				Name    string
				HeadSHA string `json:"head_sha"`
			}
			if err := r.read(&in); err != nil {
				return nil, err
			}
			c.name, c.sha = in.Name, plumbing.NewHash(in.HeadSHA)
			if _, ok := repo.store.Commits[c.sha]; !ok {
				return nil, fail(http.StatusUnprocessableEntity, "No commit found for SHA: %s", in.HeadSHA)
			}
			if err := s.setCheck(r, c); err != nil {
				return nil, err
			}
			repo.checks = append(repo.checks, c)
			return s.checkJSON(repo, c), nil
		}),
		"PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}": s.onCheck("write", func(r *request, repo *Repository, c *checkRun) (any, error) {
			if c.app != r.by.app {
				return nil, fail(http.StatusForbidden, "Invalid app_id `%d` - check run can only be modified by the GitHub App that created it.", r.by.app.ID)
			}
			if err := s.setCheck(r, c); err != nil {
				return nil, err
			}
			return s.checkJSON(repo, c), nil
		}),
		"GET /repos/{owner}/{repo}/check-runs/{check_run_id}": s.onCheck("read", func(_ *request, repo *Repository, c *checkRun) (any, error) {
			return s.checkJSON(repo, c), nil
		}),
		"GET /repos/{owner}/{repo}/commits/{ref}/check-runs": s.in("checks", "read", func(r *request, repo *Repository) (any, error) {
			h, ok := repo.resolve(r.PathValue("ref"))
			if !ok {
				return nil, errNotFound
			}
			var list []*checkRun
			for _, c := range slices.Backward(repo.checks) {
				q := r.URL.Query()
				if c.sha == h && (q.Get("check_name") == "" || q.Get("check_name") == c.name) && (q.Get("app_id") == "" || q.Get("app_id") == fmt.Sprint(c.app.ID)) {
					list = append(list, c)
				}
			}
			out := []any{}
			for _, c := range page(r, list) {
				out = append(out, s.checkJSON(repo, c))
			}
			return map[string]any{"total_count": len(list), "check_runs": out}, nil
		}),
		"GET /repos/{owner}/{repo}/actions/runs": s.in("actions", "read", func(r *request, repo *Repository) (any, error) {
			var list []*run
			for _, w := range repo.runs {
				if sha := r.URL.Query().Get("head_sha"); sha == "" || sha == w.SHA {
					list = append(list, w)
				}
			}
			out := []any{}
			for _, w := range page(r, list) {
				out = append(out, s.runJSON(repo, w))
			}
			return map[string]any{"total_count": len(list), "workflow_runs": out}, nil
		}),
		"GET /repos/{owner}/{repo}/actions/runs/{run_id}": s.onRun(func(_ *request, repo *Repository, w *run) (any, error) {
			return s.runJSON(repo, w), nil
		}),
		"GET /repos/{owner}/{repo}/actions/runs/{run_id}/jobs": s.onRun(s.jobs),
		"GET /repos/{owner}/{repo}/actions/runs/{run_id}/attempts/{attempt_number}/jobs": s.onRun(func(r *request, repo *Repository, w *run) (any, error) {
			if r.PathValue("attempt_number") != strconv.Itoa(w.Attempt) {
				return nil, errNotFound
			}
			return s.jobs(r, repo, w)
		}),
	}
}

func (s *Server) onCheck(level string, do func(r *request, repo *Repository, c *checkRun) (any, error)) handler {
	return s.in("checks", level, func(r *request, repo *Repository) (any, error) {
		for _, c := range repo.checks {
			if fmt.Sprint(c.id) == r.PathValue("check_run_id") {
				return do(r, repo, c)
			}
		}
		return nil, errNotFound
	})
}

func (s *Server) onRun(do func(r *request, repo *Repository, w *run) (any, error)) handler {
	return s.in("actions", "read", func(r *request, repo *Repository) (any, error) {
		for _, w := range repo.runs {
			if fmt.Sprint(w.ID) == r.PathValue("run_id") {
				return do(r, repo, w)
			}
		}
		return nil, errNotFound
	})
}

// setCheck changes what a request names, as GitHub does: annotations are added, all else is
// replaced.
func (s *Server) setCheck(r *request, c *checkRun) error {
	var in struct {
		Name       *string
		Status     *string
		Conclusion *string
		ExternalID *string `json:"external_id"`
		DetailsURL *string `json:"details_url"`
		Output     *struct {
			Title, Summary, Text string
			Annotations          []Annotation
		}
		Actions *[]Action
	}
	if err := json.Unmarshal(r.body, &in); err != nil {
		return err
	}
	if in.Name != nil {
		c.name = *in.Name
	}
	if in.Status != nil {
		c.status = *in.Status
		if c.status != "completed" {
			c.conclusion = ""
		}
	}
	if in.Conclusion != nil {
		c.status, c.conclusion, c.completed = "completed", *in.Conclusion, s.now()
	}
	if c.status == "completed" && c.conclusion == "" {
		return fail(http.StatusUnprocessableEntity, "Validation Failed: conclusion is required")
	}
	if in.ExternalID != nil {
		c.externalID = *in.ExternalID
	}
	if in.DetailsURL != nil {
		c.detailsURL = *in.DetailsURL
	}
	if in.Actions != nil {
		if len(*in.Actions) > 3 {
			return fail(http.StatusUnprocessableEntity, "Validation Failed: at most 3 actions")
		}
		c.actions = *in.Actions
	}
	if o := in.Output; o != nil {
		switch {
		case len(o.Summary) > maxText || len(o.Text) > maxText:
			return fail(http.StatusUnprocessableEntity, "Validation Failed: Only %d characters are allowed", maxText)
		case len(o.Annotations) > maxAnnotations:
			return fail(http.StatusUnprocessableEntity, "Validation Failed: at most %d annotations", maxAnnotations)
		}
		c.title, c.summary, c.text = o.Title, o.Summary, o.Text
		c.annotations = append(c.annotations, o.Annotations...)
	}
	return nil
}

func (s *Server) checkJSON(repo *Repository, c *checkRun) map[string]any {
	nullable := func(v string) any {
		if v == "" {
			return nil
		}
		return v
	}
	out := map[string]any{
		"id": c.id, "node_id": fmt.Sprint("CR_", c.id), "name": c.name, "head_sha": c.sha.String(), "external_id": nullable(c.externalID), "status": c.status,
		"conclusion": nullable(c.conclusion), "details_url": cmp.Or(c.detailsURL, s.http.URL+"/"), "html_url": fmt.Sprintf("%s/%s/runs/%d", s.http.URL, repo.Name, c.id), "url": s.http.URL,
		"started_at": stamp(c.started), "completed_at": nil, "app": s.appJSON(c.app), "check_suite": map[string]any{"id": 1}, "pull_requests": []any{},
		"output": map[string]any{"title": nullable(c.title), "summary": nullable(c.summary), "text": nullable(c.text), "annotations_count": len(c.annotations), "annotations_url": s.http.URL},
	}
	if c.status == "completed" {
		out["completed_at"] = stamp(c.completed)
	}
	return out
}

func (s *Server) runJSON(repo *Repository, w *run) map[string]any {
	conclusion := any(nil)
	if w.Conclusion != "" {
		conclusion = w.Conclusion
	}
	head := repo
	if h := s.repos[w.HeadRepository]; h != nil {
		head = h
	}
	out := map[string]any{
		"id": w.ID, "name": w.Name, "node_id": fmt.Sprint("WFR_", w.ID), "head_branch": w.Branch, "head_sha": w.SHA, "path": w.Path, "run_number": 1, "run_attempt": max(w.Attempt, 1),
		"event": w.Event, "status": w.Status, "conclusion": conclusion, "workflow_id": 1, "repository": s.repositoryJSON(repo), "head_repository": s.repositoryJSON(head),
		"html_url": fmt.Sprintf("%s/%s/actions/runs/%d", s.http.URL, repo.Name, w.ID), "pull_requests": []any{}, "display_title": w.Name,
		"head_commit": head.headCommit(w.SHA),
	}
	if !w.Began.IsZero() {
		out["run_started_at"] = stamp(w.Began)
	}
	return out
}

// headCommit is a commit as a workflow run tells of it.
func (r *Repository) headCommit(sha string) any {
	c, ok := r.store.Commits[plumbing.NewHash(sha)]
	if !ok {
		return nil
	}
	who := map[string]any{"name": "somebody", "email": "somebody@example.test"}
	return map[string]any{"id": sha, "tree_id": c.Hash().String(), "message": "change", "timestamp": "2026-01-01T00:00:00Z", "author": who, "committer": who}
}

func (s *Server) jobJSON(_ *Repository, w *run, j Job) map[string]any {
	conclusion := any(nil)
	if j.Conclusion != "" {
		conclusion = j.Conclusion
	}
	runner := any(nil)
	if j.Runner != "" {
		runner = j.Runner
	}
	steps := []any{}
	for n, name := range j.Steps {
		steps = append(steps, map[string]any{"name": name, "number": n + 1, "status": "completed", "conclusion": "success"})
	}
	started := j.Started
	if started.IsZero() {
		started = s.now()
	}
	completed := any(nil)
	if j.Conclusion != "" {
		completed = stamp(s.now())
	}
	return map[string]any{
		"id": j.ID, "run_id": w.ID, "name": j.Name, "head_sha": w.SHA, "status": j.Status, "conclusion": conclusion, "runner_name": runner, "labels": append([]string{}, j.Labels...),
		"workflow_name": w.Name, "head_branch": w.Branch, "steps": steps, "started_at": stamp(started), "completed_at": completed, "run_attempt": max(cmp.Or(j.Attempt, w.Attempt), 1),
		"created_at": stamp(started),
	}
}

func (s *Server) jobs(r *request, repo *Repository, w *run) (any, error) {
	out := []any{}
	list := w.Jobs
	if r.URL.Query().Get("filter") == "all" {
		list = append(slices.Clone(w.Past), list...)
	}
	for _, j := range page(r, list) {
		out = append(out, s.jobJSON(repo, w, j))
	}
	return map[string]any{"total_count": len(list), "jobs": out}, nil
}
