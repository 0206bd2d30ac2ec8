package githubfake

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

//go:embed contract/github.json
var description []byte

// described is GitHub's description, read once for all tests of a program.
var described = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(description)
	if err != nil {
		return nil, fmt.Errorf("read GitHub's description: %w", err)
	}
	return doc, nil
})

// operation is what GitHub says of one method of one path.
type operation struct {
	doc    *openapi3.T
	path   string
	method string
	op     *openapi3.Operation
	item   *openapi3.PathItem
}

func findOperation(doc *openapi3.T, pattern string) (operation, error) {
	method, path, _ := strings.Cut(pattern, " ")
	item := doc.Paths.Value(path)
	if item == nil || item.GetOperation(method) == nil {
		return operation{}, fmt.Errorf("GitHub describes no %s", pattern)
	}
	return operation{doc, path, method, item.GetOperation(method), item}, nil
}

// names are those of the path's parameters.
func (o operation) names() (out []string) {
	for part := range strings.SplitSeq(o.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			out = append(out, strings.TrimSuffix(name, "}"))
		}
	}
	return out
}

// checkRequest says what of a request GitHub does not describe.
func (o operation) checkRequest(r *http.Request, body []byte) error {
	params := make(map[string]string)
	for _, n := range o.names() {
		params[n] = r.PathValue(n)
	}
	clone := r.Clone(context.Background())
	clone.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) == 0 {
		clone.Body, clone.ContentLength = http.NoBody, 0
	}
	in := &openapi3filter.RequestValidationInput{
		Request: clone, PathParams: params, QueryParams: r.URL.Query(),
		Route: &routers.Route{Spec: o.doc, Path: o.path, PathItem: o.item, Method: o.method, Operation: o.op},
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
			MultiError:         true,
		},
	}
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
		return err
	}
	return o.checkKnown(r.URL.Query(), body)
}

// checkKnown refuses what GitHub would silently ignore: a misspelt field or parameter.
func (o operation) checkKnown(query url.Values, body []byte) error {
	known := make(map[string]bool)
	for _, list := range []openapi3.Parameters{o.op.Parameters, o.item.Parameters} {
		for _, p := range list {
			known[p.Value.Name] = true
		}
	}
	for q := range query {
		if !known[q] {
			return fmt.Errorf("GitHub describes no parameter %q of %s %s", q, o.method, o.path)
		}
	}
	if len(body) == 0 {
		return nil
	}
	var sent map[string]any
	if err := json.Unmarshal(body, &sent); err != nil || o.op.RequestBody == nil {
		return errors.Join(err, fmt.Errorf("%s %s takes no such body", o.method, o.path))
	}
	content := o.op.RequestBody.Value.Content.Get("application/json")
	if content == nil {
		return nil
	}
	for field := range sent {
		if !hasProperty(content.Schema.Value, field) {
			return fmt.Errorf("GitHub describes no field %q of %s %s", field, o.method, o.path)
		}
	}
	return nil
}

func hasProperty(s *openapi3.Schema, name string) bool {
	if s.Properties[name] != nil || len(s.Properties) == 0 && s.AdditionalProperties.Has != nil && *s.AdditionalProperties.Has {
		return true
	}
	for _, list := range []openapi3.SchemaRefs{s.AllOf, s.AnyOf, s.OneOf} {
		for _, of := range list {
			if hasProperty(of.Value, name) {
				return true
			}
		}
	}
	return false
}

// answer completes what the fake says with what GitHub's description requires, and holds the
// whole to it.
func (o operation) answer(status int, value any) (any, error) {
	response := o.op.Responses.Value(strconv.Itoa(status))
	if response == nil || response.Value == nil {
		if status >= 400 {
			return value, nil // faults that may happen everywhere
		}
		return nil, fmt.Errorf("GitHub describes no answer %d of %s %s", status, o.method, o.path)
	}
	content := response.Value.Content.Get("application/json")
	if content == nil || content.Schema == nil {
		return value, nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		return nil, err
	}
	full := fill(content.Schema.Value, plain, 0)
	if err := content.Schema.Value.VisitJSON(full, openapi3.MultiErrors()); err != nil {
		return nil, fmt.Errorf("the fake's answer to %s %s: %w", o.method, o.path, err)
	}
	return full, nil
}

// named says whether a value may be what a schema describes: where a field says which of several
// it is, that one alone.
func named(d *openapi3.Discriminator, of *openapi3.SchemaRef, v any) bool {
	m, ok := v.(map[string]any)
	if d == nil || !ok {
		return true
	}
	kind, ok := m[d.PropertyName].(string)
	if !ok {
		return true
	}
	return d.Mapping[kind].Ref == "" || d.Mapping[kind].Ref == of.Ref
}

// fill adds what a schema requires and a value has not.
func fill(s *openapi3.Schema, v any, depth int) any {
	if v == nil && s.Nullable || depth > 12 {
		return v
	}
	for _, of := range s.AllOf {
		v = fill(of.Value, v, depth+1)
	}
	for _, list := range []openapi3.SchemaRefs{s.AnyOf, s.OneOf} {
		for _, of := range list {
			if !named(s.Discriminator, of, v) {
				continue
			}
			tried := fill(of.Value, copied(v), depth+1)
			if of.Value.VisitJSON(tried) == nil {
				v = tried
				break
			}
		}
	}
	switch value := v.(type) {
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := value[name]; !ok && s.Properties[name] != nil {
				value[name] = zero(s.Properties[name].Value, depth+1)
			}
		}
		for name, child := range value {
			if p := s.Properties[name]; p != nil {
				value[name] = fill(p.Value, child, depth+1)
			}
		}
	case []any:
		for i := range value {
			if s.Items != nil {
				value[i] = fill(s.Items.Value, value[i], depth+1)
			}
		}
	}
	return v
}

func copied(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var out any
	if json.Unmarshal(data, &out) != nil {
		return v
	}
	return out
}

// zero is the least value of a schema.
func zero(s *openapi3.Schema, depth int) any {
	switch {
	case s.Nullable || depth > 12:
		return nil
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Type.Is("string"):
		switch s.Format {
		case "uri":
			return "https://github.example.test/"
		case "date-time":
			return "2026-01-01T00:00:00Z"
		case "email":
			return "nobody@example.test"
		}
		return strings.Repeat("x", int(s.MinLength)) //nolint:gosec // small by GitHub's description
	case s.Type.Is("integer"), s.Type.Is("number"):
		if s.Min != nil {
			return *s.Min
		}
		return float64(0)
	case s.Type.Is("boolean"):
		return false
	case s.Type.Is("array"):
		return []any{}
	default:
		return fill(s, map[string]any{}, depth+1)
	}
}
