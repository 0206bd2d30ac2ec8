package catalogue

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/action-catalogue.md again")

//go:generate go test -run TestPage -update

// TestPage holds docs/action-catalogue.md to catalogue.yaml.
func TestPage(t *testing.T) {
	const page = "../../docs/action-catalogue.md"
	want := pageText(embeddedForTest(t))
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s does not say what catalogue.yaml says: run go generate ./harden/catalogue", page)
	}
}

const pageHead = `# What actions need of GITHUB_TOKEN

<!-- Made of harden/catalogue/catalogue.yaml by go generate ./harden/catalogue. Do not edit. -->

%d actions. The job's token can reach %d of them, and %d need a permission or may need
one; for the others ` + "`permissions: {}`" + ` is enough. ` + "`sallyport harden`" + ` grants by it, and
` + "`sallyport actions`" + ` (actions.md) tells what it knows.

## How to read it

- **Token** says how the job's token gets to the action. *By default* means that it is
  there though the workflow never names it; an input in brackets takes it if it is given,
  ` + "`$NAME`" + ` is an environment variable, and *itself* means that a composite action takes it
  or hands it to an action inside. Another token (a secret of another name, or the output of
  an earlier step) means that the job's is not used: then only the needs marked † remain.
- **Needs** are permissions, each with the inputs under which it is needed. They are *stated*
  by a file that was read, or marked ° where they are derived: the file says what the action
  does, and [GitHub's table](https://github.com/github/docs/blob/0afe69c8e8a3af3b94d55f3bf2c92041ad1c1384/data/reusables/actions/github-token-scope-descriptions.md)
  says under which permission that falls; nobody has tried it. † marks what goes by another road than a token handed to the action: an OIDC token of the runner, or what
  an earlier login or checkout left behind.
- **?** says why the needs may not be all.
- **Source** is what was read on %s, at its commit. The copies come from an index of public
  repositories that has some version of each file, seldom the newest. *Old* marks copies
  that ran on what GitHub's runners no longer have (node12, node16): versions in use today
  are newer and may need more, or less. *Fork* marks copies whose text names another author.

Where an expression decides (` + "`push: ${{ github.event_name != 'pull_request' }}`" + `), the lookup
says that it cannot know. It never takes what it cannot know for no.

## How to add an action

Add an entry to ` + "`harden/catalogue/catalogue.yaml`" + `, in the order of names, and run
` + "`go generate ./harden/catalogue`" + `. Read the action's own ` + "`action.yml`" + ` at a commit and name
both; write down only what it says. An unknown field, scope or access, an entry without a
source and a condition on nothing are refused, with the name of the entry. All fields are
explained in ` + "`harden/catalogue/entry.go`" + `. A compromise goes into
` + "`harden/catalogue/incidents.yaml`" + `, also of an action that has no entry, with the pages that tell of it.

## Actions

| action | token | needs | source |
|---|---|---|---|
`

