package harden

import (
	"cmp"
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
	// Known says whether the catalogue knows it; Archived, ReplacedBy, Safer, Incidents and
	// Endpoints are what it knows.
	Known      bool              `json:"known"`
	Archived   bool              `json:"archived,omitempty"`
	ReplacedBy string            `json:"replaced_by,omitempty"`
	Safer      []catalogue.Safer `json:"safer,omitempty"`
	Incidents  []string          `json:"incidents,omitempty"`
	Endpoints  []string          `json:"endpoints,omitempty"`
}

// UsedVersion is one way in which an action is named.
type UsedVersion struct {
	// Ref stands behind the @.
	Ref string `json:"ref"`
	// Version is what the comment behind a pin says; empty if it says none.
	Version string `json:"version,omitempty"`
	// Pinned says whether Ref is a whole commit.
	Pinned bool `json:"pinned"`
	// At are the places, ordered.
	At []Place `json:"at"`
}

// Place is where an action is used.
type Place struct {
	// Repository is OWNER/NAME; empty for a checkout.
	Repository string `json:"repository,omitempty"`
	// File is a path within the repository, or of the checkout as it was found.
	File string `json:"file"`
	// Line of the file, from 1.
	Line int `json:"line"`
	// Through are the actions that lead there, the one of the file first; empty for one that the
	// file names itself.
	Through []string `json:"through,omitempty"`
}

// String is the place for people: FILE:LINE, and the way there.
func (p Place) String() string {
	s := fmt.Sprintf("%s:%d", p.File, p.Line)
	if p.Repository != "" {
		s = p.Repository + "/" + s
	}
	if len(p.Through) > 0 {
		s += " through " + strings.Join(p.Through, ", ")
	}
	return s
}

// Label is how a version is named for people: by what the comment says, or the reference.
func (v UsedVersion) Label() string {
	if v.Version != "" {
		return v.Version
	}
	if v.Pinned {
		return v.Ref[:12]
	}
	return v.Ref
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

// Places are all of them, ordered.
func (u *UsedAction) Places() []Place {
	var out []Place
	for _, v := range u.Versions {
		out = append(out, v.At...)
	}
	slices.SortFunc(out, comparePlaces)
	return out
}

// Repositories that use it, ordered, each once; none of checkouts.
func (u *UsedAction) Repositories() []string {
	var out []string
	for _, p := range u.Places() {
		if p.Repository != "" {
			out = append(out, p.Repository)
		}
	}
	return slices.Compact(out)
}

// Inside says whether it is used by other actions alone, and by no file itself.
func (u *UsedAction) Inside() bool {
	return !slices.ContainsFunc(u.Places(), func(p Place) bool { return len(p.Through) == 0 })
}

func comparePlaces(a, b Place) int {
	return cmp.Or(strings.Compare(a.Repository, b.Repository), strings.Compare(a.File, b.File), a.Line-b.Line, slices.Compare(a.Through, b.Through))
}

// Inventory gathers what the files of any number of repositories use.
type Inventory struct {
	catalogue *catalogue.Catalogue
	all       map[string]*UsedAction // by Name in lower case, as GitHub takes it
}

// NewInventory makes an empty one, which says what a catalogue knows.
func NewInventory(c *catalogue.Catalogue) *Inventory {
	return &Inventory{c, make(map[string]*UsedAction)}
}

// Add adds what a file uses; one that is no workflow and no action uses nothing. The repository
// is empty for a checkout. The error says why the file could not be read.
func (i *Inventory) Add(repository string, s Source) error {
	return i.read(repository, KindOf(s.Name), s)
}

// AddFiles adds files of checkouts. Problems are files that could not be read.
func (i *Inventory) AddFiles(names []string) (problems []error) {
	for _, name := range names {
		kind := KindOf(absolute(name)) // below .github/workflows, wherever one stands
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = i.read("", kind, Source{Name: name, Text: text})
		}
		if err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

func (i *Inventory) read(repository string, kind Kind, s Source) error {
	if kind != KindWorkflow && kind != KindAction {
		return nil
	}
	d, err := Parse(s.Name, s.Text)
	if err != nil {
		return err
	}
	if d.Root == nil {
		return nil
	}
	for _, u := range d.uses(kind) {
		if ref, ok := ParseReference(u.node.Value); ok && !u.image {
			i.add(ref, d.comment(u), Place{Repository: repository, File: s.Name, Line: u.node.Line})
		}
	}
	return nil
}

func (i *Inventory) add(ref Reference, version string, at Place) {
	key := strings.ToLower(ref.Repository) + ref.Path
	u := i.all[key]
	if u == nil {
		u = newUsedAction(i.catalogue, ref.Repository+ref.Path)
		i.all[key] = u
	}
	for n := range u.Versions {
		if v := &u.Versions[n]; v.Ref == ref.Ref && v.Version == version {
			v.At = append(v.At, at)
			return
		}
	}
	u.Versions = append(u.Versions, UsedVersion{Ref: ref.Ref, Version: version, Pinned: ref.Pinned(), At: []Place{at}})
}

// Used lists what is used, ordered by name.
func (i *Inventory) Used() []*UsedAction {
	var used []*UsedAction
	for _, u := range i.all {
		for _, v := range u.Versions {
			slices.SortFunc(v.At, comparePlaces)
		}
		slices.SortFunc(u.Versions, func(a, b UsedVersion) int { return strings.Compare(a.Version+a.Ref, b.Version+b.Ref) })
		used = append(used, u)
	}
	slices.SortFunc(used, func(a, b *UsedAction) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), strings.Compare(a.Name, b.Name))
	})
	return used
}

func newUsedAction(c *catalogue.Catalogue, name string) *UsedAction {
	u := &UsedAction{Name: name}
	if e, ok := c.Lookup(name + "@v0"); ok {
		u.Known, u.Archived, u.ReplacedBy, u.Safer, u.Endpoints = true, e.Archived, e.ReplacedBy, e.Safer, e.Endpoints
	}
	for _, i := range c.Incidents(name) {
		u.Incidents = append(u.Incidents, strings.TrimSpace(i.When+" "+i.ID))
	}
	return u
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
