package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Column is one column of rows to insert.
type Column struct {
	// Name of the column in the table.
	Name string
	// Type in which the values travel. ClickHouse casts them to the column's own:
	// String becomes LowCardinality(String) and Int8 becomes Enum8 faster there
	// than here.
	Type string
	// Values is a slice, one element a row.
	Values any
}

// Rows are rows of one table, kept column by column.
type Rows interface {
	// Table is the table's name.
	Table() string
	// Len is the number of rows.
	Len() int
	// Columns returns the columns, each Len() long. They are read until the
	// insert returns.
	Columns() []Column
	// Reset empties the rows and keeps their memory.
	Reset()
}

// ErrRefused is wrapped by errors of Insert that say that ClickHouse will never
// take these rows, however often it is asked. Every other error may pass.
var ErrRefused = errors.New("rows refused")

// ErrNoTable is wrapped by errors of Insert that say that the table is not there.
// Migrate makes it.
var ErrNoTable = errors.New("no such table")

// ErrHalfLost is wrapped by errors of Lost that say that ClickHouse lost the rows
// of one month and kept those of another.
var ErrHalfLost = errors.New("rows half lost")

const (
	unknownTable    = 60
	unknownDatabase = 81
)

// Codes of ClickHouse's exceptions that are about the rows, not about the server
// (src/Common/ErrorCodes.cpp). The list is short on purpose: an error that is not
// on it is tried again, and no row is lost over it.
var refusals = map[int32]string{
	6:   "CANNOT_PARSE_TEXT",
	12:  "PARAMETER_OUT_OF_BOUND",
	27:  "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
	33:  "CANNOT_READ_ALL_DATA",
	53:  "TYPE_MISMATCH",
	69:  "ARGUMENT_OUT_OF_BOUND",
	70:  "CANNOT_CONVERT_TYPE",
	117: "INCORRECT_DATA",
	128: "TOO_LARGE_ARRAY_SIZE",
	131: "TOO_LARGE_STRING_SIZE",
	321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
	349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
	407: "DECIMAL_OVERFLOW",
	469: "VIOLATED_CONSTRAINT",
	691: "UNKNOWN_ELEMENT_OF_ENUM",
}

// Insert inserts rows once for each token: if the table already took rows under
// this token, nothing happens, also after a restart of ClickHouse. A table
// remembers the tokens of its last 1000 inserts. An error wraps ErrRefused if it
// is useless to try again; after any other the rows may be there or not, and
// Insert with the same token settles it.
func (s *Store) Insert(ctx context.Context, token string, rows Rows) error {
	n := rows.Len()
	if n == 0 {
		return nil
	}
	columns := rows.Columns()
	var statement strings.Builder
	statement.WriteString("INSERT INTO " + rows.Table() + " (")
	types := make([]clickhouse.ColumnNameAndType, len(columns))
	for i, c := range columns {
		// The driver takes a column that is shorter, and inserts as many rows.
		if got := reflect.ValueOf(c.Values).Len(); got != n {
			return fmt.Errorf("insert %d rows into %s: column %s has %d values", n, rows.Table(), c.Name, got)
		}
		if i > 0 {
			statement.WriteString(", ")
		}
		statement.WriteString(c.Name)
		types[i] = clickhouse.ColumnNameAndType{Name: c.Name, Type: c.Type}
	}
	statement.WriteString(")")
	ctx = clickhouse.Context(ctx,
		clickhouse.WithColumnNamesAndTypes(types),
		clickhouse.WithSettings(clickhouse.Settings{
			"insert_deduplication_token":                         token,
			"deduplicate_blocks_in_dependent_materialized_views": 1, //nolint:misspell // ClickHouse's own name
		}))
	batch, err := s.conn.PrepareBatch(ctx, statement.String())
	if err != nil {
		return insertError(n, rows.Table(), err)
	}
	defer func() { _ = batch.Close() }() // after Send it does nothing
	for i, c := range columns {
		if err := appendColumn(batch.Column(i), c.Values); err != nil {
			return fmt.Errorf("insert %d rows into %s: append column %s: %w", n, rows.Table(), c.Name, err)
		}
	}
	if err := batch.Send(); err != nil {
		return insertError(n, rows.Table(), err)
	}
	return nil
}

func insertError(n int, table string, err error) error {
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		if exception.Code == unknownTable || exception.Code == unknownDatabase {
			return fmt.Errorf("insert %d rows into %s: %w: %w", n, table, ErrNoTable, err)
		}
		if _, refused := refusals[exception.Code]; refused {
			return fmt.Errorf("insert %d rows into %s: %w: %w", n, table, ErrRefused, err)
		}
	}
	return fmt.Errorf("insert %d rows into %s: %w", n, table, err)
}

// appendColumn appends rows of arrays one by one: the driver takes a slice of
// slices by reflection only.
func appendColumn(column interface {
	Append(any) error
	AppendRow(any) error
}, values any) error {
	switch v := values.(type) {
	case [][]string:
		for _, row := range v {
			if err := column.AppendRow(row); err != nil {
				return err
			}
		}
		return nil
	default:
		return column.Append(values)
	}
}

// KnownFindings returns which of the identities the table findings has already.
func (s *Store) KnownFindings(ctx context.Context, ids []string) (map[string]bool, error) {
	known := make(map[string]bool)
	if len(ids) == 0 {
		return known, nil
	}
	rows, err := s.conn.Query(ctx, "SELECT DISTINCT id FROM findings WHERE id IN {ids:Array(String)}",
		clickhouse.Named("ids", ids))
	if err != nil {
		return nil, fmt.Errorf("look for %d findings: %w", len(ids), err)
	}
	defer func() { _ = rows.Close() }() // rows.Err says what went wrong
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read identity of finding: %w", err)
		}
		known[id] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for %d findings: %w", len(ids), err)
	}
	return known, nil
}
