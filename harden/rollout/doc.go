// Package rollout answers how all repositories of an organisation become safer: one pull request
// for each, opened, kept up to date and closed through GitHub's API.
//
// What is proposed is one commit, signed by GitHub, on a branch of its own, with the words
//
//	Sallyport-Harden: <digest of the changes>
//
// at its end. A branch whose head is not such a commit, or whose changes have another digest, is
// somebody's work by now: it is left alone. So is a repository whose pull request a person has
// closed. The branch is moved only from where it was seen, and replaced only if the changes are
// others than before, or if a file that is changed has another text on the default branch by now.
//
// Every step can be done again: a run that was stopped goes on where it was, from a file of what
// came of each repository (see State), and finds half of a proposal as it left it.
package rollout
