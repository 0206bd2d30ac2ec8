package detector

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-ci/sallyport/detector/pattern"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// knowledge is a baseline that can be asked. It is not safe for concurrent use while
// something is added.
type knowledge struct {
	baseline *sallyportv1.Baseline
	rules    *pattern.Rules // nil: no patterns
	// exact holds behaviours by a hash of what they are: the keys themselves would take more
	// than all the rest. The few whose hash is another's are in others.
	exact    map[uint64]*sallyportv1.BaselineBehaviour
	others   []*sallyportv1.BaselineBehaviour
	patterns []knownPattern
	families map[family]*sallyportv1.BaselineBehaviour
}

type knownPattern struct {
	pattern   pattern.Pattern
	behaviour *sallyportv1.BaselineBehaviour
}

// family is a family of names of one provider that the baseline holds one of.
type family struct {
	name, kept, protocol string
	port                 uint32
}

// know returns what a baseline knows, nil if there is none.
func know(b *sallyportv1.Baseline, rules *pattern.Rules) *knowledge {
	if b == nil {
		return nil
	}
	k := &knowledge{
		baseline: b, rules: rules, exact: make(map[uint64]*sallyportv1.BaselineBehaviour, len(b.GetBehaviours())),
		families: make(map[family]*sallyportv1.BaselineBehaviour),
	}
	for _, x := range b.GetBehaviours() {
		k.add(x)
	}
	return k
}

// isPattern says whether a behaviour's target is a pattern: a name may hold any bytes, also
// those that look like one.
func isPattern(x *sallyportv1.BaselineBehaviour) bool { return len(x.GetExamples()) > 0 }

func (k *knowledge) add(x *sallyportv1.BaselineBehaviour) {
	k.put(x)
	if x.GetKind() != kindEgress || k.rules == nil {
		return
	}
	if isPattern(x) {
		if p, err := pattern.Parse(x.GetTarget()); err == nil {
			k.patterns = append(k.patterns, knownPattern{p, x})
		}
		return
	}
	if name, kept, ok := k.rules.Family(x.GetTarget()); ok {
		f := family{name, kept, x.GetProtocol(), x.GetPort()}
		if k.families[f] == nil {
			k.families[f] = x
		}
	}
}

var keySeed = maphash.MakeSeed()

func (k *knowledge) put(x *sallyportv1.BaselineBehaviour) {
	key := keyOf(x)
	at := maphash.Comparable(keySeed, key)
	if there := k.exact[at]; there == nil || keyOf(there) == key {
		k.exact[at] = x
		return
	}
	k.others = append(k.others, x)
}

func (k *knowledge) get(d deedKey) *sallyportv1.BaselineBehaviour {
	if x := k.exact[maphash.Comparable(keySeed, d)]; x != nil && keyOf(x) == d {
		return x
	}
	for _, x := range k.others {
		if keyOf(x) == d {
			return x
		}
	}
	return nil
}

// find returns what the baseline holds of a behaviour, nil if nothing.
func (k *knowledge) find(d deedKey) *sallyportv1.BaselineBehaviour {
	x, _ := k.match(d)
	return x
}

// match is find with by what it is known: the target, a learned pattern, or a provider's
// family of names.
func (k *knowledge) match(d deedKey) (x *sallyportv1.BaselineBehaviour, by string) {
	if x := k.get(d); x != nil && !isPattern(x) {
		return x, x.GetTarget()
	}
	if d.kind != kindEgress || k.rules == nil {
		return nil, ""
	}
	for _, p := range k.patterns {
		if p.behaviour.GetPort() == d.port && p.behaviour.GetProtocol() == d.protocol && k.rules.Matches(p.pattern, d.target) {
			return p.behaviour, p.pattern.String()
		}
	}
	if name, kept, ok := k.rules.Family(d.target); ok {
		if x := k.families[family{name, kept, d.protocol, d.port}]; x != nil {
			return x, name
		}
	}
	return nil, ""
}

func keyOf(x *sallyportv1.BaselineBehaviour) deedKey {
	return deedKey{
		kind: x.GetKind(), target: x.GetTarget(), protocol: x.GetProtocol(), operation: x.GetOperation(),
		category: x.GetCategory(), method: x.GetMethod(), path: x.GetPath(), port: x.GetPort(),
	}
}

