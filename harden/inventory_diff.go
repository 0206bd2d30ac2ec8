package harden

import (
	"cmp"
	"slices"
	"strings"
)

// How a use of an action differs between two inventories.
const (
	// Came and Went are actions that a repository did not use before, or uses no more.
	Came = "came"
	Went = "went"
	// OtherVersion is another version or commit.
	OtherVersion = "version"
	// NowPinned and NowUnpinned say that all uses are pinned now and were not, or the other way.
	NowPinned   = "pinned"
	NowUnpinned = "unpinned"
)

// InventoryChange is one difference.
type InventoryChange struct {
	// Action is OWNER/REPO[/PATH], Repository who uses it; empty for a checkout.
	Action     string `json:"action"`
	Repository string `json:"repository,omitempty"`
	// Inside says that other actions use it there, no file itself.
	Inside bool `json:"inside,omitempty"`
	// Kind is one of the constants above.
	Kind string `json:"kind"`
	// Before and After are the versions, REF or REF (VERSION), ordered; empty if there is none.
	Before []string `json:"before"`
	After  []string `json:"after"`
}

type usedBy struct {
	action, repository string
	inside             bool
}

type usedAs struct {
	name     string // as it is written
	versions []string
	refs     []string
	pinned   bool
}

// DiffInventories says what came, what went and what is used otherwise, ordered by action and
// repository. What only moved to another file or line is no difference.
func DiffInventories(before, after []*UsedAction) []InventoryChange {
	was, is := byUser(before), byUser(after)
	var out []InventoryChange
	for key, a := range is {
		change := InventoryChange{Action: a.name, Repository: key.repository, Inside: key.inside, Before: []string{}, After: a.versions}
		b, there := was[key]
		if there {
			change.Before = b.versions
		}
		switch {
		case !there:
			change.Kind = Came
		case a.pinned && !b.pinned:
			change.Kind = NowPinned
		case b.pinned && !a.pinned:
			change.Kind = NowUnpinned
		case !slices.Equal(a.refs, b.refs):
			change.Kind = OtherVersion
		default:
			continue // what a comment says is no other version
		}
		out = append(out, change)
	}
	for key, b := range was {
		if _, there := is[key]; !there {
			out = append(out, InventoryChange{Action: b.name, Repository: key.repository, Inside: key.inside, Kind: Went, Before: b.versions, After: []string{}})
		}
	}
	slices.SortFunc(out, func(a, b InventoryChange) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Action), strings.ToLower(b.Action)), strings.Compare(a.Repository, b.Repository), strings.Compare(a.Kind, b.Kind))
	})
	return out
}

func byUser(used []*UsedAction) map[usedBy]*usedAs {
	out := make(map[usedBy]*usedAs)
	for _, u := range used {
		for _, v := range u.Versions {
			named := v.Ref
			if v.Version != "" {
				named += " (" + v.Version + ")"
			}
			for _, at := range v.At {
				key := usedBy{strings.ToLower(u.Name), at.Repository, len(at.Through) > 0}
				as := out[key]
				if as == nil {
					as = &usedAs{name: u.Name, pinned: true}
					out[key] = as
				}
				as.versions, as.refs, as.pinned = append(as.versions, named), append(as.refs, v.Ref), as.pinned && v.Pinned
			}
		}
	}
	for _, as := range out {
		for _, list := range []*[]string{&as.versions, &as.refs} {
			slices.Sort(*list)
			*list = slices.Compact(*list)
		}
	}
	return out
}
