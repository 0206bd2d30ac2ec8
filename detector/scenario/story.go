package scenario

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// start is when the first run of a script begins, Unix time in nanoseconds.
const start = int64(1_780_000_000_000_000_000)

// pause is from one event to the next, runPause from one run to the next.
const (
	pause    = int64(time.Millisecond)
	runPause = int64(time.Hour)
)

// story is the telling of one run.
type story struct {
	p         *parser
	batch     *sallyportv1.EventBatch
	step      uint32            // index of the current step's attribution
	programs  map[string]uint32 // by step and command line: index of the process
	survivors []uint32
}

// tell makes the run of the sentences.
func (p *parser) tell(id string) (*Run, error) {
	p.executions++
	p.now += runPause
	p.process += 1000
	sum := sha256.Sum256(fmt.Appendf(nil, "%q%q%q%q%d", p.repository, p.workflow, p.job, id, p.executions))
	a := &sallyportv1.Attribution{
		Repository: p.repository, Workflow: p.workflow, RunId: id, RunAttempt: 1, Job: p.job,
		ExecutionId: hex.EncodeToString(sum[:8]), Event: p.on, Ref: p.ref, RefProtected: p.protected,
	}
	s := &story{p: p, programs: make(map[string]uint32), batch: &sallyportv1.EventBatch{
		AgentId: "agent-1", Epoch: 1, FirstSequence: p.sequence, Hostname: "runner-1",
		Attributions: []*sallyportv1.Attribution{a},
		Processes:    []*sallyportv1.Process{{Id: p.process, Pid: 7, Executable: "/opt/runner/bin/Runner.Worker", Arguments: []string{"/opt/runner/bin/Runner.Worker"}}},
	}, step: 1}
	s.add(1, &sallyportv1.Event{Body: &sallyportv1.Event_JobStarted{JobStarted: &sallyportv1.JobStarted{}}})
	for _, t := range p.told[1:] {
		if err := s.sentence(t.words); err != nil {
			return nil, fmt.Errorf("line %d: %w", t.line, err)
		}
	}
	return &Run{Line: p.told[0].line, Attribution: a, Batch: s.batch}, nil
}

func (s *story) add(process uint32, e *sallyportv1.Event) {
	s.p.now += pause
	e.TimeUnixNano, e.Attribution, e.Process = uint64(s.p.now), s.step, process
	s.batch.Events = append(s.batch.Events, e)
	s.p.sequence++
}

// verbs are what may follow an actor, the longest first where one begins another.
var verbs = []struct {
	words string
	tell  func(s *story, actor, object []string) error
}{
	{"connects to", (*story).connects},
	{"looks up", (*story).looksUp},
	{"pipes into", (*story).pipes},
	{"requests", (*story).requests},
	{"starts on a socket", (*story).startsOnSocket},
	{"starts in memory", (*story).startsInMemory},
	{"starts with digest", (*story).startsWithDigest},
	{"starts", (*story).starts},
	{"outlives the job", (*story).outlives},
	{"reads memory of", reads(sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM)},
	{"reads map of", reads(sallyportv1.AccessKind_ACCESS_KIND_PROC_MAPS)},
	{"reads environment of", reads(sallyportv1.AccessKind_ACCESS_KIND_PROC_ENVIRON)},
	{"attaches to", reads(sallyportv1.AccessKind_ACCESS_KIND_PTRACE)},
	{"reads file", file(sallyportv1.FileOperation_FILE_OPERATION_READ)},
	{"writes file", file(sallyportv1.FileOperation_FILE_OPERATION_WRITTEN)},
	{"makes file", file(sallyportv1.FileOperation_FILE_OPERATION_ENTERED)},
	{"removes file", file(sallyportv1.FileOperation_FILE_OPERATION_LEFT)},
	{"gains", privilege(sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED)},
	{"enters namespaces", privilege(sallyportv1.PrivilegeKind_PRIVILEGE_KIND_NAMESPACES)},
	{"loads module", privilege(sallyportv1.PrivilegeKind_PRIVILEGE_KIND_MODULE)},
	{"loads bpf", privilege(sallyportv1.PrivilegeKind_PRIVILEGE_KIND_BPF)},
	{"signals agent", privilege(sallyportv1.PrivilegeKind_PRIVILEGE_KIND_SIGNAL)},
	{"sends packets", privilege(sallyportv1.PrivilegeKind_PRIVILEGE_KIND_PACKETS)},
}

