package ingest

import (
	"slices"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store"
)

// Values of the columns kind in process_events and job_events.
const (
	kindForked   = 1
	kindExecuted = 2
	kindExited   = 3
	jobStarted   = 1
	jobEnded     = 2
)

// enum returns the value for an Enum8 column: one that a newer agent sent and
// the table does not know becomes 0, the empty name.
func enum[E ~int32](e E, last E) int8 {
	if e < 0 || e > last {
		return 0
	}
	return int8(e)
}

func appendIdentity(t *store.Identity, c *eventContext) {
	t.AgentID = append(t.AgentID, c.batch.GetAgentId())
	t.Epoch = append(t.Epoch, c.batch.GetEpoch())
	t.Sequence = append(t.Sequence, c.sequence)
	t.Time = append(t.Time, c.time)
	t.Hostname = append(t.Hostname, c.batch.GetHostname())
}

func appendAttribution(t *store.Attribution, a *sallyportv1.Attribution) {
	t.Repository = append(t.Repository, a.GetRepository())
	t.Workflow = append(t.Workflow, a.GetWorkflow())
	t.RunID = append(t.RunID, a.GetRunId())
	t.RunAttempt = append(t.RunAttempt, a.GetRunAttempt())
	t.Job = append(t.Job, a.GetJob())
	t.ExecutionID = append(t.ExecutionID, a.GetExecutionId())
	t.Step = append(t.Step, a.GetStep())
	t.Action = append(t.Action, a.GetAction())
	t.Commit = append(t.Commit, a.GetCommit())
	t.Ref = append(t.Ref, a.GetRef())
	t.Event = append(t.Event, a.GetEvent())
	t.Actor = append(t.Actor, a.GetActor())
	t.Runner = append(t.Runner, a.GetRunner())
}

func appendProcess(t *store.Process, c *eventContext) {
	t.ProcessID = append(t.ProcessID, c.process.GetId())
	t.ParentProcessID = append(t.ParentProcessID, c.process.GetParentId())
	t.PID = append(t.PID, c.process.GetPid())
	t.Executable = append(t.Executable, c.process.GetExecutable())
	t.Program = append(t.Program, c.program)
	t.ParentProgram = append(t.ParentProgram, c.parent)
	t.UID = append(t.UID, c.process.GetUid())
}

func (r *batchRows) addProcess(c eventContext, kind int8) {
	t, p := &r.processEvents, c.process
	appendIdentity(&t.Identity, &c)
	appendAttribution(&t.Attribution, c.attribution)
	appendProcess(&t.Process, &c)
	t.Kind = append(t.Kind, kind)
	t.StartTime = append(t.StartTime, unixNano(p.GetStartTimeUnixNano()))
	exit := c.event.GetProcessExited()
	t.ExitCode = append(t.ExitCode, uint8(min(exit.GetExitCode(), 255)))
	t.Signal = append(t.Signal, uint8(min(exit.GetSignal(), 255)))
	if kind != kindExecuted {
		p = noProcess // the rest was said when the program started
	}
	for _, a := range p.GetArguments() {
		r.bytes += len(a) + stringOverhead
	}
	t.Arguments = append(t.Arguments, p.GetArguments())
	t.ArgumentsTruncated = append(t.ArgumentsTruncated, p.GetArgumentsTruncated())
	t.WorkingDirectory = append(t.WorkingDirectory, p.GetWorkingDirectory())
	t.StandardInputKind = append(t.StandardInputKind, descriptorKind(p.GetStandardInput()))
	t.StandardInputInode = append(t.StandardInputInode, p.GetStandardInput().GetInode())
	t.StandardOutputKind = append(t.StandardOutputKind, descriptorKind(p.GetStandardOutput()))
	t.StandardOutputInode = append(t.StandardOutputInode, p.GetStandardOutput().GetInode())
	t.ArgumentPipeKind = append(t.ArgumentPipeKind, descriptorKind(p.GetArgumentPipe()))
	t.ArgumentPipeInode = append(t.ArgumentPipeInode, p.GetArgumentPipe().GetInode())
	t.GID = append(t.GID, p.GetGid())
	t.EffectiveUID = append(t.EffectiveUID, p.GetEffectiveUid())
	t.Capabilities = append(t.Capabilities, p.GetCapabilities())
	t.Script = append(t.Script, p.GetScript())
	t.ExecutableDeleted = append(t.ExecutableDeleted, p.GetExecutableDeleted())
	t.ExecutableInMemory = append(t.ExecutableInMemory, p.GetExecutableInMemory())
	t.ExecutableInode = append(t.ExecutableInode, p.GetExecutableInode())
	t.ExecutableDevice = append(t.ExecutableDevice, p.GetExecutableDevice())
	t.ExecutableSHA256 = append(t.ExecutableSHA256, p.GetExecutableSha256())
	t.ContainerID = append(t.ContainerID, p.GetContainer().GetId())
	t.ContainerImage = append(t.ContainerImage, p.GetContainer().GetImage())
	t.ContainerName = append(t.ContainerName, p.GetContainer().GetName())
	t.Pod = append(t.Pod, p.GetContainer().GetPod())
	t.PodNamespace = append(t.PodNamespace, p.GetContainer().GetPodNamespace())
	labels := podLabels(p.GetContainer().GetPodLabels())
	for _, l := range labels {
		r.bytes += len(l) + stringOverhead
	}
	t.PodLabels = append(t.PodLabels, labels)
}

