package harden

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"mvdan.cc/sh/v3/syntax"
)

// injections takes what somebody else chooses out of the text of scripts: it comes by a variable in
// its place. Only where that provably means the same, and ends it: in a script of bash or sh, in
// double quotes or in an assignment, as an argument of a command that runs none of it as code.
func (h *hardener) injections(d *Document, kind Kind) (fixes []Fix) {
	top := value(value(value(d.Root, "defaults"), "run"), "shell")
	env := environment(nil, value(d.Root, "env"))
	if kind == KindAction {
		return h.injectionsOf(d, value(value(d.Root, "runs"), "steps"), "", env)
	}
	for _, j := range d.jobs() {
		if j.alias {
			continue
		}
		shell := text(top)
		if own := value(value(value(j.node, "defaults"), "run"), "shell"); own != nil {
			shell = text(own)
		}
		if on := text(value(j.node, "runs-on")); shell == "" && value(j.node, "container") == nil && (strings.HasPrefix(on, "ubuntu-") || strings.HasPrefix(on, "macos-")) {
			shell = "bash"
		}
		fixes = append(fixes, h.injectionsOf(d, value(j.node, "steps"), shell, environment(env, value(j.node, "env")))...)
	}
	return fixes
}

func (h *hardener) injectionsOf(d *Document, steps *yaml.Node, shell string, env map[string]string) (fixes []Fix) {
	for _, s := range flat(steps) {
		if s.Kind != yaml.MappingNode || s.Style&yaml.FlowStyle != 0 || s.Anchor != "" {
			continue
		}
		own := shell
		if given := value(s, "shell"); given != nil {
			own = text(given)
		}
		if name, _, _ := strings.Cut(own, " "); name != "bash" && name != "sh" {
			continue
		}
		if fix := d.injection(s, environment(env, value(s, "env"))); fix != nil {
			fixes = append(fixes, *fix)
			h.handed[s] = true
		}
	}
	return fixes
}

// handOver is one expression that comes by a variable.
type handOver struct {
	begin, end int // in the script
	quoted     bool
	inside     string
}

// injection is the fix of one step; nil if there is nothing to do, or if not all can be done.
func (d *Document) injection(s *yaml.Node, env map[string]string) *Fix {
	key, run := field(s, "run")
	if run == nil || run.Kind != yaml.ScalarNode || run.Anchor != "" || run.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.FoldedStyle) != 0 {
		return nil
	}
	script := run.Value
	over := handOvers(script)
	if len(over) == 0 {
		return nil
	}
	begin, end, ok := d.scriptText(key, run)
	if !ok {
		return nil
	}
	fix := &Fix{Rule: "template-injection", At: position(key)}
	names := make(map[string]string) // of variables, by expression
	var order, said []string
	now, last := script, len(script)
	raw := d.Text[begin:end]
	for _, o := range slices.Backward(over) {
		whole := script[o.begin:o.end]
		name := names[o.inside]
		if name == "" {
			if name = variableFor(o.inside, script, env); name == "" || slices.Contains(order, name) {
				return nil
			}
			names[o.inside] = name
			order = append(order, name)
			said = append(said, "${{ "+o.inside+" }}")
		}
		use := "${" + name + "}"
		if !o.quoted {
			use = `"` + use + `"`
		}
		// The text of a literal block is the script's but for its indentation.
		n := strings.Count(script[:o.begin], whole)
		at := nth(raw, []byte(whole), n)
		if at < 0 || o.end > last {
			return nil
		}
		now, last = now[:o.begin]+use+now[o.end:], o.begin
		fix.edits = append(fix.edits, Edit{begin + at, begin + at + len(whole), []byte(whole), []byte(use)})
	}
	slices.Reverse(order)
	slices.Reverse(said)
	byName := make(map[string]string)
	for inside, name := range names {
		byName[name] = inside
	}
	added, insert := d.variables(s, key, end, order, byName)
	if added == nil {
		return nil
	}
	fix.edits = append(fix.edits, *insert)
	fix.Reason = fmt.Sprintf("%s was put into the text of a shell; it comes by a variable now, which is not run", strings.Join(said, ", "))
	fix.mutate = func() { run.Value = now; added() }
	return fix
}

