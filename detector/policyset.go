package detector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/sallyport-ci/sallyport/policies"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// evaluationTimeout bounds one policy's look at one behaviour. It is much more than the
// tenths of a millisecond that a policy takes: it only has to end what would never end,
// and must not strike where a step has loaded all processors so that nobody judges it.
const evaluationTimeout = 2 * time.Second

// policyPackage is the package below which every policy lies.
const policyPackage = "data.sallyport.policies."

// severities are the names by which policies give them.
var severities = map[string]sallyportv1.Severity{
	"low":      sallyportv1.Severity_SEVERITY_LOW,
	"medium":   sallyportv1.Severity_SEVERITY_MEDIUM,
	"high":     sallyportv1.Severity_SEVERITY_HIGH,
	"critical": sallyportv1.Severity_SEVERITY_CRITICAL,
}

// classes are the names by which policies give them.
var classes = map[string]sallyportv1.PolicyClass{
	"":              sallyportv1.PolicyClass_POLICY_CLASS_THREAT,
	"threat":        sallyportv1.PolicyClass_POLICY_CLASS_THREAT,
	"new_behaviour": sallyportv1.PolicyClass_POLICY_CLASS_NEW_BEHAVIOUR,
}

// compiledPolicy is ready to judge. It is safe for concurrent use.
type compiledPolicy struct {
	about   *sallyportv1.Policy
	query   rego.PreparedEvalQuery
	modules map[string]*ast.Module // its own
	layer   int                    // from which it is
}

// policySet is an immutable set of policies, ordered by id.
type policySet struct {
	policies   []*compiledPolicy
	byKind     map[sallyportv1.BehaviourKind]*together
	lists      map[string]any
	exceptions []*Exception
}

// of returns the policies that look at a kind of behaviour, nil if none does.
func (s *policySet) of(kind sallyportv1.BehaviourKind) *together { return s.byKind[kind] }

// sort orders the policies and finds out which look at what.
func (s *policySet) sort() {
	slices.SortFunc(s.policies, func(a, b *compiledPolicy) int {
		return strings.Compare(a.about.GetId(), b.about.GetId())
	})
	s.byKind = byKinds(s.policies)
}

// violation is what a policy says of a behaviour.
type violation struct {
	message  string
	severity sallyportv1.Severity
}

// compilePolicies compiles the policies of the layers; one in a later layer replaces one of
// the same id, and so do lists and what policies share. Each policy is compiled apart from the
// others: the errors (each with file and line) name what cannot be used, and for it the last
// that could be, from keep, or else one of an earlier layer, stays.
func compilePolicies(ctx context.Context, keep *policySet, layers ...*layer) (*policySet, []error) {
	if keep == nil {
		keep = &policySet{}
	}
	var problems []error
	for _, l := range layers {
		problems = append(problems, l.problems...)
	}
	lists, errs := mergeLists(keep.lists, layers)
	problems = append(problems, errs...)
	set := &policySet{lists: lists, exceptions: mergeExceptions(keep.exceptions, layers)}
	store := inmem.NewFromObjectWithOpts(map[string]any{"sallyport": map[string]any{"lists": lists}}, inmem.OptReturnASTValuesOnRead(true))
	shared := sharedModules(layers)
	found, broken := map[string]*compiledPolicy{}, map[string]bool{}
	for i, l := range layers {
		for id, own := range byPolicy(l.modules) {
			p, err := compilePolicy(ctx, id, own, shared, store)
			if err != nil {
				problems, broken[id] = append(problems, err), true
				continue
			}
			p.layer = i
			found[id], broken[id] = p, false
		}
	}
	for _, p := range keep.policies {
		// A file that cannot even be parsed does not say whose it is; before, it did.
		unparsed := false
		for name := range p.modules {
			unparsed = unparsed || p.layer < len(layers) && layers[p.layer].unparsed[name]
		}
		if id := p.about.GetId(); broken[id] || unparsed {
			found[id] = p
		}
	}
	for _, p := range found {
		set.policies = append(set.policies, p)
	}
	set.sort()
	set.join(ctx, shared, store)
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return set, problems
}

