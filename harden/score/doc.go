// Package score answers how far the commit of an action in use can be trusted: a number from 0 to
// 10 that never comes without its reasons.
//
// In go Facts, learned from GitHub, the catalogue and what agents saw (Learn), or read from a
// file; out comes a Score of ten parts, each with points, weight and reason. The score is the
// mean of the parts that are known, by their weights (Weights), under the lowest limit that a
// reason sets. A part of which nothing could be learned says so and does not count: it makes the
// score less sure, never silently lower or higher. The same facts give the same score,
// whenever and wherever: ages are counted to the day on which the facts were learned.
package score
