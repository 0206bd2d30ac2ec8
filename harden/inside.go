package harden

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Follower finds what actions use themselves: it resolves references, and reads files of commits.
// Errors wrap ErrUnknown if there is no such thing.
type Follower interface {
	Reader
	Resolve(ctx context.Context, repository, ref string) (Resolution, error)
}

// InnerUse is something that an action uses itself.
type InnerUse struct {
	// Uses is how the action names it: OWNER/REPO[/PATH]@REF, or docker://IMAGE.
	Uses string `json:"uses"`
	// Version is what the comment behind a pin says.
	Version string `json:"version,omitempty"`
	// Pinned says that it is a whole commit, or an image by its digest.
	Pinned bool `json:"pinned"`
}

// Inside lists what an action or reusable workflow uses itself at a commit: other actions, and
// images; nothing of its own repository. Errors wrap ErrUnknown if it has no file that says so,
// as an action that is only a Dockerfile.
func Inside(ctx context.Context, from Reader, ref Reference, commit string) ([]InnerUse, error) {
	text, err := actionFile(ctx, from, ref, commit)
	if err != nil {
		return nil, err
	}
	d, err := Parse(ref.String(), text)
	if err != nil {
		return nil, err
	}
	kind := KindAction
	if strings.HasPrefix(ref.Path, "/.github/workflows/") {
		kind = KindWorkflow
	}
	var out []InnerUse
	for _, u := range d.uses(kind) {
		v := u.node.Value
		image, isImage := strings.CutPrefix(v, "docker://")
		switch next, ok := ParseReference(v); {
		case u.image || isImage:
			if !strings.Contains(image, "${{") {
				out = append(out, InnerUse{Uses: "docker://" + image, Pinned: strings.Contains(image, "@sha256:")})
			}
		case ok:
			out = append(out, InnerUse{Uses: v, Version: d.comment(u), Pinned: next.Pinned()})
		}
	}
	return out, nil
}

// Follow adds what the actions use themselves, down to its end, with the way there. Problems say
// what could not be followed; the rest is followed all the same. The error is ctx's.
func (i *Inventory) Follow(ctx context.Context, from Follower) (problems []error, err error) {
	type direct struct {
		ref    Reference
		places []Place
	}
	var all []direct
	for _, u := range i.Used() {
		for _, v := range u.Versions {
			ref, _ := ParseReference(u.Name + "@" + v.Ref)
			all = append(all, direct{ref, slices.Clone(v.At)})
		}
	}
	inner := make(map[string][]InnerUse)
	look := func(ref Reference) []InnerUse {
		key := ref.String()
		uses, known := inner[key]
		if known || ctx.Err() != nil {
			return uses
		}
		now, err := from.Resolve(ctx, ref.Repository, ref.Ref)
		if err == nil {
			uses, err = Inside(ctx, from, ref, now.Commit)
			if errors.Is(err, ErrUnknown) {
				err = nil // no action.yml: a Dockerfile alone
			}
		}
		if err != nil && ctx.Err() == nil {
			problems = append(problems, fmt.Errorf("what %s uses is not known: %w", key, err))
		}
		inner[key] = uses
		return uses
	}
	var follow func(ref Reference, chain []string, places []Place)
	follow = func(ref Reference, chain []string, places []Place) {
		chain = append(slices.Clip(chain), ref.String())
		for _, u := range look(ref) {
			next, ok := ParseReference(u.Uses)
			if !ok || slices.Contains(chain, u.Uses) {
				continue
			}
			for _, at := range places {
				at.Through = chain
				i.add(next, u.Version, at)
			}
			if len(chain) > maxChain {
				problems = append(problems, fmt.Errorf("%s, and so on: it is followed no further", strings.Join(chain, " uses ")))
				continue
			}
			follow(next, chain, places)
		}
	}
	for _, d := range all {
		follow(d.ref, nil, d.places)
	}
	return problems, ctx.Err()
}