func (s *story) sentence(words []string) error {
	switch words[0] {
	case "step":
		return s.enter(words[1:])
	case "end":
		return s.end(sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED)
	case "stopped":
		return s.end(sallyportv1.JobEndReason_JOB_END_REASON_AGENT_STOPPED)
	}
	for i := 1; i < len(words); i++ {
		for _, v := range verbs {
			verb := strings.Fields(v.words)
			if len(words)-i >= len(verb) && slices.Equal(words[i:i+len(verb)], verb) {
				return v.tell(s, words[:i], words[i+len(verb):])
			}
		}
	}
	return fmt.Errorf("%q: no such sentence; detector/testdata/README.md lists them", strings.Join(words, " "))
}

// enter reads: step ID [uses ACTION].
func (s *story) enter(words []string) error {
	if len(words) != 1 && (len(words) != 3 || words[1] != "uses") {
		return errors.New("step ID [uses OWNER/NAME@REF]")
	}
	a := proto.CloneOf(s.batch.Attributions[0])
	a.Step = words[0]
	if len(words) == 3 {
		a.Action = words[2]
	}
	s.batch.Attributions = append(s.batch.Attributions, a)
	s.step = uint32(len(s.batch.Attributions))
	return nil
}

// executable is the path of a program that is given by its bare name.
func executable(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return "/usr/bin/" + name
}

// actor returns the process of a command line, "A > B" being B started by A. A command
// line that the step has seen is the same process.
func (s *story) actor(words []string) (uint32, error) {
	parent, key := uint32(1), fmt.Sprint(s.step)
	for len(words) > 0 {
		n := slices.Index(words, ">")
		if n < 0 {
			n = len(words)
		}
		line := words[:n]
		words = words[min(n+1, len(words)):]
		if len(line) == 0 {
			return 0, errors.New("nobody stands before or after >")
		}
		key += " > " + strings.Join(line, "\x00")
		if known := s.programs[key]; known != 0 {
			parent = known
			continue
		}
		parent = s.process(parent, line, nil)
		s.programs[key] = parent
	}
	if parent == 1 {
		return 0, errors.New("nobody does it")
	}
	return parent, nil
}

// process starts a program below another.
func (s *story) process(parent uint32, line []string, change func(*sallyportv1.Process)) uint32 {
	s.p.process++
	p := &sallyportv1.Process{
		Id: s.p.process, ParentId: s.batch.Processes[parent-1].GetId(), Pid: uint32(s.p.process), Executable: executable(line[0]),
		Arguments: line, WorkingDirectory: "/home/runner/work/shop/shop", Uid: 1001, EffectiveUid: 1001, StartTimeUnixNano: uint64(s.p.now),
	}
	if change != nil {
		change(p)
	}
	s.batch.Processes = append(s.batch.Processes, p)
	n := uint32(len(s.batch.Processes))
	s.add(n, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}})
	return n
}

// special starts the last program of a chain with something odd about it.
func (s *story) special(actor []string, change func(*sallyportv1.Process)) error {
	parent, line := uint32(1), actor
	for i := len(actor) - 1; i >= 0; i-- {
		if actor[i] == ">" {
			var err error
			if parent, err = s.actor(actor[:i]); err != nil {
				return err
			}
			line = actor[i+1:]
			break
		}
	}
	if len(line) == 0 {
		return errors.New("nobody starts")
	}
	s.process(parent, line, change)
	return nil
}

func (s *story) starts(actor, object []string) error {
	if len(object) > 0 {
		return fmt.Errorf("starts %s: a program starts; what starts it stands before a >", strings.Join(object, " "))
	}
	_, err := s.actor(actor)
	return err
}

func (s *story) startsOnSocket(actor, _ []string) error {
	return s.special(actor, func(p *sallyportv1.Process) {
		d := &sallyportv1.Descriptor{Kind: sallyportv1.DescriptorKind_DESCRIPTOR_KIND_SOCKET, Inode: p.GetId()}
		p.StandardInput, p.StandardOutput = d, d
	})
}

func (s *story) startsInMemory(actor, _ []string) error {
	return s.special(actor, func(p *sallyportv1.Process) {
		p.Executable = "/memfd:" + path.Base(p.GetArguments()[0]) + " (deleted)"
		p.ExecutableInMemory, p.ExecutableDeleted = true, true
	})
}

