package store

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/store/migrations"
)

var update = flag.Bool("update", false, "write docs/tables.md or docs/queries.md again")

//go:generate go test -run TestTablesPage -update

// TestTablesPage holds docs/tables.md to the comments in the migrations.
func TestTablesPage(t *testing.T) {
	const page = "../docs/tables.md"
	want := tablesPage(t)
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
		t.Errorf("%s does not say what store/migrations says: run go generate ./store", page)
	}
}

const tablesPageHead = `# Tables

<!-- Made of the comments in store/migrations by go generate ./store. Do not edit. -->

All are in the database of the DSN (` + "`sallyport`" + ` by default). Begin with the views:
` + "`runs`, `jobs`, `steps`, `processes`, `egress`, `egress_by_day`" + `; the base tables have one row an event,
identified for ever by ` + "`(agent_id, epoch, sequence)`" + `. The same columns are there as
comments in ClickHouse (` + "`DESCRIBE egress`" + `). Times are in UTC. Conditions on
` + "`repository`, `workflow`, `job`, `run_id`" + `, in this order, make a question fast; a
condition on ` + "`time`" + ` leaves out whole months. More questions are in
[queries.md](queries.md).

Where did the job ` + "`build`" + ` send to in its last runs, and how much?

` + "```sql" + `
SELECT domain, destination_address, program, step, uniqExact(run_id) AS runs, sum(bytes_sent) AS sent
FROM egress
WHERE repository = 'example/app' AND workflow = 'ci' AND job = 'build'
GROUP BY ALL ORDER BY runs, sent DESC
` + "```" + `

Who ever asked for a name?

` + "```sql" + `
SELECT repository, workflow, job, run_id, step, program, min(time)
FROM dns WHERE name = 'evil.example.test' GROUP BY ALL
` + "```" + `
`

var (
	statementPattern = regexp.MustCompile(`(?s)-- \+goose StatementBegin\n(.*?);\n-- \+goose StatementEnd`)
	createPattern    = regexp.MustCompile(`(?s)^CREATE (?:OR REPLACE )?(TABLE|VIEW) (?:IF NOT EXISTS )?(\w+)\n\(\n(.*?)\n\)\n(.*)$`)
	alterPattern     = regexp.MustCompile(`(?s)^ALTER TABLE (\w+)\n(.*)$`)
	changePattern    = regexp.MustCompile(`(?m)^ {4}(ADD|MODIFY) COLUMN (?:IF NOT EXISTS )?(\w+) (.+?) COMMENT '((?:[^']|'')*)'(?: CODEC\(.*?\))?(?: AFTER (\w+))?,?$`)
	columnPattern    = regexp.MustCompile(`(?m)^ {4}(\w+) (.+?) COMMENT '((?:[^']|'')*)'`)
	orderPattern     = regexp.MustCompile(`(?m)^ORDER BY \((.*)\)$`)
	aboutPattern     = regexp.MustCompile(`COMMENT '((?:[^']|'')*)'$`)
)

// relation is a table or view as the migrations leave it.
type relation struct {
	kind, name, about, order string
	columns                  [][3]string // name, type, comment
}

func (r *relation) column(name string) int {
	return slices.IndexFunc(r.columns, func(c [3]string) bool { return c[0] == name })
}

func tablesPage(t *testing.T) []byte {
	t.Helper()
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	var relations []*relation
	find := func(name string) int {
		return slices.IndexFunc(relations, func(r *relation) bool { return r.name == name })
	}
	for _, name := range names {
		data, err := migrations.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range statementPattern.FindAllStringSubmatch(string(data), -1) {
			if m := createPattern.FindStringSubmatch(statement[1]); m != nil {
				r := created(t, name, m)
				if i := find(r.name); i >= 0 {
					relations[i] = r
				} else {
					relations = append(relations, r)
				}
			} else if m := alterPattern.FindStringSubmatch(statement[1]); m != nil {
				i := find(m[1])
				if i < 0 {
					t.Fatalf("%s: alters %s, which is not there", name, m[1])
				}
				alter(t, name, relations[i], m[2])
			}
		}
	}
	text := func(s string) string {
		s = strings.ReplaceAll(s, "''", "'")
		return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(s)
	}
	var tables, views bytes.Buffer
	for _, r := range relations {
		out := &tables
		if r.kind == "VIEW" {
			out = &views
		}
		fmt.Fprintf(out, "\n### %s\n\n%s.\n", r.name, text(r.about))
		if r.order != "" {
			fmt.Fprintf(out, "Ordered by `%s`.\n", r.order)
		}
		fmt.Fprintf(out, "\n| column | type | what |\n|---|---|---|\n")
		for _, c := range r.columns {
			fmt.Fprintf(out, "| `%s` | `%s` | %s |\n", c[0], c[1], text(c[2]))
		}
	}
	return []byte(tablesPageHead + "\n## Views\n" + views.String() + "\n## Base tables\n" + tables.String())
}

func created(t *testing.T, file string, m []string) *relation {
	t.Helper()
	r := &relation{kind: m[1], name: m[2]}
	about := aboutPattern.FindStringSubmatch(m[4])
	if about == nil {
		t.Fatalf("%s: %s has no comment", file, r.name)
	}
	r.about = about[1]
	if order := orderPattern.FindStringSubmatch(m[4]); order != nil {
		r.order = order[1]
	}
	for _, c := range columnPattern.FindAllStringSubmatch(m[3], -1) {
		r.columns = append(r.columns, [3]string{c[1], c[2], c[3]})
	}
	lines := 0
	for line := range strings.Lines(m[3]) {
		if !strings.HasPrefix(strings.TrimSpace(line), "INDEX ") {
			lines++
		}
	}
	if lines != len(r.columns) {
		t.Errorf("%s: %s: %d columns have a comment, of %d", file, r.name, len(r.columns), lines)
	}
	return r
}

// codecPattern is a change of how a column is packed, which the page does not tell.
var codecPattern = regexp.MustCompile(`MODIFY COLUMN \w+ CODEC\(`)

func alter(t *testing.T, file string, r *relation, changes string) {
	t.Helper()
	found := changePattern.FindAllStringSubmatch(changes, -1)
	if lines := strings.Count(changes, "\n") + 1 - len(codecPattern.FindAllString(changes, -1)); lines != len(found) {
		t.Errorf("%s: %s: %d changes are understood, of %d lines", file, r.name, len(found), lines)
	}
	for _, c := range found {
		column := [3]string{c[2], c[3], c[4]}
		at := r.column(c[2])
		switch {
		case c[1] == "MODIFY" && at >= 0:
			r.columns[at] = column
		case c[1] == "ADD" && at < 0 && r.column(c[5]) >= 0:
			r.columns = slices.Insert(r.columns, r.column(c[5])+1, column)
		default:
			t.Errorf("%s: %s: cannot %s column %s after %q", file, r.name, c[1], c[2], c[5])
		}
	}
}
