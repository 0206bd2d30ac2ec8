package store

import (
	"slices"
	"time"
)

// ProcessEvents are rows of the table process_events: Forks, executions and exits of processes.
type ProcessEvents struct {
	Identity
	Attribution
	Process
	Kind                []int8
	StartTime           []time.Time
	Arguments           [][]string
	ArgumentsTruncated  []bool
	WorkingDirectory    []string
	StandardInputKind   []int8
	StandardInputInode  []uint64
	StandardOutputKind  []int8
	StandardOutputInode []uint64
	ArgumentPipeKind    []int8
	ArgumentPipeInode   []uint64
	ExitCode            []uint8
	Signal              []uint8
	GID                 []uint32
	EffectiveUID        []uint32
	Capabilities        []uint64
	Script              []string
	ExecutableDeleted   []bool
	ExecutableInMemory  []bool
	ExecutableInode     []uint64
	ExecutableDevice    []uint32
	ExecutableSHA256    []string
	ContainerID         []string
	ContainerImage      []string
	ContainerName       []string
	Pod                 []string
	PodNamespace        []string
	PodLabels           [][]string // each NAME=VALUE
}

// Table implements Rows.
func (r *ProcessEvents) Table() string { return "process_events" }

// Len implements Rows.
func (r *ProcessEvents) Len() int { return len(r.Sequence) }

// Reset implements Rows.
func (r *ProcessEvents) Reset() {
	r.Identity.reset()
	r.Attribution.reset()
	r.Process.reset()
	r.Kind = r.Kind[:0]
	r.StartTime = r.StartTime[:0]
	r.Arguments = cut(r.Arguments)
	r.ArgumentsTruncated = r.ArgumentsTruncated[:0]
	r.WorkingDirectory = cut(r.WorkingDirectory)
	r.StandardInputKind = r.StandardInputKind[:0]
	r.StandardInputInode = r.StandardInputInode[:0]
	r.StandardOutputKind = r.StandardOutputKind[:0]
	r.StandardOutputInode = r.StandardOutputInode[:0]
	r.ArgumentPipeKind = r.ArgumentPipeKind[:0]
	r.ArgumentPipeInode = r.ArgumentPipeInode[:0]
	r.ExitCode = r.ExitCode[:0]
	r.Signal = r.Signal[:0]
	r.GID = r.GID[:0]
	r.EffectiveUID = r.EffectiveUID[:0]
	r.Capabilities = r.Capabilities[:0]
	r.Script = cut(r.Script)
	r.ExecutableDeleted = r.ExecutableDeleted[:0]
	r.ExecutableInMemory = r.ExecutableInMemory[:0]
	r.ExecutableInode = r.ExecutableInode[:0]
	r.ExecutableDevice = r.ExecutableDevice[:0]
	r.ExecutableSHA256 = cut(r.ExecutableSHA256)
	r.ContainerID = cut(r.ContainerID)
	r.ContainerImage = cut(r.ContainerImage)
	r.ContainerName = cut(r.ContainerName)
	r.Pod = cut(r.Pod)
	r.PodNamespace = cut(r.PodNamespace)
	r.PodLabels = cut(r.PodLabels)
}

// Columns implements Rows.
func (r *ProcessEvents) Columns() []Column {
	return join(r.Identity.columns(), r.Attribution.columns(), r.Process.columns(), []Column{
		{"kind", "Int8", r.Kind},
		{"start_time", "DateTime64(9)", r.StartTime},
		{"arguments", "Array(String)", r.Arguments},
		{"arguments_truncated", "Bool", r.ArgumentsTruncated},
		{"working_directory", "String", r.WorkingDirectory},
		{"standard_input_kind", "Int8", r.StandardInputKind},
		{"standard_input_inode", "UInt64", r.StandardInputInode},
		{"standard_output_kind", "Int8", r.StandardOutputKind},
		{"standard_output_inode", "UInt64", r.StandardOutputInode},
		{"argument_pipe_kind", "Int8", r.ArgumentPipeKind},
		{"argument_pipe_inode", "UInt64", r.ArgumentPipeInode},
		{"exit_code", "UInt8", r.ExitCode},
		{"signal", "UInt8", r.Signal},
		{"gid", "UInt32", r.GID},
		{"effective_uid", "UInt32", r.EffectiveUID},
		{"capabilities", "UInt64", r.Capabilities},
		{"script", "String", r.Script},
		{"executable_deleted", "Bool", r.ExecutableDeleted},
		{"executable_in_memory", "Bool", r.ExecutableInMemory},
		{"executable_inode", "UInt64", r.ExecutableInode},
		{"executable_device", "UInt32", r.ExecutableDevice},
		{"executable_sha256", "String", r.ExecutableSHA256},
		{"container_id", "String", r.ContainerID},
		{"container_image", "String", r.ContainerImage},
		{"container_name", "String", r.ContainerName},
		{"pod", "String", r.Pod},
		{"pod_namespace", "String", r.PodNamespace},
		{"pod_labels", "Array(String)", r.PodLabels},
	})
}

