package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/sallyport-ci/sallyport/store/migrations"
	"github.com/sallyport-ci/sallyport/store/sqltoken"
)

// cluster makes of the statements for one server those for a ClickHouse cluster: each
// table T becomes T_local, replicated on the servers of a shard, and T itself is a
// Distributed table over all of them, so that everything that reads and inserts stays as
// it is. docs/clickhouse.md says what a cluster has to have, docs/exactly-once.md why an
// insert that is repeated still counts once.
type cluster struct {
	name, database string
}

// localSuffix is behind the name of the tables that hold the rows.
const localSuffix = "_local"

// versionTable is where goose notes what was applied.
const versionTable = "goose_db_version"

// Schema returns the statements that make all tables from nothing, as goose would run
// them; for a cluster if its name is not empty.
func Schema(database, clusterName string) ([]string, error) {
	statements := []string{"CREATE DATABASE IF NOT EXISTS " + identifier(database)}
	c := cluster{clusterName, database}
	if clusterName != "" {
		statements[0] += " ON CLUSTER " + identifier(clusterName)
		statements = append(statements, c.versionTable())
	}
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	for _, name := range names {
		parts, err := migrationStatements(name)
		if err != nil {
			return nil, err
		}
		for _, statement := range parts {
			if clusterName == "" {
				statements = append(statements, statement)
				continue
			}
			rendered, err := c.render(statement)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			statements = append(statements, rendered...)
		}
	}
	return statements, nil
}

// The marks of goose around a statement.
const (
	statementBegin = "-- +goose StatementBegin\n"
	statementEnd   = "-- +goose StatementEnd"
)

// migrationStatements returns the statements of a migration. A file that has anything
// between them is refused: it would be left out.
func migrationStatements(name string) ([]string, error) {
	text, err := migrations.Files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read migration: %w", err)
	}
	var out []string
	rest := string(text)
	for {
		before, after, found := strings.Cut(rest, statementBegin)
		if t, more := sqltoken.New(before, 0).Next(); more {
			return nil, fmt.Errorf("%s: %q stands outside of a statement", name, t.Text)
		}
		if !found {
			return out, nil
		}
		statement, after, ended := strings.Cut(after, statementEnd)
		if !ended {
			return nil, fmt.Errorf("%s: a statement has no end", name)
		}
		out, rest = append(out, strings.TrimSuffix(strings.TrimSpace(statement), ";")), after
	}
}

// files returns the migrations for the cluster.
func (c cluster) files() (fs.FS, error) {
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	out := fstest.MapFS{}
	for _, name := range names {
		statements, err := migrationStatements(name)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		b.WriteString("-- +goose Up\n")
		for _, statement := range statements {
			rendered, err := c.render(statement)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for _, r := range rendered {
				b.WriteString(statementBegin + r + ";\n" + statementEnd + "\n")
			}
		}
		out[name] = &fstest.MapFile{Data: []byte(b.String())}
	}
	return out, nil
}

func identifier(name string) string { return "`" + strings.ReplaceAll(name, "`", "\\`") + "`" }

