// Package docstest reads the pages of this repository for tests that hold them to the
// programs.
package docstest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Files returns the paths of the project's files below root whose names end with suffix:
// not what git keeps, nor what is fetched and built.
func Files(t testing.TB, root, suffix string) []string {
	t.Helper()
	var files []string
	if err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", ".bin", "bin", "node_modules"}, entry.Name()):
			return fs.SkipDir
		case entry.Type().IsRegular() && strings.HasSuffix(path, suffix):
			files = append(files, path)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("there are no files *%s below %s", suffix, root)
	}
	return files
}

// Pages returns the paths of all pages below root.
func Pages(t testing.TB, root string) []string { return Files(t, root, ".md") }

// Command is a command line in a page.
type Command struct {
	Page string
	Line int // from 1
	// Words after the program's name. What stands in brackets, and what is left out, is
	// not among them.
	Words []string
}

var (
	span = regexp.MustCompile("`([^`]+)`")
	// What parts command lines, and what is written where a value belongs.
	parts   = regexp.MustCompile(`\|\||&&|[|;()<>]|\$\(| #.*$`)
	written = strings.NewReplacer("[", " ", "]", " ", "`", " ", `"`, " ", "'", " ", "…", " … ", "\\", " ")
)

// Commands returns the lines in page's code, blocks and spans, that call program.
func Commands(t testing.TB, page, program string) []Command {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var found []Command
	add := func(line int, code string) {
		for _, part := range parts.Split(code, -1) {
			words := strings.Fields(written.Replace(part))
			for i, word := range words {
				if i > 0 && words[i-1] != "sudo" && words[i-1] != "-E" && words[i-1] != "run:" && words[i-1] != "$" && !strings.Contains(words[i-1], "=") {
					break
				}
				if word == program || strings.HasSuffix(word, "/"+program) {
					found = append(found, Command{Page: page, Line: line, Words: words[i+1:]})
					break
				}
			}
		}
	}
	block, begun, before := false, 0, ""
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			block, before = !block, ""
			continue
		}
		if !block {
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				add(i+1, m[1])
			}
			continue
		}
		if before == "" {
			begun = i + 1
		}
		if before += line; strings.HasSuffix(line, `\`) {
			continue
		}
		add(begun, before)
		before = ""
	}
	return found
}