// FlowEvents are rows of the table flow_events: phases of flows.
type FlowEvents struct {
	Identity
	Attribution
	Process
	FlowID             []uint64
	Direction          []int8
	Phase              []int8
	Protocol           []string
	SourceAddress      [][16]byte
	SourcePort         []uint16
	DestinationAddress [][16]byte
	DestinationPort    []uint16
	Domain             []string
	DomainSource       []int8
	ServerName         []string
	Application        []int8
	EncryptedHello     []bool
	BytesSent          []uint64
	BytesReceived      []uint64
	StartTime          []time.Time
	Outcome            []int8
}

// Table implements Rows.
func (r *FlowEvents) Table() string { return "flow_events" }

// Len implements Rows.
func (r *FlowEvents) Len() int { return len(r.Sequence) }

// Reset implements Rows.
func (r *FlowEvents) Reset() {
	r.Identity.reset()
	r.Attribution.reset()
	r.Process.reset()
	r.FlowID = r.FlowID[:0]
	r.Direction = r.Direction[:0]
	r.Phase = r.Phase[:0]
	r.Protocol = cut(r.Protocol)
	r.SourceAddress = r.SourceAddress[:0]
	r.SourcePort = r.SourcePort[:0]
	r.DestinationAddress = r.DestinationAddress[:0]
	r.DestinationPort = r.DestinationPort[:0]
	r.Domain = cut(r.Domain)
	r.DomainSource = r.DomainSource[:0]
	r.ServerName = cut(r.ServerName)
	r.Application = r.Application[:0]
	r.EncryptedHello = r.EncryptedHello[:0]
	r.BytesSent = r.BytesSent[:0]
	r.BytesReceived = r.BytesReceived[:0]
	r.StartTime = r.StartTime[:0]
	r.Outcome = r.Outcome[:0]
}

// Columns implements Rows.
func (r *FlowEvents) Columns() []Column {
	return join(r.Identity.columns(), r.Attribution.columns(), r.Process.columns(), []Column{
		{"flow_id", "UInt64", r.FlowID},
		{"direction", "Int8", r.Direction},
		{"phase", "Int8", r.Phase},
		{"protocol", "String", r.Protocol},
		{"source_address", "IPv6", r.SourceAddress},
		{"source_port", "UInt16", r.SourcePort},
		{"destination_address", "IPv6", r.DestinationAddress},
		{"destination_port", "UInt16", r.DestinationPort},
		{"domain", "String", r.Domain},
		{"domain_source", "Int8", r.DomainSource},
		{"server_name", "String", r.ServerName},
		{"application", "Int8", r.Application},
		{"encrypted_hello", "Bool", r.EncryptedHello},
		{"bytes_sent", "UInt64", r.BytesSent},
		{"bytes_received", "UInt64", r.BytesReceived},
		{"start_time", "DateTime64(9)", r.StartTime},
		{"outcome", "Int8", r.Outcome},
		// It tells the roll-ups that these rows come through their view, not with the
		// migration that counted what was there before.
		{"rolled_up", "Bool", slices.Repeat([]bool{true}, r.Len())},
	})
}

// DNS are rows of the table dns: DNS exchanges.
type DNS struct {
	Identity
	Attribution
	Process
	Name           []string
	Type           []string
	ResponseCode   []string
	Addresses      [][][16]byte
	CanonicalNames [][]string
	ServerAddress  [][16]byte
	ServerPort     []uint16
	DurationNano   []uint64
}

// Table implements Rows.
func (r *DNS) Table() string { return "dns" }

// Len implements Rows.
func (r *DNS) Len() int { return len(r.Sequence) }

// Reset implements Rows.
func (r *DNS) Reset() {
	r.Identity.reset()
	r.Attribution.reset()
	r.Process.reset()
	r.Name = cut(r.Name)
	r.Type = cut(r.Type)
	r.ResponseCode = cut(r.ResponseCode)
	r.Addresses = cut(r.Addresses)
	r.CanonicalNames = cut(r.CanonicalNames)
	r.ServerAddress = r.ServerAddress[:0]
	r.ServerPort = r.ServerPort[:0]
	r.DurationNano = r.DurationNano[:0]
}

// Columns implements Rows.
func (r *DNS) Columns() []Column {
	return join(r.Identity.columns(), r.Attribution.columns(), r.Process.columns(), []Column{
		{"name", "String", r.Name},
		{"type", "String", r.Type},
		{"response_code", "String", r.ResponseCode},
		{"addresses", "Array(IPv6)", r.Addresses},
		{"canonical_names", "Array(String)", r.CanonicalNames},
		{"server_address", "IPv6", r.ServerAddress},
		{"server_port", "UInt16", r.ServerPort},
		{"duration_nano", "UInt64", r.DurationNano},
	})
}
