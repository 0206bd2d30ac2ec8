package grafana

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/test/sample"
)

var update = flag.Bool("update", false, "write the dashboards' files")

func TestMain(m *testing.M) { enginetest.Main(m) }

// end is when the samples end.
var end = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// TestFiles holds the files that Grafana reads to what is written here, and to what
// Grafana needs.
func TestFiles(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Dashboards() {
		want, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("provisioning", "dashboards", d.UID+".json")
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is out of date: go generate ./deployments/grafana", file)
		}
		if seen[d.UID] || len(d.UID) > 40 || d.Title == "" || d.Description == "" || d.From == "" {
			t.Errorf("dashboard %q: UID twice or too long, or no title, description or time", d.UID)
		}
		seen[d.UID] = true
		var written struct {
			Panels []struct {
				ID      int
				Title   string
				GridPos struct{ X, Y, W, H int }
			}
		}
		if err := json.Unmarshal(got, &written); err != nil {
			t.Fatal(err)
		}
		for i, p := range written.Panels {
			g := p.GridPos
			if p.ID != i+1 || g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s: panel %q is at %+v", d.UID, p.Title, g)
			}
			for _, q := range written.Panels[:i] {
				if o := q.GridPos; g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
					t.Errorf("%s: panels %q and %q lie on each other", d.UID, p.Title, q.Title)
				}
			}
		}
		for _, p := range d.Panels {
			if p.Title == "" || p.Description == "" {
				t.Errorf("%s: a panel has no title or no description: %+v", d.UID, p)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join("provisioning", "dashboards", "*.json"))
	if err != nil || len(files) != len(Dashboards()) {
		t.Errorf("%d files for %d dashboards: %v", len(files), len(Dashboards()), err)
	}
}

// filled returns the name of a database with about rows rows.
func filled(tb testing.TB, rows uint64) string {
	tb.Helper()
	e := enginetest.Start(tb)
	name, _ := e.Database(tb)
	s, err := store.Open(tb.Context(), e.DatabaseDSN(name))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	db := openSQL(tb, e.DatabaseDSN(name))
	if err := sample.Fill(tb.Context(), db, rows, end, nil); err != nil {
		tb.Fatal(err)
	}
	return name
}

func openSQL(tb testing.TB, dsn string) *sql.DB {
	tb.Helper()
	o, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	o.Protocol, o.ReadTimeout = clickhouse.HTTP, 10*time.Minute
	db := clickhouse.OpenDB(o)
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// answer is what ClickHouse says in the format JSONCompact.
type answer struct {
	Meta []struct{ Name, Type string }
	Data [][]any
	Rows int
}

// ask sends a query as the reader.
func ask(tb testing.TB, database, query string) (answer, time.Duration) {
	tb.Helper()
	dsn := strings.TrimSuffix(enginetest.Start(tb).ReadOnlyDSN(), "/default") + "/?database=" + database
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, dsn, strings.NewReader(query+"\nFORMAT JSONCompact"))
	if err != nil {
		tb.Fatal(err)
	}
	began := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	took := time.Since(began)
	if response.StatusCode != http.StatusOK {
		tb.Fatalf("%s\n%s: %s", query, response.Status, body)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		tb.Fatalf("%s\n%v", query, err)
	}
	return a, took
}

// chosen is what a person sees first of a dashboard: its time, all values of variables of
// which several may be chosen, and the first value of others.
func chosen(tb testing.TB, database string, d Dashboard) Choice {
	tb.Helper()
	back, ok := strings.CutPrefix(d.From, "now-")
	unit := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour}[back[len(back)-1]]
	n, err := strconv.Atoi(back[:len(back)-1])
	if !ok || unit == 0 || err != nil {
		tb.Fatalf("%s: time %q", d.UID, d.From)
	}
	span := time.Duration(n) * unit
	c := Choice{From: end.Add(-span), To: end, Interval: span / 300, Values: map[string][]string{}}
	for _, v := range d.Variables {
		query, err := Expand(v.Query, c)
		if err != nil {
			tb.Fatalf("%s: variable %s: %v", d.UID, v.Name, err)
		}
		a, took := ask(tb, database, query)
		if len(a.Meta) != 1 || a.Rows == 0 {
			tb.Fatalf("%s: variable %s has %d columns and %d rows", d.UID, v.Name, len(a.Meta), a.Rows)
		}
		if took > time.Second {
			tb.Errorf("%s: variable %s took %s", d.UID, v.Name, took)
		}
		if !v.Several {
			c.Values[v.Name] = []string{fmt.Sprint(a.Data[0][0])}
		}
	}
	return c
}

var errNoRows = errors.New("no rows")

// fits checks that an answer is what a panel can show.
func fits(p Panel, a answer) error {
	number := func(i int) bool {
		kind := a.Meta[i].Type
		return strings.HasPrefix(kind, "UInt") || strings.HasPrefix(kind, "Int") || strings.HasPrefix(kind, "Float") ||
			strings.HasPrefix(kind, "Nullable(Float")
	}
	switch p.Kind {
	case Stat:
		if len(a.Meta) != 1 || a.Rows != 1 || !number(0) {
			return fmt.Errorf("one number is needed, there are %v in %d rows", a.Meta, a.Rows)
		}
	case TimeSeries:
		if len(a.Meta) < 2 || !strings.HasPrefix(a.Meta[0].Type, "DateTime") {
			return fmt.Errorf("a time and numbers are needed, there are %v", a.Meta)
		}
		texts := 0
		for i := range a.Meta[1:] {
			if !number(i + 1) {
				texts++
			}
		}
		if texts > 1 || texts == len(a.Meta)-1 {
			return fmt.Errorf("numbers and at most one name of a series are needed, there are %v", a.Meta)
		}
		if !slices.IsSortedFunc(a.Data, func(x, y []any) int { return strings.Compare(fmt.Sprint(x[0]), fmt.Sprint(y[0])) }) {
			return fmt.Errorf("the times are not in order")
		}
	case Table:
		names := map[string]bool{}
		for _, m := range a.Meta {
			if names[m.Name] || strings.ContainsAny(m.Name, "(). ") {
				return fmt.Errorf("column %q is there twice or has no name", m.Name)
			}
			names[m.Name] = true
		}
		if p.Run && (!names["run_id"] || !names["repository"]) {
			return fmt.Errorf("the link to the run needs run_id and repository, there are %v", a.Meta)
		}
	default:
		return fmt.Errorf("no such kind of panel: %s", p.Kind)
	}
	if a.Rows == 0 {
		return errNoRows
	}
	return nil
}

