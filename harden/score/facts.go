package score

import (
	"time"

	"github.com/sallyport-ci/sallyport/harden"
)

// Facts are what was learned of an action at a commit. What is nil could not be learned, and
// Unknown says why.
type Facts struct {
	// Action is OWNER/REPO[/PATH], Ref what stands behind the @ where it is used.
	Action string `json:"action"`
	Ref    string `json:"ref"`
	// Commit that the reference stands for, Version its most precise tag.
	Commit  string `json:"commit,omitempty"`
	Version string `json:"version,omitempty"`
	// Learned is when: ages are counted to it.
	Learned time.Time `json:"learned"`

	Upkeep       *Upkeep            `json:"upkeep,omitempty"`
	Stars        *int               `json:"stars,omitempty"`
	Owner        *Owner             `json:"owner,omitempty"`
	Inside       *[]harden.InnerUse `json:"inside,omitempty"`
	Permissions  *[]Permission      `json:"permissions,omitempty"`
	Destinations *Destinations      `json:"destinations,omitempty"`
	Incidents    *[]Incident        `json:"incidents,omitempty"`
	Policy       *bool              `json:"security_policy,omitempty"`
	Origin       *Origin            `json:"origin,omitempty"`
	Release      *Release           `json:"release,omitempty"`
	Unknown      map[string]string  `json:"unknown,omitempty"`
}

// Upkeep says whether somebody still works on it.
type Upkeep struct {
	Archived bool      `json:"archived"`
	Pushed   time.Time `json:"pushed"`
	// Released is the newest release; zero if there is none.
	Released time.Time `json:"released,omitzero"`
}

// Owner is who owns the repository.
type Owner struct {
	Organisation bool `json:"organisation"`
	// Verified says that GitHub has verified the organisation's domain.
	Verified bool `json:"verified"`
}

// Permission is one that the action asks of the job's token.
type Permission struct {
	Scope string `json:"scope"`
	Write bool   `json:"write"`
	// Conditional says that it depends on the action's inputs.
	Conditional bool `json:"conditional,omitempty"`
}

// Destinations are what the action was seen to contact, at the version in use.
type Destinations struct {
	// Seen are hosts, or addresses where no name was looked up, ordered.
	Seen []string `json:"seen"`
	// Expected are hosts that the catalogue names.
	Expected []string `json:"expected"`
}

// Incident is a compromise or a vulnerability that was published.
type Incident struct {
	// ID is a number at GitHub's or a month, What the summary.
	ID   string `json:"id"`
	What string `json:"what"`
	// Severity as GitHub says it; compromised for one of the catalogue's.
	Severity string `json:"severity"`
	// Affects says whether the version in use is affected: yes, no, or unknown.
	Affects string `json:"affects"`
}

// What Incident.Affects may be.
const (
	AffectsYes     = "yes"
	AffectsNo      = "no"
	AffectsUnknown = "unknown"
)

// compromised is the severity of an incident of the catalogue.
const compromised = "compromised"

// Origin says where the commit comes from.
type Origin struct {
	// Within says that a branch or a tag of the repository leads to it, Where which.
	Within bool   `json:"within"`
	Where  string `json:"where,omitempty"`
	// Signed says that GitHub has verified its signature.
	Signed bool `json:"signed"`
}

// Release is that of the version in use.
type Release struct {
	// Tag of it; empty if the commit is no release.
	Tag       string    `json:"tag,omitempty"`
	Published time.Time `json:"published,omitzero"`
	// Immutable says that GitHub keeps its tag and its assets as they are.
	Immutable bool `json:"immutable"`
}
