// Package sample fills a database with made-up rows as builds make them: as many as
// wanted, always the same, made by ClickHouse itself. Dashboards and queries are measured
// on them. The tables must exist and be empty.
package sample

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What a sample looks like.
const (
	// RowsOfRun is about how many rows an execution of a job has.
	RowsOfRun = 2500
	// Repositories, each with the jobs build, test and lint of workflow CI, and release
	// of workflow Release.
	Repositories = 50
	// Agents, one of which sees each run.
	Agents = 200
	// Span of the sample's time, up to its end.
	Span = 30 * 24 * time.Hour
)

// piece is how many rows one statement inserts.
const piece = 4_000_000

// share is a table with its part of the rows, in thousandths, and the columns besides
// those that all tables have.
type share struct {
	table   string
	part    uint64
	columns string // name = expression, one a line
}

// Fill inserts about rows rows, the last of which are of the time end. Progress, if not
// nil, hears of each statement.
func Fill(ctx context.Context, db *sql.DB, rows uint64, end time.Time, progress func(table string, rows uint64)) error {
	runs := max(rows/RowsOfRun, 1)
	insert := func(table, columns, expressions, from string, n uint64) error {
		query := fmt.Sprintf("INSERT INTO %s (%s)\nSELECT %s\nFROM %s\n"+
			"SETTINGS max_partitions_per_insert_block = 0, max_insert_threads = 2, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0",
			table, columns, expressions, from)
		if _, err := db.ExecContext(ctx, query); err != nil {
			return fmt.Errorf("fill %s: %w", table, err)
		}
		if progress != nil {
			progress(table, n)
		}
		return nil
	}
	for _, s := range shares {
		total := max(rows*s.part/1000, runs)
		perRun := max(total/runs, 1)
		columns, expressions := split(common + s.columns)
		for from := uint64(0); from < total; from += piece {
			n := min(piece, total-from)
			if err := insert(s.table, columns, expressions, source(from, n, perRun, runs, end), n); err != nil {
				return err
			}
		}
	}
	// Each job begins and ends.
	for _, kind := range []string{"started", "ended"} {
		columns, expressions := split(common + fmt.Sprintf("kind = '%s'\nreason = '%s'\nrun_number = r\n", kind, map[string]string{"ended": "worker_exited"}[kind]))
		if err := insert("job_events", columns, expressions, source(0, runs, 1, runs, end), runs); err != nil {
			return err
		}
	}
	return fillAgents(insert, end)
}

// source gives n numbers with what follows from them: r, the run; i, the row in the run;
// h, a hash of the row.
func source(from, n, perRun, runs uint64, end time.Time) string {
	step := uint64(Span) / runs
	return fmt.Sprintf(`(
	SELECT number AS n, least(intDiv(number, %d), %d) AS r, number %% %d AS i, cityHash64(number) AS h, cityHash64(r) AS hr,
		concat('example/repo-', leftPad(toString(r %% %d), 2, '0')) AS repository_of,
		['build', 'test', 'lint', 'release'][1 + intDiv(r, %d) %% 4] AS job_of,
		fromUnixTimestamp64Nano(toInt64(%d + r * %d + i * least(%d, 200000000))) AS at
	FROM numbers(%d, %d)
)`, perRun, runs-1, perRun, Repositories, Repositories, end.Add(-Span).UnixNano(), step, uint64(10*time.Minute)/perRun, from, n)
}

// split makes a list of columns and one of expressions of lines "column = expression".
func split(lines string) (columns, expressions string) {
	var c, e []string
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		name, expression, _ := strings.Cut(strings.TrimSpace(line), " = ")
		c, e = append(c, name), append(e, expression)
	}
	return strings.Join(c, ", "), strings.Join(e, ",\n\t")
}

const common = `agent_id = concat('agent-', toString(r % 200))
epoch = 1780000000000000000
sequence = n + 1
time = at
hostname = concat('runner-', toString(r % 200), '.example.test')
repository = repository_of
workflow = if(job_of = 'release', 'Release', 'CI')
run_id = toString(17000000000 + r)
run_attempt = 1
job = job_of
execution_id = lower(leftPad(hex(hr), 16, '0'))
step = concat('__run_', toString(1 + intDiv(i * 8, 2500) % 8))
action = if(h % 5 = 0, ['actions/checkout@v5', 'actions/setup-node@v4', 'example/deploy@v1'][1 + h % 3], '')
commit = lower(hex(MD5(toString(r))))
ref = 'refs/heads/main'
event = if(hr % 3 = 0, 'pull_request', 'push')
actor = concat('dev-', toString(hr % 30))
runner = concat('runner-', toString(r % 200))
process_id = intDiv(n, 2) + 1
parent_process_id = intDiv(n, 8)
pid = 1000 + i % 30000
`

const programs = `['node', 'bash', 'git', 'cc1', 'go', 'python3', 'curl', 'make', 'npm', 'tar', 'sed', 'cat', 'compile', 'link', 'docker', 'gzip']`

