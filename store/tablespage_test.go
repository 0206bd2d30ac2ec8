package store

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/store/migrations"
)

var update = flag.Bool("update", false, "write docs/tables.md again")

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
` + "`runs`, `jobs`, `steps`, `processes`, `egress`" + `; the base tables have one row an event,
identified for ever by ` + "`(agent_id, epoch, sequence)`" + `. The same columns are there as
comments in ClickHouse (` + "`DESCRIBE egress`" + `). Times are in UTC. Conditions on
` + "`repository`, `workflow`, `job`, `run_id`" + `, in this order, make a question fast; a
condition on ` + "`time`" + ` leaves out whole months.

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
	createPattern = regexp.MustCompile(`(?s)CREATE (?:OR REPLACE )?(TABLE|VIEW) (?:IF NOT EXISTS )?(\w+)\n\(\n(.*?)\n\)\n(.*?);\n-- \+goose StatementEnd`)
	columnPattern = regexp.MustCompile(`(?m)^ {4}(\w+) (.+?) COMMENT '((?:[^']|'')*)'`)
	orderPattern  = regexp.MustCompile(`(?m)^ORDER BY \((.*)\)$`)
	aboutPattern  = regexp.MustCompile(`COMMENT '((?:[^']|'')*)'$`)
)

func tablesPage(t *testing.T) []byte {
	t.Helper()
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	var tables, views bytes.Buffer
	text := func(s string) string {
		s = strings.ReplaceAll(s, "''", "'")
		return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(s)
	}
	for _, name := range names {
		data, err := migrations.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range createPattern.FindAllStringSubmatch(string(data), -1) {
			out := &tables
			if m[1] == "VIEW" {
				out = &views
			}
			about := aboutPattern.FindStringSubmatch(m[4])
			if about == nil {
				t.Fatalf("%s: %s has no comment", name, m[2])
			}
			fmt.Fprintf(out, "\n### %s\n\n%s.\n", m[2], text(about[1]))
			if order := orderPattern.FindStringSubmatch(m[4]); order != nil {
				fmt.Fprintf(out, "Ordered by `%s`.\n", order[1])
			}
			fmt.Fprintf(out, "\n| column | type | what |\n|---|---|---|\n")
			columns := columnPattern.FindAllStringSubmatch(m[3], -1)
			for _, c := range columns {
				fmt.Fprintf(out, "| `%s` | `%s` | %s |\n", c[1], c[2], text(c[3]))
			}
			lines := 0
			for line := range strings.Lines(m[3]) {
				if !strings.HasPrefix(strings.TrimSpace(line), "INDEX ") {
					lines++
				}
			}
			if lines != len(columns) {
				t.Errorf("%s: %s: %d columns have a comment, of %d", name, m[2], len(columns), lines)
			}
		}
	}
	return []byte(tablesPageHead + "\n## Views\n" + views.String() + "\n## Base tables\n" + tables.String())
}