// podLabels returns labels as NAME=VALUE, by name. Most processes have none.
func podLabels(labels map[string]string) []string {
	if len(labels) == 0 {
		return nil
	}
	told := make([]string, 0, len(labels))
	for name, value := range labels {
		told = append(told, name+"="+value)
	}
	slices.Sort(told)
	return told
}

// stringOverhead is what a string takes beside its bytes.
const stringOverhead = 16

func descriptorKind(d *sallyportv1.Descriptor) int8 {
	return enum(d.GetKind(), sallyportv1.DescriptorKind_DESCRIPTOR_KIND_DEVICE)
}

func (r *batchRows) addFlow(c eventContext, f *sallyportv1.Flow) {
	t := &r.flowEvents
	appendIdentity(&t.Identity, &c)
	appendAttribution(&t.Attribution, c.attribution)
	appendProcess(&t.Process, &c)
	t.FlowID = append(t.FlowID, f.GetId())
	// An agent that does not say knows of what goes out only.
	t.Direction = append(t.Direction, max(enum(f.GetDirection(), sallyportv1.Direction_DIRECTION_LISTENING), int8(sallyportv1.Direction_DIRECTION_OUTBOUND)))
	t.Phase = append(t.Phase, enum(f.GetPhase(), sallyportv1.FlowPhase_FLOW_PHASE_USED))
	t.Protocol = append(t.Protocol, f.GetProtocol().Name())
	t.SourceAddress = append(t.SourceAddress, address16(f.GetSourceAddress()))
	t.SourcePort = append(t.SourcePort, uint16(f.GetSourcePort()))
	t.DestinationAddress = append(t.DestinationAddress, address16(f.GetDestinationAddress()))
	t.DestinationPort = append(t.DestinationPort, uint16(f.GetDestinationPort()))
	t.Domain = append(t.Domain, f.GetDomain())
	t.DomainSource = append(t.DomainSource, enum(f.GetDomainSource(), sallyportv1.DomainSource_DOMAIN_SOURCE_CONTAINER))
	t.ServerName = append(t.ServerName, f.GetServerName())
	t.Application = append(t.Application, enum(f.GetApplication(), sallyportv1.Application_APPLICATION_DNS_OVER_QUIC))
	t.EncryptedHello = append(t.EncryptedHello, f.GetEncryptedHello())
	t.BytesSent = append(t.BytesSent, f.GetBytesSent())
	t.BytesReceived = append(t.BytesReceived, f.GetBytesReceived())
	t.StartTime = append(t.StartTime, flowStart(f, c.time))
	t.Outcome = append(t.Outcome, enum(f.GetOutcome(), sallyportv1.FlowOutcome_FLOW_OUTCOME_UNREACHABLE))
}