// startsWithDigest reads: SHA256 of the program's file.
func (s *story) startsWithDigest(actor, object []string) error {
	if len(object) != 1 {
		return errors.New("starts with digest SHA256")
	}
	if sum, err := hex.DecodeString(object[0]); err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("starts with digest %s: not 64 hexadecimal digits", object[0])
	}
	return s.special(actor, func(p *sallyportv1.Process) { p.ExecutableSha256 = object[0] })
}

func (s *story) outlives(actor, _ []string) error {
	n, err := s.actor(actor)
	s.survivors = append(s.survivors, n)
	return err
}

// connects reads: HOST:PORT [over PROTOCOL] [sending N[kB|MB|GB]] [as NAME].
func (s *story) connects(actor, object []string) error {
	by, err := s.actor(actor)
	if err != nil {
		return err
	}
	if len(object)%2 != 1 {
		return errors.New("connects to HOST:PORT [over PROTOCOL] [sending BYTES] [as NAME]")
	}
	host, port, err := hostPort(object[0])
	if err != nil {
		return err
	}
	f := &sallyportv1.Flow{
		Id: s.p.sequence, Phase: sallyportv1.FlowPhase_FLOW_PHASE_STARTED, Protocol: sallyportv1.Protocol_PROTOCOL_TCP,
		DestinationPort: port, Direction: sallyportv1.Direction_DIRECTION_OUTBOUND,
	}
	if a, err := netip.ParseAddr(host); err == nil {
		f.DestinationAddress = a.AsSlice()
	} else {
		f.Domain, f.DomainSource = host, sallyportv1.DomainSource_DOMAIN_SOURCE_PROCESS
		f.DestinationAddress = []byte{198, 51, 100, 7} // TEST-NET-2
	}
	sent := uint64(0)
	for object = object[1:]; len(object) > 0; object = object[2:] {
		switch object[0] {
		case "over":
			n, ok := sallyportv1.Protocol_value["PROTOCOL_"+strings.ToUpper(object[1])]
			if !ok || n == 0 {
				return fmt.Errorf("over %s: no such protocol", object[1])
			}
			f.Protocol = sallyportv1.Protocol(n)
		case "sending":
			if sent, err = bytes(object[1]); err != nil {
				return err
			}
		case "as":
			f.ServerName, f.Application = object[1], sallyportv1.Application_APPLICATION_TLS
		default:
			return fmt.Errorf("connects to ... %s: there is over PROTOCOL, sending BYTES and as NAME", object[0])
		}
	}
	s.add(by, &sallyportv1.Event{Body: &sallyportv1.Event_Flow{Flow: f}})
	if sent > 0 {
		f = proto.CloneOf(f)
		f.Phase, f.BytesSent = sallyportv1.FlowPhase_FLOW_PHASE_ENDED, sent
		s.add(by, &sallyportv1.Event{Body: &sallyportv1.Event_Flow{Flow: f}})
	}
	return nil
}

func hostPort(s string) (string, uint32, error) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 {
		return "", 0, fmt.Errorf("%q is not HOST:PORT", s)
	}
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not HOST:PORT", s)
	}
	return strings.Trim(s[:i], "[]"), uint32(port), nil
}

func bytes(s string) (uint64, error) {
	unit := uint64(1)
	for suffix, n := range map[string]uint64{"kB": 1e3, "MB": 1e6, "GB": 1e9} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = rest, n
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of bytes such as 20MB", s)
	}
	return n * unit, nil
}

// looksUp reads: NAME [TYPE] [at SERVER] [N names].
func (s *story) looksUp(actor, object []string) error {
	by, err := s.actor(actor)
	if err != nil {
		return err
	}
	if len(object) == 0 {
		return errors.New("looks up NAME [TYPE] [at SERVER] [N names]")
	}
	d := &sallyportv1.DnsExchange{Name: object[0], Type: "A", ResponseCode: "NOERROR", ServerAddress: []byte{127, 0, 0, 53}, ServerPort: 53}
	names := 1
	for object = object[1:]; len(object) > 0; object = object[1:] {
		switch {
		case object[0] == "at" && len(object) > 1:
			a, err := netip.ParseAddr(object[1])
			if err != nil {
				return fmt.Errorf("at %s: %w", object[1], err)
			}
			d.ServerAddress, object = a.AsSlice(), object[1:]
		case len(object) > 1 && object[1] == "names":
			if names, err = strconv.Atoi(object[0]); err != nil || names < 1 || names > 10_000 {
				return fmt.Errorf("%s names: not a number from 1 to 10000", object[0])
			}
			object = object[1:]
		default:
			d.Type = strings.ToUpper(object[0])
		}
	}
	for i := range names {
		q := proto.CloneOf(d)
		if names > 1 { // data in the names, as who carries some out has it
			sum := sha256.Sum256([]byte(strconv.Itoa(i)))
			q.Name = hex.EncodeToString(sum[:20]) + "." + d.GetName()
		}
		s.add(by, &sallyportv1.Event{Body: &sallyportv1.Event_DnsExchange{DnsExchange: q}})
	}
	return nil
}

