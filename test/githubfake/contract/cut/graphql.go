package main

import (
	"bytes"
	"os"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"
	"github.com/vektah/gqlparser/v2/parser"
)

// cutGraph takes fields out of GitHub's GraphQL schema, with the types of what they are given.
func cutGraph(in, fields, out string) error {
	data, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	list, err := os.ReadFile(fields)
	if err != nil {
		return err
	}
	doc, err := parser.ParseSchema(&ast.Source{Name: in, Input: string(data)})
	if err != nil {
		return err
	}
	var wanted []string
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			wanted = append(wanted, line)
		}
	}
	builtIn := []string{"String", "Int", "Float", "Boolean", "ID"}
	kept := &ast.SchemaDocument{}
	done := make(map[string]bool)
	var keep func(name string)
	keep = func(name string) {
		def := doc.Definitions.ForName(name)
		if def == nil || done[name] || slices.Contains(builtIn, name) {
			return
		}
		done[name] = true
		def.Description, def.Directives, def.Interfaces = "", nil, nil
		if def.Kind == ast.Object || def.Kind == ast.Interface {
			def.Fields = slices.DeleteFunc(def.Fields, func(f *ast.FieldDefinition) bool { return !slices.Contains(wanted, name+"."+f.Name) })
		}
		for _, f := range def.Fields {
			f.Description, f.Directives = "", nil
			for _, a := range f.Arguments {
				a.Description, a.Directives = "", nil
				keep(a.Type.Name())
			}
			keep(f.Type.Name())
		}
		for _, v := range def.EnumValues {
			v.Description, v.Directives = "", nil
		}
		kept.Definitions = append(kept.Definitions, def)
	}
	keep("Mutation")
	kept.Definitions = append(kept.Definitions, &ast.Definition{Kind: ast.Object, Name: "Query", Fields: ast.FieldList{{Name: "id", Type: ast.NonNullNamedType("ID", nil)}}})
	slices.SortFunc(kept.Definitions, func(a, b *ast.Definition) int { return strings.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	formatter.NewFormatter(&b).FormatSchemaDocument(kept)
	return os.WriteFile(out, b.Bytes(), 0o644)
}
