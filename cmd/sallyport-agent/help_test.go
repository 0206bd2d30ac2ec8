package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/cmd/internal/docstest"
)

// Every command has its help, every flag is in some help, and no help names a flag that is none.
func TestHelp(t *testing.T) {
	flags := newFlags(new(options))
	all := helpFor([]string{"--help"}, flags)
	for _, c := range commands {
		h, ok := helps[c.name]
		if !ok {
			t.Errorf("%s has no help", c.name)
		}
		if !strings.Contains(all, "\n  "+c.name+" ") {
			t.Errorf("%s is not among the commands", c.name)
		}
		for _, name := range h.flags {
			if flags.Lookup(name) == nil {
				t.Errorf("%s has no flag --%s", c.name, name)
			}
		}
		all += helpFor([]string{c.name, "--help"}, flags)
	}
	for _, line := range strings.Split(flags.FlagUsages(), "\n") {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); name != "" && !strings.Contains(all, "      "+name+" ") {
			t.Errorf("%s is in no help", name)
		}
	}
}

// TestDocs: every command of the agent that a page shows exists, with the flags that it shows.
func TestDocs(t *testing.T) {
	flags := newFlags(new(options))
	seen := 0
	for _, page := range docstest.Pages(t, "../..") {
		for _, c := range docstest.Commands(t, page, "sallyport-agent") {
			seen++
			h, command := commandHelp{}, false
			for i, word := range c.Words {
				if name, ok := strings.CutPrefix(word, "--"); ok {
					name, _, _ = strings.Cut(name, "=")
					name = strings.Trim(name, ".,:")
					f := flags.Lookup(name)
					if fits := f != nil && (!command || slices.Contains(h.flags, name) || h.settings && settingFlags(f)); !fits && name != "help" {
						t.Errorf("%s:%d: sallyport-agent %s has no flag --%s", c.Page, c.Line, strings.Join(c.Words[:i], " "), name)
					}
				} else if i == 0 && word == strings.ToLower(word) && word[0] < 0x80 {
					if h, command = helps[word]; !command {
						t.Errorf("%s:%d: sallyport-agent has no command %s", c.Page, c.Line, word)
					}
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d commands were found: the search is wrong", seen)
	}
	t.Logf("%d commands", seen)
}
