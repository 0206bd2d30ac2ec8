package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// ErrNotFound says that nothing has the identity asked for.
var ErrNotFound = errors.New("not found")

// queryTimeout bounds one question of a person.
const queryTimeout = 20 * time.Second

// Cursor is a place in an ordered list: what the last row of a page is ordered by.
// The zero Cursor is the list's beginning.
type Cursor struct {
	// Time of the row, Unix time in nanoseconds.
	Time int64
	// Keys that order rows of the same time, or all rows where time does not matter.
	Keys []string
	// Numbers that order rows after Keys.
	Numbers []uint64
}

func (c Cursor) start() bool { return c.Time == 0 && len(c.Keys) == 0 && len(c.Numbers) == 0 }

func (c Cursor) shaped(keys, numbers int) bool {
	return c.start() || len(c.Keys) == keys && len(c.Numbers) == numbers
}

// ErrCursor says that a Cursor belongs to another list.
var ErrCursor = errors.New("cursor of another list")

// conditions are joined by AND; values are bound by ClickHouse, never written
// into the statement.
type conditions struct {
	text []string
	args []any
}

func (c *conditions) add(text string) { c.text = append(c.text, text) }

func (c *conditions) bind(name string, value any) {
	c.args = append(c.args, clickhouse.Named(name, value))
}

func (c *conditions) where() string {
	if len(c.text) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.text, " AND ")
}

