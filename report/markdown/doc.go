// Package markdown answers how words from outside stand in GitHub's Markdown: in the text of a
// pull request, a check or a job summary.
//
// What comes in are names, arguments and domains that an attacker may have chosen. What goes out
// is read as the same words: it makes no link, no mention, no heading, no HTML and no new line.
// All functions are safe for concurrent use.
package markdown
