// Package engine answers: how does ClickHouse run inside Sallyport?
//
// ClickHouse is a shared library (libchdb) that runs in a process of its own, so
// that a fault in it cannot take the rest down. Three parts:
//
//   - [Fetch] and [Locate] find the library: once from npm, then from a cache.
//   - [Serve] is what the child process runs: it loads the library, opens the
//     database folder and answers ClickHouse's HTTP interface on a loopback address.
//   - [Start] is what the parent runs: it starts the child, waits until it answers,
//     starts it again when it dies, and stops it in order.
//
// In come a folder and SQL over HTTP; out go rows in ClickHouse's formats. Everything
// else in Sallyport talks to it with clickhouse-go over HTTP, exactly as to a server
// of its own, and never through this package. This package knows no table.
package engine
