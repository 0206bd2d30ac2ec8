package detector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
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
}

// policySet is an immutable set of policies, ordered by id.
type policySet struct {
	policies []*compiledPolicy
	byKind   map[sallyportv1.BehaviourKind]*together
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

// compilePolicies compiles the policies of the folders; one in a later folder
// replaces one of the same id, and so do lists. Each policy is compiled apart
// from the others: the errors (each with file and line) name those that failed,
// and for these the one from keep, or else from an earlier folder, stays.
func compilePolicies(ctx context.Context, keep *policySet, folders ...fs.FS) (*policySet, []error) {
	var problems []error
	lists, found := map[string]any{}, map[string]*compiledPolicy{}
	sources := make([]map[string]*ast.Module, len(folders))
	for i, folder := range folders {
		modules, errs := readPolicies(folder, lists)
		sources[i], problems = modules, append(problems, errs...)
	}
	store := inmem.NewFromObjectWithOpts(map[string]any{"sallyport": map[string]any{"lists": lists}}, inmem.OptReturnASTValuesOnRead(true))
	shared := map[string]*ast.Module{}
	broken := map[string]bool{}
	for i, modules := range sources {
		byID := map[string]map[string]*ast.Module{}
		for name, m := range modules {
			id, ok := strings.CutPrefix(m.Package.Path.String(), policyPackage)
			if !ok {
				shared[fmt.Sprintf("%d/%s", i, name)] = m
				continue
			}
			id, _, _ = strings.Cut(id, ".")
			if byID[id] == nil {
				byID[id] = map[string]*ast.Module{}
			}
			byID[id][name] = m
		}
		for id, own := range byID {
			p, err := compilePolicy(ctx, id, own, shared, store)
			if err != nil {
				problems, broken[id] = append(problems, err), true
				continue
			}
			found[id], broken[id] = p, false
		}
	}
	if keep != nil {
		// A file that cannot even be parsed does not say whose it is: keep what is
		// there rather than judge with less than before.
		for _, p := range keep.policies {
			id := p.about.GetId()
			if broken[id] || (found[id] == nil && len(problems) > 0) {
				found[id] = p
			}
		}
	}
	set := &policySet{}
	for _, p := range found {
		set.policies = append(set.policies, p)
	}
	set.sort()
	set.join(ctx, shared, store)
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return set, problems
}

// readPolicies parses the .rego files of a folder, tests apart, and adds its
// data/*.json to lists.
func readPolicies(folder fs.FS, lists map[string]any) (map[string]*ast.Module, []error) {
	modules, problems := map[string]*ast.Module{}, []error(nil)
	err := fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		isList := path.Dir(name) == "data" && path.Ext(name) == ".json"
		isPolicy := path.Ext(name) == ".rego" && !strings.HasSuffix(name, "_test.rego")
		if d.IsDir() || (!isList && !isPolicy) {
			return nil
		}
		data, err := fs.ReadFile(folder, name)
		if err != nil {
			problems = append(problems, fmt.Errorf("read policy file %s: %w", name, err))
			return nil
		}
		if isList {
			var list any
			if err := json.Unmarshal(data, &list); err != nil {
				problems = append(problems, fmt.Errorf("read list %s: %w", name, err))
				return nil
			}
			lists[strings.TrimSuffix(path.Base(name), ".json")] = list
			return nil
		}
		m, err := ast.ParseModuleWithOpts(name, string(data), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		if err != nil {
			problems = append(problems, fmt.Errorf("parse policy: %w", err))
			return nil
		}
		if m != nil {
			modules[name] = m
		}
		return nil
	})
	if err != nil {
		problems = append(problems, fmt.Errorf("read policies: %w", err))
	}
	return modules, problems
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

func metadata(id string, modules map[string]*ast.Module) (*sallyportv1.Policy, error) {
	for _, m := range modules {
		for _, a := range m.Annotations {
			if a.Scope != "package" {
				continue
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
	}
	return nil, fmt.Errorf("compile policy %s: no METADATA annotation with scope: package", id)
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
