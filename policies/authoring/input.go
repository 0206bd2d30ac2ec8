package authoring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/lineage"

	"github.com/sallyport-ci/sallyport/policies"
)

// ReadInput reads input documents, one JSON object after the other, and holds each to the
// schema of the input; what a document leaves out is undefined.
func ReadInput(ctx context.Context, in io.Reader) ([]ast.Value, error) {
	check, err := schemaCheck(ctx)
	if err != nil {
		return nil, err
	}
	var out []ast.Value
	d := json.NewDecoder(in)
	d.UseNumber()
	for n := 1; ; n++ {
		var raw any
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read input %d: %w", n, err)
		}
		v, err := ast.InterfaceToValue(raw)
		if err != nil {
			return nil, fmt.Errorf("read input %d: %w", n, err)
		}
		if err := check(ctx, v); err != nil {
			return nil, fmt.Errorf("read input %d: %w", n, err)
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		return nil, errors.New("read input: there is none")
	}
	return out, nil
}

// schemaCheck returns what holds a document to the schema, without asking for all of it.
func schemaCheck(ctx context.Context) (func(context.Context, ast.Value) error, error) {
	data, err := policies.FS.ReadFile("schemas/policy_input.json")
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	var schema any
	if err := json.Unmarshal(data, &schema); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	demandNothing(schema)
	text, err := json.Marshal(schema)
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	query, err := rego.New(rego.Query("x = json.match_schema(input, " + string(text) + ")")).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("prepare schema: %w", err)
	}
	return func(ctx context.Context, v ast.Value) error {
		results, err := query.Eval(ctx, rego.EvalParsedInput(v))
		if err != nil {
			return fmt.Errorf("hold it to the schema: %w", err)
		}
		if len(results) != 1 {
			return errors.New("hold it to the schema: no answer")
		}
		answer, _ := results[0].Bindings["x"].([]any)
		if len(answer) == 2 && answer[0] == true {
			return nil
		}
		var wrong []string
		if len(answer) == 2 {
			list, _ := answer[1].([]any)
			for _, x := range list {
				if m, ok := x.(map[string]any); ok {
					wrong = append(wrong, fmt.Sprint(m["error"]))
				}
			}
		}
		return errors.New(strings.Join(wrong, "; "))
	}, nil
}

func demandNothing(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		delete(s, "required")
		for _, x := range s {
			demandNothing(x)
		}
	case []any:
		for _, x := range s {
			demandNothing(x)
		}
	}
}

// Explanations are the ways to write a trace down.
var Explanations = []string{"full", "fails", "notes"}

// Explain writes how a policy came to its answer, indented by depth, with file and line.
// How is one of Explanations: every step, those that failed, or what trace() notes.
func Explain(out io.Writer, how string, trace []*topdown.Event) error {
	switch how {
	case "fails":
		trace = lineage.Fails(trace)
	case "notes":
		trace = lineage.Notes(trace)
	default:
		trace = lineage.Full(trace)
	}
	var b bytes.Buffer
	topdown.PrettyTraceWithLocation(&b, trace)
	_, err := out.Write(b.Bytes())
	return err
}
