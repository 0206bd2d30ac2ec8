package report

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Command is the command that a report is about.
type Command struct {
	// Arguments are the command line.
	Arguments []string
	// ExitCode is what the shell would say: 128 plus the signal if one ended it.
	ExitCode int
	// Signal ended it; 0 if none did.
	Signal int
	// Started and Ended are when.
	Started, Ended time.Time
}

// Collector gathers what a report is made of. It is safe for concurrent use. What it
// holds grows with processes, destinations and names, not with events.
type Collector struct {
	mu           sync.Mutex
	processes    map[uint64]*Node
	destinations map[destinationKey]*destination
	lookups      map[string]*lookup
	accesses     map[accessKey]*Access
	files        map[fileKey]*File
	privileges   map[Privilege]uint64 // by all but Count
	requests     map[Request]uint64   // by all but Count
	lost         map[string]uint64
	findings     map[string]Finding
}

type destinationKey struct {
	executable, target string
	port               uint32
	protocol           string
}

type destination struct {
	Destination
	addresses map[string]bool
	flows     map[uint64]bool
	failed    map[uint64]bool
}

type lookup struct {
	types, codes, programs map[string]bool
	count                  int
}

type accessKey struct {
	process, target uint64
	kind            sallyportv1.AccessKind
}

type fileKey struct {
	program, path string
	operation     sallyportv1.FileOperation
}

// NewCollector returns an empty Collector.
func NewCollector() *Collector {
	return &Collector{
		processes:    make(map[uint64]*Node),
		destinations: make(map[destinationKey]*destination),
		lookups:      make(map[string]*lookup),
		accesses:     make(map[accessKey]*Access),
		files:        make(map[fileKey]*File),
		privileges:   make(map[Privilege]uint64),
		requests:     make(map[Request]uint64),
		lost:         make(map[string]uint64),
		findings:     make(map[string]Finding),
	}
}

// Add takes a batch. Every event of it must belong to the command. An index outside
// of its table counts as unknown.
func (c *Collector) Add(b *sallyportv1.EventBatch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := func(i uint32) *sallyportv1.Process {
		if i == 0 || int64(i) > int64(len(b.GetProcesses())) {
			return nil
		}
		return b.GetProcesses()[i-1]
	}
	for _, e := range b.GetEvents() {
		when := time.Unix(0, int64(e.GetTimeUnixNano())).UTC()
		p := at(e.GetProcess())
		var n *Node
		if p != nil {
			n = c.node(p)
		}
		switch {
		case e.GetProcessExecuted() != nil && n != nil:
			n.exec = true
		case e.GetProcessExited() != nil && n != nil:
			n.Ended = &when
			code := e.GetProcessExited().GetExitCode()
			n.ExitCode, n.Signal = &code, e.GetProcessExited().GetSignal()
		case e.GetFlow() != nil && e.GetFlow().GetDirection() > sallyportv1.Direction_DIRECTION_OUTBOUND:
			// What came in, and what listens, is no destination.
		case e.GetFlow() != nil:
			c.addFlow(p, n, when, e.GetFlow())
		case e.GetDnsExchange() != nil:
			c.addLookup(p, e.GetDnsExchange())
		case e.GetProcessAccess() != nil && p != nil:
			a := e.GetProcessAccess()
			target := at(a.GetTarget())
			k := accessKey{p.GetId(), target.GetId(), a.GetKind()}
			if c.accesses[k] == nil {
				c.accesses[k] = &Access{
					Program: programOf(p), PID: p.GetPid(), Kind: accessNames[a.GetKind()],
					Target: programOf(target), TargetPID: target.GetPid(),
				}
			}
			c.accesses[k].Count++
		case e.GetFileAccess() != nil:
			f := e.GetFileAccess()
			k := fileKey{programOf(p), f.GetPath(), f.GetOperation()}
			if c.files[k] == nil {
				c.files[k] = &File{
					Program: k.program, Path: k.path, Rule: f.GetRule(), Category: f.GetCategory(),
					Operation: strings.ToLower(strings.TrimPrefix(f.GetOperation().String(), "FILE_OPERATION_")),
				}
			}
			c.files[k].Count += f.GetTimes()
		case e.GetPrivilegeUse() != nil:
			k := Privilege{Program: programOf(p), Kind: privilegeNames[e.GetPrivilegeUse().GetKind()], Detail: detail(e.GetPrivilegeUse())}
			c.privileges[k]++
		case e.GetHttpRequest() != nil:
			q := e.GetHttpRequest()
			c.requests[Request{Program: programOf(p), Method: q.GetMethod(), Host: q.GetHost(), Path: q.GetPath()}]++
		case e.GetAgentStatus() != nil:
			// Totals of the epoch: the largest is the newest.
			for kind, count := range e.GetAgentStatus().GetEventsLost() {
				if count > 0 {
					c.lost[kind] = max(c.lost[kind], count)
				}
			}
		}
	}
}

