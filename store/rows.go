package store

import "time"

// Identity holds the columns that every row of an event has.
type Identity struct {
	AgentID  []string
	Epoch    []uint64
	Sequence []uint64
	Time     []time.Time
	Hostname []string
}

func (r *Identity) reset() {
	r.AgentID = cut(r.AgentID)
	r.Epoch, r.Sequence, r.Time = r.Epoch[:0], r.Sequence[:0], r.Time[:0]
	r.Hostname = cut(r.Hostname)
}

func (r *Identity) columns() []Column {
	return []Column{
		{"agent_id", "String", r.AgentID},
		{"epoch", "UInt64", r.Epoch},
		{"sequence", "UInt64", r.Sequence},
		{"time", "DateTime64(9)", r.Time},
		{"hostname", "String", r.Hostname},
	}
}

// Attribution holds the columns that say which step of which job a row belongs
// to.
type Attribution struct {
	Repository, Workflow, RunID            []string
	RunAttempt                             []uint32
	Job, ExecutionID, Step, Action, Commit []string
	Ref, Event, Actor, Runner              []string
}

func (r *Attribution) reset() {
	for _, s := range []*[]string{&r.Repository, &r.Workflow, &r.RunID, &r.Job, &r.ExecutionID, &r.Step,
		&r.Action, &r.Commit, &r.Ref, &r.Event, &r.Actor, &r.Runner} {
		*s = cut(*s)
	}
	r.RunAttempt = r.RunAttempt[:0]
}

func (r *Attribution) columns() []Column {
	return []Column{
		{"repository", "String", r.Repository},
		{"workflow", "String", r.Workflow},
		{"run_id", "String", r.RunID},
		{"run_attempt", "UInt32", r.RunAttempt},
		{"job", "String", r.Job},
		{"execution_id", "String", r.ExecutionID},
		{"step", "String", r.Step},
		{"action", "String", r.Action},
		{"commit", "String", r.Commit},
		{"ref", "String", r.Ref},
		{"event", "String", r.Event},
		{"actor", "String", r.Actor},
		{"runner", "String", r.Runner},
	}
}

// Process holds the columns of the process that did it.
type Process struct {
	ProcessID, ParentProcessID         []uint64
	PID                                []uint32
	Executable, Program, ParentProgram []string
	UID                                []uint32
}

func (r *Process) reset() {
	r.ProcessID, r.ParentProcessID = r.ProcessID[:0], r.ParentProcessID[:0]
	r.PID, r.UID = r.PID[:0], r.UID[:0]
	r.Executable, r.Program, r.ParentProgram = cut(r.Executable), cut(r.Program), cut(r.ParentProgram)
}

func (r *Process) columns() []Column {
	return []Column{
		{"process_id", "UInt64", r.ProcessID},
		{"parent_process_id", "UInt64", r.ParentProcessID},
		{"pid", "UInt32", r.PID},
		{"executable", "String", r.Executable},
		{"program", "String", r.Program},
		{"parent_program", "String", r.ParentProgram},
		{"uid", "UInt32", r.UID},
	}
}

// cut empties a slice and lets go of what its elements point to.
func cut[T any](s []T) []T {
	clear(s)
	return s[:0]
}

func join(parts ...[]Column) []Column {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	all := make([]Column, 0, n)
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
