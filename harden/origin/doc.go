// Package origin answers what GitHub says of the repositories that workflows use: what references
// stand for and since when, whether commits are theirs, whether they are archived, and what
// advisories there are about them. It asks by package github, with a token, and writes nothing;
// without a token harden.Remote asks by the git protocol, and knows less.
package origin