var accessNames = map[sallyportv1.AccessKind]string{
	sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM:     "proc-mem",
	sallyportv1.AccessKind_ACCESS_KIND_PROC_MAPS:    "proc-maps",
	sallyportv1.AccessKind_ACCESS_KIND_PROC_ENVIRON: "proc-environ",
	sallyportv1.AccessKind_ACCESS_KIND_PTRACE:       "ptrace",
	sallyportv1.AccessKind_ACCESS_KIND_VM_READ:      "vm-read",
	sallyportv1.AccessKind_ACCESS_KIND_VM_WRITE:     "vm-write",
}

var privilegeNames = map[sallyportv1.PrivilegeKind]string{
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED:     "gained",
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_NAMESPACES: "namespaces",
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_MODULE:     "module",
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_BPF:        "bpf",
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_SIGNAL:     "signal",
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_PACKETS:    "packets",
}

// maxNamed bounds how many capabilities are named in a line.
const maxNamed = 4

func detail(u *sallyportv1.PrivilegeUse) string {
	switch u.GetKind() {
	case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED:
		named := u.GetCapabilities()
		more := ""
		if len(named) > maxNamed {
			more = fmt.Sprintf(" and %d more", len(named)-maxNamed)
			named = named[:maxNamed]
		}
		s := strings.Join(named, " ") + more
		if u.GetEffectiveUidBefore() != u.GetEffectiveUid() {
			s = strings.TrimSpace(fmt.Sprintf("user %d → %d %s", u.GetEffectiveUidBefore(), u.GetEffectiveUid(), s))
		}
		return s
	case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_NAMESPACES:
		return strings.Join(u.GetNamespaces(), " ")
	case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_SIGNAL:
		return strconv.FormatUint(uint64(u.GetSignal()), 10)
	default:
		return u.GetObject()
	}
}

func (c *Collector) node(p *sallyportv1.Process) *Node {
	n := c.processes[p.GetId()]
	if n == nil {
		n = &Node{id: p.GetId(), ID: strconv.FormatUint(p.GetId(), 10), PID: p.GetPid()}
		c.processes[p.GetId()] = n
	}
	// A later batch may know more.
	n.parent = max(n.parent, p.GetParentId())
	if p.GetExecutable() != "" {
		n.Executable = p.GetExecutable()
	}
	if len(p.GetArguments()) > 0 {
		n.Arguments, n.ArgumentsTruncated = slices.Clone(p.GetArguments()), p.GetArgumentsTruncated()
	}
	if t := p.GetStartTimeUnixNano(); t != 0 {
		n.Started = time.Unix(0, int64(t)).UTC()
	}
	return n
}

func (c *Collector) addFlow(p *sallyportv1.Process, n *Node, when time.Time, f *sallyportv1.Flow) {
	address := addressOf(f.GetDestinationAddress())
	target := f.GetDomain()
	if target == "" {
		target = address
	}
	protocol := f.GetProtocol().Name()
	k := destinationKey{p.GetExecutable(), target, f.GetDestinationPort(), protocol}
	d := c.destinations[k]
	if d == nil {
		d = &destination{
			Destination: Destination{
				Program: programOf(p), Executable: p.GetExecutable(), Domain: f.GetDomain(),
				Port: f.GetDestinationPort(), Protocol: protocol, FirstSeen: when,
			},
			addresses: make(map[string]bool), flows: make(map[uint64]bool), failed: make(map[uint64]bool),
		}
		c.destinations[k] = d
	}
	if when.Before(d.FirstSeen) {
		d.FirstSeen = when
	}
	d.addresses[address] = true
	if d.DomainSource == "" && f.GetDomain() != "" {
		if s := f.GetDomainSource(); s != sallyportv1.DomainSource_DOMAIN_SOURCE_UNSPECIFIED {
			d.DomainSource = strings.ToLower(strings.TrimPrefix(s.String(), "DOMAIN_SOURCE_"))
		}
	}
	if f.GetServerName() != "" {
		d.ServerName = f.GetServerName()
	}
	if !d.flows[f.GetId()] {
		d.flows[f.GetId()] = true
		if n != nil {
			n.Connections++
		}
	}
	switch f.GetOutcome() {
	case sallyportv1.FlowOutcome_FLOW_OUTCOME_REFUSED, sallyportv1.FlowOutcome_FLOW_OUTCOME_TIMED_OUT,
		sallyportv1.FlowOutcome_FLOW_OUTCOME_UNREACHABLE:
		d.failed[f.GetId()] = true
	default:
	}
	d.BytesSent += f.GetBytesSent()
	d.BytesReceived += f.GetBytesReceived()
}

