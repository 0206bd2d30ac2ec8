package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// past is a table that History reads: which event its rows are, and what columns that are
// not called as the fields of the event's message are called there.
type past struct {
	table   string
	body    func(row map[string]any) protoreflect.ProtoMessage
	columns string            // after those that all tables have
	enums   []string          // of these columns
	fields  map[string]string // column to field; to "" for what is no field
}

// pasts are read in this order.
var pasts = []past{
	{
		table: "process_events", enums: []string{"kind", "standard_input_kind", "standard_output_kind", "argument_pipe_kind"},
		columns: `start_time, arguments, arguments_truncated, working_directory, standard_input_inode, standard_output_inode, argument_pipe_inode,
			exit_code, signal, gid, effective_uid, capabilities, script, executable_deleted, executable_in_memory, executable_inode, executable_device,
			executable_sha256, container_id, container_image, container_name, pod, pod_namespace, pod_labels`,
		body: func(row map[string]any) protoreflect.ProtoMessage {
			switch row["kind"] {
			case int8(1):
				return &sallyportv1.ProcessForked{}
			case int8(2):
				return &sallyportv1.ProcessExecuted{}
			}
			return &sallyportv1.ProcessExited{}
		},
	},
	{
		table: "flow_events", enums: []string{"direction", "phase", "domain_source", "application", "outcome"},
		columns: `flow_id, protocol, source_address, source_port, destination_address, destination_port, domain, server_name, encrypted_hello,
			bytes_sent, bytes_received, start_time`,
		body:   func(map[string]any) protoreflect.ProtoMessage { return &sallyportv1.Flow{} },
		fields: map[string]string{"flow_id": "id", "start_time": "start_time_unix_nano"},
	},
	{
		table: "dns", columns: "name, type, response_code, addresses, canonical_names, server_address, server_port, duration_nano",
		body: func(map[string]any) protoreflect.ProtoMessage { return &sallyportv1.DnsExchange{} },
	},
	{
		table: "process_accesses", enums: []string{"kind"}, columns: "target_process_id, target_pid, target_executable, target_is_worker",
		body: func(map[string]any) protoreflect.ProtoMessage { return &sallyportv1.ProcessAccess{} },
	},
	{
		table: "file_accesses", enums: []string{"operation"}, columns: "path, rule, category, times",
		body: func(map[string]any) protoreflect.ProtoMessage { return &sallyportv1.FileAccess{} },
	},
	{
		table: "privileges", enums: []string{"kind"}, columns: "capabilities, effective_uid_before, effective_uid, namespaces, signal, object",
		body: func(map[string]any) protoreflect.ProtoMessage { return &sallyportv1.PrivilegeUse{} },
	},
	{
		table: "http_requests", enums: []string{"library"}, columns: "method, host, path, version",
		body: func(map[string]any) protoreflect.ProtoMessage { return &sallyportv1.HttpRequest{} },
	},
	{
		table: "job_events", enums: []string{"kind", "reason"}, columns: "run_number, workflow_ref, ref_protected, survivors",
		body: func(row map[string]any) protoreflect.ProtoMessage {
			if row["kind"] == int8(1) {
				return &sallyportv1.JobStarted{}
			}
			return &sallyportv1.JobEnded{}
		},
	},
}

// History reads the jobs that ended in [from, to), of one repository or, if it is empty, of
// all, back from the tables, one after the other in the order in which they ended, and gives
// their events to each in batches as agents made them, and calls ended after each job. Sequences
// are counted anew: what other jobs did in between is not there. Of processes that started
// before the job, only what the rows of others say is known.
func (s *Store) History(ctx context.Context, repository string, from, to time.Time, each func(*sallyportv1.EventBatch) error, ended func()) error {
	jobs, err := s.pastJobs(ctx, repository, from, to)
	if err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	next := make(map[agentStart]uint64)
	for _, j := range jobs {
		batches, err := s.pastBatches(ctx, j)
		if err != nil {
			return fmt.Errorf("read history of execution %s: %w", j.id, err)
		}
		for _, b := range batches {
			start := agentStart{b.AgentId, b.Epoch}
			b.FirstSequence = next[start] + 1
			next[start] += uint64(len(b.Events))
			if err := each(b); err != nil {
				return err
			}
		}
		ended()
	}
	return nil
}

