package ingest

import (
	"testing"
	"time"
)

// FuzzIntervals compares the set with a map.
func FuzzIntervals(f *testing.F) {
	f.Add([]byte{1, 2, 3, 9, 7, 8, 200, 0})
	f.Add([]byte{5, 3, 4, 4, 5, 255, 254})
	f.Fuzz(func(t *testing.T, data []byte) {
		var set intervals
		want := make(map[uint64]bool)
		for i := 0; i+1 < len(data); i += 2 {
			first, n := uint64(data[i]), uint64(data[i+1]%8)
			set.addInterval(interval{first, first + n})
			for v := first; v <= first+n; v++ {
				want[v] = true
			}
		}
		for i, v := range set {
			if v[0] > v[1] || i > 0 && set[i-1][1]+1 >= v[0] {
				t.Fatalf("not ordered or touching: %v", set)
			}
		}
		n := 0
		set.each(func(uint64) { n++ })
		if n != len(want) {
			t.Fatalf("%d sequences, want %d: %v", n, len(want), set)
		}
		for v := range uint64(300) {
			if set.contains(v) != want[v] {
				t.Fatalf("contains(%d) = %t: %v", v, !want[v], set)
			}
		}
	})
}

func TestTokenTellsRangesApart(t *testing.T) {
	created := time.Unix(1_700_000_000, 5)
	var a, b intervals
	for _, n := range []uint64{1, 2, 3, 5} {
		a.add(n)
	}
	for _, n := range []uint64{1, 3, 4, 5} {
		b.add(n)
	}
	seen := make(map[string]bool)
	for _, r := range []sequenceRange{
		{"EVENTS", created, a}, {"EVENTS", created, b}, {"EVENTS", created.Add(1), a}, {"FINDINGS", created, a},
	} {
		for _, table := range []string{"dns", "flow_events"} {
			token := r.token(table)
			if seen[token] {
				t.Errorf("token %s comes twice", token)
			}
			seen[token] = true
			if token != r.token(table) {
				t.Error("a token changes")
			}
		}
	}
}