func pageText(c *Catalogue) []byte {
	var b bytes.Buffer
	holding, needing := 0, 0
	for _, e := range c.Entries() {
		if e.Token != nil {
			holding++
		}
		if len(e.Needs) > 0 || e.Unsure != "" {
			needing++
		}
	}
	read := c.Entries()[0].Sources[0].Read
	fmt.Fprintf(&b, pageHead, len(c.Entries()), holding, needing, read.Format("2 January 2006"))
	for _, e := range c.Entries() {
		fmt.Fprintf(&b, "| [%s](https://github.com/%s) | %s | %s | %s |\n",
			e.Name, ownerAndRepository(e.Name), tokenCell(e.Token), needsCell(e), sourceCell(e))
	}

	b.WriteString("\n## No longer kept\n\n| action | instead |\n|---|---|\n")
	for _, e := range c.Entries() {
		if e.Archived {
			fmt.Fprintf(&b, "| %s | %s |\n", e.Name, e.ReplacedBy)
		}
	}
	b.WriteString("\n## Safer\n\n| action | instead | why | source |\n|---|---|---|---|\n")
	for _, e := range c.Entries() {
		for _, r := range e.Safer {
			fmt.Fprintf(&b, "| %s | %s | %s | [%s](%s) |\n", e.Name, r.Use, r.Why, strings.TrimPrefix(r.Page, "https://github.com/"), r.Page)
		}
	}
	b.WriteString("\n## Known compromises\n\n| action | when (UTC) | which | what | source |\n|---|---|---|---|---|\n")
	for _, name := range c.Compromised() {
		for _, in := range c.Incidents(name) {
			what := in.What
			if in.ID != "" {
				what += " (" + in.ID + ")"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", name, in.Span(), in.Affected(), what, sourcesCell(in.Sources))
		}
	}
	b.WriteString("\n## Hosts that the files name\n\nNot all that an action may contact: only what was read.\n\n| action | hosts |\n|---|---|\n")
	for _, e := range c.Entries() {
		if len(e.Endpoints) > 0 {
			fmt.Fprintf(&b, "| %s | %s |\n", e.Name, strings.Join(e.Endpoints, ", "))
		}
	}
	return b.Bytes()
}

func ownerAndRepository(name string) string {
	parts := strings.SplitN(name, "/", 3)
	return parts[0] + "/" + parts[1]
}

func tokenCell(t *Token) string {
	if t == nil {
		return "no"
	}
	var roads []string
	if t.Always {
		roads = append(roads, "itself")
	}
	for i, input := range t.Inputs {
		if i == 0 && t.Default {
			roads = append(roads, "by default (`"+input+"`)")
		} else {
			roads = append(roads, "(`"+input+"`)")
		}
	}
	for _, name := range t.Env {
		roads = append(roads, "`$"+name+"`")
	}
	return strings.Join(roads, ", ")
}

func needsCell(e *Entry) string {
	var lines []string
	for _, n := range e.Needs {
		line := fmt.Sprintf("`%s: %s`", n.Scope, n.Access)
		if n.Basis == Derived {
			line += "°"
		}
		if n.Bypass {
			line += "†"
		}
		var when []string
		for _, c := range n.When {
			when = append(when, c.words())
		}
		if n.By != "" {
			when = append(when, "`"+n.By+"` takes the job's token")
		}
		if len(when) > 0 {
			line += " if " + strings.Join(when, " and ")
		}
		if n.Private {
			line += " (private repositories)"
		}
		if n.Note != "" {
			line += " (" + n.Note + ")"
		}
		lines = append(lines, line)
	}
	if e.Unsure != "" {
		lines = append(lines, "**?** "+e.Unsure)
	}
	if len(lines) == 0 {
		return "nothing"
	}
	return strings.ReplaceAll(strings.Join(lines, "<br>"), "|", "\\|")
}

func (c Condition) words() string {
	switch {
	case c.Is != nil && *c.Is == "":
		return "`" + c.Input + "` is empty"
	case c.Is != nil:
		return fmt.Sprintf("`%s: %s`", c.Input, *c.Is)
	case c.Not != nil:
		return fmt.Sprintf("`%s` is not `%s`", c.Input, *c.Not)
	case c.Contains != nil:
		return fmt.Sprintf("`%s` contains `%s`", c.Input, *c.Contains)
	case *c.Set:
		return "`" + c.Input + "` is set"
	default:
		return "`" + c.Input + "` is not set"
	}
}

func sourceCell(e *Entry) string {
	var lines []string
	for _, s := range e.Sources {
		text := s.Path
		switch {
		case s.Page != "":
			text = strings.TrimPrefix(s.Page, "https://github.com/")
		case s.Repository != "":
			text = s.Repository + " " + s.Path
		}
		line := fmt.Sprintf("[%s](%s)", text, s.URL)
		if s.Commit != "" {
			line += " `" + s.Commit[:7] + "`"
		}
		if s.Fork {
			line += " *fork*"
		}
		lines = append(lines, line)
	}
	if e.Dated() {
		lines = append(lines, "*old*")
	}
	return strings.Join(lines, "<br>")
}

func sourcesCell(pages []string) string {
	var cells []string
	for i, p := range pages {
		cells = append(cells, fmt.Sprintf("[%d](%s)", i+1, p))
	}
	return strings.Join(cells, " ")
}