func flowStart(f *sallyportv1.Flow, event time.Time) time.Time {
	if f.GetStartTimeUnixNano() == 0 {
		return event
	}
	return unixNano(f.GetStartTimeUnixNano())
}

func (r *batchRows) addDNS(c eventContext, d *sallyportv1.DnsExchange) {
	t := &r.dns
	appendIdentity(&t.Identity, &c)
	appendAttribution(&t.Attribution, c.attribution)
	appendProcess(&t.Process, &c)
	t.Name = append(t.Name, d.GetName())
	t.Type = append(t.Type, d.GetType())
	t.ResponseCode = append(t.ResponseCode, d.GetResponseCode())
	addresses := make([][16]byte, len(d.GetAddresses()))
	for i, a := range d.GetAddresses() {
		addresses[i] = address16(a)
	}
	t.Addresses = append(t.Addresses, addresses)
	t.CanonicalNames = append(t.CanonicalNames, d.GetCanonicalNames())
	t.ServerAddress = append(t.ServerAddress, address16(d.GetServerAddress()))
	t.ServerPort = append(t.ServerPort, uint16(d.GetServerPort()))
	t.DurationNano = append(t.DurationNano, d.GetDurationNano())
	for _, n := range d.GetCanonicalNames() {
		r.bytes += len(n) + stringOverhead
	}
	r.bytes += len(addresses) * 16
}

func (r *batchRows) addAccess(c eventContext, a *sallyportv1.ProcessAccess, processes []*sallyportv1.Process) {
	t, target, program := &r.processAccesses, noProcess, ""
	if n := a.GetTarget(); n > 0 {
		target, program = processes[n-1], r.programs[n-1]
	}
	appendIdentity(&t.Identity, &c)
	appendAttribution(&t.Attribution, c.attribution)
	appendProcess(&t.Process, &c)
	t.Kind = append(t.Kind, enum(a.GetKind(), sallyportv1.AccessKind_ACCESS_KIND_VM_WRITE))
	t.TargetProcessID = append(t.TargetProcessID, target.GetId())
	t.TargetPID = append(t.TargetPID, target.GetPid())
	t.TargetExecutable = append(t.TargetExecutable, target.GetExecutable())
	t.TargetProgram = append(t.TargetProgram, program)
	t.TargetIsWorker = append(t.TargetIsWorker, a.GetTargetIsWorker())
}

func (r *batchRows) addFile(c eventContext, f *sallyportv1.FileAccess) {
	t := &r.fileAccesses
	appendIdentity(&t.Identity, &c)
	appendAttribution(&t.Attribution, c.attribution)
	appendProcess(&t.Process, &c)
	t.Operation = append(t.Operation, enum(f.GetOperation(), sallyportv1.FileOperation_FILE_OPERATION_LEFT))
	t.Path = append(t.Path, f.GetPath())
	t.Rule = append(t.Rule, f.GetRule())
	t.Category = append(t.Category, f.GetCategory())
	t.Times = append(t.Times, f.GetTimes())
}

func (r *batchRows) addPrivilege(c eventContext, p *sallyportv1.PrivilegeUse) {
	t := &r.privileges
	appendIdentity(&t.Identity, &c)
	appendAttribution(&t.Attribution, c.attribution)
	appendProcess(&t.Process, &c)
	t.Kind = append(t.Kind, enum(p.GetKind(), sallyportv1.PrivilegeKind_PRIVILEGE_KIND_PACKETS))
	t.Capabilities = append(t.Capabilities, p.GetCapabilities())
	t.EffectiveUIDBefore = append(t.EffectiveUIDBefore, p.GetEffectiveUidBefore())
	t.EffectiveUID = append(t.EffectiveUID, p.GetEffectiveUid())
	t.Namespaces = append(t.Namespaces, p.GetNamespaces())
	t.Signal = append(t.Signal, uint8(min(p.GetSignal(), 255)))
	t.Object = append(t.Object, p.GetObject())
}

