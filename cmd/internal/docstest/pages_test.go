package docstest

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	block   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+?) *$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names that GitHub gives to a page's headings.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(block.ReplaceAllString(page, ""), -1) {
		names[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return names
}

// TestLinks: what a page links to within the repository is there.
func TestLinks(t *testing.T) {
	for _, page := range Pages(t, "../../..") {
		if strings.Contains(page, "/testdata/") {
			continue // parts that a test puts a page together from
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(block.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			there, err := os.Stat(target)
			if err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
				continue
			}
			if anchor == "" || there.IsDir() {
				continue
			}
			linked, err := os.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			if !anchors(string(linked))[anchor] {
				t.Errorf("%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
}

var conflict = regexp.MustCompile(`(?m)^(<{7}|>{7}) `)

// TestNoConflicts: no file holds what git writes where it cannot merge.
func TestNoConflicts(t *testing.T) {
	for _, file := range Files(t, "../../..", "") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if at := conflict.FindIndex(text); at != nil {
			t.Errorf("%s:%d: left over from a merge", file, bytes.Count(text[:at[0]], []byte("\n"))+1)
		}
	}
}
