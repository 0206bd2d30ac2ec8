package ingest

import (
	"slices"
	"sort"
)

// interval holds the sequences from its first to its second number.
type interval [2]uint64

// intervals is a set of sequences as ordered intervals that do not touch. A
// stream that loses nothing is one interval, however long.
type intervals []interval

// add puts a sequence into the set.
func (s *intervals) add(n uint64) { s.addInterval(interval{n, n}) }

// addInterval puts all sequences of an interval into the set.
func (s *intervals) addInterval(v interval) {
	set := *s
	// from is the first interval that v touches, to the first behind all those.
	from := sort.Search(len(set), func(i int) bool { return set[i][1]+1 >= v[0] })
	to := from
	for to < len(set) && set[to][0] <= v[1]+1 {
		v[0], v[1] = min(v[0], set[to][0]), max(v[1], set[to][1])
		to++
	}
	if from == to {
		set = append(set, interval{})
		copy(set[from+1:], set[from:])
		set[from] = v
		*s = set
		return
	}
	set[from] = v
	*s = slices.Delete(set, from+1, to)
}

// addFloor puts all sequences up to a floor into the set; 0 is no floor.
func (s *intervals) addFloor(floor uint64) {
	if floor > 0 {
		s.addInterval(interval{1, floor})
	}
}

// contains says whether a sequence is in the set.
func (s intervals) contains(n uint64) bool {
	i := sort.Search(len(s), func(i int) bool { return s[i][1] >= n })
	return i < len(s) && s[i][0] <= n
}

// each calls f for each sequence in order.
func (s intervals) each(f func(uint64)) {
	for _, v := range s {
		for n := v[0]; ; n++ {
			f(n)
			if n == v[1] {
				break
			}
		}
	}
}
