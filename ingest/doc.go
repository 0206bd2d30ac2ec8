// Package ingest answers one question: how does a stream become rows, exactly
// once? It reads the durable consumer "ingest" of the streams EVENTS and
// FINDINGS, makes columns of the batches, and inserts them into the tables of
// package store.
//
// Messages are gathered into ranges. A range is written down in the bucket
// INGEST before it is inserted, under tokens made of the range, and its messages
// are written down as done before they are acknowledged; see
// docs/exactly-once.md. What cannot be decoded, or what ClickHouse refuses, goes
// to the stream DEADLETTERS, and the rest goes on. Nothing else is ever dropped:
// while ClickHouse or NATS is away, ingest waits and fetches no more.
package ingest