// nth is where something is in a text after n others of it; negative if it is not.
func nth(text, what []byte, n int) int {
	at := 0
	for {
		i := bytes.Index(text[at:], what)
		if i < 0 || n == 0 {
			if i < 0 {
				return -1
			}
			return at + i
		}
		at, n = at+i+len(what), n-1
	}
}

// scriptText is where the text of a script is: after its key, until the last line that has any.
func (d *Document) scriptText(key, run *yaml.Node) (begin, end int, ok bool) {
	if run.Style&yaml.LiteralStyle == 0 {
		begin, end, ok = d.scalar(run)
		return begin, end, ok && run.Line == key.Line
	}
	at, ok := d.offset(key.Line, key.Column)
	if !ok {
		return 0, 0, false
	}
	_, _, next := d.lineOf(at)
	begin, end = next, next
	for next < len(d.Text) {
		lineBegin, lineEnd, after := d.lineOf(next)
		line := d.Text[lineBegin:lineEnd]
		if trimmed := bytes.TrimLeft(line, " "); len(bytes.TrimSpace(trimmed)) > 0 {
			if len(line)-len(trimmed) < key.Column {
				break
			}
			end = lineEnd
		}
		if after <= next {
			break
		}
		next = after
	}
	return begin, end, end > begin
}

// variables is the edit that gives a step variables, and what it means.
func (d *Document) variables(s, key *yaml.Node, end int, names []string, inside map[string]string) (func(), *Edit) {
	node := func(name string) []*yaml.Node {
		return []*yaml.Node{scalarNode(name), scalarNode("${{ " + inside[name] + " }}")}
	}
	lines := func(indent string) (out []string) {
		for _, n := range names {
			out = append(out, indent+n+": ${{ "+inside[n]+" }}")
		}
		return out
	}
	for _, n := range names {
		if strings.ContainsAny(inside[n], "\n\r") || strings.Contains(inside[n], ": ") || strings.Contains(inside[n], " #") {
			return nil, nil
		}
	}
	_, env := field(s, "env")
	if env == nil {
		at, ok := d.offset(key.Line, key.Column)
		if !ok {
			return nil, nil
		}
		begin, _, _ := d.lineOf(at)
		indent := blank(d.Text[begin:at])
		_, _, next := d.lineOf(end)
		edit := d.insertLines(next, append([]string{indent + "env:"}, lines(indent+"  ")...))
		return func() {
			made := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			for _, n := range names {
				made.Content = append(made.Content, node(n)...)
			}
			s.Content = append(s.Content, scalarNode("env"), made)
		}, &edit
	}
	if env.Kind != yaml.MappingNode || env.Style&yaml.FlowStyle != 0 || env.Anchor != "" || len(env.Content) == 0 {
		return nil, nil
	}
	at, ok := d.offset(env.Content[0].Line, env.Content[0].Column)
	if !ok {
		return nil, nil
	}
	begin, _, _ := d.lineOf(at)
	if len(bytes.TrimSpace(d.Text[begin:at])) > 0 {
		return nil, nil
	}
	indent := string(d.Text[begin:at])
	edit := d.insertLines(d.aboveComments(begin, indent), lines(indent))
	return func() {
		for _, n := range names {
			env.Content = append(env.Content, node(n)...)
		}
	}, &edit
}

var nameParts = regexp.MustCompile(`^(?:github\.event\.|github\.)?((?:[A-Za-z_][A-Za-z0-9_-]*)(?:\.[A-Za-z_][A-Za-z0-9_-]*)*)$`)

// variableFor names the variable of an expression; empty if it is no plain name, or if the name is
// taken.
func variableFor(inside, script string, env map[string]string) string {
	m := nameParts.FindStringSubmatch(inside)
	if m == nil {
		return ""
	}
	name := strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(m[1]))
	for _, reserved := range []string{"GITHUB_", "RUNNER_", "ACTIONS_"} {
		if strings.HasPrefix(name, reserved) {
			return ""
		}
	}
	if _, taken := env[name]; taken || regexp.MustCompile(`\b`+name+`\b`).MatchString(script) || slices.Contains([]string{"PATH", "HOME", "CI", "USER", "SHELL", "IFS", "ENV", "BASH_ENV", "NODE_OPTIONS"}, name) {
		return ""
	}
	return name
}