type agentStart struct {
	agent string
	epoch uint64
}

// pastJob is an execution of a job that ended.
type pastJob struct {
	id, repository string
	started, ended time.Time
}

func (s *Store) pastJobs(ctx context.Context, repository string, from, to time.Time) (jobs []pastJob, err error) {
	var c conditions
	c.add("execution_id != ''")
	// A job may have started up to five days before it ended (GitHub's limit for one on a
	// runner of one's own).
	c.add("time >= {from:DateTime64(9)} - INTERVAL 5 DAY AND time < {to:DateTime64(9)}")
	c.bind("from", from.UTC())
	c.bind("to", to.UTC())
	if repository != "" {
		c.add("repository = {repository:String}")
		c.bind("repository", repository)
	}
	rows, err := s.conn.Query(ctx, `SELECT execution_id, any(repository), min(time), maxIf(time, kind = 'ended') AS last
		FROM job_events`+c.where()+" GROUP BY execution_id HAVING countIf(kind = 'ended') > 0 AND last >= {from:DateTime64(9)} ORDER BY last, execution_id", c.args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var j pastJob
		if err := rows.Scan(&j.id, &j.repository, &j.started, &j.ended); err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, rows.Err()
}

// pastEvent is an event with the place that it had.
type pastEvent struct {
	start    agentStart
	sequence uint64
	event    *sallyportv1.Event
	row      map[string]any
}

// pastBatches reads one execution: a batch for each start of an agent.
func (s *Store) pastBatches(ctx context.Context, j pastJob) ([]*sallyportv1.EventBatch, error) {
	var events []pastEvent
	for _, p := range pasts {
		found, err := s.pastRows(ctx, j, p)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", p.table, err)
		}
		events = append(events, found...)
	}
	status, err := s.pastStatus(ctx, j, events)
	if err != nil {
		return nil, fmt.Errorf("table agent_status: %w", err)
	}
	events = append(events, status...)
	slices.SortFunc(events, func(a, b pastEvent) int {
		return cmp.Or(strings.Compare(a.start.agent, b.start.agent), cmp.Compare(a.start.epoch, b.start.epoch), cmp.Compare(a.sequence, b.sequence))
	})
	// What the job's own rows say holds for all of its rows.
	protected, workflowRef, runNumber := false, "", uint64(0)
	for _, e := range events {
		if p, ok := e.row["ref_protected"].(bool); ok {
			protected = protected || p
			workflowRef, _ = e.row["workflow_ref"].(string)
			n, _ := number(e.row["run_number"])
			runNumber = n
		}
	}
	var out []*sallyportv1.EventBatch
	var m *batchMaker
	for _, e := range events {
		if m == nil || m.start != e.start {
			m = newBatchMaker(e.start)
			out = append(out, m.batch)
		}
		a := attributionOf(e.row)
		if a != nil {
			a.RefProtected, a.WorkflowRef, a.RunNumber = protected, workflowRef, runNumber
		}
		m.add(e, a)
	}
	return out, nil
}

const pastColumns = `agent_id, epoch, sequence, time, hostname, repository, workflow, run_id, run_attempt, job, execution_id, step, action,
	commit, ref, event, actor, runner, process_id, parent_process_id, pid, executable, parent_program, uid`

func (s *Store) pastRows(ctx context.Context, j pastJob, p past) ([]pastEvent, error) {
	columns := pastColumns + ", " + p.columns
	for _, e := range p.enums {
		columns += fmt.Sprintf(", CAST(%s AS Int8) AS %s", e, e)
	}
	var c conditions
	c.add("repository = {repository:String} AND execution_id = {execution:String} AND time >= {from:DateTime64(9)} - INTERVAL 1 DAY AND time <= {to:DateTime64(9)} + INTERVAL 1 DAY")
	c.bind("repository", j.repository)
	c.bind("execution", j.id)
	c.bind("from", j.started.UTC())
	c.bind("to", j.ended.UTC())
	rows, err := s.pastQuery(ctx, "SELECT "+columns+" FROM (SELECT * FROM "+p.table+c.where()+")", c.args)
	if err != nil {
		return nil, err
	}
	out := make([]pastEvent, 0, len(rows))
	for _, row := range rows {
		body := p.body(row)
		if err := fill(body.ProtoReflect(), row, p.fields); err != nil {
			return nil, err
		}
		out = append(out, newPastEvent(row, body))
	}
	return out, nil
}

