package engine

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

var (
	errConnect  = errors.New("open engine: the library refused the connection (its reason is on standard error)")
	errShutdown = errors.New("stop engine: some of its threads would not end")
	errNoResult = errors.New("the engine gave no result")
)

// A parameter is the value of one {name:Type} in a statement, in the escaped form of
// a TSV field, as the HTTP interface takes it.
type parameter struct{ name, value string }

// A summary counts what a statement did, for the X-ClickHouse-Summary header.
type summary struct {
	readRows, readBytes, writtenRows, writtenBytes, resultRows uint64
	elapsedSeconds                                             float64
}

// A connection is one session of the library. It runs one statement at a time; only
// one goroutine may use it at a time.
type connection struct {
	lib  *library
	ptr  uintptr // what chdb_connect returned, for closing
	conn uintptr // what it points at, for everything else
}

func (c *connection) close() {
	c.lib.closeFn(c.ptr)
	c.ptr, c.conn = 0, 0
}

// exec runs a statement to its end and returns its whole output.
func (c *connection) exec(query, format string, params []parameter) ([]byte, summary, error) {
	args := newArguments(query, format, params)
	res := c.lib.queryFn(c.conn, args.query, args.queryLen, args.format, args.formatLen,
		args.names, args.nameLens, args.values, args.valueLens, args.count)
	runtime.KeepAlive(args)
	return c.lib.take(res)
}

// classify asks the engine's parser what the statement would do, without running it.
func (c *connection) classify(query string) (analysis, error) {
	a := analysis{structSize: uint32(unsafe.Sizeof(analysis{}))}
	q := []byte(query)
	if len(q) == 0 {
		a.Class = classUnknown
		return a, nil
	}
	rc := c.lib.classifyFn(c.conn, unsafe.Pointer(&q[0]), uintptr(len(q)), nil, 0, &a)
	runtime.KeepAlive(q)
	if rc != 0 {
		return a, errors.New("classify statement: the engine refused")
	}
	return a, nil
}

// stream starts a statement whose output is fetched piece by piece.
func (c *connection) stream(query, format string, params []parameter) (*queryStream, error) {
	args := newArguments(query, format, params)
	h := c.lib.streamFn(c.conn, args.query, args.queryLen, args.format, args.formatLen,
		args.names, args.nameLens, args.values, args.valueLens, args.count)
	runtime.KeepAlive(args)
	if h == 0 {
		return nil, errNoResult
	}
	if msg := c.lib.errorFn(h); msg != "" {
		c.lib.destroyFn(h)
		return nil, newException(msg)
	}
	return &queryStream{conn: c, handle: h}, nil
}

// A queryStream is the output of a running statement. next and close must not run
// at the same time.
type queryStream struct {
	conn   *connection
	handle uintptr
	done   bool
	sum    summary
}

// next returns the next piece of output, nil at the end. The piece is a copy.
func (s *queryStream) next() ([]byte, error) {
	if s.done {
		return nil, nil
	}
	res := s.conn.lib.fetchFn(s.conn.conn, s.handle)
	data, sum, err := s.conn.lib.take(res)
	if err != nil {
		s.done = true
		return nil, err
	}
	s.sum.resultRows += sum.resultRows
	s.sum.readRows = max(s.sum.readRows, sum.readRows)
	s.sum.readBytes = max(s.sum.readBytes, sum.readBytes)
	if len(data) == 0 {
		s.done = true
		return nil, nil
	}
	return data, nil
}

// close ends the statement, cancelling it if it has not come to its end.
func (s *queryStream) close() {
	if !s.done {
		s.conn.lib.cancelQueryFn(s.conn.conn, s.handle)
		s.done = true
	}
	s.conn.lib.destroyFn(s.handle)
	s.handle = 0
}

