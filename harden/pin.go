package harden

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Severity of findings, as SARIF's levels.
type Severity string

// Severities.
const (
	SeverityNote    Severity = "note"
	SeverityWarning Severity = "warning"
	SeverityError   Severity = "error"
)

// Finding is something that a person should look at: there is no safe fix, or the fix is one of
// Fixes.
type Finding struct {
	// Rule that found it, for instance "unpinned".
	Rule string `json:"rule"`
	// Severity of it.
	Severity Severity `json:"severity"`
	// At is where.
	At Position `json:"at"`
	// Message for people, a sentence.
	Message string `json:"message"`
}

// pins finds what is not pinned in a workflow or an action, and how it would be.
func (h *hardener) pins(ctx context.Context, d *Document, kind Kind) (fixes []Fix, findings []Finding) {
	for _, u := range d.uses(kind) {
		if h.replaced[u.node] {
			continue
		}
		var f []Fix
		var found []Finding
		image, isImage := strings.CutPrefix(u.node.Value, "docker://")
		switch {
		case u.image:
			f, found = h.pinImage(ctx, d, u, "", u.node.Value)
		case isImage:
			f, found = h.pinImage(ctx, d, u, "docker://", image)
		default:
			f, found = h.pinAction(ctx, d, u)
		}
		fixes, findings = append(fixes, f...), append(findings, found...)
	}
	return fixes, findings
}

// exempt says whether somebody decided that something stays as it is.
func (h *hardener) exempt(what string) bool {
	for _, p := range h.Exempt {
		if ok, err := path.Match(p, what); err == nil && ok {
			return true
		}
	}
	return false
}

func (h *hardener) pinAction(ctx context.Context, d *Document, u use) ([]Fix, []Finding) {
	at := position(u.node)
	found := func(rule string, s Severity, format string, args ...any) []Finding {
		return []Finding{{rule, s, at, fmt.Sprintf(format, args...)}}
	}
	ref, ok := ParseReference(u.node.Value)
	switch {
	case !ok && strings.Contains(u.node.Value, "@") && !strings.HasPrefix(u.node.Value, ".") && !strings.HasPrefix(u.node.Value, "$"):
		return nil, found("unpinned", SeverityWarning, "%s is no reference that can be pinned", u.node.Value)
	case !ok || h.exempt(ref.Repository):
		return nil, nil
	}
	if ref.Pinned() {
		return h.checkPin(ctx, d, u, ref, d.commentBehind(u.node))
	}
	now, said, err := h.resolver.action(ctx, ref)
	findings := said.findings(at, ref)
	if err != nil {
		return nil, append(findings, found("unpinned", unpinnedSeverity(err), "%s is not pinned to a commit: %v", ref, err)...)
	}
	version := now.Version
	if version == "" {
		version = ref.Ref
	}
	fix, err := h.pinTo(d, u, ref, now.Commit, version)
	if err != nil {
		return nil, append(findings, Finding{"unpinned", SeverityWarning, at, fmt.Sprintf("%s is not pinned to a commit, and cannot be by this program: %v", ref, err)})
	}
	kind := "a tag, which its owner can move"
	if now.Branch {
		kind = "a branch, which moves"
	}
	if now.Immutable && !moves(ref.Ref, now.Branch) {
		kind = "the tag of an immutable release, which GitHub lets nobody move, as long as there is the release"
	}
	fix.Reason = fmt.Sprintf("%s is %s; pinned to the commit that it stands for", ref, kind)
	if said.young != nil {
		fix.Reason = fmt.Sprintf("%s is %s; pinned to the newest of its versions that is old enough", ref, kind)
	}
	return []Fix{fix}, findings
}

// findings are what is said of a reference.
func (n news) findings(at Position, ref Reference) (out []Finding) {
	if n.moved != nil {
		out = append(out, moveOf(at, ref, n.moved))
	}
	if n.young != nil && n.young.took != "" {
		out = append(out, youngOf(at, ref, n.young))
	}
	if n.ageless != "" {
		out = append(out, Finding{"cool-down", SeverityNote, at, fmt.Sprintf("how old %s is is not known: %s", ref, n.ageless)})
	}
	return out
}

// moveOf tells of a reference that stands for another commit than before.
func moveOf(at Position, ref Reference, m *move) Finding {
	if moves(ref.Ref, m.now.Branch) {
		return Finding{"moved", SeverityNote, at, fmt.Sprintf("%s was %s since %s and is %s now", ref, m.before.Commit, m.before.Seen, m.now.Commit)}
	}
	if m.before.Immutable {
		return Finding{"moved-immutable", SeverityError, at, fmt.Sprintf("%s was %s since %s and is %s now, though its release was immutable, which GitHub lets nobody move: the repository is another than it was, or its release was taken away; use nothing of it until you know why. It stays at what it was", ref, m.before.Commit, m.before.Seen, m.now.Commit)}
	}
	return Finding{"moved", SeverityError, at, fmt.Sprintf("%s was %s since %s and is %s now: that is how actions were taken over; it stays at what it was until somebody takes it out of %s", ref, m.before.Commit, m.before.Seen, m.now.Commit, LockFile)}
}

// unpinnedSeverity is that of a reference that could not be resolved.
func unpinnedSeverity(err error) Severity {
	if errors.Is(err, ErrUnknown) {
		return SeverityError // it does not exist: whoever makes it decides what runs
	}
	return SeverityWarning
}