// pipes joins two programs by a pipe.
func (s *story) pipes(actor, object []string) error {
	if len(object) == 0 {
		return errors.New("pipes into COMMAND")
	}
	s.p.process++
	end := &sallyportv1.Descriptor{Kind: sallyportv1.DescriptorKind_DESCRIPTOR_KIND_PIPE, Inode: s.p.process}
	if err := s.special(actor, func(p *sallyportv1.Process) { p.StandardOutput = end }); err != nil {
		return err
	}
	return s.special(object, func(p *sallyportv1.Process) { p.StandardInput = end })
}

// requests reads: METHOD HOST/PATH.
func (s *story) requests(actor, object []string) error {
	by, err := s.actor(actor)
	if err != nil {
		return err
	}
	if len(object) != 2 {
		return errors.New("requests METHOD HOST/PATH")
	}
	host, path, _ := strings.Cut(object[1], "/")
	s.add(by, &sallyportv1.Event{Body: &sallyportv1.Event_HttpRequest{HttpRequest: &sallyportv1.HttpRequest{
		Method: object[0], Host: host, Path: "/" + path, Version: "1.1", Library: sallyportv1.TlsLibrary_TLS_LIBRARY_OPENSSL,
	}}})
	return nil
}

// reads reaches into the worker or, by its command line, into another process.
func reads(kind sallyportv1.AccessKind) func(s *story, actor, object []string) error {
	return func(s *story, actor, object []string) error {
		by, err := s.actor(actor)
		if err != nil {
			return err
		}
		if len(object) == 0 {
			return errors.New("whose? worker, or a command line")
		}
		target := uint32(1)
		if object[0] != "worker" {
			if target, err = s.actor(object); err != nil {
				return err
			}
		}
		s.add(by, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessAccess{ProcessAccess: &sallyportv1.ProcessAccess{
			Kind: kind, Target: target, TargetIsWorker: target == 1,
		}}})
		return nil
	}
}

// file reads: PATH as CATEGORY [RULE].
func file(operation sallyportv1.FileOperation) func(s *story, actor, object []string) error {
	return func(s *story, actor, object []string) error {
		by, err := s.actor(actor)
		if err != nil {
			return err
		}
		if len(object) < 3 || len(object) > 4 || object[1] != "as" {
			return errors.New("file PATH as CATEGORY [RULE]")
		}
		f := &sallyportv1.FileAccess{Operation: operation, Path: object[0], Category: object[2], Rule: object[len(object)-1], Times: 1}
		s.add(by, &sallyportv1.Event{Body: &sallyportv1.Event_FileAccess{FileAccess: f}})
		return nil
	}
}

// privilege gains a privilege or uses one.
func privilege(kind sallyportv1.PrivilegeKind) func(s *story, actor, object []string) error {
	return func(s *story, actor, object []string) error {
		by, err := s.actor(actor)
		if err != nil {
			return err
		}
		u := &sallyportv1.PrivilegeUse{Kind: kind}
		switch kind {
		case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED:
			u.Capabilities, u.EffectiveUidBefore = object, 1001
		case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_NAMESPACES:
			u.Namespaces = object
		default:
			u.Object = strings.Join(object, " ")
		}
		s.add(by, &sallyportv1.Event{Body: &sallyportv1.Event_PrivilegeUse{PrivilegeUse: u}})
		return nil
	}
}

func (s *story) end(reason sallyportv1.JobEndReason) error {
	s.step = 1
	s.add(1, &sallyportv1.Event{Body: &sallyportv1.Event_JobEnded{JobEnded: &sallyportv1.JobEnded{Reason: reason, Survivors: s.survivors}}})
	return nil
}
