package report

import (
	"time"
)

// Version of the JSON form. It changes only when a field changes its meaning or goes
// away; new fields do not change it.
const Version = 1

// Report says what one command did. Its JSON form is documented in
// docs/run-report.md and stable.
type Report struct {
	// Version of this form.
	Version int `json:"version"`
	// Command is the command line.
	Command []string `json:"command"`
	// ExitCode is the command's, 128 plus the signal's number if one ended it.
	ExitCode int `json:"exit_code"`
	// Signal ended the command; 0 if none did.
	Signal int `json:"signal,omitempty"`
	// Started is when the command started.
	Started time.Time `json:"started"`
	// DurationSeconds is how long it ran.
	DurationSeconds float64 `json:"duration_seconds"`
	// Processes counts the processes seen; a second program in one process does not
	// count again.
	Processes int `json:"processes"`
	// Programs counts the programs that were started.
	Programs int `json:"programs"`
	// EventsLost counts events that the kernel side could not hand over, by kind;
	// empty if the report is complete.
	EventsLost map[string]uint64 `json:"events_lost"`
	// BytesSent and BytesReceived are the payload of all connections.
	BytesSent     uint64 `json:"bytes_sent"`
	BytesReceived uint64 `json:"bytes_received"`
	// Destinations by program, those with most bytes first.
	Destinations []Destination `json:"destinations"`
	// Lookups are names that were asked for but never connected to, by name.
	Lookups []Lookup `json:"lookups"`
	// Accesses say who reached into which other process.
	Accesses []Access `json:"accesses"`
	// Files say what was done to files that matter, by rule.
	Files []File `json:"files"`
	// Privileges say who gained privileges or used them, by program.
	Privileges []Privilege `json:"privileges"`
	// Requests are the HTTP requests that were seen within TLS, by host and path.
	Requests []Request `json:"requests"`
	// Tree holds the processes that have no parent here; usually the command alone.
	Tree []*Node `json:"tree"`
	// Findings are what policies hold to be wrong, worst first.
	Findings []Finding `json:"findings"`
}

// Destination is what one program sent to one place.
type Destination struct {
	// Program is the base name, Executable the path.
	Program    string `json:"program"`
	Executable string `json:"executable"`
	// Domain that was looked up; empty for a bare address.
	Domain string `json:"domain"`
	// DomainSource says who looked it up: "process", "job", "host", or "" for nobody.
	DomainSource string `json:"domain_source"`
	// ServerName is what the client itself gave in TLS or QUIC, the last one of several;
	// empty if it gave none.
	ServerName string `json:"server_name"`
	// Addresses contacted, ordered.
	Addresses []string `json:"addresses"`
	// Port contacted.
	Port uint32 `json:"port"`
	// Protocol is "tcp" or "udp".
	Protocol string `json:"protocol"`
	// Connections counts connections, or UDP flows.
	Connections int `json:"connections"`
	// Failed counts those that never came to be: refused, unreachable, timed out.
	Failed int `json:"failed"`
	// BytesSent and BytesReceived are payload.
	BytesSent     uint64 `json:"bytes_sent"`
	BytesReceived uint64 `json:"bytes_received"`
	// FirstSeen is when the first of them began.
	FirstSeen time.Time `json:"first_seen"`
}

// Lookup is a name that was looked up and not connected to.
type Lookup struct {
	// Name asked for.
	Name string `json:"name"`
	// Types asked for, ordered ("A", "TXT").
	Types []string `json:"types"`
	// ResponseCodes that came, ordered; "unanswered" if none did.
	ResponseCodes []string `json:"response_codes"`
	// Programs that asked, ordered.
	Programs []string `json:"programs"`
	// Count of questions.
	Count int `json:"count"`
}

// Access is one process reaching into another.
type Access struct {
	// Program that did it, and its process identifier.
	Program string `json:"program"`
	PID     uint32 `json:"pid"`
	// Kind as in policies: "proc-mem", "ptrace" and so on.
	Kind string `json:"kind"`
	// Target program, "" if it is not known.
	Target string `json:"target"`
	// TargetPID is its process identifier.
	TargetPID uint32 `json:"target_pid"`
	// Count of accesses.
	Count int `json:"count"`
}

// File is what one program did to a file that matters (docs/files.md).
type File struct {
	// Program that did it.
	Program string `json:"program"`
	// Operation is "read", "written", "entered" or "left".
	Operation string `json:"operation"`
	// Path of the file.
	Path string `json:"path"`
	// Rule and Category say why it matters.
	Rule     string `json:"rule"`
	Category string `json:"category"`
	// Count of times.
	Count uint64 `json:"count"`
}

// Privilege is what one program gained, or used on the kernel or on the agent.
type Privilege struct {
	// Program that did it.
	Program string `json:"program"`
	// Kind is "gained", "namespaces", "module", "bpf", "signal" or "packets".
	Kind string `json:"kind"`
	// Detail says which capabilities, namespaces, module, eBPF program or signal; empty
	// if there is nothing to say.
	Detail string `json:"detail"`
	// Count of times.
	Count uint64 `json:"count"`
}

// Request is an HTTP request that a program sent within TLS.
type Request struct {
	// Program that sent it.
	Program string `json:"program"`
	// Method, Host and Path of it, without the query.
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	// Count of times.
	Count uint64 `json:"count"`
}

// Node is a program running in a process.
type Node struct {
	// ID is the identity that the kernel side gave it, as a decimal string: it does
	// not fit a JSON number.
	ID string `json:"id"`
	// PID is the process identifier.
	PID uint32 `json:"pid"`
	// Executable is the path.
	Executable string `json:"executable"`
	// Arguments of the program, redacted.
	Arguments []string `json:"arguments"`
	// ArgumentsTruncated is set if there were more.
	ArgumentsTruncated bool `json:"arguments_truncated,omitempty"`
	// Started is when it started, Ended when the process ended; unset if it had not
	// when the report was made.
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	// ExitCode and Signal say how it ended.
	ExitCode *uint32 `json:"exit_code,omitempty"`
	Signal   uint32  `json:"signal,omitempty"`
	// Connections counts the connections of this program itself.
	Connections int `json:"connections,omitempty"`
	// Children in the order in which they started.
	Children []*Node `json:"children,omitempty"`

	parent uint64
	id     uint64
	exec   bool // a program was started; otherwise it runs its parent's
}

// Finding is what a policy holds to be wrong.
type Finding struct {
	// ID of the finding.
	ID string `json:"id"`
	// Severity is "low", "medium", "high" or "critical".
	Severity string `json:"severity"`
	// Policy is its identity, Title its title.
	Policy string `json:"policy"`
	Title  string `json:"title"`
	// Message says what happened.
	Message string `json:"message"`
	// Description says why it matters.
	Description string `json:"description"`
	// Technique is the MITRE ATT&CK technique, if given.
	Technique string `json:"technique"`
	// Remediation says what to do.
	Remediation string `json:"remediation"`
	// Process is the program that did it; Ancestry the programs above it, the first
	// first.
	Process  string   `json:"process"`
	Ancestry []string `json:"ancestry"`
	// Time is when it was first seen.
	Time time.Time `json:"time"`

	severity int32
}
