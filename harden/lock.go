package harden

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport/wholefile"
)

// LockFile is the name of the file that remembers what references stood for.
const LockFile = "sallyport.lock"

// LockedAction is what a reference of a repository stood for when it was seen.
type LockedAction struct {
	Uses    string `yaml:"uses"` // OWNER/NAME@REF
	Commit  string `yaml:"commit"`
	Version string `yaml:"version,omitempty"`
	Branch  bool   `yaml:"branch,omitempty"`
	// Immutable says that it was the tag of an immutable release.
	Immutable bool   `yaml:"immutable,omitempty"`
	Seen      string `yaml:"seen"` // the day on which it was first seen so
}

// LockedImage is what an image's name stood for.
type LockedImage struct {
	Image  string `yaml:"image"`
	Digest string `yaml:"digest"`
	Seen   string `yaml:"seen"`
}

// Lock is the content of a lock file. It is safe for one goroutine.
type Lock struct {
	Version int            `yaml:"version"`
	Actions []LockedAction `yaml:"actions,omitempty"`
	Images  []LockedImage  `yaml:"images,omitempty"`

	changed  bool
	proposed *Lock
}

const lockVersion = 1

// NewLock makes one that remembers nothing.
func NewLock() *Lock { return &Lock{Version: lockVersion} }

