package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// script builds a batch event by event.
type script struct {
	batch sallyportv1.EventBatch
	index map[uint64]uint32
	now   time.Time
}

func newScript() *script {
	return &script{index: make(map[uint64]uint32), now: start}
}

func (s *script) process(id, parent uint64, pid uint32, arguments ...string) {
	s.now = s.now.Add(time.Millisecond)
	p := &sallyportv1.Process{Id: id, ParentId: parent, Pid: pid, Arguments: arguments, StartTimeUnixNano: uint64(s.now.UnixNano())}
	if len(arguments) > 0 {
		p.Executable = "/usr/bin/" + strings.Fields(arguments[0] + " x")[0]
	}
	s.batch.Processes = append(s.batch.Processes, p)
	s.index[id] = uint32(len(s.batch.Processes))
}

func (s *script) event(id uint64, e *sallyportv1.Event) {
	s.now = s.now.Add(time.Millisecond)
	e.TimeUnixNano, e.Process = uint64(s.now.UnixNano()), s.index[id]
	s.batch.Events = append(s.batch.Events, e)
}

// run forks and executes a program.
func (s *script) run(id, parent uint64, arguments ...string) {
	s.process(id, parent, uint32(id))
	s.event(id, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessForked{ProcessForked: &sallyportv1.ProcessForked{}}})
	s.process(id+1000, id, uint32(id), arguments...)
	s.event(id+1000, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}})
}

func (s *script) exit(id uint64, code uint32) {
	s.event(id+1000, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessExited{ProcessExited: &sallyportv1.ProcessExited{ExitCode: code}}})
}

func (s *script) flow(id uint64, flow uint64, address, domain string, port uint32, sent, received uint64, outcome sallyportv1.FlowOutcome) {
	f := &sallyportv1.Flow{
		Id: flow, Phase: sallyportv1.FlowPhase_FLOW_PHASE_ENDED, Protocol: sallyportv1.Protocol_PROTOCOL_TCP,
		DestinationAddress: netip.MustParseAddr(address).AsSlice(), DestinationPort: port, Domain: domain,
		BytesSent: sent, BytesReceived: received, Outcome: outcome,
	}
	if domain != "" {
		f.DomainSource = sallyportv1.DomainSource_DOMAIN_SOURCE_PROCESS
	}
	s.event(id+1000, &sallyportv1.Event{Body: &sallyportv1.Event_Flow{Flow: f}})
}

func (s *script) lookup(id uint64, name, code string) {
	s.event(id+1000, &sallyportv1.Event{Body: &sallyportv1.Event_DnsExchange{DnsExchange: &sallyportv1.DnsExchange{Name: name, Type: "A", ResponseCode: code}}})
}

const closed = sallyportv1.FlowOutcome_FLOW_OUTCOME_CLOSED