func (c *Collector) addLookup(p *sallyportv1.Process, x *sallyportv1.DnsExchange) {
	l := c.lookups[x.GetName()]
	if l == nil {
		l = &lookup{types: make(map[string]bool), codes: make(map[string]bool), programs: make(map[string]bool)}
		c.lookups[x.GetName()] = l
	}
	l.count++
	l.types[x.GetType()] = true
	code := x.GetResponseCode()
	if code == "" {
		code = "unanswered"
	}
	l.codes[code] = true
	l.programs[programOf(p)] = true
}

// AddFinding takes a finding; one with the same identity is taken once.
func (c *Collector) AddFinding(f *sallyportv1.Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Finding{
		ID: f.GetId(), Policy: f.GetPolicy().GetId(), Title: f.GetPolicy().GetTitle(), Message: f.GetMessage(),
		Description: f.GetPolicy().GetDescription(), Technique: f.GetPolicy().GetTechnique(),
		Remediation: f.GetPolicy().GetRemediation(), Time: f.GetTime().AsTime(),
		Severity: strings.ToLower(strings.TrimPrefix(f.GetPolicy().GetSeverity().String(), "SEVERITY_")),
		Ancestry: []string{}, severity: int32(f.GetPolicy().GetSeverity()),
	}
	if a := f.GetAncestry(); len(a) > 0 {
		out.Process = programOf(a[0])
		for _, p := range slices.Backward(a[1:]) {
			out.Ancestry = append(out.Ancestry, programOf(p))
		}
	}
	c.findings[out.ID] = out
}

// Build returns the report of what came so far.
func (c *Collector) Build(cmd Command) *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &Report{
		Version: Version, Command: append([]string{}, cmd.Arguments...), ExitCode: cmd.ExitCode, Signal: cmd.Signal,
		Started: cmd.Started.UTC(), DurationSeconds: max(0, cmd.Ended.Sub(cmd.Started).Seconds()),
		EventsLost: maps.Clone(c.lost), Destinations: []Destination{}, Lookups: []Lookup{}, Accesses: []Access{},
		Files: []File{}, Privileges: []Privilege{}, Requests: []Request{}, Findings: []Finding{},
	}
	connected := make(map[string]bool)
	for _, d := range c.destinations {
		out := d.Destination
		out.Addresses = slices.Sorted(maps.Keys(d.addresses))
		out.Connections, out.Failed = len(d.flows), len(d.failed)
		r.Destinations = append(r.Destinations, out)
		r.BytesSent += d.BytesSent
		r.BytesReceived += d.BytesReceived
		connected[d.Domain] = true
	}
	slices.SortFunc(r.Destinations, compareDestinations)
	for _, name := range slices.Sorted(maps.Keys(c.lookups)) {
		if connected[name] {
			continue
		}
		l := c.lookups[name]
		r.Lookups = append(r.Lookups, Lookup{
			Name: name, Types: slices.Sorted(maps.Keys(l.types)), ResponseCodes: slices.Sorted(maps.Keys(l.codes)),
			Programs: slices.Sorted(maps.Keys(l.programs)), Count: l.count,
		})
	}
	for _, a := range c.accesses {
		r.Accesses = append(r.Accesses, *a)
	}
	slices.SortFunc(r.Accesses, compareAccesses)
	for _, f := range c.files {
		r.Files = append(r.Files, *f)
	}
	slices.SortFunc(r.Files, compareFiles)
	for p, n := range c.privileges {
		p.Count = n
		r.Privileges = append(r.Privileges, p)
	}
	slices.SortFunc(r.Privileges, func(a, b Privilege) int {
		return cmp.Or(strings.Compare(a.Program, b.Program), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Detail, b.Detail))
	})
	for q, n := range c.requests {
		q.Count = n
		r.Requests = append(r.Requests, q)
	}
	slices.SortFunc(r.Requests, func(a, b Request) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method), strings.Compare(a.Program, b.Program))
	})
	for _, f := range c.findings {
		r.Findings = append(r.Findings, f)
	}
	slices.SortFunc(r.Findings, compareFindings)
	r.Tree, r.Processes, r.Programs = tree(c.processes)
	return r
}

func compareFiles(a, b File) int {
	return cmp.Or(strings.Compare(a.Category, b.Category), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Path, b.Path),
		strings.Compare(a.Program, b.Program), strings.Compare(a.Operation, b.Operation))
}

func addressOf(b []byte) string {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return "unknown"
	}
	return a.Unmap().String()
}

func programOf(p *sallyportv1.Process) string {
	switch {
	case p == nil:
		return "unknown"
	case p.GetExecutable() != "":
		return path.Base(p.GetExecutable())
	case len(p.GetArguments()) > 0:
		return path.Base(p.GetArguments()[0])
	default:
		return "pid " + strconv.FormatUint(uint64(p.GetPid()), 10)
	}
}
