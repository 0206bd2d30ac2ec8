package stream

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// ErrForeign is wrapped, beside ErrMalformed, by the error about a message in which an
// agent speaks for a repository or a run that its identity does not stand for.
var ErrForeign = errors.New("the agent speaks for what it is not")

// What an agent's identity can be bound to. Such an identity is
// <prefix><binding>-<rest>, the binding being a digest of what the agent may speak for, so
// that every reader of its messages can check them without asking anybody. All other
// identities are bound to nothing.
const (
	// jobPrefix binds to a repository, a run of it and an attempt.
	jobPrefix = "job-"
	// repositoryPrefix binds to a repository.
	repositoryPrefix = "repo-"
	// ownerPrefix binds to all repositories of an owner.
	ownerPrefix = "org-"
)

// bindingLength is the length of a binding in characters: 128 bits.
const bindingLength = 26

// MaxBoundName is how long the name in a bound identity may be, in characters.
const MaxBoundName = 64 - len(repositoryPrefix) - bindingLength - 1

var bindingText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// binding is the digest in an identity. Names on GitHub are the same in upper and lower
// case.
func binding(prefix string, of ...string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "sallyport agent %q %q", prefix, of))
	return bindingText.EncodeToString(h[:16])
}

func jobBinding(repository, runID string, attempt uint32) string {
	return binding(jobPrefix, strings.ToLower(repository), runID, fmt.Sprint(attempt))
}

func repositoryBinding(repository string) string {
	return binding(repositoryPrefix, strings.ToLower(repository))
}

func ownerBinding(repository string) string {
	owner, _, _ := strings.Cut(repository, "/")
	return binding(ownerPrefix, strings.ToLower(owner))
}

// JobAgentID returns the identity of the agent that may speak for one attempt of a run of
// a repository, "owner/name". It is the same for the same nkey (the public key of an nkeys
// user), so that an agent knows it before anybody has told it, and keeps it.
func JobAgentID(repository, runID string, attempt uint32, nkey string) string {
	h := sha256.Sum256([]byte(nkey))
	return jobPrefix + jobBinding(repository, runID, attempt) + "-" + bindingText.EncodeToString(h[:10])
}

// RepositoryAgentID returns the identity of the agent name that may speak for the runs of
// one repository, or for all of an owner's: pattern is OWNER/NAME or OWNER/*.
func RepositoryAgentID(pattern, name string) (string, error) {
	owner, repository, ok := strings.Cut(pattern, "/")
	if !ok || !repositoryWord(owner) || repository != "*" && !repositoryWord(repository) {
		return "", fmt.Errorf("%q is not OWNER/NAME or OWNER/*", pattern)
	}
	id := repositoryPrefix + repositoryBinding(pattern) + "-" + name
	if repository == "*" {
		id = ownerPrefix + ownerBinding(pattern) + "-" + name
	}
	if len(name) > MaxBoundName || !ValidAgentID(name) {
		return "", fmt.Errorf("the name %q is not 1 to %d characters of [A-Za-z0-9_-]", name, MaxBoundName)
	}
	return id, nil
}

// repositoryWord says whether a word can be the name of an owner or of a repository on
// GitHub.
func repositoryWord(s string) bool {
	return s != "" && len(s) <= 100 && s != "." && s != ".." && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.'
	}) < 0
}

// ValidRepository says whether a text is OWNER/NAME as GitHub has them.
func ValidRepository(s string) bool {
	owner, name, ok := strings.Cut(s, "/")
	return ok && repositoryWord(owner) && repositoryWord(name)
}

// BoundToRun says whether an agent's identity stands for one attempt of a run and nothing else.
func BoundToRun(agentID string) bool {
	prefix, _, bound := splitBound(agentID)
	return bound && prefix == jobPrefix
}

// Bound says whether an agent's identity stands for something.
func Bound(agentID string) bool {
	_, _, bound := splitBound(agentID)
	return bound
}

func splitBound(agentID string) (prefix, digest string, bound bool) {
	for _, prefix := range []string{jobPrefix, repositoryPrefix, ownerPrefix} {
		rest, ok := strings.CutPrefix(agentID, prefix)
		if !ok || len(rest) < bindingLength+2 || rest[bindingLength] != '-' {
			continue
		}
		digest := rest[:bindingLength]
		if strings.Trim(digest, "abcdefghijklmnopqrstuvwxyz234567") == "" {
			return prefix, digest, true
		}
	}
	return "", "", false
}

// MaySpeakFor says whether an agent's identity stands for what an attribution names. What
// is bound to nothing may speak for everything. A bound agent may not speak for a job
// without a repository either.
func MaySpeakFor(agentID string, a *sallyportv1.Attribution) bool {
	prefix, digest, bound := splitBound(agentID)
	switch {
	case !bound:
		return true
	case !ValidRepository(a.GetRepository()):
		return false
	case prefix == jobPrefix:
		return digest == jobBinding(a.GetRepository(), a.GetRunId(), a.GetRunAttempt())
	case prefix == repositoryPrefix:
		return digest == repositoryBinding(a.GetRepository())
	default:
		return digest == ownerBinding(a.GetRepository())
	}
}

// checkBinding returns an error that wraps ErrForeign if an attribution is not the
// agent's.
func checkBinding(agentID string, attributions []*sallyportv1.Attribution) error {
	for _, a := range attributions {
		if !MaySpeakFor(agentID, a) {
			return fmt.Errorf("%w: agent %s says something of repository %.200q, run %.50q, attempt %d",
				ErrForeign, agentID, a.GetRepository(), a.GetRunId(), a.GetRunAttempt())
		}
	}
	return nil
}
