package policies

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/reflect/protoreflect"
)

//go:generate go test -run TestInputSchema -update

const (
	schemaFile = "schemas/policy_input.json"
	inputPage  = "../docs/policy-input.md"
)

// schemaNode is the part of JSON schema (draft 7) that OPA's type checker reads.
type schemaNode struct {
	Schema      string      `json:"$schema,omitempty"`
	Title       string      `json:"title,omitempty"`
	Description string      `json:"description,omitempty"`
	Type        string      `json:"type,omitempty"`
	Ref         string      `json:"$ref,omitempty"`
	Enum        []string    `json:"enum,omitempty"`
	Items       *schemaNode `json:"items,omitempty"`
	Properties  properties  `json:"properties,omitempty"`
	Required    []string    `json:"required,omitempty"`
	// Additional is false, or the node of a map's values.
	Additional  any        `json:"additionalProperties,omitempty"`
	Definitions properties `json:"definitions,omitempty"`
}

// properties keep the order of the proto file.
type properties []property

type property struct {
	name string
	node *schemaNode
}

// MarshalJSON writes an object in the order of its properties.
func (p properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, x := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(x.node)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", x.name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// schemaMaker turns message descriptors into a schema and into a page.
type schemaMaker struct {
	definitions properties
	page        strings.Builder
	done        map[protoreflect.FullName]bool
}

func comment(d protoreflect.Descriptor) string {
	text := d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments
	return strings.Join(strings.Fields(text), " ")
}

// short is an enumeration's value as policies see it.
func short(v protoreflect.EnumValueDescriptor) string {
	prefix := strings.TrimSuffix(string(v.Parent().(protoreflect.EnumDescriptor).Values().ByNumber(0).Name()), "UNSPECIFIED")
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix))
}

func (m *schemaMaker) field(f protoreflect.FieldDescriptor) (*schemaNode, string) {
	node, name := &schemaNode{}, ""
	switch f.Kind() {
	case protoreflect.BoolKind:
		node.Type = "boolean"
	case protoreflect.StringKind, protoreflect.BytesKind:
		node.Type = "string"
	case protoreflect.MessageKind:
		name = string(f.Message().Name())
		node.Ref = "#/definitions/" + name
	case protoreflect.EnumKind:
		node.Type = "string"
		for i := range f.Enum().Values().Len() {
			node.Enum = append(node.Enum, short(f.Enum().Values().Get(i)))
		}
	default:
		node.Type = "integer"
	}
	if name == "" {
		name = node.Type
	}
	switch {
	case f.IsMap(): // whose keys are strings
		value, of := m.field(f.MapValue())
		return &schemaNode{Type: "object", Additional: value}, of + " by name"
	case f.IsList():
		return &schemaNode{Type: "array", Items: node}, "list of " + name
	}
	return node, name
}

// object adds a message to the page, and those that it holds after it.
func (m *schemaMaker) object(d protoreflect.MessageDescriptor, path string) *schemaNode {
	out := &schemaNode{Type: "object", Description: comment(d), Additional: false}
	fmt.Fprintf(&m.page, "\n### %s\n\n%s\n\n| field | type | |\n|---|---|---|\n", path, comment(d))
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		node, kind := m.field(f)
		node.Description = comment(f)
		if f.Message() == nil || f.IsList() || f.IsMap() {
			out.Required = append(out.Required, string(f.Name()))
		}
		if node.Ref != "" {
			node = &schemaNode{Ref: node.Ref} // what stands beside a $ref is ignored
		}
		out.Properties = append(out.Properties, property{string(f.Name()), node})
		text := comment(f)
		if f.Enum() != nil {
			text += " One of " + strings.Join(node.Enum[1:], ", ") + "."
		}
		fmt.Fprintf(&m.page, "| `%s` | %s | %s |\n", f.Name(), kind, strings.ReplaceAll(text, "|", "\\|"))
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if f.Message() == nil || f.IsMap() || m.done[f.Message().FullName()] {
			continue
		}
		m.done[f.Message().FullName()] = true
		var names []string
		for j := range d.Fields().Len() {
			if o := d.Fields().Get(j); o.Message() != nil && o.Message().FullName() == f.Message().FullName() {
				name := path + "." + string(o.Name())
				if o.IsList() {
					name += "[_]"
				}
				names = append(names, name)
			}
		}
		node := m.object(f.Message(), strings.Join(names, ", "))
		m.definitions = append(m.definitions, property{string(f.Message().Name()), node})
	}
	return out
}

// TestInputSchema checks that the JSON schema of the policies' input and the tables of
// docs/policy-input.md say what the protobuf says (go test ./policies -update writes them).
func TestInputSchema(t *testing.T) {
	c := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{"../proto", ".."}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := c.Compile(context.Background(), "proto/sallyport/v1/finding.proto")
	if err != nil {
		t.Fatal(err)
	}
	d := files[0].Messages().ByName("PolicyInput")
	m := &schemaMaker{done: map[protoreflect.FullName]bool{}}
	root := m.object(d, "input")
	root.Schema, root.Title, root.Definitions = "http://json-schema.org/draft-07/schema#", "What a policy sees", m.definitions
	schema, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	schema = append(schema, '\n')

	page, err := os.ReadFile(inputPage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- Made from finding.proto by `go test ./policies -update`. -->\n", "<!-- End of what is made. -->\n"
	before, rest, ok := strings.Cut(string(page), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for what is made", inputPage)
	}
	want := before + begin + m.page.String() + "\n" + end + after
	for file, text := range map[string]string{schemaFile: string(schema), inputPage: want} {
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != text {
			t.Errorf("%s is out of date: go test ./policies -update", file)
		}
	}
}