// inert are commands that run nothing of their arguments or of their input as code.
var inert = []string{
	"echo", "printf", "git", "gh", "test", "[", "true", ":", "mkdir", "cd", "cp", "mv", "rm", "cat", "touch", "ls", "tee", "grep", "head", "tail", "wc", "tr", "cut", "sort", "uniq", "base64", "curl", "wget", "basename", "dirname", "sha256sum",
}

// forAll are the files by which a step sets variables and folders of programs for those after it.
var forAll = regexp.MustCompile(`GITHUB_(?:ENV|PATH)\b|(?i:github\s*\.\s*(?:env|path)\b)`)

// handOvers are the expressions of a script that somebody else chooses; none if one of them cannot
// come by a variable.
func handOvers(script string) (out []handOver) {
	found := expression.FindAllStringSubmatchIndex(script, -1)
	masked := []byte(script)
	var wanted []handOver
	for _, m := range found {
		for i := m[0]; i < m[1]; i++ {
			if masked[i] == '\n' {
				return nil
			}
			masked[i] = 'X'
		}
		inside := strings.TrimSpace(script[m[2]:m[3]])
		if m[0] > 0 && (script[m[0]-1] == '\\' || script[m[0]-1] == '$') {
			return nil // what stands before it would take it in
		}
		if untrusted.MatchString(inside) || inputs.MatchString(inside) {
			wanted = append(wanted, handOver{begin: m[0], end: m[1], inside: inside})
		}
	}
	// A variable would end the one hole and hide the other: a stranger's line in these files becomes a
	// variable or a folder of programs for all later steps.
	if len(wanted) == 0 || forAll.MatchString(script) {
		return nil
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(masked), "")
	if err != nil {
		return nil
	}
	var stack []syntax.Node
	syntax.Walk(file, func(n syntax.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		if lit, ok := n.(*syntax.Lit); ok {
			for _, w := range wanted {
				if int(lit.Pos().Offset()) <= w.begin && w.end <= int(lit.End().Offset()) && lit.Value != "" {
					if quoted, ok := handsOver(stack); ok {
						w.quoted = quoted
						out = append(out, w)
					}
				}
			}
		}
		stack = append(stack, n)
		return true
	})
	if len(out) != len(wanted) {
		return nil
	}
	slices.SortFunc(out, func(a, b handOver) int { return a.begin - b.begin })
	return out
}

// handsOver says whether a variable can stand where a text is that is in these, and whether it is
// in double quotes there.
func handsOver(in []syntax.Node) (quoted, ok bool) {
	if len(in) == 0 {
		return false, false
	}
	assigned := false
	for i, n := range in {
		switch n := n.(type) {
		case *syntax.DblQuoted:
			if n.Dollar {
				return false, false
			}
		case *syntax.CmdSubst:
			assigned = false
		case *syntax.Assign:
			if i+1 < len(in) && in[i+1] != syntax.Node(n.Value) {
				return false, false
			}
			assigned = true
		case *syntax.CallExpr:
			if len(n.Args) > 0 && !slices.Contains(inert, wordOf(n.Args[0].Parts)) {
				return false, false
			}
		case *syntax.BinaryCmd:
			if (n.Op == syntax.Pipe || n.Op == syntax.PipeAll) && !inertAll(n) {
				return false, false
			}
		case *syntax.Redirect:
			if i+1 < len(in) && in[i+1] == syntax.Node(n.Hdoc) {
				return false, false
			}
		case *syntax.File, *syntax.Stmt, *syntax.Word, *syntax.Block, *syntax.IfClause, *syntax.DeclClause, *syntax.TestClause, *syntax.BinaryTest, *syntax.UnaryTest, *syntax.ParenTest, *syntax.Subshell:
		default: // loops, functions, arithmetic, patterns, expansions
			return false, false
		}
	}
	switch in[len(in)-1].(type) {
	case *syntax.DblQuoted:
		return true, true
	case *syntax.Word:
		return false, assigned
	default:
		return false, false
	}
}

// inertAll says whether all commands of a pipe run nothing of what they get.
func inertAll(n syntax.Node) bool {
	all := true
	syntax.Walk(n, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 {
			all = all && slices.Contains(inert, wordOf(call.Args[0].Parts))
		}
		return true
	})
	return all
}
