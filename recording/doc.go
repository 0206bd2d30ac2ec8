// Package recording answers one question: how is a run kept in a file?
//
// A Writer takes batches of events and writes them down in the format of
// docs/recordings.md; a Reader gives them back and says whether the file is whole. What
// comes in and goes out is sallyportv1.EventBatch; Renew, Shift and Only change one in the
// ways that a replay or a recorder needs. The package knows nothing of NATS or ClickHouse.
package recording
