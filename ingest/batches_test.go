package ingest

import (
	"fmt"
	"math/rand/v2"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// epoch is the epoch of the test agents.
const epoch = 1_700_000_000_000_000_000

// digest is a SHA-256, or the identifier of a container.
const digest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// fullBatch has an event of every kind with every field set.
func fullBatch(now time.Time) *sallyportv1.EventBatch {
	at := uint64(now.UnixNano())
	return &sallyportv1.EventBatch{
		AgentId: "agent-1", Epoch: epoch, FirstSequence: 41, Hostname: "runner.example.test",
		Attributions: []*sallyportv1.Attribution{{
			Repository: "example/app", Workflow: "ci", RunId: "123", RunAttempt: 2, RunNumber: 77, Job: "build",
			ExecutionId: "0123456789abcdef", Step: "__run_2", Action: "example/setup@v1", Commit: "c0ffee",
			Ref: "refs/heads/main", Event: "push", Actor: "alice", Runner: "runner-1",
			WorkflowRef: "example/app/.github/workflows/ci.yml@refs/heads/main", RefProtected: true,
		}},
		Processes: []*sallyportv1.Process{
			{
				Id: 2002, ParentId: 2001, Pid: 501, Executable: "/usr/bin/curl",
				Arguments: []string{"curl", "-s", "https://x.example.test/\xc3\xa9"}, ArgumentsTruncated: true,
				WorkingDirectory: "/home/runner", Uid: 1001, StartTimeUnixNano: at - 5,
				StandardInput:  &sallyportv1.Descriptor{Kind: sallyportv1.DescriptorKind_DESCRIPTOR_KIND_PIPE, Inode: 91},
				StandardOutput: &sallyportv1.Descriptor{Kind: sallyportv1.DescriptorKind_DESCRIPTOR_KIND_FILE, Inode: 92},
				ArgumentPipe:   &sallyportv1.Descriptor{Kind: sallyportv1.DescriptorKind_DESCRIPTOR_KIND_PIPE, Inode: 93},
				Gid:            1002, EffectiveUid: 1003, Capabilities: 1 << 21, Script: "./run.sh", ExecutableDeleted: true, ExecutableInMemory: true,
				ExecutableInode: 94, ExecutableDevice: 95, ExecutableSha256: digest,
				Container: &sallyportv1.Container{Id: digest, Image: "example/image:1", Name: "job", Pod: "runner-x", PodNamespace: "arc", PodLabels: map[string]string{"a/b": "c", "d": "", "e": "f=g"}},
			},
			{Id: 2001, Pid: 501, Executable: "/usr/bin/bash"},
			{Id: 1000, Pid: 7, Executable: "/opt/runner/bin/Runner.Worker"},
		},
		Events: []*sallyportv1.Event{
			{TimeUnixNano: at + 1, Process: 2, Attribution: 1, Body: &sallyportv1.Event_ProcessForked{ProcessForked: &sallyportv1.ProcessForked{}}},
			{TimeUnixNano: at + 2, Process: 1, Attribution: 1, Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}},
			{TimeUnixNano: at + 3, Process: 1, Attribution: 1, Body: &sallyportv1.Event_DnsExchange{DnsExchange: &sallyportv1.DnsExchange{
				Name: "x.example.test", Type: "A", ResponseCode: "NOERROR", Addresses: [][]byte{addr("192.0.2.7"), addr("2001:db8::7")},
				CanonicalNames: []string{"y.example.test", "z.example.test"}, ServerAddress: addr("127.0.0.53"), ServerPort: 53, DurationNano: 12345,
			}}},
			{TimeUnixNano: at + 4, Process: 1, Attribution: 1, Body: &sallyportv1.Event_Flow{Flow: flow(at, sallyportv1.FlowPhase_FLOW_PHASE_STARTED, 0, 0)}},
			{TimeUnixNano: at + 5, Process: 1, Attribution: 1, Body: &sallyportv1.Event_Flow{Flow: flow(at, sallyportv1.FlowPhase_FLOW_PHASE_ACTIVE, 100, 7)}},
			{TimeUnixNano: at + 6, Process: 1, Attribution: 1, Body: &sallyportv1.Event_Flow{Flow: flow(at, sallyportv1.FlowPhase_FLOW_PHASE_ENDED, 11, 9)}},
			{TimeUnixNano: at + 7, Process: 1, Attribution: 1, Body: &sallyportv1.Event_ProcessAccess{ProcessAccess: &sallyportv1.ProcessAccess{
				Kind: sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM, Target: 3, TargetIsWorker: true,
			}}},
			{TimeUnixNano: at + 8, Process: 1, Attribution: 1, Body: &sallyportv1.Event_ProcessExited{ProcessExited: &sallyportv1.ProcessExited{ExitCode: 137, Signal: 9}}},
			{TimeUnixNano: at, Process: 3, Attribution: 1, Body: &sallyportv1.Event_JobStarted{JobStarted: &sallyportv1.JobStarted{}}},
			{TimeUnixNano: at + 9, Process: 3, Attribution: 1, Body: &sallyportv1.Event_JobEnded{JobEnded: &sallyportv1.JobEnded{Reason: sallyportv1.JobEndReason_JOB_END_REASON_HOOK, Survivors: []uint32{1}}}},
			{TimeUnixNano: at + 10, Body: &sallyportv1.Event_AgentStatus{AgentStatus: &sallyportv1.AgentStatus{
				Version: "0.1", Kernel: "6.18.0", EventsSeen: 99, EventsLost: map[string]uint64{"flow": 3, "exec": 1}, BatchesWaiting: 4, Stopping: true,
				PreviousEnd: sallyportv1.AgentEnd_AGENT_END_KILLED, PreviousSeenUnixNano: at - 6, Found: &sallyportv1.Inventory{Processes: 7, Connections: 8},
				Damage: []string{"link of tcp_state is detached"}, LongestPauseNano: 9,
			}}},
			{TimeUnixNano: at + 12, Process: 1, Attribution: 1, Body: &sallyportv1.Event_Flow{Flow: identified(at)}},
			{TimeUnixNano: at + 11, Process: 1, Attribution: 1, Body: &sallyportv1.Event_FileAccess{FileAccess: &sallyportv1.FileAccess{
				Operation: sallyportv1.FileOperation_FILE_OPERATION_READ, Path: "/home/runner/.aws/credentials", Rule: "aws_credentials", Category: "credential", Times: 3,
			}}},
			{TimeUnixNano: at + 13, Process: 2, Attribution: 1, Body: &sallyportv1.Event_Flow{Flow: flow(at, sallyportv1.FlowPhase_FLOW_PHASE_USED, 0, 0)}},
			{TimeUnixNano: at + 14, Process: 1, Attribution: 1, Body: &sallyportv1.Event_PrivilegeUse{PrivilegeUse: &sallyportv1.PrivilegeUse{
				Kind: sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED, Capabilities: []string{"CAP_BPF"}, EffectiveUidBefore: 5, EffectiveUid: 6,
				Namespaces: []string{"mnt", "net"}, Signal: 9, Object: "probe",
			}}},
			{TimeUnixNano: at + 15, Process: 1, Attribution: 1, Body: &sallyportv1.Event_ExecutableDigest{ExecutableDigest: &sallyportv1.ExecutableDigest{
				Path: "/usr/bin/curl", Inode: 94, Device: 95, Size: 96, Sha256: digest,
			}}},
			{TimeUnixNano: at + 16, Process: 1, Attribution: 1, Body: &sallyportv1.Event_HttpRequest{HttpRequest: &sallyportv1.HttpRequest{
				Method: "POST", Host: "api.github.com", Path: "/repos/example/app/issues", Version: "2", Library: sallyportv1.TlsLibrary_TLS_LIBRARY_GO,
			}}},
		},
	}
}

