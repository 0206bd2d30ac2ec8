// Package pattern generalises names that rotate: numbered result stores, shards, regions,
// hashes. A pattern is learned from several names of one job, is no wider than they are,
// and never reaches beyond what one owner can name: the registrable label (by the public
// suffix list with its private section) and the label directly below a suffix where
// anybody can have a name stay as they are. What is wider than that comes from rules that
// people can read (policies/data).
//
// The package does no I/O but reading the rules; its functions are pure and do not depend
// on the order of names.
package pattern
