package harden

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
	"github.com/sallyport-ci/sallyport/harden/routes"
)

// call adds what a call of GitHub's interface needs. by says who makes it.
func (h *hardener) call(g *grant, c routes.Call, by string) {
	c.Path = repositoryPath(c.Path)
	if strings.Contains(c.Method, unknownWord) {
		g.unsure("%s %s", by, c.Path)
		return
	}
	need, known := h.routes.For(c)
	if !known {
		g.unsure("%s %s", by, c)
		return
	}
	if need.Never || need.Scope == "" {
		return
	}
	by = fmt.Sprintf("%s %s %s", by, strings.ToUpper(c.Method), h.routes.Form(c))
	// The comments, labels and the like of a pull request are reached as those of an issue.
	if need.Scope == "issues" && strings.Contains(c.Path, "/issues") && g.pulls {
		g.need("pull-requests", need.Access, by)
		if !g.others {
			return
		}
	}
	g.need(need.Scope, need.Access, by)
}

// below are the first parts of paths below a repository.
var below = []string{
	"actions", "assignees", "attestations", "branches", "check-runs", "check-suites", "code-scanning", "commits", "compare", "contents", "dependency-graph", "deployments",
	"dispatches", "environments", "git", "issues", "labels", "merges", "milestones", "pages", "pulls", "readme", "releases", "statuses", "tags", "tarball", "zipball",
}

// repositoryPath is a path in whole: repos/$REPO/pulls has a variable for owner and name.
func repositoryPath(p string) string {
	p = "/" + strings.TrimLeft(p, "/")
	parts := strings.Split(p, "/")
	if len(parts) > 3 && parts[1] == "repos" && parts[2] == unknownWord && slices.Contains(below, parts[3]) || len(parts) == 3 && parts[1] == "repos" && parts[2] == unknownWord {
		parts = slices.Insert(parts, 3, unknownWord)
	}
	return strings.Join(parts, "/")
}

// ghAPI reads gh api.
func (h *hardener) ghAPI(g *grant, words []string) {
	flags, rest := flagsOf(words, "-X", "--method", "-f", "--raw-field", "-F", "--field", "--input", "-H", "--header", "-q", "--jq", "-t", "--template", "--cache", "--hostname", "-p", "--preview")
	method := "GET"
	if _, given := anyFlag(flags, "-f", "--raw-field", "-F", "--field", "--input"); given {
		method = "POST"
	}
	if m, given := anyFlag(flags, "-X", "--method"); given {
		method = m
	}
	if len(rest) != 1 || strings.TrimLeft(rest[0], "/") == "graphql" || rest[0] == unknownWord {
		g.unsure("gh api %s", strings.Join(rest, " "))
		return
	}
	p := rest[0]
	if after, ok := strings.CutPrefix(p, "https://api.github.com"); ok {
		p = after
	}
	h.call(g, routes.Call{Method: method, Path: p}, "gh api")
}

// curl reads curl; false if it does not speak to GitHub.
func (h *hardener) curl(g *grant, words []string) bool {
	flags, rest := flagsOf(words, "-X", "--request", "-d", "--data", "--data-raw", "--data-binary", "--data-urlencode", "--json", "-F", "--form", "-T", "--upload-file", "-H", "--header",
		"-o", "--output", "-w", "--write-out", "-u", "--user", "-A", "--user-agent", "--retry", "--retry-delay", "--max-time", "-m", "--connect-timeout", "-e", "-x", "--proxy", "--url", "-D", "--dump-header", "-b", "-c", "-K", "--config")
	rest = append(rest, flags["--url"]...)
	method := "GET"
	if _, given := anyFlag(flags, "-d", "--data", "--data-raw", "--data-binary", "--data-urlencode", "--json", "-F", "--form"); given {
		method = "POST"
	}
	if _, given := anyFlag(flags, "-T", "--upload-file"); given {
		method = "PUT"
	}
	if _, given := anyFlag(flags, "-G", "--get", "-I", "--head"); given {
		method = "GET"
	}
	if m, given := anyFlag(flags, "-X", "--request"); given {
		method = m
	}
	read := false
	for _, url := range rest {
		if after, ok := strings.CutPrefix(url, "https://api.github.com/"); ok {
			h.call(g, routes.Call{Method: method, Path: after}, "curl")
			read = true
		} else if after, ok := strings.CutPrefix(url, "https://uploads.github.com/"); ok {
			h.call(g, routes.Call{Method: method, Path: after}, "curl")
			read = true
		} else if strings.HasPrefix(url, unknownWord) {
			g.unsure("curl to an address that only the run knows")
			read = true
		}
	}
	return read
}

// needsOfScript reads the script of a run line. A script that cannot be read as one of bash is read
// line by line.
func (h *hardener) needsOfScript(g *grant, script string, env map[string]string) {
	commands, ok := commandsOf(script)
	if !ok {
		needsOfLines(g, script, env)
		return
	}
	holds := tokenExpression.MatchString(script)
	for _, v := range env {
		holds = holds || tokenExpression.MatchString(v)
	}
	read := false
	for _, words := range commands {
		switch words[0] {
		case "git":
			if _, rest := flagsOf(words[1:], "-C", "-c", "--git-dir", "--work-tree"); len(rest) > 0 && rest[0] == "push" {
				g.need("contents", catalogue.Write, "git push")
			}
		case "curl":
			read = holds && h.curl(g, words[1:]) || read
		case "gh":
			read = true
			if !holds {
				continue // it has another token, or none
			}
			_, rest := flagsOf(words[1:], "-R", "--repo", "--hostname")
			switch {
			case len(rest) == 0:
			case rest[0] == "api":
				h.ghAPI(g, words[slices.Index(words, "api")+1:])
			default:
				sub := ""
				if len(rest) > 1 {
					sub = rest[1]
				}
				ghCommandNeeds(g, rest[0], sub)
			}
		}
	}
	if holds && !read {
		g.unsure("a script that has the token")
	}
}

