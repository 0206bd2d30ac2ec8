package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/cmd/internal/docstest"
)

// TestDocs: every command that a page shows exists, with the flags that it shows.
func TestDocs(t *testing.T) {
	seen := 0
	for _, page := range docstest.Pages(t, "../..") {
		for _, c := range docstest.Commands(t, page, "sallyport") {
			seen++
			at, words := newRootCommand(), c.Words
			if len(words) > 0 && words[0] == "renew" {
				continue // what a machine signs (docs/identity.md)
			}
			for len(words) > 0 && at.HasSubCommands() && !strings.HasPrefix(words[0], "-") {
				if at.Runnable() && words[0] == strings.ToUpper(words[0]) {
					break // JOB, an argument
				}
				names := strings.Split(words[0], "|") // approve|deny
				var next *cobra.Command
				for _, name := range names {
					next, _, _ = at.Find([]string{name})
					if next == at {
						t.Errorf("%s:%d: %s has no command %s", c.Page, c.Line, at.CommandPath(), name)
					}
				}
				if next == at {
					break
				}
				at, words = next, words[1:]
			}
			at.InitDefaultHelpFlag()
			at.InitDefaultVersionFlag()
			for _, word := range words {
				if word == "--" {
					break
				}
				name, ok := strings.CutPrefix(word, "--")
				if name, _, _ = strings.Cut(name, "="); ok && at.Flag(strings.Trim(name, ".,:")) == nil {
					t.Errorf("%s:%d: %s has no flag --%s", c.Page, c.Line, at.CommandPath(), name)
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d commands were found: the search is wrong", seen)
	}
	t.Logf("%d commands", seen)
}