// byPolicy sorts modules by the policy that they belong to; those that belong to none are
// shared.
func byPolicy(modules map[string]*ast.Module) map[string]map[string]*ast.Module {
	out := make(map[string]map[string]*ast.Module)
	for name, m := range modules {
		id, ok := strings.CutPrefix(m.Package.Path.String(), policyPackage)
		if !ok {
			continue
		}
		id, _, _ = strings.Cut(id, ".")
		if out[id] == nil {
			out[id] = make(map[string]*ast.Module)
		}
		out[id][name] = m
	}
	return out
}

// sharedModules are those that belong to no policy. A package of a later layer replaces that
// of an earlier one.
func sharedModules(layers []*layer) map[string]*ast.Module {
	byPackage := make(map[string]map[string]*ast.Module)
	for i, l := range layers {
		own := make(map[string]map[string]*ast.Module)
		for name, m := range l.modules {
			p := m.Package.Path.String()
			if strings.HasPrefix(p, policyPackage) {
				continue
			}
			if own[p] == nil {
				own[p] = make(map[string]*ast.Module)
			}
			own[p][fmt.Sprintf("%d/%s", i, name)] = m
		}
		maps.Copy(byPackage, own)
	}
	out := make(map[string]*ast.Module)
	for _, modules := range byPackage {
		maps.Copy(out, modules)
	}
	return out
}

// capabilities leaves out what reaches outside: a policy is a function of its
// input and the lists.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		switch b.Name {
		case "http.send", "net.lookup_ip_addr", "opa.runtime", "rand.intn", "time.now_ns", "uuid.rfc4122":
			return true
		}
		return false
	})
	return c
}

// newCompiler returns a compiler of policies: without what reaches outside, with the
// schema of the input.
func newCompiler() (*ast.Compiler, error) {
	schemas, err := policies.Schemas()
	if err != nil {
		return nil, err
	}
	return ast.NewCompiler().WithCapabilities(capabilities()).WithSchemas(schemas).WithUseTypeCheckAnnotations(true), nil
}

func compilePolicy(ctx context.Context, id string, own, shared map[string]*ast.Module, store storage.Store) (*compiledPolicy, error) {
	about, err := metadata(id, own)
	if err != nil {
		return nil, err
	}
	modules := make(map[string]*ast.Module, len(own)+len(shared))
	for name, m := range shared {
		modules[name] = m.Copy()
	}
	hasRule := false
	for name, m := range own {
		modules[name] = m.Copy()
		for _, r := range m.Rules {
			hasRule = hasRule || r.Head.Ref().String() == "violation" || r.Head.Name == "violation"
		}
	}
	if !hasRule {
		return nil, fmt.Errorf("compile policy %s: no rule \"violation contains message\"", id)
	}
	c, err := newCompiler()
	if err != nil {
		return nil, err
	}
	if c.Compile(modules); c.Failed() {
		return nil, fmt.Errorf("compile policy %s: %w", id, c.Errors)
	}
	query, err := rego.New(
		rego.Compiler(c), rego.Store(store), rego.StrictBuiltinErrors(true),
		rego.Query(policyPackage+id+".violation"),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("compile policy %s: %w", id, err)
	}
	return &compiledPolicy{about: about, query: query, modules: own}, nil
}

