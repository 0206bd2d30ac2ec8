package detector

import "slices"

// span is a range of sequences, both ends included.
type span struct {
	First uint64 `json:"f"`
	Last  uint64 `json:"l"`
}

// spans are ranges of one agent's epoch that were applied: ordered, apart.
// Redelivery can bring batches out of order, so the highest sequence is not enough.
type spans []span

// has says whether a sequence was applied.
func (s spans) has(sequence uint64) bool {
	i, ok := slices.BinarySearchFunc(s, sequence, func(x span, q uint64) int {
		switch {
		case x.Last < q:
			return -1
		case x.First > q:
			return 1
		}
		return 0
	})
	return ok && s[i].First <= sequence
}

// add marks a range, and joins what touches.
func (s spans) add(first, last uint64) spans {
	out := make(spans, 0, len(s)+1)
	joined := span{first, last}
	placed := false
	for _, x := range s {
		switch {
		case x.Last < joined.First && joined.First-x.Last > 1:
			out = append(out, x)
		case x.First > joined.Last && x.First-joined.Last > 1:
			if !placed {
				out, placed = append(out, joined), true
			}
			out = append(out, x)
		default:
			joined.First, joined.Last = min(joined.First, x.First), max(joined.Last, x.Last)
		}
	}
	if !placed {
		out = append(out, joined)
	}
	return out
}
