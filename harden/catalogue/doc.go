// Package catalogue says what GitHub Actions need of a job's GITHUB_TOKEN.
//
// In comes one step of a workflow: its uses, its with and its env. Out goes which
// permission scopes the action needs of the job, with the reason and the file that was
// read to know it. What an expression hides until run time is said to be undecided, and
// never taken for no: a permission too few breaks the job, and a permission too many is
// what an attacker hopes for, so that whoever asks must choose knowingly.
//
// The facts are data, in catalogue.yaml, one entry an action; docs/action-catalogue.md is
// made of it. The package never asks GitHub, never looks at a whole workflow and never
// decides what is to be written into one.
package catalogue
