package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// inRun are the conditions for rows of a run and, if execution is not empty, of
// one execution of a job.
func inRun(repository, runID, execution string) conditions {
	var c conditions
	c.add("repository = {repository:String} AND run_id = {run:String}")
	c.bind("repository", repository)
	c.bind("run", runID)
	if execution != "" {
		c.add("execution_id = {execution:String}")
		c.bind("execution", execution)
	}
	return c
}

// Processes returns at most limit processes of a run after a cursor, in the order
// in which they started.
func (s *Store) Processes(ctx context.Context, repository, runID, execution string, after Cursor, limit int) (processes []*sallyportv1.RunProcess, next *Cursor, err error) {
	if !after.shaped(1, 1) {
		return nil, nil, fmt.Errorf("list processes: %w", ErrCursor)
	}
	c := inRun(repository, runID, execution)
	if !after.start() {
		c.add("(toUnixTimestamp64Nano(started_at), agent_id, process_id) > ({time:Int64}, {agent:String}, {process:UInt64})")
		c.bind("time", after.Time)
		c.bind("agent", after.Keys[0])
		c.bind("process", after.Numbers[0])
	}
	c.bind("limit", limit+1)
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.conn.Query(ctx, `SELECT agent_id, job, step, process_id, parent_process_id, pid, executable, arguments,
		arguments_truncated, working_directory, uid, started_at, standard_input_kind, standard_input_inode, standard_output_kind,
		standard_output_inode, argument_pipe_kind, argument_pipe_inode, ended_at, exit_code, signal
		FROM processes`+c.where()+` ORDER BY started_at, agent_id, process_id LIMIT {limit:UInt32}`, c.args...)
	if err != nil {
		return nil, nil, fmt.Errorf("list processes of run %s of %s: %w", runID, repository, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		p := new(sallyportv1.Process)
		r := &sallyportv1.RunProcess{Process: p}
		var started time.Time
		var ended *time.Time
		var in, out, arg descriptor
		var code, signal uint8
		if err := rows.Scan(&r.AgentId, &r.Job, &r.Step, &p.Id, &p.ParentId, &p.Pid, &p.Executable, &p.Arguments,
			&p.ArgumentsTruncated, &p.WorkingDirectory, &p.Uid, &started, &in.kind, &in.inode, &out.kind,
			&out.inode, &arg.kind, &arg.inode, &ended, &code, &signal); err != nil {
			return nil, nil, fmt.Errorf("read process of run %s of %s: %w", runID, repository, err)
		}
		p.StartTimeUnixNano = uint64(started.UnixNano())
		p.StandardInput, p.StandardOutput, p.ArgumentPipe = in.message(), out.message(), arg.message()
		r.EndedAt, r.ExitCode, r.Signal = stampOf(ended), uint32(code), uint32(signal)
		processes = append(processes, r)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("list processes of run %s of %s: %w", runID, repository, err)
	}
	if len(processes) > limit {
		processes = processes[:limit]
		last := processes[limit-1]
		next = &Cursor{Time: int64(last.Process.StartTimeUnixNano), Keys: []string{last.AgentId}, Numbers: []uint64{last.Process.Id}}
	}
	return processes, next, nil
}

// descriptor is a descriptor as the tables name it.
type descriptor struct {
	kind  string
	inode uint64
}

var descriptorKinds = map[string]sallyportv1.DescriptorKind{
	"file":   sallyportv1.DescriptorKind_DESCRIPTOR_KIND_FILE,
	"pipe":   sallyportv1.DescriptorKind_DESCRIPTOR_KIND_PIPE,
	"socket": sallyportv1.DescriptorKind_DESCRIPTOR_KIND_SOCKET,
	"device": sallyportv1.DescriptorKind_DESCRIPTOR_KIND_DEVICE,
}

func (d descriptor) message() *sallyportv1.Descriptor {
	kind, ok := descriptorKinds[d.kind]
	if !ok {
		return nil
	}
	return &sallyportv1.Descriptor{Kind: kind, Inode: d.inode}
}

// Destinations returns at most limit destinations of a run after a cursor, those
// with most bytes first.
func (s *Store) Destinations(ctx context.Context, repository, runID, execution string, after Cursor, limit int) (destinations []*sallyportv1.Destination, next *Cursor, err error) {
	if !after.shaped(5, 2) {
		return nil, nil, fmt.Errorf("list destinations: %w", ErrCursor)
	}
	c := inRun(repository, runID, execution)
	page := ""
	if !after.start() {
		// Bytes descend while names ascend, hence their complement.
		page = ` WHERE (bitNot(sent + received), job, step, program, target, port, protocol) >
			({order:UInt64}, {after_job:String}, {after_step:String}, {after_program:String}, {after_target:String}, {after_port:UInt64}, {after_protocol:String})`
		c.bind("order", after.Numbers[0])
		for i, name := range []string{"after_job", "after_step", "after_program", "after_target", "after_protocol"} {
			c.bind(name, after.Keys[i])
		}
		c.bind("after_port", after.Numbers[1])
	}
	c.bind("limit", limit+1)
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.conn.Query(ctx, `SELECT job, step, program, name, addresses, port, protocol, flows, sent, received, first
		FROM (
			SELECT job, step, program, if(domain = '', destination_address, domain) AS target, destination_port AS port, protocol,
				any(domain) AS name, groupUniqArray(64)(destination_address) AS addresses,
				count() AS flows, sum(bytes_sent) AS sent, sum(bytes_received) AS received, min(started_at) AS first
			FROM egress`+c.where()+`
			GROUP BY job, step, program, target, port, protocol
		)`+page+`
		ORDER BY bitNot(sent + received), job, step, program, target, port, protocol LIMIT {limit:UInt32}`, c.args...)
	if err != nil {
		return nil, nil, fmt.Errorf("list destinations of run %s of %s: %w", runID, repository, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		d := new(sallyportv1.Destination)
		var first time.Time
		var port uint16
		if err := rows.Scan(&d.Job, &d.Step, &d.Program, &d.Domain, &d.Addresses, &port, &d.Protocol,
			&d.Flows, &d.BytesSent, &d.BytesReceived, &first); err != nil {
			return nil, nil, fmt.Errorf("read destination of run %s of %s: %w", runID, repository, err)
		}
		d.Port, d.FirstSeen = uint32(port), stamp(first)
		destinations = append(destinations, d)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("list destinations of run %s of %s: %w", runID, repository, err)
	}
	if len(destinations) > limit {
		destinations = destinations[:limit]
		last := destinations[limit-1]
		target := last.Domain
		if target == "" {
			target = last.Addresses[0]
		}
		next = &Cursor{
			Keys:    []string{last.Job, last.Step, last.Program, target, last.Protocol},
			Numbers: []uint64{^(last.BytesSent + last.BytesReceived), uint64(last.Port)},
		}
	}
	return destinations, next, nil
}

// Refused says whether ClickHouse understood a statement and refused it, as
// opposed to not being there.
func Refused(err error) bool {
	var exception *clickhouse.Exception
	return errors.As(err, &exception)
}
