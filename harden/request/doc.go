// Package request answers how a decision about an action gets into the file of approved actions
// of another repository: as a pull request whose commit GitHub signs, or as an issue that asks
// for one.
//
// For each action there is one branch, and on it one commit, with the words
//
//	Sallyport-Request: <digest of the file>
//
// at its end. The same action asked for again brings its own open pull request up to date; a
// branch with somebody's commits is left alone (ErrTouched). Nothing else of the repository is
// touched: of the file only what the decision changes (harden.EditApprovals). Whether a request
// is granted is for whoever merges it.
package request
