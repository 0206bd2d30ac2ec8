// Package notify answers who is told of a finding, and how surely.
//
// In comes the stream FINDINGS, by its durable consumer "notify". Out go messages
// to sinks: the terminal, a Slack incoming webhook. What was told to whom is kept
// in the KV bucket NOTIFY, so that a restart neither loses nor repeats a message.
//
// Each sink has an outbox of its own: one that is slow or away delays no other.
// Within a sink, the first finding of its kind is told at once; more like it (same
// policy, repository, workflow, job and target) become one follow-up when the
// window ends. docs/alerts.md says what is guaranteed and what is not.
//
// The package never decides whether something is a finding, and never writes a
// webhook's address anywhere: whoever has it can post.
package notify
