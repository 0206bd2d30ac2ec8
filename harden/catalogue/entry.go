package catalogue

import (
	"fmt"
	"time"
)

// Entry is what is known of one action.
type Entry struct {
	// Name is what stands before the @ in uses: owner/repo or owner/repo/path.
	Name string `yaml:"name"`

	// Sources are the files that were read for this entry; at least one.
	Sources []Source `yaml:"sources"`

	// Runs is what the copy that was read runs on: composite, docker, plugin or a node
	// version (runs.using in action.yml); empty if no action.yml was read.
	Runs string `yaml:"runs,omitempty"`

	// Token says how the job's token reaches the action; nil if no input and no
	// variable of the files that were read takes one.
	Token *Token `yaml:"token,omitempty"`

	// Needs are what the action asks of the token. None means that the action works
	// with permissions: {}, but for what Unsure says.
	Needs []Need `yaml:"needs,omitempty"`

	// Unsure says why no list of needs can be complete: a script of the user's, a
	// configuration file, a tool that does what its arguments say. Empty if the list
	// is.
	Unsure string `yaml:"unsure,omitempty"`

	// Endpoints are the hosts that the files that were read name, as an allowlist
	// writes them. They are not all that the action may contact.
	Endpoints []string `yaml:"endpoints,omitempty"`

	// Archived says that the repository is archived or no longer kept; ReplacedBy is
	// what its owner, or those who left it, use instead.
	Archived   bool   `yaml:"archived,omitempty"`
	ReplacedBy string `yaml:"replaced_by,omitempty"`

	// Safer are ways of doing the same with less trust in somebody else, as somebody says
	// who knows: its owner, GitHub, or whoever had to clean up after it.
	Safer []Safer `yaml:"safer,omitempty"`

	// Incidents are the compromises that have been published.
	Incidents []Incident `yaml:"incidents,omitempty"`
}

// Dated says that the copy that was read ran on what GitHub's runners no longer have, so
// that versions in use today are newer and may ask for more or for less.
func (e *Entry) Dated() bool {
	switch e.Runs {
	case "node12", "node16", "plugin":
		return true
	default:
		return false
	}
}

// Source is a file that was read: its path in the action's repository and the commit.
// The commit is that of the copy that was read, which need not be the newest, nor even on
// a branch of the repository: GitHub serves a fork's commits below the parent's name.
type Source struct {
	Path   string `yaml:"path,omitempty"`
	Commit string `yaml:"commit,omitempty"`

	// Page is the address of what was read where it is no file, such as a commit or an
	// issue on GitHub. It stands instead of Path and Commit.
	Page string `yaml:"page,omitempty"`

	// Fork says that the text of the file names another author: the commit is a
	// fork's, and the facts are only as good as the likeness of the two.
	Fork bool `yaml:"fork,omitempty"`

	// Repository is where the file is, if not in the action's own repository.
	Repository string `yaml:"repository,omitempty"`

	// Read is the day on which it was read, in UTC. The loader sets it from the file's
	// head.
	Read time.Time `yaml:"-"`

	// URL is where a person finds the file. The loader sets it.
	URL string `yaml:"-"`
}

// String names the file, the commit and the day.
func (s Source) String() string {
	if s.Page != "" {
		return fmt.Sprintf("%s read %s", s.Page, s.Read.Format(time.DateOnly))
	}
	return fmt.Sprintf("%s read %s commit %s", s.Path, s.Read.Format(time.DateOnly), s.Commit)
}

// Token says how the job's token reaches an action. Several ways may be open at once.
type Token struct {
	// Inputs are the inputs that take the token, the one that the action prefers
	// first.
	Inputs []string `yaml:"inputs,omitempty"`

	// Default says that the first input is filled with the job's token if nobody sets
	// it: then the action holds the token though the workflow never names it.
	Default bool `yaml:"default,omitempty"`

	// Always says that the action takes the job's token itself, by github.token in a
	// composite action, or hands it to an action that it uses.
	Always bool `yaml:"always,omitempty"`

	// Env are the environment variables from which the action takes a token.
	Env []string `yaml:"env,omitempty"`
}

// Basis says how a need is known.
type Basis string

const (
	// Stated means that a file that was read says that the action needs this permission.
	Stated Basis = "stated"
	// Derived means that a file that was read says what the action does, and GitHub's
	// table of the token's permissions (see scopes) says under which that falls.
	Derived Basis = "derived"
)

// Need is one scope that an action needs, and when.
type Need struct {
	Scope  Scope  `yaml:"scope"`
	Access Access `yaml:"access"`
	Basis  Basis  `yaml:"basis"`

	// When are conditions on the step's inputs that must all hold; none means always.
	When []Condition `yaml:"when,omitempty"`

	// By is the one of the token's inputs that the need is about, where an action takes
	// several tokens for several ends; empty for all.
	By string `yaml:"by,omitempty"`

	// Bypass says that the permission is used by another road than a token handed to
	// the action: an OIDC token that the runner gives out, credentials that an
	// earlier docker login or checkout left behind. Then it does not matter which
	// token the step got.
	Bypass bool `yaml:"bypass,omitempty"`

	// Private says that only private repositories need it, since what is read is open to
	// all in a public one. The need counts all the same: whoever asks knows the
	// repository.
	Private bool `yaml:"private,omitempty"`

	// Note says what no condition can: "on events of pull requests", "comments on the
	// issue". The need counts all the same.
	Note string `yaml:"note,omitempty"`
}

// Condition is a test of one input. Exactly one of Is, Not, Contains and Set is given.
// Texts compare without regard to case, as GitHub's expressions do.
type Condition struct {
	Input    string  `yaml:"input"`
	Is       *string `yaml:"is,omitempty"`
	Not      *string `yaml:"not,omitempty"`
	Contains *string `yaml:"contains,omitempty"`

	// Set asks whether the input is there and not empty.
	Set *bool `yaml:"set,omitempty"`

	// Default is the action's own value of an input that the step does not set.
	Default string `yaml:"default,omitempty"`
}

// Safer is something that does what an action does, and asks for less trust.
type Safer struct {
	// Use is an action, owner/repo or owner/repo/path, or a command in backquotes.
	Use string `yaml:"use" json:"use"`
	// Why, in one sentence.
	Why string `yaml:"why" json:"why"`
	// Page is who says so: an address at GitHub.
	Page string `yaml:"page" json:"page"`
}
