// Package summary answers how the report of a job (sallyport.v1.JobReport) reads to a
// developer: as Markdown in a job's summary or a check, or as text.
//
// In come reports whose words an attacker may have chosen, out goes Markdown of which the
// structure is this package's alone, well below GitHub's limit of 1 MiB. It asks nobody
// anything and decides nothing. All functions are safe for concurrent use.
package summary
