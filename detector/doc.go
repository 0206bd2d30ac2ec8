// Package detector answers one question: is this normal for this job?
//
// Batches of events come in (from stream EVENTS, or from an agent in the same
// process); they fold into behaviours, each execution of a job for itself; a new
// behaviour is judged once by every policy, against what the baseline of the job
// knows; findings come out (to stream FINDINGS, or returned). A clean execution
// that ended teaches the baseline.
//
// Engine folds and judges and knows nothing of NATS. Detector feeds it from
// JetStream and keeps its state, so that a restart neither forgets nor repeats.
// The package never blocks a job and never tells anyone: that is notify's.
//
// docs/baseline.md and docs/policy-input.md give the rules; testdata/*.txt show
// them at work.
package detector