// maxExamples bounds the names that a pattern is shown with.
const maxExamples = 8

// generalise puts patterns in the place of names that rotate. Names that somebody approved
// stay as they are.
func generalise(b *sallyportv1.Baseline, rules *pattern.Rules) {
	if rules == nil {
		return
	}
	type service struct {
		port     uint32
		protocol string
	}
	members := make(map[service][]pattern.Member)
	names := make(map[service]map[string][]*sallyportv1.BaselineBehaviour) // by member
	fresh := make(map[service]bool)
	for _, x := range b.GetBehaviours() {
		if x.GetKind() != kindEgress || x.GetApprovedBy() != "" || !strings.Contains(x.GetTarget(), ".") {
			continue
		}
		if _, err := netip.ParseAddr(x.GetTarget()); err == nil {
			continue
		}
		s := service{x.GetPort(), x.GetProtocol()}
		if names[s] == nil {
			names[s] = make(map[string][]*sallyportv1.BaselineBehaviour)
		}
		own := []string{x.GetTarget()}
		if isPattern(x) {
			own = x.GetExamples()
		} else {
			fresh[s] = true
		}
		for _, name := range own {
			members[s] = append(members[s], pattern.Member{Name: name, LastRun: x.GetLastRun(), Known: isPattern(x)})
			names[s][name] = append(names[s][name], x)
		}
	}
	gone := make(map[*sallyportv1.BaselineBehaviour]bool)
	for s := range fresh {
		for _, l := range rules.Learn(members[s]) {
			merged := &sallyportv1.BaselineBehaviour{Kind: kindEgress, Target: l.Pattern.String(), Port: s.port, Protocol: s.protocol}
			parts := make(map[*sallyportv1.BaselineBehaviour]bool)
			for _, m := range l.Members {
				for _, x := range names[s][m.Name] {
					parts[x] = true
				}
			}
			if !slices.ContainsFunc(l.Members, func(m pattern.Member) bool {
				return slices.ContainsFunc(names[s][m.Name], func(x *sallyportv1.BaselineBehaviour) bool { return !isPattern(x) })
			}) {
				continue // the pattern is there already
			}
			for x := range parts {
				merge(merged, x, b.GetRuns())
				gone[x] = true
			}
			merged.Examples = examples(l.Members)
			b.Behaviours = append(b.Behaviours, merged)
		}
	}
	if len(gone) > 0 {
		b.Behaviours = slices.DeleteFunc(b.GetBehaviours(), func(x *sallyportv1.BaselineBehaviour) bool { return gone[x] })
	}
}

// merge adds what a name did to what its pattern did.
func merge(into, x *sallyportv1.BaselineBehaviour, runs uint32) {
	into.Runs = min(into.GetRuns()+x.GetRuns(), runs)
	into.LastRun = max(into.GetLastRun(), x.GetLastRun())
	into.MostBytesSent = max(into.GetMostBytesSent(), x.GetMostBytesSent())
	if into.GetFirstSeen() == nil || x.GetFirstSeen().AsTime().Before(into.GetFirstSeen().AsTime()) {
		into.FirstSeen = timestamppb.New(x.GetFirstSeen().AsTime())
	}
	if into.GetLastSeen() == nil || x.GetLastSeen().AsTime().After(into.GetLastSeen().AsTime()) {
		into.LastSeen = timestamppb.New(x.GetLastSeen().AsTime())
	}
	for _, p := range x.GetPrograms() {
		if i, ok := slices.BinarySearch(into.GetPrograms(), p); !ok && len(into.GetPrograms()) < maxPrograms {
			into.Programs = slices.Insert(into.Programs, i, p)
		}
	}
}

// examples are some of the names, with the shortest and the longest among them: by these a
// later run finds the pattern as wide as it was.
func examples(members []pattern.Member) []string {
	short, long := members[0].Name, members[0].Name
	for _, m := range members {
		if len(m.Name) < len(short) {
			short = m.Name
		}
		if len(m.Name) > len(long) {
			long = m.Name
		}
	}
	out := []string{short}
	if long != short {
		out = append(out, long)
	}
	for _, m := range members {
		if len(out) < maxExamples && !slices.Contains(out, m.Name) {
			out = append(out, m.Name)
		}
	}
	slices.Sort(out)
	return out
}
