// Package spooled answers one question: which batches in files from outside may be sent on
// behalf of the agents that made them?
//
// An agent that could not reach the server leaves batches in its spool, and the GitHub Action
// uploads them as an artifact. Examine reads such files in folders and in the zip files that
// GitHub makes of artifacts, and holds each against what is known of it: its format, its
// bounds, and Rules that say of which repository, runs and agents it may speak. What comes in
// are paths, what goes out are batches in the order in which they were made, and refusals. It
// sends, changes and removes nothing; recording/pipeline publishes.
package spooled