func flow(at uint64, phase sallyportv1.FlowPhase, sent, received uint64) *sallyportv1.Flow {
	f := &sallyportv1.Flow{
		Id: 5, Phase: phase, Protocol: sallyportv1.Protocol_PROTOCOL_TCP,
		SourceAddress: addr("192.0.2.1"), SourcePort: 40000, DestinationAddress: addr("192.0.2.7"), DestinationPort: 443,
		Domain: "x.example.test", DomainSource: sallyportv1.DomainSource_DOMAIN_SOURCE_PROCESS,
		BytesSent: sent, BytesReceived: received, StartTimeUnixNano: at + 4,
	}
	if phase == sallyportv1.FlowPhase_FLOW_PHASE_ENDED {
		f.Outcome = sallyportv1.FlowOutcome_FLOW_OUTCOME_RESET
	}
	return f
}

func identified(at uint64) *sallyportv1.Flow {
	f := flow(at, sallyportv1.FlowPhase_FLOW_PHASE_IDENTIFIED, 0, 0)
	f.ServerName, f.Application, f.EncryptedHello = "x.example.test", sallyportv1.Application_APPLICATION_TLS, true
	return f
}

// realisticBatch is n events as a build makes them: four in ten executions, four
// exits, one flow and one DNS exchange, of ten programs in five steps.
func realisticBatch(r *rand.Rand, agent string, first uint64, n int, now time.Time) *sallyportv1.EventBatch {
	b := &sallyportv1.EventBatch{AgentId: agent, Epoch: epoch, FirstSequence: first, Hostname: agent + ".example.test"}
	for i := range 5 {
		b.Attributions = append(b.Attributions, &sallyportv1.Attribution{
			Repository: "example/app", Workflow: "ci", RunId: "9876543210", RunAttempt: 1, RunNumber: 1234, Job: "build",
			ExecutionId: "0123456789abcdef", Step: fmt.Sprintf("__run_%d", i), Commit: "3f1e0c9d5f0f4d3aa2bb6c5c1c1f7c6b2f3a9d10",
			Ref: "refs/heads/main", Event: "push", Actor: "alice", Runner: agent, WorkflowRef: "example/app/.github/workflows/ci.yml@refs/heads/main",
		})
	}
	programs := []string{"/usr/bin/bash", "/usr/bin/git", "/usr/local/go/bin/go", "/usr/local/go/pkg/tool/linux_amd64/compile", "/usr/bin/cc1", "/usr/bin/ld", "/usr/bin/node", "/usr/bin/sed", "/usr/bin/cat", "/usr/bin/curl"}
	for i := range max(n/3, 1) {
		id := (first+uint64(i))<<20 | uint64(r.Uint32N(1<<20))
		b.Processes = append(b.Processes, &sallyportv1.Process{
			Id: id, ParentId: id - 1000, Pid: 1000 + uint32(i), Executable: programs[r.IntN(len(programs))],
			Arguments:        []string{"compile", "-o", fmt.Sprintf("/tmp/go-build%d/b%03d/_pkg_.a", r.Uint32(), i), "-trimpath", "-p", "example.test/app/internal/part", "-complete"},
			WorkingDirectory: "/home/runner/work/app/app", Uid: 1001, StartTimeUnixNano: uint64(now.UnixNano()),
		})
	}
	for i := range n {
		e := &sallyportv1.Event{
			TimeUnixNano: uint64(now.UnixNano()) + uint64(i)*50_000, Process: uint32(1 + r.IntN(len(b.Processes))), Attribution: uint32(1 + i*5/n),
		}
		switch i % 10 {
		case 0, 2, 4, 6:
			e.Body = &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}
		case 1, 3, 5, 7:
			e.Body = &sallyportv1.Event_ProcessExited{ProcessExited: &sallyportv1.ProcessExited{}}
		case 8:
			e.Body = &sallyportv1.Event_Flow{Flow: &sallyportv1.Flow{
				Id: first + uint64(i), Phase: []sallyportv1.FlowPhase{sallyportv1.FlowPhase_FLOW_PHASE_STARTED, sallyportv1.FlowPhase_FLOW_PHASE_ENDED}[r.IntN(2)], Protocol: sallyportv1.Protocol_PROTOCOL_TCP,
				SourceAddress: addr("192.0.2.1"), SourcePort: r.Uint32N(65536), DestinationAddress: []byte{198, 51, 100, byte(r.IntN(256))}, DestinationPort: 443,
				Domain: fmt.Sprintf("cdn-%d.example.test", r.IntN(30)), DomainSource: sallyportv1.DomainSource_DOMAIN_SOURCE_PROCESS,
				BytesSent: r.Uint64N(10_000), BytesReceived: r.Uint64N(1 << 20), StartTimeUnixNano: e.TimeUnixNano - 1e6, Outcome: sallyportv1.FlowOutcome_FLOW_OUTCOME_CLOSED,
			}}
		default:
			e.Body = &sallyportv1.Event_DnsExchange{DnsExchange: &sallyportv1.DnsExchange{
				Name: fmt.Sprintf("cdn-%d.example.test", r.IntN(30)), Type: "A", ResponseCode: "NOERROR",
				Addresses: [][]byte{{198, 51, 100, byte(r.IntN(256))}}, ServerAddress: addr("127.0.0.53"), ServerPort: 53, DurationNano: r.Uint64N(1e7),
			}}
		}
		b.Events = append(b.Events, e)
	}
	return b
}
