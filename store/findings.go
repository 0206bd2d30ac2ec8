package store

import "time"

// Findings are rows of the table findings: findings.
type Findings struct {
	Attribution
	ID             []string
	Fingerprint    []string
	Time           []time.Time
	AgentID        []string
	Hostname       []string
	Policy         []string
	Title          []string
	Severity       []int8
	Class          []int8
	Technique      []string
	Message        []string
	Behaviour      []int8
	Program        []string
	Target         []string
	Domain         []string
	Address        []string
	Port           []uint16
	Protocol       []string
	AddressScope   []string
	Access         []string
	TargetIsWorker []bool
	ProcessID      []uint64
	Executable     []string
	Arguments      [][]string
	Ancestors      [][]string
	BaselineStable []bool
	BaselineKnown  []bool
	BaselineRuns   []uint32
	Finding        []string
}

// Table implements Rows.
func (r *Findings) Table() string { return "findings" }

// Len implements Rows.
func (r *Findings) Len() int { return len(r.ID) }

// Reset implements Rows.
func (r *Findings) Reset() {
	r.reset()
	r.ID = cut(r.ID)
	r.Fingerprint = cut(r.Fingerprint)
	r.Time = r.Time[:0]
	r.AgentID = cut(r.AgentID)
	r.Hostname = cut(r.Hostname)
	r.Policy = cut(r.Policy)
	r.Title = cut(r.Title)
	r.Severity = r.Severity[:0]
	r.Class = r.Class[:0]
	r.Technique = cut(r.Technique)
	r.Message = cut(r.Message)
	r.Behaviour = r.Behaviour[:0]
	r.Program = cut(r.Program)
	r.Target = cut(r.Target)
	r.Domain = cut(r.Domain)
	r.Address = cut(r.Address)
	r.Port = r.Port[:0]
	r.Protocol = cut(r.Protocol)
	r.AddressScope = cut(r.AddressScope)
	r.Access = cut(r.Access)
	r.TargetIsWorker = r.TargetIsWorker[:0]
	r.ProcessID = r.ProcessID[:0]
	r.Executable = cut(r.Executable)
	r.Arguments = cut(r.Arguments)
	r.Ancestors = cut(r.Ancestors)
	r.BaselineStable = r.BaselineStable[:0]
	r.BaselineKnown = r.BaselineKnown[:0]
	r.BaselineRuns = r.BaselineRuns[:0]
	r.Finding = cut(r.Finding)
}

// Columns implements Rows.
func (r *Findings) Columns() []Column {
	return join(r.columns(), []Column{
		{"id", "String", r.ID},
		{"fingerprint", "String", r.Fingerprint},
		{"time", "DateTime64(9)", r.Time},
		{"agent_id", "String", r.AgentID},
		{"hostname", "String", r.Hostname},
		{"policy", "String", r.Policy},
		{"title", "String", r.Title},
		{"severity", "Int8", r.Severity},
		{"class", "Int8", r.Class},
		{"technique", "String", r.Technique},
		{"message", "String", r.Message},
		{"behaviour", "Int8", r.Behaviour},
		{"program", "String", r.Program},
		{"target", "String", r.Target},
		{"domain", "String", r.Domain},
		{"address", "String", r.Address},
		{"port", "UInt16", r.Port},
		{"protocol", "String", r.Protocol},
		{"address_scope", "String", r.AddressScope},
		{"access", "String", r.Access},
		{"target_is_worker", "Bool", r.TargetIsWorker},
		{"process_id", "UInt64", r.ProcessID},
		{"executable", "String", r.Executable},
		{"arguments", "Array(String)", r.Arguments},
		{"ancestors", "Array(String)", r.Ancestors},
		{"baseline_stable", "Bool", r.BaselineStable},
		{"baseline_known", "Bool", r.BaselineKnown},
		{"baseline_runs", "UInt32", r.BaselineRuns},
		{"finding", "String", r.Finding},
	})
}
