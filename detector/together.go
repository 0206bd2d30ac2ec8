package detector

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// together asks all policies that look at a kind of behaviour in one evaluation: what
// several of them work out (who started the process, what a host is) is worked out once.
// Each is asked apart when that fails, so that a policy that cannot be evaluated takes
// nothing from the others.
type together struct {
	policies []*compiledPolicy
	query    *rego.PreparedEvalQuery // nil: each apart
}

// answer is what a policy said of a behaviour.
type answer struct {
	policy    *compiledPolicy
	violation *violation // nil: nothing
	err       error
}

// ask evaluates the policies, in their order.
func (t *together) ask(ctx context.Context, input ast.Value) []answer {
	if t.query != nil {
		if answers, err := t.askAtOnce(ctx, input); err == nil {
			return answers
		}
	}
	answers := make([]answer, len(t.policies))
	for i, p := range t.policies {
		v, err := p.judge(ctx, input)
		answers[i] = answer{p, v, err}
	}
	return answers
}

func (t *together) askAtOnce(ctx context.Context, input ast.Value) ([]answer, error) {
	ctx, cancel := context.WithTimeout(ctx, evaluationTimeout)
	defer cancel()
	results, err := t.query.Eval(ctx, rego.EvalParsedInput(input))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, fmt.Errorf("%d results", len(results))
	}
	said, ok := results[0].Expressions[0].Value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the result is %T", results[0].Expressions[0].Value)
	}
	answers := make([]answer, len(t.policies))
	for i, p := range t.policies {
		violations, ok := said[p.about.GetId()].([]any)
		if !ok {
			return nil, fmt.Errorf("policy %s: violation is not a set", p.about.GetId())
		}
		v, err := p.worst(violations)
		if err != nil {
			return nil, err
		}
		answers[i] = answer{p, v, nil}
	}
	return answers, nil
}

// join prepares the policies of each kind to be asked together. Those that cannot be
// compiled together (one that was kept from before, beside files that are others now) are
// asked apart.
func (s *policySet) join(ctx context.Context, shared map[string]*ast.Module, store storage.Store) {
	modules := make(map[string]*ast.Module)
	for name, m := range shared {
		modules[name] = m.Copy()
	}
	for _, p := range s.policies {
		for name, m := range p.modules {
			modules[p.about.GetId()+"/"+name] = m.Copy()
		}
	}
	c, err := newCompiler()
	if err != nil {
		return
	}
	if c.Compile(modules); c.Failed() {
		return
	}
	for kind, t := range s.byKind {
		var fields []string
		for _, p := range t.policies {
			fields = append(fields, fmt.Sprintf("%q: %s%s.violation", p.about.GetId(), policyPackage, p.about.GetId()))
		}
		query, err := rego.New(rego.Compiler(c), rego.Store(store), rego.StrictBuiltinErrors(true),
			rego.Query("{"+strings.Join(fields, ", ")+"}")).PrepareForEval(ctx)
		if err == nil {
			s.byKind[kind].query = &query
		}
	}
}

// byKinds finds out which policies look at what, in their order.
func byKinds(policies []*compiledPolicy) map[sallyportv1.BehaviourKind]*together {
	out := make(map[sallyportv1.BehaviourKind]*together)
	for _, p := range policies {
		kinds := p.about.GetKinds()
		if len(kinds) == 0 {
			for n := range sallyportv1.BehaviourKind_name {
				kinds = append(kinds, sallyportv1.BehaviourKind(n))
			}
		}
		for _, k := range kinds {
			if out[k] == nil {
				out[k] = &together{}
			}
			if !slices.Contains(out[k].policies, p) {
				out[k].policies = append(out[k].policies, p)
			}
		}
	}
	return out
}
