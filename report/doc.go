// Package report answers what one command did: the report of `sallyport run`.
//
// A Collector takes the batches of events that the agent made of the command, in
// any order, and the detector's findings. Build makes a Report of them, which is
// written as text for people or as JSON for programs (docs/run-report.md).
//
// The package watches nothing and judges nothing. Names and arguments from outside
// are escaped before they reach a terminal; JSON has them as they are.
package report
