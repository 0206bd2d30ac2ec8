package store

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"

	"github.com/sallyport-ci/sallyport/store/migrations"
)

// text returns the answer to a query of one value.
func text(t *testing.T, s *Store, query string) string {
	t.Helper()
	var answer string
	if err := s.conn.QueryRow(t.Context(), "SELECT toString(("+query+"))").Scan(&answer); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

// checkRollUp compares the roll-up of egress with flow_events.
func checkRollUp(t *testing.T, s *Store, what string) {
	t.Helper()
	base := text(t, s, `SELECT arraySort(groupArray((d, j, n, sent, received, first, last, r))) FROM (
		SELECT toDate(e.time, 'UTC') AS d, job AS j, countIf(phase = 'started') AS n, sum(bytes_sent) AS sent, sum(bytes_received) AS received,
			min(e.time) AS first, max(e.time) AS last, uniqExact(run_id) AS r
		FROM flow_events AS e WHERE direction = 'outbound' AND phase != 'used' GROUP BY d, j)`)
	rollUp := text(t, s, `SELECT arraySort(groupArray((d, j, n, sent, received, first, last, r))) FROM (
		SELECT day AS d, job AS j, sum(connections) AS n, sum(bytes_sent) AS sent, sum(bytes_received) AS received,
			min(first_seen) AS first, max(last_seen) AS last, uniqMerge(runs) AS r
		FROM egress_days GROUP BY d, j)`)
	if base != rollUp {
		t.Errorf("%s:\nflow_events %s\nroll-up     %s", what, base, rollUp)
	}
	if base == "[]" {
		t.Errorf("%s: no rows: that was no test", what)
	}
}

// flow is what the tests say of a row of flow_events; the rest is the same in all.
type flow struct {
	time                                        time.Time
	repository, job, run, step, action, program string
	domain                                      string
	address                                     byte // the last of 203.0.113.x
	id                                          uint64
	phase, direction                            int8
	sent, received                              uint64
}

const (
	started = 1
	ended   = 3
	used    = 5
)

func flowRows(flows ...flow) *FlowEvents {
	r := new(FlowEvents)
	for i, f := range flows {
		if f.direction == 0 {
			f.direction = 1
		}
		r.AgentID, r.Epoch, r.Sequence = append(r.AgentID, "agent"), append(r.Epoch, 1), append(r.Sequence, uint64(i+1))
		r.Time, r.Hostname = append(r.Time, f.time), append(r.Hostname, "host")
		r.Repository, r.Workflow = append(r.Repository, f.repository), append(r.Workflow, "ci")
		r.RunID, r.RunAttempt = append(r.RunID, f.run), append(r.RunAttempt, 1)
		r.Job, r.ExecutionID = append(r.Job, f.job), append(r.ExecutionID, "e"+f.run)
		r.Step, r.Action = append(r.Step, f.step), append(r.Action, f.action)
		r.Commit, r.Ref = append(r.Commit, "c"), append(r.Ref, "refs/heads/main")
		r.Event, r.Actor, r.Runner = append(r.Event, "push"), append(r.Actor, "octo"), append(r.Runner, "runner")
		r.ProcessID, r.ParentProcessID = append(r.ProcessID, 7), append(r.ParentProcessID, 6)
		r.PID, r.UID = append(r.PID, 1000), append(r.UID, 1001)
		r.Executable, r.Program = append(r.Executable, "/usr/bin/"+f.program), append(r.Program, f.program)
		r.ParentProgram = append(r.ParentProgram, "bash")
		r.FlowID, r.Direction, r.Phase = append(r.FlowID, f.id), append(r.Direction, f.direction), append(r.Phase, f.phase)
		r.Protocol = append(r.Protocol, "tcp")
		r.SourceAddress, r.SourcePort = append(r.SourceAddress, [16]byte{}), append(r.SourcePort, 40000)
		r.DestinationAddress = append(r.DestinationAddress, [16]byte{10: 255, 11: 255, 12: 203, 13: 0, 14: 113, 15: f.address})
		r.DestinationPort = append(r.DestinationPort, 443)
		r.Domain, r.DomainSource = append(r.Domain, f.domain), append(r.DomainSource, 1)
		r.ServerName, r.Application = append(r.ServerName, ""), append(r.Application, 0)
		r.EncryptedHello = append(r.EncryptedHello, false)
		r.BytesSent, r.BytesReceived = append(r.BytesSent, f.sent), append(r.BytesReceived, f.received)
		r.StartTime, r.Outcome = append(r.StartTime, f.time), append(r.Outcome, 0)
	}
	return r
}

// someFlows is a range across midnight at the end of a month.
func someFlows() *FlowEvents {
	night := time.Date(2026, 10, 31, 23, 59, 59, 0, time.UTC)
	a := flow{time: night, repository: "example/app", job: "build", run: "1", program: "curl", domain: "pkg.example.test", address: 1, id: 1, phase: started, sent: 100}
	b := a
	b.time, b.phase, b.sent, b.received = night.Add(2*time.Second), ended, 30, 4000
	other := a
	other.domain, other.address, other.id, other.run = "", 2, 2, "2"
	shared := a
	shared.phase, shared.sent, shared.program = used, 999, "tee"
	in := a
	in.direction, in.id = 2, 3
	return flowRows(a, b, other, shared, in)
}

func TestRollUpOncePerToken(t *testing.T) {
	s := open(t)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"one", "one", "two", "one", "two"} {
		if err := s.Insert(t.Context(), token, someFlows()); err != nil {
			t.Fatal(err)
		}
		checkRollUp(t, s, "after token "+token)
	}
	got := text(t, s, `SELECT arraySort(groupArray((day, endpoint, addresses, connections, bytes_sent, bytes_received, runs))) FROM egress_by_day`)
	want := `[('2026-10-31','203.0.113.2',['203.0.113.2'],2,200,0,1),('2026-10-31','pkg.example.test',['203.0.113.1'],2,200,0,1),` +
		`('2026-11-01','pkg.example.test',['203.0.113.1'],0,60,8000,1)]`
	if got != want {
		t.Errorf("egress_by_day is\n%s, want\n%s", got, want)
	}
	// Killed between the two inserts: flow_events has the rows, the roll-up has not.
	if err := s.conn.Exec(t.Context(), "TRUNCATE TABLE egress_days"); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"one", "two", "one"} {
		if err := s.Insert(t.Context(), token, someFlows()); err != nil {
			t.Fatal(err)
		}
	}
	checkRollUp(t, s, "after the roll-up lost what flow_events had")
	// And the other way round: flow_events noted the token and lost the rows.
	exec(t, s, "ALTER TABLE flow_events DELETE WHERE 1 SETTINGS mutations_sync = 1")
	exec(t, s, "TRUNCATE TABLE egress_days")
	rows := someFlows()
	if err := s.Insert(t.Context(), "one", rows); err != nil {
		t.Fatal(err)
	}
	if lost, err := s.Lost(t.Context(), rows); err != nil || !lost {
		t.Fatalf("lost is %t, %v, want true", lost, err)
	}
	for range 2 {
		if err := s.Insert(t.Context(), "one.again", BaseOnly(rows)); err != nil {
			t.Fatal(err)
		}
	}
	checkRollUp(t, s, "after flow_events lost what the roll-up had")
}

