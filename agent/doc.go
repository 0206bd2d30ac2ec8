// Package agent answers one question: how does a runner become a stream of
// attributed events?
//
// In come the kernel side's records (package bpf), out go complete, redacted,
// attributed batches (sallyport.v1.EventBatch) to a Sink: a Publisher that speaks
// JetStream and keeps a spool on disk, or a collector in this process.
//
// It never decides whether something is wrong, and never changes what it watches.
package agent