// pastStatus reads what the agents of a job said of themselves while it ran: whether they
// lost events.
func (s *Store) pastStatus(ctx context.Context, j pastJob, events []pastEvent) ([]pastEvent, error) {
	var starts []agentStart
	for _, e := range events {
		if !slices.Contains(starts, e.start) {
			starts = append(starts, e.start)
		}
	}
	var out []pastEvent
	for _, start := range starts {
		var c conditions
		c.add("agent_id = {agent:String} AND epoch = {epoch:UInt64} AND time >= {from:DateTime64(9)} AND time <= {to:DateTime64(9)} + INTERVAL 1 MINUTE")
		c.bind("agent", start.agent)
		c.bind("epoch", start.epoch)
		c.bind("from", j.started.UTC())
		c.bind("to", j.ended.UTC())
		rows, err := s.pastQuery(ctx, "SELECT agent_id, epoch, sequence, time, hostname, version, kernel, events_seen, events_lost, batches_waiting FROM agent_status"+c.where(), c.args)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			body := &sallyportv1.AgentStatus{}
			if err := fill(body.ProtoReflect(), row, nil); err != nil {
				return nil, err
			}
			out = append(out, newPastEvent(row, body))
		}
	}
	return out, nil
}

// pastQuery returns rows as values by column.
func (s *Store) pastQuery(ctx context.Context, statement string, args []any) (out []map[string]any, err error) {
	rows, err := s.conn.Query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, types := rows.Columns(), rows.ColumnTypes()
	for rows.Next() {
		values := make([]any, len(names))
		for i := range values {
			values[i] = reflect.New(types[i].ScanType()).Interface()
		}
		if err := rows.Scan(values...); err != nil {
			return nil, err
		}
		row := make(map[string]any, len(names))
		for i, n := range names {
			row[n] = reflect.ValueOf(values[i]).Elem().Interface()
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

func newPastEvent(row map[string]any, body protoreflect.ProtoMessage) pastEvent {
	e := &sallyportv1.Event{}
	t, _ := row["time"].(time.Time)
	e.TimeUnixNano = uint64(t.UnixNano())
	m := e.ProtoReflect()
	fields := m.Descriptor().Oneofs().ByName("body").Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.Message().FullName() == body.ProtoReflect().Descriptor().FullName() {
			m.Set(f, protoreflect.ValueOfMessage(body.ProtoReflect()))
		}
	}
	agent, _ := row["agent_id"].(string)
	epoch, _ := number(row["epoch"])
	sequence, _ := number(row["sequence"])
	return pastEvent{agentStart{agent, epoch}, sequence, e, row}
}

// fill sets the fields of a message that columns are named for.
func fill(m protoreflect.Message, row map[string]any, names map[string]string) error {
	for column, v := range row {
		name := column
		if n, ok := names[column]; ok {
			name = n
		}
		if name == "time" || name == "event" {
			continue
		}
		f := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil || f.Message() != nil && !f.IsMap() {
			continue
		}
		switch {
		case f.IsMap():
			counts, ok := v.(map[string]uint64)
			if !ok {
				return fmt.Errorf("column %s is %T", column, v)
			}
			for k, n := range counts {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString(k).MapKey(), protoreflect.ValueOfUint64(n))
			}
		case f.IsList():
			list := reflect.ValueOf(v)
			if list.Kind() != reflect.Slice {
				return fmt.Errorf("column %s is %T", column, v)
			}
			if f.Kind() == protoreflect.Uint32Kind {
				continue // indices of processes are made anew
			}
			for i := range list.Len() {
				x, err := scalar(f, list.Index(i).Interface())
				if err != nil {
					return fmt.Errorf("column %s: %w", column, err)
				}
				m.Mutable(f).List().Append(x)
			}
		default:
			x, err := scalar(f, v)
			if err != nil {
				return fmt.Errorf("column %s: %w", column, err)
			}
			m.Set(f, x)
		}
	}
	return nil
}

func scalar(f protoreflect.FieldDescriptor, v any) (protoreflect.Value, error) {
	switch f.Kind() {
	case protoreflect.StringKind:
		if s, ok := v.(string); ok {
			return protoreflect.ValueOfString(s), nil
		}
	case protoreflect.BoolKind:
		if b, ok := v.(bool); ok {
			return protoreflect.ValueOfBool(b), nil
		}
	case protoreflect.BytesKind:
		if ip, ok := v.(net.IP); ok {
			return protoreflect.ValueOfBytes(address(ip)), nil
		}
	case protoreflect.EnumKind:
		if name, ok := v.(string); ok { // protocols are kept by name
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(protocolOf(name))), nil
		}
		if n, ok := v.(int8); ok {
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n)), nil
		}
	case protoreflect.Uint32Kind:
		if n, ok := number(v); ok {
			return protoreflect.ValueOfUint32(uint32(n)), nil
		}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if t, ok := v.(time.Time); ok {
			return protoreflect.ValueOfUint64(uint64(t.UnixNano())), nil
		}
		if n, ok := number(v); ok {
			return protoreflect.ValueOfUint64(n), nil
		}
	default:
	}
	return protoreflect.Value{}, fmt.Errorf("%T is no %s", v, f.Kind())
}

