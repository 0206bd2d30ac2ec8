package detector

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// NewCompiler returns the compiler that policies are compiled with: without built-in
// functions that reach outside, with the schema of the input. Callers may make it stricter.
func NewCompiler() (*ast.Compiler, error) { return newCompiler() }

// PolicyPackage is the package below which every policy lies, with a dot at its end.
const PolicyPackage = policyPackage

// Describe reads the metadata of the policy that the modules make up.
func Describe(id string, modules map[string]*ast.Module) (*sallyportv1.Policy, error) {
	return metadata(id, modules)
}

// Violation is what a policy says of a behaviour.
type Violation struct {
	// Policy that says it.
	Policy *sallyportv1.Policy
	// Message for people; empty if the policy finds nothing wrong.
	Message string
	// Severity of this violation.
	Severity sallyportv1.Severity
	// Trace of the evaluation; nil unless it was asked for.
	Trace []*topdown.Event
}

// Looking returns the identities of the policies in force that look at a kind of
// behaviour, ordered.
func (p *Policies) Looking(kind sallyportv1.BehaviourKind) []string {
	t := p.set.Load().of(kind)
	if t == nil {
		return nil
	}
	ids := make([]string, len(t.policies))
	for i, c := range t.policies {
		ids[i] = c.about.GetId()
	}
	return ids
}

// Document is an input as policies see it.
func Document(input *sallyportv1.PolicyInput) ast.Value { return newInputs().of(input) }

// Evaluate asks one policy about an input document. An error says that there is no such
// policy or that it could not be evaluated.
func (p *Policies) Evaluate(ctx context.Context, id string, input ast.Value, trace bool) (Violation, error) {
	for _, c := range p.set.Load().policies {
		if c.about.GetId() != id {
			continue
		}
		out := Violation{Policy: c.about}
		var options []rego.EvalOption
		var buffer *topdown.BufferTracer
		if trace {
			buffer = topdown.NewBufferTracer()
			options = append(options, rego.EvalQueryTracer(buffer))
		}
		v, err := c.judge(ctx, input, options...)
		if buffer != nil {
			out.Trace = *buffer
		}
		if v != nil {
			out.Message, out.Severity = v.message, v.severity
		}
		return out, err
	}
	return Violation{}, fmt.Errorf("there is no policy %q", id)
}

// KindOf is the kind of behaviour that an input document is about.
func KindOf(input ast.Value) (sallyportv1.BehaviourKind, error) {
	v, err := input.Find(ast.MustParseRef("x.behaviour.kind")[1:])
	if err != nil {
		return 0, fmt.Errorf("the input has no behaviour.kind")
	}
	name, ok := v.(ast.String)
	if !ok {
		return 0, fmt.Errorf("behaviour.kind is %s, not a string", v)
	}
	raw := []any{string(name)}
	kinds, err := behaviourKinds(raw)
	if err != nil {
		return 0, fmt.Errorf("behaviour.kind: %w", err)
	}
	return kinds[0], nil
}

// MarshalInput writes an input document as JSON, its keys ordered.
func MarshalInput(input ast.Value) ([]byte, error) {
	v, err := ast.JSON(input)
	if err != nil {
		return nil, fmt.Errorf("write input: %w", err)
	}
	return json.Marshal(v)
}