// insert opens an insert stream. The statement carries no FORMAT clause and no data.
// The connection takes no other statement until the stream is closed.
func (c *connection) insert(query, format string, params []parameter) (*insertStream, error) {
	args := newArguments(query, format, params)
	h := c.lib.insertFn(c.conn, args.query, args.queryLen, args.format, args.formatLen,
		args.names, args.nameLens, args.values, args.valueLens, args.count)
	runtime.KeepAlive(args)
	if h == 0 {
		return nil, errNoResult
	}
	s := &insertStream{conn: c, handle: h}
	if err := s.failure(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// An insertStream takes the rows of one INSERT.
type insertStream struct {
	conn   *connection
	handle uintptr
}

// Write gives the engine the next piece; it copies it, and waits while the engine
// has enough to do. Pieces may end anywhere.
func (s *insertStream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if s.conn.lib.appendFn(s.handle, unsafe.Pointer(&p[0]), uintptr(len(p))) != 0 {
		if err := s.failure(); err != nil {
			return 0, err
		}
		return 0, errors.New("insert: the engine took no more data")
	}
	return len(p), nil
}

// finish ends the data and waits until the rows are in the table.
func (s *insertStream) finish() (summary, error) {
	_, sum, err := s.conn.lib.take(s.conn.lib.doneFn(s.handle))
	return sum, err
}

// cancel gives the insert up. Blocks that are in the table already stay there.
func (s *insertStream) cancel() { s.conn.lib.cancelInsertFn(s.handle) }

// close frees the stream; an unfinished one inserts no more.
func (s *insertStream) close() {
	s.conn.lib.destroyInsert(s.handle)
	s.handle = 0
}

func (s *insertStream) failure() error {
	if msg := s.conn.lib.insertErrorFn(s.handle); msg != "" {
		return newException(msg)
	}
	return nil
}

// take copies a result out of the library and frees it.
func (l *library) take(res uintptr) ([]byte, summary, error) {
	if res == 0 {
		return nil, summary{}, errNoResult
	}
	defer l.destroyFn(res)
	if msg := l.errorFn(res); msg != "" {
		return nil, summary{}, newException(msg)
	}
	sum := summary{
		readRows: l.storageRowsFn(res), readBytes: l.storageBytesFn(res),
		writtenRows: l.rowsWrittenFn(res), writtenBytes: l.bytesWrittenFn(res),
		resultRows: l.rowsReadFn(res), elapsedSeconds: l.elapsedFn(res),
	}
	n := l.lengthFn(res)
	if n == 0 {
		return nil, sum, nil
	}
	p := l.bufferFn(res)
	if p == nil {
		return nil, sum, fmt.Errorf("%w: %d bytes, but no buffer", errNoResult, n)
	}
	out := make([]byte, n)
	copy(out, unsafe.Slice((*byte)(p), n))
	return out, sum, nil
}

// arguments are a statement and its parameters as the library's functions take them.
type arguments struct {
	query, format                      unsafe.Pointer
	queryLen, formatLen, count         uintptr
	names, nameLens, values, valueLens unsafe.Pointer
	keep                               []any
}

func newArguments(query, format string, params []parameter) *arguments {
	a := &arguments{
		query: cString(query), queryLen: uintptr(len(query)),
		format: cString(format), formatLen: uintptr(len(format)),
		count: uintptr(len(params)),
	}
	if len(params) == 0 {
		return a
	}
	names, values := make([]unsafe.Pointer, len(params)), make([]unsafe.Pointer, len(params))
	nameLens, valueLens := make([]uintptr, len(params)), make([]uintptr, len(params))
	for i, p := range params {
		names[i], nameLens[i] = cString(p.name), uintptr(len(p.name))
		values[i], valueLens[i] = cString(p.value), uintptr(len(p.value))
	}
	a.names, a.nameLens = unsafe.Pointer(&names[0]), unsafe.Pointer(&nameLens[0])
	a.values, a.valueLens = unsafe.Pointer(&values[0]), unsafe.Pointer(&valueLens[0])
	a.keep = []any{names, nameLens, values, valueLens}
	return a
}