func number(v any) (uint64, bool) {
	r := reflect.ValueOf(v)
	if !r.IsValid() || !r.CanUint() {
		return 0, false
	}
	return r.Uint(), true
}

// address undoes address16 of package ingest.
func address(ip net.IP) []byte {
	if ip.IsUnspecified() && ip.To4() == nil {
		return nil
	}
	if v4 := ip.To4(); v4 != nil {
		return v4
	}
	return ip
}

// protocolOf undoes Protocol.Name.
func protocolOf(name string) sallyportv1.Protocol {
	if n, ok := sallyportv1.Protocol_value["PROTOCOL_"+strings.ToUpper(name)]; ok {
		return sallyportv1.Protocol(n)
	}
	n, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return sallyportv1.Protocol_PROTOCOL_UNSPECIFIED
	}
	return sallyportv1.Protocol(n)
}

func columnText(row map[string]any, column string) string { s, _ := row[column].(string); return s }

// attributionOf is what a row says of the job; nil if it says nothing.
func attributionOf(row map[string]any) *sallyportv1.Attribution {
	if columnText(row, "execution_id") == "" {
		return nil
	}
	attempt, _ := number(row["run_attempt"])
	return &sallyportv1.Attribution{
		Repository: columnText(row, "repository"), Workflow: columnText(row, "workflow"), RunId: columnText(row, "run_id"), RunAttempt: uint32(attempt),
		Job: columnText(row, "job"), ExecutionId: columnText(row, "execution_id"), Step: columnText(row, "step"), Action: columnText(row, "action"),
		Commit: columnText(row, "commit"), Ref: columnText(row, "ref"), Event: columnText(row, "event"), Actor: columnText(row, "actor"), Runner: columnText(row, "runner"),
	}
}

// batchMaker puts events of one start of an agent back into a batch.
type batchMaker struct {
	start        agentStart
	batch        *sallyportv1.EventBatch
	attributions map[string]uint32
	processes    map[uint64]uint32
	complete     map[uint64]bool // processes whose start was seen
}

func newBatchMaker(start agentStart) *batchMaker {
	return &batchMaker{
		start: start, batch: &sallyportv1.EventBatch{AgentId: start.agent, Epoch: start.epoch},
		attributions: make(map[string]uint32), processes: make(map[uint64]uint32), complete: make(map[uint64]bool),
	}
}

