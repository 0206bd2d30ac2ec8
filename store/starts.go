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
