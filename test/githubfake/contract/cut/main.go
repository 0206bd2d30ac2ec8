// Command cut takes the operations that the fake answers out of GitHub's description of its
// API, with all that they refer to and without prose, so that the contract is small enough to
// be kept beside the fake. See make generate-github.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	rest := flag.String("rest", "", "api.github.com.json of the npm package @octokit/openapi")
	graph := flag.String("graphql", "", "schema.graphql of the npm package @octokit/graphql-schema")
	dir := flag.String("dir", "", "folder with routes.txt, webhooks.txt and fields.txt, for github.json, webhooks.json and github.graphql")
	flag.Parse()
	err := run(*rest, "paths", filepath.Join(*dir, "routes.txt"), filepath.Join(*dir, "github.json"))
	if err == nil {
		err = run(*rest, "x-webhooks", filepath.Join(*dir, "webhooks.txt"), filepath.Join(*dir, "webhooks.json"))
	}
	if err == nil {
		err = cutGraph(*graph, filepath.Join(*dir, "fields.txt"), filepath.Join(*dir, "github.graphql"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cut:", err)
		os.Exit(1)
	}
}

// run takes the operations of a list out of one part of the description: the paths, or the
// webhooks, which become paths of their names.
func run(in, part, routes, out string) error {
	data, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	var whole map[string]any
	if err := json.Unmarshal(data, &whole); err != nil {
		return fmt.Errorf("read %s: %w", in, err)
	}
	list, err := os.ReadFile(routes)
	if err != nil {
		return err
	}
	c := cutter{whole: whole, components: make(map[string]map[string]any)}
	paths := make(map[string]any)
	all, _ := whole[part].(map[string]any)
	for line := range strings.Lines(string(list)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		method, path, _ := strings.Cut(line, " ")
		item, _ := all[strings.TrimPrefix(path, "/webhooks/")].(map[string]any)
		op, ok := item[strings.ToLower(method)]
		if !ok {
			return fmt.Errorf("GitHub describes no %s", line)
		}
		if paths[path] == nil {
			paths[path] = make(map[string]any)
		}
		kept, _ := paths[path].(map[string]any)
		kept[strings.ToLower(method)] = c.keep(op)
		if shared, ok := item["parameters"]; ok {
			kept["parameters"] = c.keep(shared)
		}
	}
	info, _ := whole["info"].(map[string]any)
	doc := map[string]any{
		"openapi": whole["openapi"],
		"info":    map[string]any{"title": info["title"], "version": info["version"], "license": info["license"]},
		"paths":   paths, "components": c.components,
	}
	text, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(text, '\n'), 0o644)
}

type cutter struct {
	whole      map[string]any
	components map[string]map[string]any
}

// prose says nothing about what is accepted.
var prose = []string{"description", "summary", "example", "examples", "externalDocs", "tags", "title", "deprecated"}

// said are those whose value is a text; where it is none, the key is something else's name.
var said = []string{"description", "summary", "title"}

// keep returns a copy without prose, and notes what it refers to.
func (c *cutter) keep(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = c.keep(v[i])
		}
		return out
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			c.component(ref)
			return map[string]any{"$ref": ref}
		}
		out := make(map[string]any, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			_, isText := v[k].(string)
			if strings.HasPrefix(k, "x-") || slices.Contains(prose, k) && (isText || !slices.Contains(said, k)) {
				continue
			}
			if k == "properties" {
				out[k] = c.properties(v[k])
				continue
			}
			out[k] = c.keep(v[k])
		}
		if _, isResponse := v["content"]; isResponse || v["headers"] != nil {
			if _, ok := v["description"]; ok {
				out["description"] = "" // OpenAPI requires one of a response
			}
		} else if _, ok := v["description"]; ok && len(out) == 0 {
			out["description"] = ""
		}
		return out
	default:
		return v
	}
}

func (c *cutter) properties(v any) any {
	of, ok := v.(map[string]any)
	if !ok {
		return c.keep(v)
	}
	out := make(map[string]any, len(of))
	for k, s := range of {
		out[k] = c.keep(s)
	}
	return out
}

func (c *cutter) component(ref string) {
	parts := strings.Split(strings.TrimPrefix(ref, "#/components/"), "/")
	if len(parts) != 2 {
		return
	}
	if c.components[parts[0]] == nil {
		c.components[parts[0]] = make(map[string]any)
	}
	if _, ok := c.components[parts[0]][parts[1]]; ok {
		return
	}
	c.components[parts[0]][parts[1]] = nil
	components, _ := c.whole["components"].(map[string]any)
	of, _ := components[parts[0]].(map[string]any)
	c.components[parts[0]][parts[1]] = c.keep(of[parts[1]])
}
