package engine

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// A library is a loaded libchdb: its C functions as Go functions. It is loaded once
// in the life of a process and never unloaded. All functions may be called from any
// goroutine, but a connection takes one statement at a time.
type library struct {
	connectFn      func(argc int32, argv *unsafe.Pointer) uintptr
	closeFn        func(connPtr uintptr)
	queryFn        func(conn uintptr, q unsafe.Pointer, qn uintptr, f unsafe.Pointer, fn uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) uintptr
	streamFn       func(conn uintptr, q unsafe.Pointer, qn uintptr, f unsafe.Pointer, fn uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) uintptr
	fetchFn        func(conn, stream uintptr) uintptr
	cancelQueryFn  func(conn, stream uintptr)
	insertFn       func(conn uintptr, q unsafe.Pointer, qn uintptr, f unsafe.Pointer, fn uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) uintptr
	appendFn       func(stream uintptr, data unsafe.Pointer, n uintptr) int32
	doneFn         func(stream uintptr) uintptr
	cancelInsertFn func(stream uintptr)
	insertErrorFn  func(stream uintptr) string
	destroyInsert  func(stream uintptr)
	classifyFn     func(conn uintptr, q unsafe.Pointer, qn uintptr, db unsafe.Pointer, dbn uintptr, out *analysis) int32
	bufferFn       func(res uintptr) unsafe.Pointer
	lengthFn       func(res uintptr) uintptr
	errorFn        func(res uintptr) string
	elapsedFn      func(res uintptr) float64
	rowsReadFn     func(res uintptr) uint64
	storageRowsFn  func(res uintptr) uint64
	storageBytesFn func(res uintptr) uint64
	rowsWrittenFn  func(res uintptr) uint64
	bytesWrittenFn func(res uintptr) uint64
	destroyFn      func(res uintptr)
	shutdownFn     func() int32
	versionFn      func() string
}

// analysis is chdb_query_analysis_v1: what the engine's own parser says of a text.
type analysis struct {
	structSize     uint32
	StatementCount uint32
	Flags          uint32
	Class          queryClass
}

// queryClass is chdb_query_class: how far the effect of a statement reaches.
type queryClass uint32

const (
	classReadOnly queryClass = iota
	classMutating
	classMutatingGlobal
	classControl
	classUnknown
)

// loadLibrary opens the shared library at path and finds its functions.
func loadLibrary(path string) (*library, error) {
	var handle uintptr
	var err error
	keepSignalHandlers(func() { handle, err = purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL) })
	if err != nil {
		return nil, fmt.Errorf("load engine library %s: %w", path, err)
	}
	l := &library{}
	var signalsFn func(enabled int32)
	for name, fn := range map[string]any{
		"chdb_connect":                     &l.connectFn,
		"chdb_close_conn":                  &l.closeFn,
		"chdb_query_with_params_n":         &l.queryFn,
		"chdb_stream_query_with_params_n":  &l.streamFn,
		"chdb_stream_fetch_result":         &l.fetchFn,
		"chdb_stream_cancel_query":         &l.cancelQueryFn,
		"chdb_stream_insert_with_params_n": &l.insertFn,
		"chdb_stream_append":               &l.appendFn,
		"chdb_stream_done":                 &l.doneFn,
		"chdb_stream_cancel_insert":        &l.cancelInsertFn,
		"chdb_stream_insert_error":         &l.insertErrorFn,
		"chdb_destroy_insert_stream":       &l.destroyInsert,
		"chdb_classify_query_n":            &l.classifyFn,
		"chdb_result_buffer":               &l.bufferFn,
		"chdb_result_length":               &l.lengthFn,
		"chdb_result_error":                &l.errorFn,
		"chdb_result_elapsed":              &l.elapsedFn,
		"chdb_result_rows_read":            &l.rowsReadFn,
		"chdb_result_storage_rows_read":    &l.storageRowsFn,
		"chdb_result_storage_bytes_read":   &l.storageBytesFn,
		"chdb_result_rows_written":         &l.rowsWrittenFn,
		"chdb_result_bytes_written":        &l.bytesWrittenFn,
		"chdb_destroy_query_result":        &l.destroyFn,
		"chdb_shutdown":                    &l.shutdownFn,
		"chdb_version":                     &l.versionFn,
		"chdb_set_signal_handlers_enabled": &signalsFn,
	} {
		sym, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("load engine library %s: it is not libchdb %s: %w", path, Version, err)
		}
		purego.RegisterFunc(fn, sym)
	}
	keepSignalHandlers(func() { signalsFn(0) })
	return l, nil
}

// connect opens a connection. Arguments look like --path=DIR or --setting=value;
// server-level ones count only for the first connection of a process. The library
// gives no reason when it refuses; it writes one to standard error.
func (l *library) connect(args ...string) (*connection, error) {
	argv := make([]unsafe.Pointer, 0, len(args)+2)
	for _, a := range append([]string{"clickhouse"}, args...) {
		argv = append(argv, cString(a))
	}
	argc := int32(len(argv))
	argv = append(argv, nil)
	var handle uintptr
	keepSignalHandlers(func() { handle = l.connectFn(argc, &argv[0]) })
	runtime.KeepAlive(argv)
	if handle == 0 {
		return nil, errConnect
	}
	return &connection{lib: l, ptr: handle, conn: loadWord(handle)}, nil
}

// shutdown joins the engine's threads. Every connection must be closed before;
// afterwards the library is of no more use in this process.
func (l *library) shutdown() error {
	if l.shutdownFn() != 0 {
		return errShutdown
	}
	return nil
}

// cString returns s with a zero byte behind it.
func cString(s string) unsafe.Pointer {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return unsafe.Pointer(&b[0])
}

// loadWord reads the pointer-sized word at an address of the library's memory.
func loadWord(addr uintptr) uintptr {
	return *(*uintptr)(foreign(addr))
}

// foreign turns an address of the library's memory, which Go's collector does not
// know and never moves, into a pointer; the detour keeps vet from taking it for
// arithmetic on a Go pointer.
func foreign(addr uintptr) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(&addr))
}
