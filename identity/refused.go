package identity

import (
	"errors"
	"fmt"
)

// Reason is why somebody is refused, one word for metrics and records.
type Reason string

// Reasons.
const (
	ReasonOversized    Reason = "oversized"
	ReasonMalformed    Reason = "malformed"
	ReasonAlgorithm    Reason = "algorithm"
	ReasonIssuer       Reason = "issuer"
	ReasonUnknownKey   Reason = "unknown_key"
	ReasonSignature    Reason = "signature"
	ReasonAudience     Reason = "audience"
	ReasonExpired      Reason = "expired"
	ReasonNotYetValid  Reason = "not_yet_valid"
	ReasonClaims       Reason = "claims"
	ReasonRepository   Reason = "repository"
	ReasonReplayed     Reason = "replayed"
	ReasonEnrolmentKey Reason = "enrolment_key"
	ReasonName         Reason = "name"
	ReasonRevoked      Reason = "revoked"
	ReasonProof        Reason = "proof"
)

// RefusedError says that somebody is not given a credential. Trying again with the same does
// not help.
type RefusedError struct {
	// Reason in one word.
	Reason Reason
	// Detail for people; it never holds a token or a key.
	Detail string
	// Repository and RunID that the caller claimed to be of, if it did.
	Repository, RunID string
}

func (r *RefusedError) Error() string { return string(r.Reason) + ": " + r.Detail }

func refuse(reason Reason, format string, args ...any) *RefusedError {
	return &RefusedError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// ErrUnavailable is wrapped by errors about what cannot be checked now and may be later.
var ErrUnavailable = errors.New("cannot be checked now")

// ErrNotOffered says that this server does not let anybody in that way.
var ErrNotOffered = errors.New("this server does not offer it")

// ErrNotEnrolled says that there is no such enrolment.
var ErrNotEnrolled = errors.New("no such enrolment")

// ErrInvalid is wrapped by errors about a request that nobody can mean.
var ErrInvalid = errors.New("invalid request")