// metadata reads what the policy's one annotation with scope: package says.
func metadata(id string, modules map[string]*ast.Module) (*sallyportv1.Policy, error) {
	var a *ast.Annotations
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		for _, x := range modules[name].Annotations {
			switch {
			case x.Scope != "package":
			case a != nil:
				return nil, fmt.Errorf("compile policy %s: %s and %s both have METADATA with scope: package", id, a.Location, x.Location)
			default:
				a = x
			}
		}
	}
	if a == nil {
		return nil, fmt.Errorf("compile policy %s: no METADATA annotation with scope: package", id)
	}
	text := func(key string) string { s, _ := a.Custom[key].(string); return strings.TrimSpace(s) }
	severity, ok := severities[text("severity")]
	if !ok {
		return nil, fmt.Errorf("compile policy %s: %s: custom.severity %q is none of low, medium, high, critical", id, a.Location, text("severity"))
	}
	class, ok := classes[text("class")]
	if !ok {
		return nil, fmt.Errorf("compile policy %s: %s: custom.class %q is neither threat nor new_behaviour", id, a.Location, text("class"))
	}
	kinds, err := behaviourKinds(a.Custom["kinds"])
	if err != nil {
		return nil, fmt.Errorf("compile policy %s: %s: custom.kinds: %w", id, a.Location, err)
	}
	return &sallyportv1.Policy{
		Id: id, Title: a.Title, Description: strings.TrimSpace(a.Description),
		Severity: severity, Technique: text("technique"), Remediation: text("remediation"), Class: class, Kinds: kinds,
	}, nil
}

// behaviourKinds reads the kinds that a policy says it looks at; none means all.
func behaviourKinds(raw any) ([]sallyportv1.BehaviourKind, error) {
	if raw == nil {
		return nil, nil
	}
	list, ok := raw.([]any)
	if !ok || len(list) == 0 {
		return nil, errors.New("it is not a list of kinds such as [egress, exec]")
	}
	var kinds []sallyportv1.BehaviourKind
	for _, k := range list {
		name, _ := k.(string)
		n, ok := sallyportv1.BehaviourKind_value["BEHAVIOUR_KIND_"+strings.ToUpper(name)]
		if !ok || n == 0 {
			return nil, fmt.Errorf("there is no kind %v", k)
		}
		kinds = append(kinds, sallyportv1.BehaviourKind(n))
	}
	return kinds, nil
}

// judge evaluates the policy. Of several violations the severest stands, and of
// those the first by message: a behaviour breaks a policy once.
func (p *compiledPolicy) judge(ctx context.Context, input ast.Value, options ...rego.EvalOption) (*violation, error) {
	ctx, cancel := context.WithTimeout(ctx, evaluationTimeout)
	defer cancel()
	results, err := p.query.Eval(ctx, append(options, rego.EvalParsedInput(input))...)
	if err != nil {
		return nil, fmt.Errorf("evaluate policy %s: %w", p.about.GetId(), err)
	}
	var all []any
	for _, r := range results {
		for _, e := range r.Expressions {
			violations, ok := e.Value.([]any)
			if !ok {
				return nil, fmt.Errorf("evaluate policy %s: violation is not a set", p.about.GetId())
			}
			all = append(all, violations...)
		}
	}
	return p.worst(all)
}

// worst returns the violation that stands for all; nil if there is none.
func (p *compiledPolicy) worst(violations []any) (*violation, error) {
	var worst *violation
	for _, raw := range violations {
		v, err := p.violation(raw)
		if err != nil {
			return nil, fmt.Errorf("evaluate policy %s: %w", p.about.GetId(), err)
		}
		if worst == nil || v.severity > worst.severity || (v.severity == worst.severity && v.message < worst.message) {
			worst = v
		}
	}
	return worst, nil
}

func (p *compiledPolicy) violation(raw any) (*violation, error) {
	switch v := raw.(type) {
	case string:
		return &violation{message: v, severity: p.about.GetSeverity()}, nil
	case map[string]any:
		message, ok := v["message"].(string)
		if !ok {
			return nil, errors.New("violation has no message")
		}
		out := &violation{message: message, severity: p.about.GetSeverity()}
		if name, given := v["severity"]; given {
			s, _ := name.(string)
			if out.severity, ok = severities[s]; !ok {
				return nil, fmt.Errorf("violation has severity %v, none of low, medium, high, critical", name)
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("violation is %T, neither a string nor an object", raw)
}