func sample() *Collector {
	s := newScript()
	s.run(1, 0, "bash", "-e", "build.sh")
	s.run(2, 1001, "curl", "-fsSL", "https://downloads.example.test/tool.tgz")
	s.lookup(2, "downloads.example.test", "NOERROR")
	s.flow(2, 1, "192.0.2.10", "downloads.example.test", 443, 612, 5_300_000, closed)
	s.flow(2, 2, "192.0.2.11", "downloads.example.test", 443, 200, 1000, closed)
	s.exit(2, 0)
	s.run(3, 1001, "make", "-j2")
	for id := uint64(10); id < 40; id++ {
		s.run(id, 1003, "cc", "-c", "x.c")
		s.exit(id, 0)
	}
	s.run(50, 1003, "python3", "-c", "print('\x1b]0;owned\x07')\nimport os")
	s.flow(50, 3, "198.51.100.9", "", 8443, 4096, 0, sallyportv1.FlowOutcome_FLOW_OUTCOME_REFUSED)
	s.flow(50, 4, "2001:db8::9", "", 8443, 0, 0, closed)
	s.lookup(50, "secret\x1b[31m.evil.example.test", "")
	s.event(1050, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessAccess{ProcessAccess: &sallyportv1.ProcessAccess{
		Kind: sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM, Target: s.index[1001]}}})
	for _, times := range []uint64{1, 4} {
		s.event(1050, &sallyportv1.Event{Body: &sallyportv1.Event_FileAccess{FileAccess: &sallyportv1.FileAccess{
			Operation: sallyportv1.FileOperation_FILE_OPERATION_READ, Path: "/root/.aws/credentials\x1b[31m", Rule: "aws_credentials", Category: "credential", Times: times}}})
	}
	s.event(1050, &sallyportv1.Event{Body: &sallyportv1.Event_PrivilegeUse{PrivilegeUse: &sallyportv1.PrivilegeUse{
		Kind: sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED, Capabilities: []string{"CAP_CHOWN", "CAP_KILL", "CAP_BPF", "CAP_SETUID", "CAP_SYSLOG"}, EffectiveUidBefore: 1001}}})
	s.event(1050, &sallyportv1.Event{Body: &sallyportv1.Event_PrivilegeUse{PrivilegeUse: &sallyportv1.PrivilegeUse{
		Kind: sallyportv1.PrivilegeKind_PRIVILEGE_KIND_NAMESPACES, Namespaces: []string{"mnt", "net"}}}})
	for range 2 {
		s.event(1050, &sallyportv1.Event{Body: &sallyportv1.Event_HttpRequest{HttpRequest: &sallyportv1.HttpRequest{
			Method: "GET", Host: "api.github.com", Path: "/repos/example/app\x1b[31m", Version: "2"}}})
	}
	s.exit(50, 1)
	s.exit(3, 2)
	s.exit(1, 2)
	c := NewCollector()
	c.Add(&s.batch)
	c.AddFinding(&sallyportv1.Finding{
		Id: strings.Repeat("a", 32), Time: timestamppb.New(start.Add(time.Second)),
		Policy: &sallyportv1.Policy{
			Id: "bare_address", Title: "Egress to a bare address", Severity: sallyportv1.Severity_SEVERITY_MEDIUM,
			Description: "Programs that mean well look a name up first.", Technique: "T1071",
			Remediation: "Find out what python3 wanted from this address; if it is meant to, use a name.",
		},
		Message:  "python3 sent to 198.51.100.9:8443 without a look-up.",
		Ancestry: []*sallyportv1.Process{{Executable: "/usr/bin/python3"}, {Executable: "/usr/bin/make"}, {Executable: "/usr/bin/bash"}},
	})
	return c
}

var sampleCommand = Command{
	Arguments: []string{"bash", "-e", "build.sh"}, ExitCode: 2, Started: start, Ended: start.Add(3456 * time.Millisecond),
}