func migrateTo(t *testing.T, s *Store, version int64) {
	t.Helper()
	if err := s.createDatabase(t.Context()); err != nil {
		t.Fatal(err)
	}
	options := s.options
	db := clickhouse.OpenDB(&options)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectClickHouse, db, migrations.Files, goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, s *Store, statement string) {
	t.Helper()
	if err := s.conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// oldFlows are flows as the first version had them.
const oldFlows = `INSERT INTO flow_events
	(agent_id, epoch, sequence, time, repository, workflow, run_id, job, execution_id, program, flow_id, phase, protocol,
	destination_address, destination_port, domain, bytes_sent, bytes_received, start_time)
	SELECT 'old', 1, number + 1, toDateTime64('2026-01-31 22:00:00', 9, 'UTC') + number * 600, 'example/app', 'ci', toString(intDiv(number, 7)),
		['build', 'test'][1 + number % 2], 'x', 'curl', intDiv(number, 3) + 1, ['started', 'active', 'ended'][1 + number % 3], 'tcp',
		'::ffff:203.0.113.9', 443, ['', 'a.example.test', 'b.example.test'][1 + number % 3], number, 2 * number,
		toDateTime64('2026-01-31 22:00:00', 9, 'UTC')
	FROM numbers(60)`

// TestRollUpMigrationCutOff cuts migration 6 off behind each of its statements, lets rows
// come in, and runs it again.
func TestRollUpMigrationCutOff(t *testing.T) {
	data, err := migrations.Files.ReadFile("00006_rollups.sql")
	if err != nil {
		t.Fatal(err)
	}
	statements := statementPattern.FindAllStringSubmatch(string(data), -1)
	last := slices.IndexFunc(statements, func(m []string) bool { return strings.HasPrefix(m[1], "INSERT INTO") })
	if last < 0 {
		t.Fatal("no INSERT in the migration")
	}
	for cut := range last + 2 { // what comes behind the INSERT makes tables and views only
		t.Run(strconv.Itoa(cut), func(t *testing.T) {
			s := open(t)
			migrateTo(t, s, 5)
			exec(t, s, oldFlows)
			fed := false
			for _, statement := range statements[:cut] {
				exec(t, s, statement[1])
				fed = fed || strings.Contains(statement[1], " egress_days_feed TO egress_days\n")
			}
			if fed { // another process may be through with the migration and insert
				if err := s.Insert(t.Context(), "new", someFlows()); err != nil {
					t.Fatal(err)
				}
			}
			if cut > last { // killed when one month was there, and the other was not
				exec(t, s, "ALTER TABLE egress_days DROP PARTITION 202601")
			}
			for range 2 {
				if err := s.Migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
				checkRollUp(t, s, "migrated")
				if err := s.Insert(t.Context(), "new", someFlows()); err != nil {
					t.Fatal(err)
				}
				checkRollUp(t, s, "migrated and inserted")
				exec(t, s, "TRUNCATE TABLE goose_db_version")
			}
		})
	}
}

func list(t *testing.T, s *Store, query string) []string {
	t.Helper()
	rows, err := s.conn.Query(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
