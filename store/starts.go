package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// identityTables are the tables whose rows carry the identity of an event.
var identityTables = []string{
	"process_events", "flow_events", "dns", "process_accesses", "file_accesses",
	"privileges", "executables", "http_requests", "job_events", "agent_status",
}

// StoredSequences returns which events of one start of an agent, from sequence first to
// last, any table has, in order.
func (s *Store) StoredSequences(ctx context.Context, agentID string, epoch, first, last uint64) ([]uint64, error) {
	parts := make([]string, len(identityTables))
	for i, t := range identityTables {
		parts[i] = "SELECT sequence FROM " + t + " WHERE agent_id = {agent:String} AND epoch = {epoch:UInt64} AND sequence BETWEEN {first:UInt64} AND {last:UInt64}"
	}
	var sequences []uint64
	err := s.conn.QueryRow(ctx, "SELECT arraySort(groupUniqArray(sequence)) FROM ("+strings.Join(parts, " UNION ALL ")+")",
		clickhouse.Named("agent", agentID), clickhouse.Named("epoch", epoch),
		clickhouse.Named("first", first), clickhouse.Named("last", last)).Scan(&sequences)
	if err != nil {
		return nil, fmt.Errorf("look for events %d to %d of agent %s, epoch %d: %w", first, last, agentID, epoch, err)
	}
	return sequences, nil
}

// HasStart says whether any table has an event of one start of an agent.
func (s *Store) HasStart(ctx context.Context, agentID string, epoch uint64) (bool, error) {
	parts := make([]string, len(identityTables))
	for i, t := range identityTables {
		parts[i] = "SELECT 1 FROM " + t + " WHERE agent_id = {agent:String} AND epoch = {epoch:UInt64} LIMIT 1"
	}
	var n uint64
	err := s.conn.QueryRow(ctx, "SELECT count() FROM ("+strings.Join(parts, " UNION ALL ")+")",
		clickhouse.Named("agent", agentID), clickhouse.Named("epoch", epoch)).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("look for events of agent %s, epoch %d: %w", agentID, epoch, err)
	}
	return n > 0, nil
}
