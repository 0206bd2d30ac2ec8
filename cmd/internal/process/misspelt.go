package process

import (
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/pflag"
)

// prefix begins the names of environment variables that are settings.
const prefix = "SALLYPORT_"

// Variable is the name of the environment variable for a flag.
func Variable(flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Misspelt says, a line for each, which variables of the environment (NAME=VALUE) are no setting
// and look like one of flags. Others are names of settings all the same. It
// never repeats a value.
func Misspelt(environ []string, flags *pflag.FlagSet, others ...string) []string {
	names := make(map[string]bool)
	flags.VisitAll(func(f *pflag.Flag) { names[Variable(f.Name)] = true })
	known := make(map[string]bool, len(others))
	for _, name := range others {
		known[name] = true
	}
	var out []string
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		word, ok := strings.CutPrefix(name, prefix)
		if !ok || value == "" || names[name] || known[name] {
			continue
		}
		near, least := "", 3
		if len(word) < 6 {
			least = 2 // of a short word much else is near
		}
		for other := range names {
			if d := levenshtein.ComputeDistance(name, other); d < least || d == least && near != "" && other < near {
				near, least = other, d
			}
		}
		if near != "" {
			out = append(out, fmt.Sprintf("%s is set and is no setting here; did you mean %s?", name, near))
		}
	}
	return out
}
