package detector

import (
	"path"
	"strings"
)

// wrappers are programs that run another one which they are given as arguments,
// each with those of its options that take the next argument as their value.
var wrappers = map[string]string{
	"sudo":    "-u -g -h -p -C -T -r -t -U -D -R --user --group --host --prompt --chdir --chroot",
	"doas":    "-u -C",
	"env":     "-u -C -S --unset --chdir",
	"nohup":   "",
	"setsid":  "",
	"stdbuf":  "-i -o -e",
	"nice":    "-n",
	"ionice":  "-c -n",
	"time":    "-f -o",
	"timeout": "-k -s",
}

// unwrap returns the arguments of the program that a wrapper runs, for instance
// of python3 in "sudo -u root python3 -", and whether there was a wrapper.
func unwrap(program string, arguments []string) ([]string, bool) {
	wrapped := false
	for depth := 0; depth < 8; depth++ {
		options, ok := wrappers[program]
		if !ok || len(arguments) < 2 {
			break
		}
		rest := arguments[1:]
		durations := 0
		if program == "timeout" {
			durations = 1
		}
		for len(rest) > 0 {
			switch a := rest[0]; {
			case a == "--":
			case strings.HasPrefix(a, "-"):
				if len(rest) > 1 && options != "" && containsWord(options, a) {
					rest = rest[1:]
				}
			case (program == "env" || program == "sudo") && strings.Contains(a, "="):
			case durations > 0:
				durations--
			default:
				goto found
			}
			rest = rest[1:]
		}
	found:
		if len(rest) == 0 {
			break
		}
		arguments, wrapped = rest, true
		program = path.Base(arguments[0])
	}
	return arguments, wrapped
}

func containsWord(words, word string) bool {
	for w := range strings.FieldsSeq(words) {
		if w == word {
			return true
		}
	}
	return false
}