func stamp(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

func stampOf(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

const runColumns = `SELECT repository, run_id, run_attempt, workflow, commit, ref, event, actor, started_at, ended_at, jobs, findings
	FROM runs`

// Runs returns at most limit runs after a cursor, newest first, of one repository
// or, if it is empty, of all. The second result is the cursor of the next page, or
// nil on the last one.
func (s *Store) Runs(ctx context.Context, repository string, after Cursor, limit int) ([]*sallyportv1.Run, *Cursor, error) {
	if !after.shaped(3, 1) {
		return nil, nil, fmt.Errorf("list runs: %w", ErrCursor)
	}
	var c conditions
	if repository != "" {
		c.add("repository = {repository:String}")
		c.bind("repository", repository)
	}
	if !after.start() {
		c.add(`(toUnixTimestamp64Nano(started_at), repository, workflow, run_id, run_attempt) <
			({time:Int64}, {after_repository:String}, {after_workflow:String}, {after_run:String}, {after_attempt:UInt64})`)
		c.bind("time", after.Time)
		c.bind("after_repository", after.Keys[0])
		c.bind("after_workflow", after.Keys[1])
		c.bind("after_run", after.Keys[2])
		c.bind("after_attempt", after.Numbers[0])
	}
	runs, err := s.runs(ctx, runColumns+c.where()+
		" ORDER BY started_at DESC, repository DESC, workflow DESC, run_id DESC, run_attempt DESC LIMIT {limit:UInt32}", limit+1, c.args)
	if err != nil {
		return nil, nil, fmt.Errorf("list runs: %w", err)
	}
	if len(runs) <= limit {
		return runs, nil, nil
	}
	runs = runs[:limit]
	last := runs[limit-1]
	return runs, &Cursor{
		Time: last.StartedAt.AsTime().UnixNano(), Keys: []string{last.Repository, last.Workflow, last.RunId}, Numbers: []uint64{uint64(last.RunAttempt)},
	}, nil
}

func (s *Store) runs(ctx context.Context, statement string, limit int, args []any) (runs []*sallyportv1.Run, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.conn.Query(ctx, statement, append(args, clickhouse.Named("limit", limit))...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		r := new(sallyportv1.Run)
		var started time.Time
		var ended *time.Time
		if err := rows.Scan(&r.Repository, &r.RunId, &r.RunAttempt, &r.Workflow, &r.Commit, &r.Ref, &r.Event, &r.Actor,
			&started, &ended, &r.Jobs, &r.Findings); err != nil {
			return nil, err
		}
		r.StartedAt, r.EndedAt = stamp(started), stampOf(ended)
		runs = append(runs, r)
	}
	return runs, rows.Err()
}

// Run returns one attempt of a run, the last one seen if attempt is zero, with its
// jobs and their steps; ErrNotFound if no agent saw it.
func (s *Store) Run(ctx context.Context, repository, runID string, attempt uint32) (*sallyportv1.Run, []*sallyportv1.Job, error) {
	var c conditions
	c.add("repository = {repository:String} AND run_id = {run:String}")
	c.bind("repository", repository)
	c.bind("run", runID)
	if attempt != 0 {
		c.add("run_attempt = {attempt:UInt32}")
		c.bind("attempt", attempt)
	}
	runs, err := s.runs(ctx, runColumns+c.where()+" ORDER BY run_attempt DESC, started_at DESC LIMIT {limit:UInt32}", 1, c.args)
	if err != nil {
		return nil, nil, fmt.Errorf("get run %s of %s: %w", runID, repository, err)
	}
	if len(runs) == 0 {
		return nil, nil, fmt.Errorf("get run %s of %s: %w", runID, repository, ErrNotFound)
	}
	jobs, err := s.jobs(ctx, runs[0])
	if err != nil {
		return nil, nil, fmt.Errorf("get jobs of run %s of %s: %w", runID, repository, err)
	}
	return runs[0], jobs, nil
}

func (s *Store) jobs(ctx context.Context, run *sallyportv1.Run) (jobs []*sallyportv1.Job, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	const where = ` WHERE repository = {repository:String} AND workflow = {workflow:String} AND run_id = {run:String} AND run_attempt = {attempt:UInt32}`
	args := []any{
		clickhouse.Named("repository", run.Repository), clickhouse.Named("workflow", run.Workflow),
		clickhouse.Named("run", run.RunId), clickhouse.Named("attempt", run.RunAttempt),
	}
	rows, err := s.conn.Query(ctx, `SELECT job, execution_id, runner, started_at, ended_at FROM jobs`+where+` ORDER BY started_at, execution_id`, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	byID := map[string]*sallyportv1.Job{}
	for rows.Next() {
		j := new(sallyportv1.Job)
		var started time.Time
		var ended *time.Time
		if err := rows.Scan(&j.Job, &j.ExecutionId, &j.Runner, &started, &ended); err != nil {
			return nil, err
		}
		j.StartedAt, j.EndedAt = stamp(started), stampOf(ended)
		jobs = append(jobs, j)
		byID[j.ExecutionId] = j
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	// What the worker does between steps is no step.
	steps, err := s.conn.Query(ctx, `SELECT execution_id, step, action, started_at, processes, flows FROM steps`+where+
		` AND step != '' ORDER BY started_at, step`, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, steps.Close()) }()
	for steps.Next() {
		step := new(sallyportv1.Step)
		var execution string
		var started time.Time
		if err := steps.Scan(&execution, &step.Step, &step.Action, &started, &step.Processes, &step.Flows); err != nil {
			return nil, err
		}
		step.StartedAt = stamp(started)
		if j := byID[execution]; j != nil {
			j.Steps = append(j.Steps, step)
		}
	}
	return jobs, steps.Err()
}

// Findings returns at most limit findings after a cursor, newest first. Empty
// repository and run, and an unspecified severity, let all through.
func (s *Store) Findings(ctx context.Context, repository, runID string, minimum sallyportv1.Severity, after Cursor, limit int) ([]*sallyportv1.Finding, *Cursor, error) {
	if !after.shaped(1, 0) {
		return nil, nil, fmt.Errorf("list findings: %w", ErrCursor)
	}
	var c conditions
	if repository != "" {
		c.add("repository = {repository:String}")
		c.bind("repository", repository)
	}
	if runID != "" {
		c.add("run_id = {run:String}")
		c.bind("run", runID)
	}
	if minimum != sallyportv1.Severity_SEVERITY_UNSPECIFIED {
		c.add("toInt8(severity) >= {severity:Int8}")
		c.bind("severity", int8(minimum))
	}
	if !after.start() {
		c.add("(toUnixTimestamp64Nano(time), id) < ({time:Int64}, {after:String})")
		c.bind("time", after.Time)
		c.bind("after", after.Keys[0])
	}
	findings, cursors, err := s.findings(ctx, c.where()+" ORDER BY time DESC, id DESC LIMIT {limit:UInt32}", limit+1, c.args)
	if err != nil {
		return nil, nil, fmt.Errorf("list findings: %w", err)
	}
	if len(findings) <= limit {
		return findings, nil, nil
	}
	return findings[:limit], &cursors[limit-1], nil
}

// Finding returns one finding, or ErrNotFound.
func (s *Store) Finding(ctx context.Context, id string) (*sallyportv1.Finding, error) {
	findings, _, err := s.findings(ctx, " WHERE id = {id:String} LIMIT {limit:UInt32}", 1, []any{clickhouse.Named("id", id)})
	if err != nil {
		return nil, fmt.Errorf("get finding %s: %w", id, err)
	}
	if len(findings) == 0 {
		return nil, fmt.Errorf("get finding %s: %w", id, ErrNotFound)
	}
	return findings[0], nil
}

func (s *Store) findings(ctx context.Context, where string, limit int, args []any) (findings []*sallyportv1.Finding, cursors []Cursor, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.conn.Query(ctx, "SELECT id, time, finding FROM findings"+where, append(args, clickhouse.Named("limit", limit))...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id, text string
		var at time.Time
		if err := rows.Scan(&id, &at, &text); err != nil {
			return nil, nil, err
		}
		f := new(sallyportv1.Finding)
		// A newer detector may know fields that this program does not.
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), f); err != nil {
			return nil, nil, fmt.Errorf("decode finding %s: %w", id, err)
		}
		findings = append(findings, f)
		cursors = append(cursors, Cursor{Time: at.UnixNano(), Keys: []string{id}})
	}
	return findings, cursors, rows.Err()
}
