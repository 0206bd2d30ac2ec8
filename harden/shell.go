package harden

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// unknownWord stands for what only the run knows.
const unknownWord = "_"

var repositoryExpression = regexp.MustCompile(`(?i)\$\{\{\s*github\s*\.\s*repository\s*\}\}`)

// commandsOf are the commands of a script of bash or sh, each with its words without quotes. Comments
// and texts are none. False if it cannot be read.
func commandsOf(script string) (out [][]string, ok bool) {
	script = repositoryExpression.ReplaceAllString(script, "o/r")
	script = expression.ReplaceAllString(script, unknownWord)
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "")
	if err != nil {
		return nil, false
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		call, is := n.(*syntax.CallExpr)
		if !is || len(call.Args) == 0 {
			return true
		}
		words := make([]string, 0, len(call.Args))
		for _, w := range call.Args {
			words = append(words, wordOf(w.Parts))
		}
		out = append(out, bare(words))
		return true
	})
	return out, true
}

func wordOf(parts []syntax.WordPart) string {
	var b strings.Builder
	for _, p := range parts {
		switch p := p.(type) {
		case *syntax.Lit:
			b.WriteString(strings.ReplaceAll(p.Value, `\`, ""))
		case *syntax.SglQuoted:
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			b.WriteString(wordOf(p.Parts))
		case *syntax.ParamExp:
			switch {
			case p.Param != nil && p.Param.Value == "GITHUB_REPOSITORY":
				b.WriteString("o/r")
			case p.Param != nil && p.Param.Value == "GITHUB_API_URL":
				b.WriteString("https://api.github.com")
			default:
				b.WriteString(unknownWord)
			}
		default:
			b.WriteString(unknownWord)
		}
	}
	return b.String()
}

// wrappers are commands that run the command that is named after them.
var wrappers = []string{"sudo", "env", "timeout", "nohup", "command", "exec", "nice", "xargs", "time", "retry"}

// bare is a command without what wraps it, its name without a path.
func bare(words []string) []string {
	if slices.Contains(wrappers, words[0]) {
		for i, w := range words[1:] {
			if slices.Contains([]string{"gh", "git", "curl"}, path.Base(w)) {
				words = words[i+1:]
				break
			}
		}
	}
	words[0] = path.Base(words[0])
	return words
}

// flagsOf parts a command's words into flags with their values and the rest. valued are the flags
// that take a value; short ones may have it attached.
func flagsOf(words []string, valued ...string) (flags map[string][]string, rest []string) {
	flags = make(map[string][]string)
	for i := 0; i < len(words); i++ {
		w := words[i]
		name, v, attached := strings.Cut(w, "=")
		switch {
		case len(w) < 2 || w[0] != '-':
			rest = append(rest, w)
		case strings.HasPrefix(w, "--") && attached:
			flags[name] = append(flags[name], v)
		case slices.Contains(valued, w):
			i++
			if i < len(words) {
				flags[w] = append(flags[w], words[i])
			}
		case !strings.HasPrefix(w, "--") && len(w) > 2 && slices.Contains(valued, w[:2]):
			flags[w[:2]] = append(flags[w[:2]], w[2:])
		case !strings.HasPrefix(w, "--") && len(w) > 2 && slices.Contains(valued, "-"+w[len(w)-1:]): // several, such as -sX POST
			i++
			if i < len(words) {
				flags["-"+w[len(w)-1:]] = append(flags["-"+w[len(w)-1:]], words[i])
			}
		default:
			flags[w] = append(flags[w], "")
		}
	}
	return flags, rest
}

func anyFlag(flags map[string][]string, names ...string) (string, bool) {
	for _, n := range names {
		if v := flags[n]; len(v) > 0 {
			return v[len(v)-1], true
		}
	}
	return "", false
}
