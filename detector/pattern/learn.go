package pattern

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Member is a name that was seen.
type Member struct {
	// Name, a domain in lower case.
	Name string
	// LastRun is the run that saw it last, counted from 1.
	LastRun uint32
	// Known says that it is an example of a pattern that was learned before.
	Known bool
}

// Learned is a pattern with the names that it stands for from now on.
type Learned struct {
	Pattern Pattern
	// Members, ordered by name.
	Members []Member
}

// How many names a pattern needs, each seen last in another run: names that come together
// in every run do not rotate. Two numbered hosts may be just two hosts; three are a row of
// them. Of a hash or a date two are enough: nobody gives two hosts names that differ in
// nothing but eight characters or more.
const (
	needMembers     = 3
	needLongMembers = 2
)

// Learn finds the patterns of names: those that at least three names share that different
// runs saw last. The result does not depend on the order of the names.
func (r *Rules) Learn(members []Member) []Learned {
	groups := make(map[string][]Member)
	for _, m := range members {
		if key, ok := r.template(m.Name); ok {
			groups[key] = append(groups[key], m)
		}
	}
	var out []Learned
	for _, group := range groups {
		slices.SortFunc(group, func(a, b Member) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(b.LastRun, a.LastRun), compareBool(b.Known, a.Known))
		})
		group = slices.CompactFunc(group, func(a, b Member) bool { return a.Name == b.Name })
		rotate := rotating(group)
		if rotate < needLongMembers {
			continue
		}
		text, long, ok := r.generalise(group)
		if !ok || !long && rotate < needMembers {
			continue
		}
		p, err := Parse(text)
		if err != nil { // what generalise writes can be read
			continue
		}
		out = append(out, Learned{p, group})
	}
	slices.SortFunc(out, func(a, b Learned) int { return cmp.Compare(a.Pattern.text, b.Pattern.text) })
	return out
}

// rotating counts the names that different runs saw last; of a pattern that was learned
// there are enough.
func rotating(group []Member) int {
	last := make(map[uint32]bool)
	for _, m := range group {
		if m.Known {
			return needMembers
		}
		last[m.LastRun] = true
	}
	return len(last)
}

// token is a part of a name that may vary, or not.
type token struct {
	kind pieceKind
	text string
}

// tokens cuts a domain: the labels that may vary into words, and the rest as it is.
func (r *Rules) tokens(domain string) []token {
	labels := strings.Split(domain, ".")
	free := len(labels) - r.Fixed(domain)
	var out []token
	for i, label := range labels {
		if i > 0 {
			out = append(out, token{literal, "."})
		}
		if i >= free {
			out = append(out, token{literal, label})
			continue
		}
		out = append(out, r.label(label)...)
	}
	return out
}

// label cuts a label that may vary.
func (r *Rules) label(s string) []token {
	var out []token
	for s != "" {
		if name := r.leadingRegion(s); name != "" && (len(out) == 0 || strings.HasSuffix(out[len(out)-1].text, "-") || strings.HasSuffix(out[len(out)-1].text, "_")) {
			out, s = append(out, token{region, name}), s[len(name):]
			continue
		}
		n := leading(s, alphanumeric)
		if n == 0 {
			out, s = append(out, token{literal, s[:1]}), s[1:]
			continue
		}
		out, s = append(out, word(s[:n])...), s[n:]
	}
	return out
}

// leadingRegion returns the region that s begins with and that ends where a word does.
func (r *Rules) leadingRegion(s string) string {
	for _, name := range r.regions {
		if strings.HasPrefix(s, name) && (len(s) == len(name) || !alphanumeric(s[len(name)])) {
			return name
		}
	}
	return ""
}

// Lengths from which on a word is a hash.
const (
	minHex   = 8
	minMixed = 10
)

// word cuts a run of letters and digits: a hash is one token, otherwise letters and digits
// take turns.
func word(w string) []token {
	digits := 0
	for i := range len(w) {
		if digit(w[i]) {
			digits++
		}
	}
	switch {
	case digits == 0:
		return []token{{literal, w}}
	case digits < len(w) && len(w) >= minHex && leading(w, hexDigit) == len(w):
		return []token{{hexadecimal, w}}
	case digits == len(w) && len(w) >= minHex:
		return []token{{number, w}}
	case digits < len(w) && digits >= 2 && len(w) >= minMixed && turns(w) >= 4:
		return []token{{mixed, w}}
	}
	var out []token
	for w != "" {
		if n := leading(w, digit); n > 0 {
			out, w = append(out, token{number, w[:n]}), w[n:]
			continue
		}
		n := 0
		for n < len(w) && !digit(w[n]) {
			n++
		}
		out, w = append(out, token{literal, w[:n]}), w[n:]
	}
	return out
}

// turns counts how often letters and digits change.
func turns(w string) int {
	n := 0
	for i := 1; i < len(w); i++ {
		if digit(w[i]) != digit(w[i-1]) {
			n++
		}
	}
	return n
}

// template is what names of one pattern have in common; false if nothing in the name may
// vary.
func (r *Rules) template(domain string) (string, bool) {
	var b strings.Builder
	varies := false
	for _, t := range r.tokens(domain) {
		switch t.kind {
		case literal:
			b.WriteString(strconv.Quote(t.text))
			continue
		case hexadecimal, mixed:
			// Hashes of one length are of one kind; a hexadecimal one may look like either.
			b.WriteString("h" + strconv.Itoa(len(t.text)))
		case number:
			b.WriteByte('n')
		default:
			b.WriteByte('r')
		}
		varies = true
	}
	return b.String(), varies
}

// generalise writes the pattern of names of one template: only what differs among them
// varies, and no wider than they differ, but for numbers: where hosts are counted there are
// smaller ones, and up to twice the largest that was seen, ten at least. Of numbers with
// leading zeros, and of long ones, the length is what was seen. long says that all that varies is
// eight characters long or more.
func (r *Rules) generalise(group []Member) (text string, long, ok bool) {
	first := r.tokens(group[0].Name)
	var b strings.Builder
	varies := false
	long = true
	for i, t := range first {
		least, most, hex, differ := len(t.text), len(t.text), t.kind == hexadecimal, false
		padded := len(t.text) > 1 && t.text[0] == '0'
		largest := value(t.text)
		for _, m := range group[1:] {
			other := r.tokens(m.Name)[i]
			differ = differ || other.text != t.text
			least, most = min(least, len(other.text)), max(most, len(other.text))
			hex = hex && other.kind == hexadecimal
			padded = padded || len(other.text) > 1 && other.text[0] == '0'
			largest = max(largest, value(other.text))
		}
		long = long && (!differ || least >= minHex && t.kind != region)
		switch {
		case !differ:
			b.WriteString(t.text)
			continue
		case t.kind == number && (padded || most >= minHex):
			b.WriteString("{n:" + strconv.Itoa(least) + "-" + strconv.Itoa(most) + "}")
		case t.kind == number:
			b.WriteString("{0.." + strconv.Itoa(max(2*largest, 10)) + "}")
		case t.kind == region:
			b.WriteString("{region}")
		case hex:
			b.WriteString("{hex:" + strconv.Itoa(most) + "}")
		default:
			b.WriteString("{id:" + strconv.Itoa(most) + "}")
		}
		varies = true
	}
	return b.String(), long, varies
}

// value is a number of fewer than minHex digits, 0 for anything else.
func value(digits string) int {
	if len(digits) >= minHex {
		return 0
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