func ghCommandNeeds(g *grant, command, sub string) {
	name := strings.TrimSpace("gh " + command + " " + sub)
	needs, known := ghNeeds[command][sub]
	if !known {
		needs, known = ghNeeds[command][""]
	}
	if !known {
		g.unsure("%s", name)
		return
	}
	for scope, access := range needs {
		g.need(scope, access, name)
	}
}

var (
	githubWord  = regexp.MustCompile(`\bgithub\b`)
	restCall    = regexp.MustCompile(`^\s*\??\.\s*(?:rest\s*\.\s*)?([A-Za-z]+)\s*\.\s*([A-Za-z]+)`)
	requestCall = regexp.MustCompile(`^\s*\.\s*request\s*\(\s*`)
	pageCall    = regexp.MustCompile(`^\s*\.\s*paginate\s*(?:\.\s*iterator\s*)?\(\s*`)
	routeText   = regexp.MustCompile(`^\s*(GET|POST|PUT|PATCH|DELETE)\s+(/\S*)\s*$`)
	elsewhere   = regexp.MustCompile(`\b(?:getOctokit|fetch|graphql)\b\s*\(|\bexec\s*\.`)
)

// needsOfJavaScript reads the script of actions/github-script.
func (h *hardener) needsOfJavaScript(g *grant, script string) {
	const by = "actions/github-script"
	code, texts := javaScript(script)
	if m := elsewhere.FindString(code); m != "" {
		g.unsure("%s (%s)", by, strings.Trim(m, "( ."))
	}
	for _, at := range githubWord.FindAllStringIndex(code, -1) {
		if before := strings.TrimRight(code[:at[0]], " \t\n"); strings.HasSuffix(before, ".") {
			continue // somebody else's
		}
		rest := code[at[1]:]
		literal := func(m string) (routes.Call, bool) {
			r := routeText.FindStringSubmatch(texts[at[1]+len(m)])
			if r == nil {
				return routes.Call{}, false
			}
			return routes.Call{Method: r[1], Path: r[2]}, true
		}
		if m := requestCall.FindString(rest); m != "" {
			if c, ok := literal(m); ok {
				h.call(g, c, by)
			} else {
				g.unsure("%s (a request that only the run knows)", by)
			}
			continue
		}
		if m := pageCall.FindString(rest); m != "" {
			if c, ok := literal(m); ok {
				h.call(g, c, by)
			} else if !strings.HasPrefix(rest[len(m):], "github") {
				g.unsure("%s (a request that only the run knows)", by)
			}
			continue
		}
		m := restCall.FindStringSubmatch(rest)
		if m == nil {
			g.unsure("%s (it hands its client on)", by)
			continue
		}
		c, known := h.routes.Named(m[1] + "." + m[2])
		if !known {
			g.unsure("%s (%s.%s)", by, m[1], m[2])
			continue
		}
		h.call(g, c, by)
	}
}

// javaScript is code with blanks in the place of comments and of what is in texts; texts are those
// without expressions, by the offset of their quote.
func javaScript(source string) (code string, texts map[int]string) {
	out := []byte(source)
	texts = make(map[int]string)
	blank := func(from, to int) {
		for i := from; i < to && i < len(out); i++ {
			if out[i] != '\n' {
				out[i] = ' '
			}
		}
	}
	var templates []int // depth of braces within each template that is open
	significant := byte(';')
	for i := 0; i < len(source); {
		c := source[i]
		switch {
		case strings.HasPrefix(source[i:], "//"):
			end := strings.IndexByte(source[i:], '\n')
			if end < 0 {
				end = len(source) - i
			}
			blank(i, i+end)
			i += end
			continue
		case strings.HasPrefix(source[i:], "/*"):
			end := strings.Index(source[i+2:], "*/")
			if end < 0 {
				end = len(source)
			}
			blank(i, i+end+4)
			i = min(i+end+4, len(source))
			continue
		case c == '\'' || c == '"':
			end := endOfText(source, i+1, c)
			texts[i] = source[i+1 : end]
			blank(i+1, end)
			i = end + 1
			significant = c
			continue
		case c == '`' || c == '}' && len(templates) > 0 && templates[len(templates)-1] == 0:
			if c == '}' {
				templates = templates[:len(templates)-1]
			}
			begin := i + 1
			for i++; i < len(source) && source[i] != '`' && !strings.HasPrefix(source[i:], "${"); i++ {
				if source[i] == '\\' {
					i++
				}
			}
			end := min(i, len(source))
			if c == '`' && end < len(source) && source[end] == '`' {
				texts[begin-1] = source[begin:end]
			}
			blank(begin, end)
			if end < len(source) && source[end] == '$' {
				templates = append(templates, 0)
				i++
			}
			i++
			significant = '`'
			continue
		case c == '{' && len(templates) > 0:
			templates[len(templates)-1]++
		case c == '}' && len(templates) > 0:
			templates[len(templates)-1]--
		case c == '/' && strings.IndexByte("(,=:[!&|?{};", significant) >= 0: // a pattern, not a division
			end := endOfText(source, i+1, '/')
			blank(i+1, end)
			i = end + 1
			significant = '/'
			continue
		}
		if c > ' ' {
			significant = c
		}
		i++
	}
	return string(out), texts
}

// endOfText is where a text ends, or its line.
func endOfText(source string, at int, quote byte) int {
	for ; at < len(source); at++ {
		switch source[at] {
		case '\\':
			at++
		case quote, '\n':
			return at
		}
	}
	return len(source)
}