// TestPanels asks every panel's query, as it is shown at first and with one repository
// chosen, and looks whether the panel can show the answer.
func TestPanels(t *testing.T) {
	database := filled(t, 300_000)
	for _, d := range Dashboards() {
		c := chosen(t, database, d)
		for i, p := range d.Panels {
			t.Run(fmt.Sprintf("%s/%d", d.UID, i+1), func(t *testing.T) {
				query, err := Expand(p.Query, c)
				if err != nil {
					t.Fatal(err)
				}
				a, _ := ask(t, database, query)
				if err := fits(p, a); err != nil {
					t.Errorf("%s: %s: %v\n%s", d.Title, p.Title, err, query)
				}
				narrow := c
				narrow.Values = map[string][]string{"repository": {"example/repo-07", "it's"}, "hostname": {"runner-7.example.test"}, "run_id": c.Values["run_id"]}
				if d.UID == runUID {
					narrow.Values["repository"] = []string{"it's"}
				}
				if query, err = Expand(p.Query, narrow); err != nil {
					t.Fatal(err)
				}
				if a, _ := ask(t, database, query); p.Kind == Stat && a.Rows != 1 {
					t.Errorf("%s: %s, of one: %d rows", d.Title, p.Title, a.Rows)
				}
			})
		}
	}
}

// TestExpand: what nobody knows is an error, not a query.
func TestExpand(t *testing.T) {
	c := Choice{From: end.Add(-time.Hour), To: end, Interval: time.Minute, Values: map[string][]string{"x": {"a'b"}}}
	for query, want := range map[string]string{
		"$__timeFilter(time)":                                  "time >= toDateTime(1795172400) AND time <= toDateTime(1795176000)",
		"$__dateFilter(day)":                                   "day >= toDate('2026-11-20') AND day <= toDate('2026-11-20')",
		"$__timeInterval(time)":                                "toStartOfInterval(toDateTime(time), INTERVAL 60 second)",
		"a > $__fromTime AND b":                                "a > toDateTime(1795172400) AND b",
		"$__conditionalAll(f(x, y) IN (${x:singlequote}), $x)": `f(x, y) IN ('a\'b')`,
		"$__conditionalAll(y IN (${y:singlequote}), $y) AND z": "1=1 AND z",
		"${y:singlequote}":                                     "",
		"${x:csv}":                                             "",
		"$__unknown(x)":                                        "",
		"$__conditionalAll(x":                                  "",
	} {
		got, err := Expand(query, c)
		if (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%s becomes %q, %v; want %q", query, got, err, want)
		}
	}
}

// TestTenMillionRows: over ten million rows every panel answers within a second.
func TestTenMillionRows(t *testing.T) {
	database := filled(t, 10_000_000)
	for _, d := range Dashboards() {
		c := chosen(t, database, d)
		for _, p := range d.Panels {
			query, err := Expand(p.Query, c)
			if err != nil {
				t.Fatal(err)
			}
			best := time.Hour // of three: other tests run beside
			for range 3 {
				a, took := ask(t, database, query)
				if err := fits(p, a); err != nil && !errors.Is(err, errNoRows) { // TestPanels wants rows
					t.Errorf("%s: %s: %v", d.Title, p.Title, err)
				}
				best = min(best, took)
			}
			if best > time.Second {
				t.Errorf("%s: %s took %s\n%s", d.Title, p.Title, best, query)
			}
		}
	}
}

// BenchmarkDashboards fills a database with SALLYPORT_ROWS rows (ten million by default)
// and measures each panel's query, the slowest of three. BenchmarkStored beside ingest
// measures what inserting costs then.
func BenchmarkDashboards(b *testing.B) {
	rows := uint64(10_000_000)
	if s := os.Getenv("SALLYPORT_ROWS"); s != "" {
		var err error
		if rows, err = strconv.ParseUint(s, 10, 40); err != nil {
			b.Fatal(err)
		}
	}
	began := time.Now()
	database := filled(b, rows)
	fmt.Printf("%d rows made in %s\n", rows, time.Since(began).Round(time.Second))
	slowest, slow := time.Duration(0), 0
	for _, d := range Dashboards() {
		c := chosen(b, database, d)
		for _, p := range d.Panels {
			query, err := Expand(p.Query, c)
			if err != nil {
				b.Fatal(err)
			}
			worst := time.Duration(0)
			for range 3 {
				_, took := ask(b, database, query)
				worst = max(worst, took)
			}
			fmt.Printf("%8.3f s  %s: %s\n", worst.Seconds(), d.Title, p.Title)
			if worst > time.Second {
				slow++
			}
			slowest = max(slowest, worst)
		}
	}
	b.ReportMetric(slowest.Seconds(), "s/slowest")
	b.ReportMetric(float64(slow), "over-a-second")
	b.ReportMetric(0, "ns/op")
}