func TestText(t *testing.T) {
	for _, width := range []int{60, 100} {
		var out bytes.Buffer
		if err := sample().Build(sampleCommand).WriteText(&out, Options{Width: width}); err != nil {
			t.Fatal(err)
		}
		golden(t, fmt.Sprintf("sample-%d.txt", width), out.Bytes())
		for _, l := range strings.Split(out.String(), "\n") {
			if terminal.Cells(l) > width {
				t.Errorf("line of %d cells at width %d: %s", terminal.Cells(l), width, l)
			}
		}
		if strings.ContainsRune(out.String(), '\x1b') {
			t.Error("an escape sequence reaches the terminal")
		}
	}
	var out bytes.Buffer
	if err := sample().Build(sampleCommand).WriteText(&out, Options{Colour: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[1m") {
		t.Error("no colours")
	}
}

func TestQuietAndLossyRuns(t *testing.T) {
	s := newScript()
	s.run(1, 0, "true")
	s.exit(1, 0)
	c := NewCollector()
	c.Add(&s.batch)
	var out bytes.Buffer
	cmd := Command{Arguments: []string{"true"}, Started: start, Ended: start.Add(2 * time.Millisecond)}
	if err := c.Build(cmd).WriteText(&out, Options{}); err != nil {
		t.Fatal(err)
	}
	s = newScript()
	s.event(0, &sallyportv1.Event{Body: &sallyportv1.Event_AgentStatus{AgentStatus: &sallyportv1.AgentStatus{
		EventsLost: map[string]uint64{"exec": 3, "flow": 0, "dns": 4}}}})
	c.Add(&s.batch)
	if err := c.Build(cmd).WriteText(&out, Options{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "quiet.txt", out.Bytes())
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	r := sample().Build(sampleCommand)
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	golden(t, "sample.json", out.Bytes())
	var back Report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Processes != 34 || back.Programs != 34 || len(back.Destinations) != 3 || len(back.Tree) != 1 {
		t.Errorf("%d processes, %d programs, %d destinations, %d roots", back.Processes, back.Programs, len(back.Destinations), len(back.Tree))
	}
	// Empty lists are lists.
	out.Reset()
	if err := NewCollector().Build(Command{}).WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"command", "destinations", "lookups", "accesses", "files", "tree", "findings"} {
		if !strings.Contains(out.String(), fmt.Sprintf("%q: []", field)) {
			t.Errorf("%s of an empty report is no list:\n%s", field, out.String())
		}
	}
}

func TestSecondExecAndLateChildren(t *testing.T) {
	s := newScript()
	s.run(1, 0, "sh", "wrapper")
	// sh execs env, which execs a program: the same process all along.
	s.process(2001, 1001, 1, "env", "node")
	s.event(2001, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}})
	s.process(3001, 2001, 1, "node", "app.js")
	s.event(3001, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}})
	s.run(5, 3001, "git", "status")
	c := NewCollector()
	c.Add(&s.batch)
	r := c.Build(Command{})
	if r.Processes != 2 || r.Programs != 4 {
		t.Errorf("%d processes, %d programs", r.Processes, r.Programs)
	}
	n := r.Tree[0]
	for _, want := range []string{"sh wrapper", "env node", "node app.js", "git status"} {
		if got := commandOf(n); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if len(n.Children) > 0 {
			n = n.Children[0]
		}
	}
}

func TestHugeTreeIsFolded(t *testing.T) {
	s := newScript()
	s.run(1, 0, "make")
	for id := uint64(2); id < 900; id++ {
		s.run(id, 1001, "cc", fmt.Sprintf("file-%d.c", id))
	}
	for id := uint64(5000); id < 5100; id++ {
		s.run(id, id+999, "sh", "-c", "deeper")
	}
	c := NewCollector()
	c.Add(&s.batch)
	var out bytes.Buffer
	if err := c.Build(Command{}).WriteText(&out, Options{TreeLines: 20}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n > 45 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	if !strings.Contains(out.String(), "processes not shown (--json has them)") {
		t.Errorf("says nothing of what is left out:\n%s", out.String())
	}
}

func FuzzCollector(f *testing.F) {
	s := newScript()
	s.run(1, 0, "a\x1b")
	s.flow(1, 1, "192.0.2.1", "x", 1, 1, 1, closed)
	ring := &sallyportv1.EventBatch{
		Processes: []*sallyportv1.Process{{Id: 1, ParentId: 2, Pid: 1}, {Id: 2, ParentId: 1, Pid: 1}, {Id: 3, ParentId: 3}},
		Events: []*sallyportv1.Event{
			{Process: 1, Body: &sallyportv1.Event_ProcessExecuted{}}, {Process: 2}, {Process: 3}, {Process: 99},
		},
	}
	for _, b := range []*sallyportv1.EventBatch{&s.batch, ring} {
		data, err := proto.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := new(sallyportv1.EventBatch)
		if proto.Unmarshal(data, b) != nil {
			return
		}
		c := NewCollector()
		c.Add(b)
		r := c.Build(Command{Arguments: []string{string(data)}})
		var out bytes.Buffer
		if err := r.WriteText(&out, Options{Width: 50}); err != nil {
			t.Fatal(err)
		}
		for _, c := range out.String() {
			if c != '\n' && !unicode.IsGraphic(c) {
				t.Fatalf("%U reaches the terminal", c)
			}
		}
		if err := r.WriteJSON(&out); err != nil {
			t.Fatal(err)
		}
	})
}
