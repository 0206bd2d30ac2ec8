// Package pipeline answers one question: how does a recording come out of a running
// Sallyport, and how does it go into one?
//
// Record takes batches from the stream EVENTS as a consumer of its own, beside ingest and
// detector; Play publishes those of recordings there, as an agent does. Neither judges nor
// stores anything.
package pipeline