func (m *batchMaker) add(p pastEvent, a *sallyportv1.Attribution) {
	e := p.event
	m.batch.Hostname = columnText(p.row, "hostname")
	if a != nil {
		key := a.String()
		if m.attributions[key] == 0 {
			m.batch.Attributions = append(m.batch.Attributions, a)
			m.attributions[key] = uint32(len(m.batch.Attributions))
		}
		e.Attribution = m.attributions[key]
	}
	e.Process = m.process(p.row)
	switch body := e.GetBody().(type) {
	case *sallyportv1.Event_ProcessAccess:
		if id, _ := number(p.row["target_process_id"]); id != 0 {
			pid, _ := number(p.row["target_pid"])
			body.ProcessAccess.Target = m.known(&sallyportv1.Process{Id: id, Pid: uint32(pid), Executable: columnText(p.row, "target_executable")})
		}
	case *sallyportv1.Event_JobEnded:
		survivors, _ := p.row["survivors"].([]uint64)
		for _, id := range survivors {
			body.JobEnded.Survivors = append(body.JobEnded.Survivors, m.known(&sallyportv1.Process{Id: id}))
		}
	}
	m.batch.Events = append(m.batch.Events, e)
}

// process returns the index of the process that a row is of, 0 if it is of none.
func (m *batchMaker) process(row map[string]any) uint32 {
	id, _ := number(row["process_id"])
	executable := columnText(row, "executable")
	if id == 0 && executable == "" {
		return 0
	}
	parent, _ := number(row["parent_process_id"])
	pid, _ := number(row["pid"])
	uid, _ := number(row["uid"])
	p := &sallyportv1.Process{Id: id, ParentId: parent, Pid: uint32(pid), Executable: executable, Uid: uint32(uid)}
	if t, ok := row["start_time"].(time.Time); ok && row["exit_code"] != nil {
		p.StartTimeUnixNano = uint64(t.UnixNano())
	}
	if parent != 0 && m.processes[parent] == 0 && columnText(row, "parent_program") != "" {
		m.known(&sallyportv1.Process{Id: parent, Executable: columnText(row, "parent_program")})
	}
	if row["kind"] == int8(2) && row["arguments"] != nil {
		m.started(p, row)
	}
	n := m.known(p)
	if at := m.batch.Processes[n-1]; m.complete[id] && at.GetArguments() == nil && p.GetArguments() != nil || at.GetPid() == 0 && p.GetPid() != 0 {
		m.batch.Processes[n-1] = p
	}
	return n
}

// started adds what is said of a process when its program starts.
func (m *batchMaker) started(p *sallyportv1.Process, row map[string]any) {
	// Every column is a field by its name, but for the ends of pipes and the container.
	if err := fill(p.ProtoReflect(), row, map[string]string{"start_time": "start_time_unix_nano"}); err != nil {
		return
	}
	for _, d := range []struct {
		column string
		to     **sallyportv1.Descriptor
	}{{"standard_input", &p.StandardInput}, {"standard_output", &p.StandardOutput}, {"argument_pipe", &p.ArgumentPipe}} {
		kind, _ := row[d.column+"_kind"].(int8)
		inode, _ := number(row[d.column+"_inode"])
		if kind != 0 || inode != 0 {
			*d.to = &sallyportv1.Descriptor{Kind: sallyportv1.DescriptorKind(kind), Inode: inode}
		}
	}
	if id := columnText(row, "container_id"); id != "" {
		p.Container = &sallyportv1.Container{
			Id: id, Image: columnText(row, "container_image"), Name: columnText(row, "container_name"), Pod: columnText(row, "pod"), PodNamespace: columnText(row, "pod_namespace"),
		}
		labels, _ := row["pod_labels"].([]string)
		for _, l := range labels {
			if p.Container.PodLabels == nil {
				p.Container.PodLabels = make(map[string]string, len(labels))
			}
			name, value, _ := strings.Cut(l, "=")
			p.Container.PodLabels[name] = value
		}
	}
	m.complete[p.GetId()] = true
}

// known returns the index of a process, adding it if it is not there.
func (m *batchMaker) known(p *sallyportv1.Process) uint32 {
	if n := m.processes[p.GetId()]; n != 0 && p.GetId() != 0 {
		return n
	}
	m.batch.Processes = append(m.batch.Processes, p)
	n := uint32(len(m.batch.Processes))
	if p.GetId() != 0 {
		m.processes[p.GetId()] = n
	}
	return n
}