func literal(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func (c cluster) on() string { return " ON CLUSTER " + identifier(c.name) }

// path is where the replicas of a table meet in Keeper. {shard} and {replica} are macros
// of each server.
func (c cluster) path(table string) string {
	return "'/clickhouse/tables/{shard}/" + c.database + "/" + table + "', '{replica}'"
}

// versionTable makes goose's table one on all servers, whatever shard they are of.
func (c cluster) versionTable() string {
	return "CREATE TABLE IF NOT EXISTS " + versionTable + c.on() + "\n(\n    version_id Int64,\n    is_applied UInt8,\n    date Date DEFAULT now(),\n" +
		"    tstamp DateTime DEFAULT now()\n)\nENGINE = ReplicatedMergeTree('/clickhouse/tables/all/" + c.database + "/" + versionTable + "', '{shard}-{replica}')\nORDER BY (date)"
}

// ddl is a statement cut into tokens.
type ddl struct {
	src    string
	tokens []sqltoken.Token
	at     int
}

func newDDL(src string) *ddl {
	d := &ddl{src: src}
	for lex := sqltoken.New(src, 0); ; {
		t, ok := lex.Next()
		if !ok {
			return d
		}
		d.tokens = append(d.tokens, t)
	}
}

// words moves behind these keywords, if they come next.
func (d *ddl) words(words string) bool {
	at := d.at
	for w := range strings.FieldsSeq(words) {
		if at >= len(d.tokens) || !d.tokens[at].Is(w) {
			return false
		}
		at++
	}
	d.at = at
	return true
}

// name moves behind a name and returns it, empty if there is none.
func (d *ddl) name() string {
	if d.at < len(d.tokens) && d.tokens[d.at].IsName() {
		d.at++
		return d.tokens[d.at-1].Text
	}
	return ""
}

// bracket moves behind a bracket that opens here and what it holds, and returns that with
// the brackets; empty if none opens.
func (d *ddl) bracket() string {
	if d.at >= len(d.tokens) || !d.tokens[d.at].IsPunct("(") {
		return ""
	}
	begin, depth := d.at, 0
	for ; d.at < len(d.tokens); d.at++ {
		if d.tokens[d.at].IsPunct("(") {
			depth++
		} else if d.tokens[d.at].IsPunct(")") {
			if depth--; depth == 0 {
				d.at++
				return d.src[d.tokens[begin].Start:d.tokens[d.at-1].End]
			}
		}
	}
	return ""
}

// rest is what has not been read.
func (d *ddl) rest() string {
	if d.at >= len(d.tokens) {
		return ""
	}
	return d.src[d.tokens[d.at].Start:]
}

// errStatement says that a migration holds a statement for which there is no rule.
var errStatement = errors.New("no rule makes this statement one for a cluster")

// render makes of a statement for one server those for a cluster.
func (c cluster) render(statement string) ([]string, error) {
	d := newDDL(statement)
	refused := func() ([]string, error) {
		return nil, fmt.Errorf("%w: %.60q", errStatement, statement)
	}
	switch {
	case d.words("CREATE TABLE IF NOT EXISTS"):
		return c.table(d)
	case d.words("ALTER TABLE"):
		return c.alter(d)
	case d.words("CREATE MATERIALIZED VIEW IF NOT EXISTS"): //nolint:misspell // SQL
		view := d.name()
		if view == "" || !d.words("TO") {
			return refused()
		}
		target := d.name()
		if target == "" || !d.words("AS") {
			return refused()
		}
		// Each server feeds its own rows into its own table.
		return []string{"CREATE MATERIALIZED VIEW IF NOT EXISTS " + view + c.on() + " TO " + target + localSuffix + "\nAS " + localTables(d.rest())}, nil //nolint:misspell // SQL
	case d.words("CREATE OR REPLACE VIEW"):
		view := d.name()
		if view == "" {
			return refused()
		}
		return []string{"CREATE OR REPLACE VIEW " + view + c.on() + "\n" + d.rest()}, nil
	case d.words("INSERT INTO"):
		// Rows from all shards to all shards, by the server that migrates.
		settings := " SETTINGS "
		for _, t := range d.tokens {
			if t.Is("SETTINGS") {
				settings = ", "
			}
		}
		return []string{statement + settings + "distributed_foreground_insert = 1, distributed_product_mode = 'global'"}, nil
	}
	return refused()
}

// table makes the table of the rows, and the one over all of them.
func (c cluster) table(d *ddl) ([]string, error) {
	table := d.name()
	columns := d.bracket()
	engine, args := "", ""
	if d.words("ENGINE") && d.at < len(d.tokens) && d.tokens[d.at].IsPunct("=") {
		d.at++
		engine = d.name()
		args = strings.TrimSpace(strings.Trim(d.bracket(), "()"))
	}
	if table == "" || columns == "" || !strings.HasSuffix(engine, "MergeTree") {
		return nil, fmt.Errorf("%w: %.60q", errStatement, d.src)
	}
	if args != "" {
		args = ", " + args
	}
	key, err := shardingKey(columns, d)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", table, err)
	}
	comment := ""
	for i := d.at; i+1 < len(d.tokens); i++ {
		if d.tokens[i].Is("COMMENT") && d.tokens[i+1].Kind == sqltoken.String {
			comment = "\nCOMMENT " + d.src[d.tokens[i+1].Start:d.tokens[i+1].End]
		}
	}
	return []string{
		"CREATE TABLE IF NOT EXISTS " + table + localSuffix + c.on() + "\n" + columns +
			"\nENGINE = Replicated" + engine + "(" + c.path(table) + args + ")\n" + replicated(d),
		"CREATE TABLE IF NOT EXISTS " + table + c.on() + " AS " + table + localSuffix +
			"\nENGINE = Distributed(" + literal(c.name) + ", " + literal(c.database) + ", " + literal(table+localSuffix) + ", " + key + ")" + comment,
	}, nil
}

// replicated is the rest of a table's statement with the settings that replicated tables
// have instead of others: tokens are kept for thirty days, as long as the stream keeps what
// may be inserted again.
func replicated(d *ddl) string {
	rest, begin := d.rest(), 0
	if d.at < len(d.tokens) {
		begin = d.tokens[d.at].Start
	}
	for i := d.at; i+2 < len(d.tokens); i++ {
		if d.tokens[i].Is("non_replicated_deduplication_window") {
			t := d.tokens[i]
			return rest[:t.Start-begin] + "replicated_deduplication_window = " + d.tokens[i+2].Text +
				", replicated_deduplication_window_seconds = 2592000" + rest[d.tokens[i+2].End-begin:]
		}
	}
	return rest
}

