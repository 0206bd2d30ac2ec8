// Package checks answers what a pull request shows of what its jobs did: the check "Sallyport" on
// each commit, and, where a repository wants it, a comment.
//
// In come GitHub's webhooks (Receiver), the detector's verdicts and people's decisions (from NATS);
// out go check runs, through package github. What a check says is worked out anew each time from
// the runs on the commit, the verdicts on their jobs, the decisions and the repository's own file
// (.github/sallyport.yml on its default branch): see evaluate. So it does not matter how often, how
// late and in which order anything comes in, and a restart forgets nothing: what is known of a
// commit is in the bucket CHECKS.
//
// It never blocks a job, and judges nothing itself.
package checks