// ReadLock reads a lock file; one that does not exist is empty. What is wrong with it is an
// error: it decides what code runs.
func ReadLock(name string) (*Lock, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return NewLock(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	return ParseLock(name, data)
}

// ParseLock reads the text of a lock file.
func ParseLock(name string, data []byte) (*Lock, error) {
	l := &Lock{Version: lockVersion}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(l); err != nil {
		return nil, fmt.Errorf("read lock %s: %w", name, err)
	}
	if l.Version != lockVersion {
		return nil, fmt.Errorf("read lock %s: version %d, this program reads %d", name, l.Version, lockVersion)
	}
	seen := make(map[string]bool)
	for _, a := range l.Actions {
		if _, ok := ParseReference(a.Uses); !ok || !commitForm.MatchString(a.Commit) || seen[a.Uses] {
			return nil, fmt.Errorf("read lock %s: %q at %q is no reference and its commit, or is there twice", name, a.Uses, a.Commit)
		}
		seen[a.Uses] = true
	}
	for _, i := range l.Images {
		if i.Image == "" || !digestForm.MatchString(i.Digest) || seen[i.Image] {
			return nil, fmt.Errorf("read lock %s: %q at %q is no image and its digest, or is there twice", name, i.Image, i.Digest)
		}
		seen[i.Image] = true
	}
	return l, nil
}

// Write writes the file if something was added, ordered, whole or not at all.
func (l *Lock) Write(name string) error {
	if !l.changed {
		return nil
	}
	data, err := l.Text()
	if err == nil {
		err = wholefile.Sync(name, 0o644, data)
	}
	if err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	l.changed = false
	return nil
}

// Propose has what this lock lacks taken from another before anybody is asked: from the lock of
// a change that was proposed and is not merged yet. Only what is in use is taken.
func (l *Lock) Propose(other *Lock) { l.proposed = other }

// Changed says whether something was added since it was read or written.
func (l *Lock) Changed() bool { return l.changed }

// Text is that of its file.
func (l *Lock) Text() ([]byte, error) {
	slices.SortFunc(l.Actions, func(a, b LockedAction) int { return strings.Compare(a.Uses, b.Uses) })
	slices.SortFunc(l.Images, func(a, b LockedImage) int { return strings.Compare(a.Image, b.Image) })
	var b bytes.Buffer
	b.WriteString("# What references stood for when sallyport harden saw them first. Commit this file.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(l); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (l *Lock) action(uses string) *LockedAction {
	for i := range l.Actions {
		if l.Actions[i].Uses == uses {
			return &l.Actions[i]
		}
	}
	if l.proposed == nil {
		return nil
	}
	if a := l.proposed.action(uses); a != nil {
		l.Actions, l.changed = append(l.Actions, *a), true
		return &l.Actions[len(l.Actions)-1]
	}
	return nil
}

func (l *Lock) image(image string) *LockedImage {
	for i := range l.Images {
		if l.Images[i].Image == image {
			return &l.Images[i]
		}
	}
	if l.proposed == nil {
		return nil
	}
	if i := l.proposed.image(image); i != nil {
		l.Images, l.changed = append(l.Images, *i), true
		return &l.Images[len(l.Images)-1]
	}
	return nil
}

// resolver asks the lock first and notes in it what somebody else knew.
type resolver struct {
	lock   *Lock
	remote Resolver // nil: offline
	update bool     // ask also of what is in the lock
	minAge time.Duration
	now    func() time.Time
}

var errOffline = errors.New("it is not in " + LockFile + ", and nobody is asked (--offline)")

// move is a reference that stands for another commit than before.
type move struct {
	before LockedAction
	now    Resolution
}

// news is what is to be said of a reference beside what to take for it.
type news struct {
	moved *move
	young *young
	// ageless is why nobody knows how old it is, if somebody asked.
	ageless string
}

// current is what a reference stands for, whether that is taken or not.
func (n news) current(take Resolution) Resolution {
	if n.young != nil {
		return n.young.now
	}
	return take
}

// action returns the commit to take for a reference, and what is to be said of it. A branch and a
// tag such as v4 are followed; the tag of a whole version is not: it stays at the commit that was
// seen first, and so does the lock. What is too young is not taken: errors wrap ErrYoung if there
// is nothing older that the reference means.
func (r *resolver) action(ctx context.Context, ref Reference) (take Resolution, said news, err error) {
	key := ref.Repository + "@" + ref.Ref
	locked := r.lock.action(key)
	known := Resolution{}
	if locked != nil {
		known = Resolution{Commit: locked.Commit, Version: locked.Version, Branch: locked.Branch, Immutable: locked.Immutable}
		if !r.update || r.remote == nil {
			return known, said, nil
		}
	}
	if r.remote == nil {
		return Resolution{}, said, errOffline
	}
	now, err := r.remote.Resolve(ctx, ref.Repository, ref.Ref)
	if err != nil {
		return Resolution{}, said, err
	}
	if locked != nil && locked.Commit != now.Commit && !moves(ref.Ref, now.Branch) {
		said.moved = &move{*locked, now}
		return known, said, nil
	}
	take = now
	if locked == nil || locked.Commit != now.Commit {
		take, said.young, said.ageless, err = r.aged(ctx, ref, now)
		if locked != nil && said.young != nil && (err != nil || take.Commit == locked.Commit || older(take.Version, locked.Version)) {
			said.young.took = cmp.Or(locked.Version, locked.Commit)
			return known, said, nil //nolint:nilerr // it is said as young
		}
		if err != nil {
			return Resolution{}, said, err
		}
	}
	entry := LockedAction{Uses: key, Commit: take.Commit, Version: take.Version, Branch: take.Branch, Immutable: take.Immutable, Seen: day(r.now())}
	switch {
	case locked == nil:
		r.lock.Actions, r.lock.changed = append(r.lock.Actions, entry), true
	case locked.Commit != take.Commit:
		said.moved = &move{*locked, take}
		*locked, r.lock.changed = entry, true
	}
	return take, said, nil
}

// older says whether one version comes before another, or cannot be held against it.
func older(a, b string) bool {
	x, ok := versionParts(a)
	y, ok2 := versionParts(b)
	return !ok || !ok2 || slices.Compare(x, y) < 0
}

// moves says whether a reference is one that moves with every release.
func moves(ref string, branch bool) bool {
	parts, ok := versionParts(ref)
	return branch || ok && len(parts) < 3
}

func (r *resolver) image(ctx context.Context, image string) (digest string, moved *LockedImage, err error) {
	locked := r.lock.image(image)
	if locked != nil && (!r.update || r.remote == nil) {
		return locked.Digest, nil, nil
	}
	if r.remote == nil {
		return "", nil, errOffline
	}
	if digest, err = r.remote.Digest(ctx, image); err != nil {
		return "", nil, err
	}
	if !digestForm.MatchString(digest) {
		return "", nil, fmt.Errorf("image %s: %q is no digest", image, digest)
	}
	now := LockedImage{Image: image, Digest: digest, Seen: day(r.now())}
	switch {
	case locked == nil:
		r.lock.Images, r.lock.changed = append(r.lock.Images, now), true
	case locked.Digest != digest:
		before := *locked
		*locked, r.lock.changed = now, true
		return digest, &before, nil
	}
	return digest, nil, nil
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
