// Package stream answers one question: what travels over NATS, and under which
// names?
//
// It declares the streams, consumers and buckets (Declare), encodes and decodes
// what travels through them (Encoder, Decoder, PublishFinding, PublishDeadLetter,
// PublishHeartbeat). It never looks into what an event means. The embedded server of
// `sallyport up` is in package natsserver.
//
// docs/wire.md describes the format for readers in other languages.
package stream
