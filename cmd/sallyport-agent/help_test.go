package main

import (
	"strings"
	"testing"
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
