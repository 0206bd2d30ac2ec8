package catalogue

import "fmt"

// Scope is a permission of the job's token, by the key that a workflow's permissions use.
type Scope string

// Access is how much of a scope. The zero value is none.
type Access int

// From less to more: write includes read.
const (
	None Access = iota
	Read
	Write
)

// scopes are the scopes that a workflow can name, with the least and the most that each
// takes besides none (github/docs, data/reusables/actions/github-token-scope-descriptions.md
// at 0afe69c). Some are one-sided: an OIDC token is written or not, models and Dependabot's
// alerts are only read.
var scopes = map[Scope]struct{ least, most Access }{
	"actions":              {Read, Write},
	"artifact-metadata":    {Read, Write},
	"attestations":         {Read, Write},
	"checks":               {Read, Write},
	"contents":             {Read, Write},
	"deployments":          {Read, Write},
	"discussions":          {Read, Write},
	"id-token":             {Write, Write},
	"issues":               {Read, Write},
	"models":               {Read, Read},
	"packages":             {Read, Write},
	"pages":                {Read, Write},
	"pull-requests":        {Read, Write},
	"repository-projects":  {Read, Write},
	"security-events":      {Read, Write},
	"statuses":             {Read, Write},
	"vulnerability-alerts": {Read, Read},
}

// String gives the word that a workflow uses.
func (a Access) String() string {
	switch a {
	case None:
		return "none"
	case Read:
		return "read"
	case Write:
		return "write"
	default:
		return fmt.Sprintf("Access(%d)", int(a))
	}
}

// UnmarshalText reads "read" or "write"; an entry that needs nothing has no need to say so.
func (a *Access) UnmarshalText(text []byte) error {
	switch string(text) {
	case "read":
		*a = Read
	case "write":
		*a = Write
	default:
		return fmt.Errorf("access %q is neither read nor write", text)
	}
	return nil
}

// Allows says whether there is such an access of the scope.
func (s Scope) Allows(a Access) bool {
	limit, ok := scopes[s]
	return ok && a >= limit.least && a <= limit.most
}
