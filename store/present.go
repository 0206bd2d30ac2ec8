package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// probe identifies one row of a part.
type probe struct {
	where string
	args  []any
}

// probed is implemented by rows that can be looked for in their table.
type probed interface {
	probes() []probe
}

// probes returns the first row of each month: an insert writes one part a month,
// and a part is there as a whole or not at all.
func (r *Identity) probes() []probe {
	var all []probe
	seen := make(map[int]bool)
	for i, t := range r.Time {
		month := monthOf(t)
		if seen[month] {
			continue
		}
		seen[month] = true
		all = append(all, probe{
			"agent_id = {agent:String} AND epoch = {epoch:UInt64} AND sequence = {sequence:UInt64} AND toYYYYMM(time) = {month:UInt32}",
			[]any{
				clickhouse.Named("agent", r.AgentID[i]), clickhouse.Named("epoch", r.Epoch[i]),
				clickhouse.Named("sequence", r.Sequence[i]), clickhouse.Named("month", uint32(month)),
			},
		})
	}
	return all
}

func (r *Findings) probes() []probe {
	var all []probe
	seen := make(map[int]bool)
	for i, t := range r.Time {
		month := monthOf(t)
		if seen[month] {
			continue
		}
		seen[month] = true
		all = append(all, probe{
			"id = {id:String} AND toYYYYMM(time) = {month:UInt32}",
			[]any{clickhouse.Named("id", r.ID[i]), clickhouse.Named("month", uint32(month))},
		})
	}
	return all
}

// monthOf is toYYYYMM, by which the tables are partitioned.
func monthOf(t time.Time) int {
	t = t.UTC()
	return t.Year()*100 + int(t.Month())
}

// Lost says whether rows that Insert reported as inserted are not in the table.
// ClickHouse notes a token down before it makes the rows visible; killed between
// the two, it takes a repeated insert for done. Ask after an insert that was
// repeated. Rows of several months are lost only if all months are: two partly
// visible ones cannot be mended by inserting again, and Lost returns an error.
func (s *Store) Lost(ctx context.Context, rows Rows) (bool, error) {
	p, ok := rows.(probed)
	if !ok {
		return false, nil
	}
	probes, missing := p.probes(), 0
	for _, probe := range probes {
		var n uint64
		err := s.conn.QueryRow(ctx, "SELECT count() FROM "+rows.Table()+" WHERE "+probe.where, probe.args...).Scan(&n)
		if err != nil {
			return false, fmt.Errorf("look for inserted rows in %s: %w", rows.Table(), err)
		}
		if n == 0 {
			missing++
		}
	}
	if missing > 0 && missing < len(probes) {
		return false, fmt.Errorf("look for inserted rows in %s: %w: %d of %d months have them", rows.Table(), ErrHalfLost,
			len(probes)-missing, len(probes))
	}
	return missing > 0, nil
}

// BaseOnly returns rows to insert again after Lost: the roll-ups leave them out. They
// have them of the insert before, which went on to them although the table itself held
// its rows for inserted.
func BaseOnly(rows Rows) Rows { return baseOnly{rows} }

type baseOnly struct{ Rows }

func (r baseOnly) Columns() []Column {
	columns := r.Rows.Columns()
	for i, c := range columns {
		if c.Name == "rolled_up" {
			columns[i].Values = make([]bool, r.Len())
		}
	}
	return columns
}
