package harden

import "fmt"

// safer tells what does the same as an action that is used, and asks for less trust: a note, since
// only a person knows whether it does enough.
func (h *hardener) safer(d *Document, kind Kind) (findings []Finding) {
	for _, u := range d.uses(kind) {
		ref, ok := ParseReference(u.node.Value)
		if u.image || !ok || h.exempt(ref.Repository) {
			continue
		}
		e, known := h.Catalogue.Lookup(u.node.Value)
		if !known {
			continue
		}
		for _, r := range e.Safer {
			findings = append(findings, Finding{"safer", SeverityNote, position(u.node), fmt.Sprintf("%s may do instead of %s: %s (%s)", r.Use, e.Name, r.Why, r.Page)})
		}
	}
	return findings
}
