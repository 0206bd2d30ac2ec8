package store

import "time"

// ProcessAccesses are rows of the table process_accesses: accesses to other processes.
type ProcessAccesses struct {
	Identity
	Attribution
	Process
	Kind             []int8
	TargetProcessID  []uint64
	TargetPID        []uint32
	TargetExecutable []string
	TargetProgram    []string
	TargetIsWorker   []bool
}

// Table implements Rows.
func (r *ProcessAccesses) Table() string { return "process_accesses" }

// Len implements Rows.
func (r *ProcessAccesses) Len() int { return len(r.Sequence) }

// Reset implements Rows.
func (r *ProcessAccesses) Reset() {
	r.Identity.reset()
	r.Attribution.reset()
	r.Process.reset()
	r.Kind = r.Kind[:0]
	r.TargetProcessID = r.TargetProcessID[:0]
	r.TargetPID = r.TargetPID[:0]
	r.TargetExecutable = cut(r.TargetExecutable)
	r.TargetProgram = cut(r.TargetProgram)
	r.TargetIsWorker = r.TargetIsWorker[:0]
}

// Columns implements Rows.
func (r *ProcessAccesses) Columns() []Column {
	return join(r.Identity.columns(), r.Attribution.columns(), r.Process.columns(), []Column{
		{"kind", "Int8", r.Kind},
		{"target_process_id", "UInt64", r.TargetProcessID},
		{"target_pid", "UInt32", r.TargetPID},
		{"target_executable", "String", r.TargetExecutable},
		{"target_program", "String", r.TargetProgram},
		{"target_is_worker", "Bool", r.TargetIsWorker},
	})
}

// FileAccesses are rows of the table file_accesses: what was done to files that matter.
type FileAccesses struct {
	Identity
	Attribution
	Process
	Operation []int8
	Path      []string
	Rule      []string
	Category  []string
	Times     []uint64
}

// Table implements Rows.
func (r *FileAccesses) Table() string { return "file_accesses" }

// Len implements Rows.
func (r *FileAccesses) Len() int { return len(r.Sequence) }

// Reset implements Rows.
func (r *FileAccesses) Reset() {
	r.Identity.reset()
	r.Attribution.reset()
	r.Process.reset()
	r.Operation = r.Operation[:0]
	r.Path = cut(r.Path)
	r.Rule = cut(r.Rule)
	r.Category = cut(r.Category)
	r.Times = r.Times[:0]
}

// Columns implements Rows.
func (r *FileAccesses) Columns() []Column {
	return join(r.Identity.columns(), r.Attribution.columns(), r.Process.columns(), []Column{
		{"operation", "Int8", r.Operation},
		{"path", "String", r.Path},
		{"rule", "String", r.Rule},
		{"category", "String", r.Category},
		{"times", "UInt64", r.Times},
	})
}

// JobEvents are rows of the table job_events: starts and ends of jobs.
type JobEvents struct {
	Identity
	Attribution
	Process
	RunNumber    []uint64
	WorkflowRef  []string
	RefProtected []bool
	Kind         []int8
	Reason       []int8
	Survivors    [][]uint64
}

// Table implements Rows.
func (r *JobEvents) Table() string { return "job_events" }

// Len implements Rows.
func (r *JobEvents) Len() int { return len(r.Sequence) }

// Reset implements Rows.
func (r *JobEvents) Reset() {
	r.Identity.reset()
	r.Attribution.reset()
	r.Process.reset()
	r.RunNumber = r.RunNumber[:0]
	r.WorkflowRef = cut(r.WorkflowRef)
	r.RefProtected = r.RefProtected[:0]
	r.Kind = r.Kind[:0]
	r.Reason = r.Reason[:0]
	r.Survivors = cut(r.Survivors)
}

// Columns implements Rows.
func (r *JobEvents) Columns() []Column {
	return join(r.Identity.columns(), r.Attribution.columns(), r.Process.columns(), []Column{
		{"run_number", "UInt64", r.RunNumber},
		{"workflow_ref", "String", r.WorkflowRef},
		{"ref_protected", "Bool", r.RefProtected},
		{"kind", "Int8", r.Kind},
		{"reason", "Int8", r.Reason},
		{"survivors", "Array(UInt64)", r.Survivors},
	})
}

// AgentStatus are rows of the table agent_status: what agents say of themselves.
type AgentStatus struct {
	Identity
	Version          []string
	Kernel           []string
	EventsSeen       []uint64
	EventsLost       []map[string]uint64
	BatchesWaiting   []uint64
	Stopping         []bool
	PreviousEnd      []int8
	PreviousSeen     []time.Time
	FoundProcesses   []uint32
	FoundConnections []uint32
	Damage           [][]string
	LongestPauseNano []uint64
}

// Table implements Rows.
func (r *AgentStatus) Table() string { return "agent_status" }

// Len implements Rows.
func (r *AgentStatus) Len() int { return len(r.Sequence) }

// Reset implements Rows.
func (r *AgentStatus) Reset() {
	r.reset()
	r.Version = cut(r.Version)
	r.Kernel = cut(r.Kernel)
	r.EventsSeen = r.EventsSeen[:0]
	r.EventsLost = cut(r.EventsLost)
	r.BatchesWaiting = r.BatchesWaiting[:0]
	r.Stopping = r.Stopping[:0]
	r.PreviousEnd = r.PreviousEnd[:0]
	r.PreviousSeen = r.PreviousSeen[:0]
	r.FoundProcesses = r.FoundProcesses[:0]
	r.FoundConnections = r.FoundConnections[:0]
	r.Damage = cut(r.Damage)
	r.LongestPauseNano = r.LongestPauseNano[:0]
}

// Columns implements Rows.
func (r *AgentStatus) Columns() []Column {
	return join(r.columns(), []Column{
		{"version", "String", r.Version},
		{"kernel", "String", r.Kernel},
		{"events_seen", "UInt64", r.EventsSeen},
		{"events_lost", "Map(String, UInt64)", r.EventsLost},
		{"batches_waiting", "UInt64", r.BatchesWaiting},
		{"stopping", "Bool", r.Stopping},
		{"previous_end", "Int8", r.PreviousEnd},
		{"previous_seen", "DateTime64(9)", r.PreviousSeen},
		{"found_processes", "UInt32", r.FoundProcesses},
		{"found_connections", "UInt32", r.FoundConnections},
		{"damage", "Array(String)", r.Damage},
		{"longest_pause_nano", "UInt64", r.LongestPauseNano},
	})
}