func (h *hardener) pinTo(d *Document, u use, ref Reference, commit, version string) (Fix, error) {
	ref.Ref = commit
	comment := version
	if inFlow(d.Root, u.node) {
		comment = ""
	}
	edits, err := d.replaceScalar(u.node, ref.String(), comment)
	if err != nil {
		return Fix{}, err
	}
	return Fix{Rule: "pin", At: position(u.node), edits: edits, mutate: func() { u.node.Value = ref.String() }}, nil
}

// checkPin holds a pin to the repository that it names, and the comment behind it to the commit.
func (h *hardener) checkPin(ctx context.Context, d *Document, u use, ref Reference, comment string) ([]Fix, []Finding) {
	at := position(u.node)
	why, unknown := h.resolver.foreign(ctx, ref)
	if why != "" {
		return nil, []Finding{{"impostor-commit", SeverityError, at, why}}
	}
	fixes, findings := h.checkComment(ctx, d, u, ref, comment)
	if unknown != "" {
		findings = append(findings, Finding{"impostor-commit", SeverityNote, at, fmt.Sprintf("whether commit %s is of %s is not known: %s", ref.Ref, ref.Repository, unknown)})
	}
	return fixes, findings
}

// checkComment holds the comment behind a pin to what the commit is.
func (h *hardener) checkComment(ctx context.Context, d *Document, u use, ref Reference, comment string) ([]Fix, []Finding) {
	at := position(u.node)
	said := versionComment(comment)
	if comment != "" && said == "" || inFlow(d.Root, u.node) {
		return nil, nil // it says something else
	}
	if said == "" {
		now, _, err := h.resolver.action(ctx, ref)
		if err != nil || now.Version == "" {
			return nil, nil // no tag is at this commit, or nobody can be asked
		}
		fix, err := h.pinTo(d, u, ref, ref.Ref, now.Version)
		if err != nil || len(fix.edits) == 0 {
			return nil, nil
		}
		fix.Reason = fmt.Sprintf("the version that %s is pinned at was not said", ref.Repository)
		return []Fix{fix}, nil
	}
	named := Reference{Repository: ref.Repository, Ref: said}
	take, news, err := h.resolver.action(ctx, named)
	now := news.current(take)
	switch {
	case errors.Is(err, ErrUnknown):
		return nil, []Finding{{"pin-comment", SeverityWarning, at, fmt.Sprintf("the comment says %s, and %s has no such tag", said, ref.Repository)}}
	case err != nil && news.young == nil:
		return nil, nil // nobody can be asked
	}
	if news.moved != nil {
		return nil, []Finding{moveOf(at, named, news.moved)}
	}
	if now.Commit == ref.Ref {
		return nil, nil
	}
	// A major version moves on by design: then the commit has a version of its own.
	own, _, err := h.resolver.action(ctx, ref)
	if err != nil {
		return nil, nil
	}
	if own.Version == "" {
		return nil, []Finding{{"pin-comment", SeverityError, at, fmt.Sprintf("the comment says %s, which is %s, not this commit, and no tag of %s is at this commit", said, now.Commit, ref.Repository)}}
	}
	if strings.HasPrefix(own.Version, said+".") {
		return nil, nil // v4 said of v4.2.2
	}
	fix, err := h.pinTo(d, u, ref, ref.Ref, own.Version)
	if err != nil {
		return nil, nil
	}
	fix.Reason = fmt.Sprintf("the comment says %s, the commit is %s", said, own.Version)
	return []Fix{fix}, []Finding{{"pin-comment", SeverityWarning, at, fmt.Sprintf("the comment behind %s says %s, and the commit is %s", ref.Repository, said, own.Version)}}
}

// imageForm is an image's name with tag or digest.
var imageForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]*(:[A-Za-z0-9._-]+)?$`)

func (h *hardener) pinImage(ctx context.Context, d *Document, u use, scheme, image string) ([]Fix, []Finding) {
	at := position(u.node)
	if strings.Contains(image, "@sha256:") || strings.Contains(image, "${{") || image == "" || h.exempt(image) {
		return nil, nil
	}
	if !imageForm.MatchString(image) {
		return nil, []Finding{{"unpinned-image", SeverityWarning, at, fmt.Sprintf("%s is no image that can be pinned", image)}}
	}
	digest, moved, err := h.resolver.image(ctx, image)
	if err != nil {
		return nil, []Finding{{"unpinned-image", SeverityWarning, at, fmt.Sprintf("image %s is not pinned to a digest: %v", image, err)}}
	}
	var findings []Finding
	if moved != nil {
		findings = append(findings, Finding{"moved", SeverityNote, at, fmt.Sprintf("image %s was %s since %s and is %s now", image, moved.Digest, moved.Seen, digest)})
	}
	pinned := scheme + image + "@" + digest
	edits, err := d.replaceScalar(u.node, pinned, "")
	if err != nil {
		return nil, append(findings, Finding{"unpinned-image", SeverityWarning, at, fmt.Sprintf("image %s is not pinned, and cannot be by this program: %v", image, err)})
	}
	return []Fix{{
		Rule: "pin", At: at, Reason: fmt.Sprintf("image %s is a tag, which its owner can move; pinned to the digest that it stands for", image),
		edits: edits, mutate: func() { u.node.Value = pinned },
	}}, findings
}