var shares = []share{
	{"process_events", 620, `executable = concat('/usr/bin/', ` + programs + `[1 + intDiv(h, 7) % 16])
program = ` + programs + `[1 + intDiv(h, 7) % 16]
parent_program = ` + programs + `[1 + intDiv(h, 3) % 4]
uid = 1001
kind = if(i % 2 = 0, 'executed', 'exited')
start_time = at
arguments = if(i % 2 = 0, [` + programs + `[1 + intDiv(h, 7) % 16], '-o', concat('out/', lower(hex(h % 5000)), '.o'), concat('src/', lower(hex(h % 5000)), '.c')], [])
working_directory = '/home/runner/work/repo/repo'
exit_code = if(h % 50 = 0, 1, 0)
`},
	{"flow_events", 280, `executable = concat('/usr/bin/', ` + programs + `[1 + hr % 7])
program = ['node', 'curl', 'git', 'npm', 'go', 'python3', 'docker'][1 + h % 7]
parent_program = 'bash'
uid = 1001
flow_id = intDiv(n, 2) + 1
phase = if(i % 2 = 0, 'started', 'ended')
protocol = if(h % 40 = 0, 'udp', 'tcp')
direction = 'outbound'
destination_address = toIPv6(concat('198.51.100.', toString(h % 250)))
destination_port = if(h % 30 = 0, 8443, 443)
domain = multiIf(intDiv(h, 11) % 400 = 0, '', intDiv(h, 11) % 97 = 0, concat('new-', toString(intDiv(r, 400) % 300), '.example.test'), concat(['registry', 'cache', 'code', 'api', 'objects', 'mirror', 'images', 'telemetry'][1 + intDiv(h, 11) % 8], if(intDiv(h, 11) % 8 < 5, '', toString(r % 50)), '.example.test'))
domain_source = 'process'
bytes_sent = if(i % 2 = 1, h % 20000, 0)
bytes_received = if(i % 2 = 1, h % 900000, 0)
start_time = at
outcome = if(i % 2 = 1, if(h % 200 = 1, 'refused', 'closed'), '')
rolled_up = true
`},
	{"dns", 80, `program = ['node', 'curl', 'git', 'npm'][1 + h % 4]
name = concat(['registry', 'cache', 'code', 'api', 'objects'][1 + h % 5], '.example.test')
type = if(h % 2 = 0, 'A', 'AAAA')
response_code = if(h % 300 = 0, 'NXDOMAIN', 'NOERROR')
duration_nano = h % 40000000
`},
	{"file_accesses", 15, `program = ['npm', 'aws', 'git', 'docker'][1 + h % 4]
operation = if(h % 3 = 0, 'written', 'read')
path = concat('/home/runner/', ['.npmrc', '.aws/credentials', '.docker/config.json', '.bashrc'][1 + h % 4])
rule = ['npm_token', 'aws_credentials', 'docker_login', 'shell_profile'][1 + h % 4]
category = ['credential', 'credential', 'credential', 'persistence'][1 + h % 4]
times = 1
`},
	{"http_requests", 4, `program = 'node'
method = ['GET', 'GET', 'GET', 'POST'][1 + h % 4]
host = 'api.github.com'
path = concat('/repos/example/repo/actions/runs/', toString(r))
version = '1.1'
library = 'node'
`},
	{"privileges", 1, `program = 'sudo'
kind = if(h % 2 = 0, 'gained', 'namespaces')
effective_uid_before = 1001
`},
}

// fillAgents adds what agents say of themselves, one word in ten minutes each, and
// findings: one for about thirty runs.
func fillAgents(insert func(table, columns, expressions, from string, n uint64) error, end time.Time) error {
	const words = uint64(Span / (10 * time.Minute))
	columns, expressions := split(`agent_id = concat('agent-', toString(a))
epoch = 1780000000000000000
sequence = w + 1
time = at
hostname = concat('runner-', toString(a), '.example.test')
version = if(a % 5 = 0, '0.4.0', '0.5.0')
kernel = if(a % 3 = 0, '6.1.0', '6.18.5')
events_seen = w * 40000
events_lost = map('processes', toUInt64(if(a = 7, w * 3, 0)), 'flows', toUInt64(if(a % 50 = 0, intDiv(w, 100), 0)))
batches_waiting = if(a % 40 = 0 AND w % 144 < 6, h % 30, 0)
previous_end = if(w = 0 AND a % 60 = 0, 'killed', '')
longest_pause_nano = h % 900000000
`)
	err := insert("agent_status", columns, expressions, fmt.Sprintf(`(
	SELECT number %% %d AS a, intDiv(number, %d) AS w, cityHash64(number) AS h, fromUnixTimestamp64Nano(toInt64(%d + w * %d)) AS at
	FROM numbers(%d)
)`, Agents, Agents, end.Add(-Span).UnixNano(), uint64(10*time.Minute), Agents*words), Agents*words)
	if err != nil {
		return err
	}
	const findings = 1500
	columns, expressions = split(without(common, "epoch", "sequence", "parent_process_id", "pid") + `id = lower(hex(MD5(toString(n))))
fingerprint = lower(hex(MD5(toString(n % 300))))
policy = ['new_endpoint', 'process_memory_read', 'pipe_to_interpreter', 'bare_address'][1 + h % 4]
title = ['New endpoint', 'Reading another process', 'Download piped into an interpreter', 'Egress to a bare address'][1 + h % 4]
severity = ['high', 'critical', 'medium', 'medium'][1 + h % 4]
class = if(h % 4 = 0, 'new_behaviour', 'threat')
technique = ['T1041', 'T1003.007', 'T1059', 'T1095'][1 + h % 4]
message = 'curl sent to collect.example.test port 443 (tcp), which none of the 9 clean runs of this job contacted'
behaviour = ['egress', 'process_access', 'pipe', 'egress'][1 + h % 4]
program = 'curl'
target = 'collect.example.test'
domain = 'collect.example.test'
port = 443
protocol = 'tcp'
baseline_stable = true
baseline_runs = 5 + h % 40
finding = '{}'
`)
	return insert("findings", columns, expressions, source(0, findings, 1, findings, end), findings)
}

// without leaves out the lines of columns that a table does not have.
func without(lines string, columns ...string) string {
	var out strings.Builder
	for line := range strings.Lines(lines) {
		name, _, _ := strings.Cut(line, " = ")
		if !slices.Contains(columns, name) {
			out.WriteString(line)
		}
	}
	return out.String()
}
