package ingest

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/stream"
)

// appendFinding appends the row of a finding that stream.DecodeFinding accepted.
// It returns whether the time was replaced.
func appendFinding(t *store.Findings, f *sallyportv1.Finding, stored time.Time) (clamped bool, err error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(f)
	if err != nil {
		return false, fmt.Errorf("encode finding %s as JSON: %w", f.GetId(), err)
	}
	at, clamped := clampTime(f.GetTime().AsTime(), stored)
	first := noProcess
	if len(f.GetAncestry()) > 0 {
		first = f.GetAncestry()[0]
	}
	ancestors := make([]string, 0, len(f.GetAncestry()))
	for _, p := range f.GetAncestry()[min(1, len(f.GetAncestry())):] {
		ancestors = append(ancestors, baseName(p.GetExecutable()))
	}
	a := f.GetAttribution()
	if a == nil {
		a = noAttribution
	}
	appendAttribution(&t.Attribution, a)
	b, p := f.GetBehaviour(), f.GetPolicy()
	t.ID = append(t.ID, f.GetId())
	t.Fingerprint = append(t.Fingerprint, f.GetFingerprint())
	t.Time = append(t.Time, at)
	t.AgentID = append(t.AgentID, f.GetAgentId())
	t.Hostname = append(t.Hostname, f.GetHostname())
	t.Policy = append(t.Policy, p.GetId())
	t.Title = append(t.Title, p.GetTitle())
	t.Severity = append(t.Severity, enum(p.GetSeverity(), sallyportv1.Severity_SEVERITY_CRITICAL))
	t.Class = append(t.Class, enum(p.GetClass(), sallyportv1.PolicyClass_POLICY_CLASS_THREAT))
	t.Technique = append(t.Technique, p.GetTechnique())
	t.Message = append(t.Message, f.GetMessage())
	t.Behaviour = append(t.Behaviour, enum(b.GetKind(), sallyportv1.BehaviourKind_BEHAVIOUR_KIND_SURVIVOR))
	t.Program = append(t.Program, b.GetProgram())
	t.Target = append(t.Target, b.GetTarget())
	t.Domain = append(t.Domain, b.GetDomain())
	t.Address = append(t.Address, b.GetAddress())
	t.Port = append(t.Port, uint16(min(b.GetPort(), 65535)))
	t.Protocol = append(t.Protocol, b.GetProtocol())
	t.AddressScope = append(t.AddressScope, b.GetAddressScope())
	t.Access = append(t.Access, b.GetAccess())
	t.TargetIsWorker = append(t.TargetIsWorker, b.GetTargetIsWorker())
	t.ProcessID = append(t.ProcessID, first.GetId())
	t.Executable = append(t.Executable, first.GetExecutable())
	t.Arguments = append(t.Arguments, first.GetArguments())
	t.Ancestors = append(t.Ancestors, ancestors)
	t.BaselineStable = append(t.BaselineStable, f.GetBaseline().GetStable())
	t.BaselineKnown = append(t.BaselineKnown, f.GetBaseline().GetKnown())
	t.BaselineRuns = append(t.BaselineRuns, f.GetBaseline().GetRuns())
	t.Finding = append(t.Finding, string(text))
	return clamped, nil
}

// findingRows makes rows of findings. It is not safe for concurrent use.
type findingRows struct {
	store   *store.Store
	rows    store.Findings
	found   []*sallyportv1.Finding
	stored  []time.Time
	clamped int
}

func (r *findingRows) add(m *message) error {
	f, err := stream.DecodeFinding(m.Data())
	if err != nil {
		return err
	}
	r.found = append(r.found, f)
	r.stored = append(r.stored, m.stored)
	return nil
}

func (r *findingRows) size() (events, bytes int) { return len(r.found), 0 }

func (r *findingRows) oddities() (clamped, unknown int) { return r.clamped, 0 }

func (r *findingRows) tables() []store.Rows { return []store.Rows{&r.rows} }

func (r *findingRows) reset() {
	r.rows.Reset()
	r.found, r.stored, r.clamped = nil, nil, 0
}

// prepare makes the rows, leaving out findings that the table has: the detector
// may judge a behaviour again long after the stream has forgotten the finding's
// identity.
func (r *findingRows) prepare(ctx context.Context) error {
	ids := make([]string, 0, len(r.found))
	for _, f := range r.found {
		ids = append(ids, f.GetId())
	}
	seen, err := r.store.KnownFindings(ctx, ids)
	if err != nil {
		return err
	}
	r.rows.Reset()
	r.clamped = 0
	for i, f := range r.found {
		if seen[f.GetId()] {
			continue
		}
		seen[f.GetId()] = true
		clamped, err := appendFinding(&r.rows, f, r.stored[i])
		if err != nil {
			return err
		}
		if clamped {
			r.clamped++
		}
	}
	return nil
}
