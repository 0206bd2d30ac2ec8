package harden

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
)

// UsedAction is an action or reusable workflow in use, with everywhere that it is used.
type UsedAction struct {
	// Name is OWNER/REPO[/PATH].
	Name string `json:"name"`
	// Versions in use: by commit or reference, with the comment behind a pin.
	Versions []UsedVersion `json:"versions"`
	// Known says whether the catalogue knows it; Archived, ReplacedBy, Incidents and Endpoints
	// are what it knows.
	Known      bool     `json:"known"`
	Archived   bool     `json:"archived,omitempty"`
	ReplacedBy string   `json:"replaced_by,omitempty"`
	Incidents  []string `json:"incidents,omitempty"`
	Endpoints  []string `json:"endpoints,omitempty"`
}

// UsedVersion is one way in which an action is named.
type UsedVersion struct {
	// Ref stands behind the @.
	Ref string `json:"ref"`
	// Version is what the comment behind a pin says; empty if it says none.
	Version string `json:"version,omitempty"`
	// Pinned says whether Ref is a whole commit.
	Pinned bool `json:"pinned"`
	// At are the places, FILE:LINE, ordered.
	At []string `json:"at"`
}

// Pinned says whether all uses are pinned.
func (u *UsedAction) Pinned() bool {
	return !slices.ContainsFunc(u.Versions, func(v UsedVersion) bool { return !v.Pinned })
}

// Uses counts the places.
func (u *UsedAction) Uses() int {
	n := 0
	for _, v := range u.Versions {
		n += len(v.At)
	}
	return n
}

// Inventory lists what the workflows and actions among files use, ordered by name. Problems are
// files that could not be read; the others are in the list.
func Inventory(c *catalogue.Catalogue, files []string) (used []*UsedAction, problems []error) {
	all := make(map[string]*UsedAction)
	for _, name := range files {
		kind := KindOf(absolute(name))
		if kind != KindWorkflow && kind != KindAction {
			continue
		}
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		d, err := Parse(name, text)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if d.Root == nil {
			continue
		}
		for _, u := range d.uses(kind) {
			ref, ok := ParseReference(u.node.Value)
			if u.image || !ok {
				continue
			}
			key := ref.Repository + ref.Path
			if all[key] == nil {
				all[key] = newUsedAction(c, key)
			}
			all[key].add(ref, d.comment(u), fmt.Sprintf("%s:%d", name, u.node.Line))
		}
	}
	for _, u := range all {
		slices.SortFunc(u.Versions, func(a, b UsedVersion) int { return strings.Compare(a.Version+a.Ref, b.Version+b.Ref) })
		used = append(used, u)
	}
	slices.SortFunc(used, func(a, b *UsedAction) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return used, problems
}

func newUsedAction(c *catalogue.Catalogue, name string) *UsedAction {
	u := &UsedAction{Name: name}
	if e, ok := c.Lookup(name + "@v0"); ok {
		u.Known, u.Archived, u.ReplacedBy, u.Endpoints = true, e.Archived, e.ReplacedBy, e.Endpoints
	}
	for _, i := range c.Incidents(name) {
		u.Incidents = append(u.Incidents, strings.TrimSpace(i.When+" "+i.ID))
	}
	return u
}

func (u *UsedAction) add(ref Reference, version, at string) {
	for i := range u.Versions {
		if v := &u.Versions[i]; v.Ref == ref.Ref && v.Version == version {
			v.At = append(v.At, at)
			return
		}
	}
	u.Versions = append(u.Versions, UsedVersion{Ref: ref.Ref, Version: version, Pinned: ref.Pinned(), At: []string{at}})
}

// comment is the version in the comment behind a use.
func (d *Document) comment(u use) string {
	_, end, ok := d.scalar(u.node)
	if !ok || inFlow(d.Root, u.node) {
		return ""
	}
	_, lineEnd, _ := d.lineOf(end)
	return versionComment(strings.TrimSpace(string(d.Text[end:lineEnd])))
}