func (r *batchRows) addExecutable(c eventContext, d *sallyportv1.ExecutableDigest) {
	t := &r.executables
	appendIdentity(&t.Identity, &c)
	appendAttribution(&t.Attribution, c.attribution)
	appendProcess(&t.Process, &c)
	t.Path = append(t.Path, d.GetPath())
	t.Inode = append(t.Inode, d.GetInode())
	t.Device = append(t.Device, d.GetDevice())
	t.Size = append(t.Size, d.GetSize())
	t.SHA256 = append(t.SHA256, d.GetSha256())
}

func (r *batchRows) addRequest(c eventContext, q *sallyportv1.HttpRequest) {
	t := &r.httpRequests
	appendIdentity(&t.Identity, &c)
	appendAttribution(&t.Attribution, c.attribution)
	appendProcess(&t.Process, &c)
	t.Method = append(t.Method, q.GetMethod())
	t.Host = append(t.Host, q.GetHost())
	t.Path = append(t.Path, q.GetPath())
	t.Version = append(t.Version, q.GetVersion())
	t.Library = append(t.Library, enum(q.GetLibrary(), sallyportv1.TlsLibrary_TLS_LIBRARY_GO))
}

func (r *batchRows) addJob(c eventContext, kind int8, end *sallyportv1.JobEnded) {
	t := &r.jobEvents
	appendIdentity(&t.Identity, &c)
	appendAttribution(&t.Attribution, c.attribution)
	appendProcess(&t.Process, &c)
	t.RunNumber = append(t.RunNumber, c.attribution.GetRunNumber())
	t.WorkflowRef = append(t.WorkflowRef, c.attribution.GetWorkflowRef())
	t.RefProtected = append(t.RefProtected, c.attribution.GetRefProtected())
	t.Kind = append(t.Kind, kind)
	t.Reason = append(t.Reason, enum(end.GetReason(), sallyportv1.JobEndReason_JOB_END_REASON_HOOK))
	survivors := make([]uint64, len(end.GetSurvivors()))
	for i, n := range end.GetSurvivors() {
		survivors[i] = c.batch.GetProcesses()[n-1].GetId()
	}
	t.Survivors = append(t.Survivors, survivors)
}

func (r *batchRows) addStatus(c eventContext, s *sallyportv1.AgentStatus) {
	t := &r.agentStatus
	appendIdentity(&t.Identity, &c)
	t.Version = append(t.Version, s.GetVersion())
	t.Kernel = append(t.Kernel, s.GetKernel())
	t.EventsSeen = append(t.EventsSeen, s.GetEventsSeen())
	t.EventsLost = append(t.EventsLost, s.GetEventsLost())
	t.BatchesWaiting = append(t.BatchesWaiting, s.GetBatchesWaiting())
	t.Stopping = append(t.Stopping, s.GetStopping())
	t.PreviousEnd = append(t.PreviousEnd, enum(s.GetPreviousEnd(), sallyportv1.AgentEnd_AGENT_END_MACHINE_DOWN))
	t.PreviousSeen = append(t.PreviousSeen, unixNano(s.GetPreviousSeenUnixNano()))
	t.FoundProcesses = append(t.FoundProcesses, s.GetFound().GetProcesses())
	t.FoundConnections = append(t.FoundConnections, s.GetFound().GetConnections())
	t.Damage = append(t.Damage, s.GetDamage())
	t.LongestPauseNano = append(t.LongestPauseNano, s.GetLongestPauseNano())
}

// address16 maps IPv4 into IPv6 as the column wants it; no address becomes "::".
func address16(a []byte) [16]byte {
	var b [16]byte
	switch len(a) {
	case 4:
		b[10], b[11] = 0xff, 0xff
		copy(b[12:], a)
	case 16:
		copy(b[:], a)
	}
	return b
}
