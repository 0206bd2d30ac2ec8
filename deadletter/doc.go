// Package deadletter answers one question: what could not be used, and how does it go
// back?
//
// It lists what is in the stream DEADLETTERS, puts messages back to where they came from
// (Replay), removes them (Drop) and counts them (NewCollector). Parts that keep dead letters
// do so with stream.PublishDeadLetter.
package deadletter