// shardingKey keeps the rows of one run, or what else belongs together, on one shard, and
// depends on the row alone: rows that are inserted again go where they went.
func shardingKey(columns string, d *ddl) (string, error) {
	names := columnNames(columns)
	for _, key := range [][]string{{"repository", "run_id"}, {"repository", "workflow", "job"}} {
		if !slices.ContainsFunc(key, func(k string) bool { return !slices.Contains(names, k) }) {
			return "cityHash64(" + strings.Join(key, ", ") + ")", nil
		}
	}
	rest := *d
	for ; rest.at < len(rest.tokens); rest.at++ {
		if rest.words("ORDER BY") {
			first := newDDL(strings.TrimPrefix(rest.bracket(), "("))
			if name := first.name(); name != "" {
				return "cityHash64(" + name + ")", nil
			}
		}
	}
	return "", errors.New("it has no columns by which its rows could be spread")
}

// columnNames are the names of the columns within the brackets of CREATE TABLE.
func columnNames(columns string) []string {
	var names []string
	depth, first := 0, false
	for lex := sqltoken.New(columns, 0); ; {
		t, ok := lex.Next()
		switch {
		case !ok:
			return names
		case t.IsPunct("("):
			depth++
			first = depth == 1
		case t.IsPunct(")"):
			depth--
		case t.IsPunct(",") && depth == 1:
			first = true
		case first && t.IsName():
			if !t.Is("INDEX") && !t.Is("CONSTRAINT") && !t.Is("PROJECTION") {
				names = append(names, t.Text)
			}
			first = false
		}
	}
}

// alter changes the tables of the rows, and the one over them as far as it has to know.
func (c cluster) alter(d *ddl) ([]string, error) {
	table := d.name()
	if table == "" {
		return nil, fmt.Errorf("%w: %.60q", errStatement, d.src)
	}
	commands := d.rest()
	out := []string{"ALTER TABLE " + table + localSuffix + c.on() + "\n    " + commands}
	var both []string
	for _, command := range split(commands) {
		k := newDDL(command)
		if k.words("MODIFY COLUMN") && k.name() != "" && k.words("CODEC") {
			continue // how rows are packed is the local table's matter
		}
		k.at = 0
		switch {
		case k.words("ADD COLUMN"), k.words("MODIFY COLUMN"), k.words("DROP COLUMN"), k.words("COMMENT COLUMN"), k.words("RENAME COLUMN"):
			both = append(both, command)
		case k.words("ADD INDEX"), k.words("DROP INDEX"), k.words("MATERIALIZE"), k.words("MODIFY TTL"), k.words("REMOVE TTL"), //nolint:misspell // SQL
			k.words("MODIFY SETTING"), k.words("ADD PROJECTION"), k.words("DROP PROJECTION"), k.words("MODIFY ORDER BY"):
		default:
			return nil, fmt.Errorf("%w: %.60q", errStatement, command)
		}
	}
	if len(both) > 0 {
		out = append(out, "ALTER TABLE "+table+c.on()+"\n    "+strings.Join(both, ",\n    "))
	}
	return out, nil
}

// split cuts at the commas that are not within brackets.
func split(s string) []string {
	var out []string
	depth, begin := 0, 0
	for lex := sqltoken.New(s, 0); ; {
		t, ok := lex.Next()
		switch {
		case !ok:
			return append(out, strings.TrimSpace(s[begin:]))
		case t.IsPunct("("):
			depth++
		case t.IsPunct(")"):
			depth--
		case t.IsPunct(",") && depth == 0:
			out, begin = append(out, strings.TrimSpace(s[begin:t.Start])), t.End
		}
	}
}

// localTables makes a query read the tables of its own server.
func localTables(query string) string {
	var b strings.Builder
	from, end := false, 0
	for lex := sqltoken.New(query, 0); ; {
		t, ok := lex.Next()
		if !ok {
			return b.String() + query[end:]
		}
		if from && t.IsName() {
			b.WriteString(query[end:t.Start] + t.Text + localSuffix)
			end = t.End
		}
		from = t.Is("FROM") || t.Is("JOIN")
	}
}

// versions is goose's notes, in the cluster's table.
type versions struct {
	database.Store
	create string
}

// CreateVersionTable implements goose's database.Store.
func (v versions) CreateVersionTable(ctx context.Context, db database.DBTxConn) error {
	if _, err := db.ExecContext(ctx, v.create); err != nil {
		return fmt.Errorf("create table %s: %w", versionTable, err)
	}
	return nil
}

// provider options and files of the migrations, for one server or for a cluster.
func (s *Store) migrations() (goose.Dialect, fs.FS, []goose.ProviderOption, error) {
	if s.cluster.name == "" {
		return goose.DialectClickHouse, migrations.Files, nil, nil
	}
	files, err := s.cluster.files()
	if err != nil {
		return "", nil, nil, err
	}
	inner, err := database.NewStore(database.DialectClickHouse, versionTable)
	if err != nil {
		return "", nil, nil, fmt.Errorf("make the store of versions: %w", err)
	}
	return "", files, []goose.ProviderOption{goose.WithStore(versions{inner, s.cluster.versionTable()})}, nil
}
