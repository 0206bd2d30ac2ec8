// Command list writes down the operations on a repository that GitHub describes: method, path and
// the name of each. See make generate-github.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

func main() {
	rest := flag.String("rest", "", "api.github.com.json of the npm package @octokit/openapi")
	out := flag.String("out", "", "file to write")
	flag.Parse()
	if err := run(*rest, *out); err != nil {
		fmt.Fprintln(os.Stderr, "list:", err)
		os.Exit(1)
	}
}

func run(rest, out string) error {
	data, err := os.ReadFile(rest)
	if err != nil {
		return err
	}
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("read %s: %w", rest, err)
	}
	var lines []string
	for path, methods := range doc.Paths {
		if path != "/repos/{owner}/{repo}" && !strings.HasPrefix(path, "/repos/{owner}/{repo}/") && !strings.HasPrefix(path, "/search/") && path != "/rate_limit" && path != "/meta" {
			continue
		}
		for method, raw := range methods {
			var op struct {
				ID string `json:"operationId"`
			}
			if !slices.Contains([]string{"get", "post", "put", "patch", "delete"}, method) {
				continue
			}
			if err := json.Unmarshal(raw, &op); err != nil || op.ID == "" {
				return fmt.Errorf("%s %s has no name: %w", method, path, err)
			}
			lines = append(lines, strings.ToUpper(method)+" "+path+" "+op.ID)
		}
	}
	slices.Sort(lines)
	head := "# Operations on a repository, by GitHub's own description of its API. Made by make generate-github.\n"
	return os.WriteFile(out, []byte(head+strings.Join(lines, "\n")+"\n"), 0o644)
}
