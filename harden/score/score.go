package score

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Weights are those of the parts, in the order in which they are shown. The score is the mean of
// the points by these.
var Weights = []struct {
	Part   string
	Weight int
}{
	{"incidents", 4},
	{"origin", 4},
	{"maintenance", 3},
	{"dependencies", 3},
	{"owner", 2},
	{"permissions", 2},
	{"destinations", 2},
	{"release", 2},
	{"popularity", 1},
	{"policy", 1},
}

// Part is one of the ten.
type Part struct {
	Name   string `json:"name"`
	Weight int    `json:"weight"`
	// Known says whether anything could be learned; without it Points count for nothing.
	Known bool `json:"known"`
	// Points from 0 to 10.
	Points int `json:"points"`
	// Reason for the points, or why it is not known.
	Reason string `json:"reason"`
}

// Limit holds the whole score down.
type Limit struct {
	// Most that the score can be.
	Most   float64 `json:"most"`
	Reason string  `json:"reason"`
}

// Score is the trust in an action at a commit, with its reasons.
type Score struct {
	Action  string `json:"action"`
	Ref     string `json:"ref"`
	Commit  string `json:"commit,omitempty"`
	Version string `json:"version,omitempty"`
	// Score from 0 to 10, one digit; nil if no part is known.
	Score *float64 `json:"score"`
	// Known of Of parts are known.
	Known  int     `json:"known"`
	Of     int     `json:"of"`
	Parts  []Part  `json:"parts"`
	Limits []Limit `json:"limits,omitempty"`
}

// Of scores facts.
func Of(f *Facts) *Score {
	s := &Score{Action: f.Action, Ref: f.Ref, Commit: f.Commit, Version: f.Version, Of: len(Weights)}
	sum, weights := 0, 0
	for _, w := range Weights {
		p := Part{Name: w.Part, Weight: w.Weight}
		p.Points, p.Reason, p.Known = f.judge(w.Part)
		if !p.Known {
			p.Points = 0
			if p.Reason = f.Unknown[w.Part]; p.Reason == "" {
				p.Reason = "not learned"
			}
		} else {
			s.Known++
			sum, weights = sum+p.Points*p.Weight, weights+p.Weight
		}
		s.Parts = append(s.Parts, p)
	}
	s.Limits = f.limits()
	if weights == 0 {
		return s
	}
	score := math.Round(10*float64(sum)/float64(weights)) / 10
	for _, l := range s.Limits {
		score = min(score, l.Most)
	}
	s.Score = &score
	return s
}

// judge gives the points of a part.
func (f *Facts) judge(part string) (points int, reason string, known bool) {
	switch part {
	case "incidents":
		return f.incidents()
	case "origin":
		return f.origin()
	case "maintenance":
		return f.maintenance()
	case "dependencies":
		return f.dependencies()
	case "owner":
		return f.owner()
	case "permissions":
		return f.permissions()
	case "destinations":
		return f.destinations()
	case "release":
		return f.release()
	case "popularity":
		return f.popularity()
	case "policy":
		switch {
		case f.Policy == nil:
			return 0, "", false
		case *f.Policy:
			return 10, "it says how a vulnerability is reported", true
		}
		return 0, "it does not say how a vulnerability is reported", true
	}
	return 0, "", false
}

func (f *Facts) incidents() (int, string, bool) {
	if f.Incidents == nil {
		return 0, "", false
	}
	points, reasons := 10, []string{}
	for _, i := range *f.Incidents {
		at, how := 7, "not of this version"
		switch {
		case i.Affects == AffectsYes:
			at, how = 0, "of this version"
		case i.Affects == AffectsUnknown && i.Severity == compromised:
			at, how = 4, "nobody says of which versions"
		case i.Affects == AffectsUnknown:
			at, how = 3, "of this version or not, which is not known"
		case i.Severity == compromised:
			at = 5
		}
		points = min(points, at)
		reasons = append(reasons, fmt.Sprintf("%s (%s, %s): %s", i.ID, i.Severity, how, i.What))
	}
	if len(reasons) == 0 {
		return 10, "none is known", true
	}
	return points, strings.Join(reasons, "; "), true
}

func (f *Facts) origin() (int, string, bool) {
	switch o := f.Origin; {
	case o == nil:
		return 0, "", false
	case !o.Within:
		return 0, "no branch or tag of the repository leads to the commit: it may be a stranger's, from a fork", true
	case o.Signed:
		return 10, "in " + o.Where + ", with a signature that GitHub verified", true
	default:
		return 6, "in " + o.Where + ", without a signature that GitHub verified", true
	}
}

func (f *Facts) maintenance() (int, string, bool) {
	u := f.Upkeep
	if u == nil {
		return 0, "", false
	}
	if u.Archived {
		return 0, "archived: nobody mends it any more", true
	}
	last, what := u.Pushed, "last push"
	if u.Released.After(last) {
		last, what = u.Released, "last release"
	}
	days := f.days(last)
	reason := fmt.Sprintf("%s %s before", what, counted(days))
	switch {
	case days <= 180:
		return 10, reason, true
	case days <= 365:
		return 7, reason, true
	case days <= 730:
		return 4, reason, true
	}
	return 1, reason, true
}

func (f *Facts) days(since time.Time) int { return max(int(f.Learned.Sub(since).Hours()/24), 0) }

func counted(days int) string {
	if days == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", days)
}

func (f *Facts) dependencies() (int, string, bool) {
	if f.Inside == nil {
		return 0, "", false
	}
	all, loose := len(*f.Inside), []string{}
	for _, u := range *f.Inside {
		if !u.Pinned {
			loose = append(loose, u.Uses)
		}
	}
	switch {
	case all == 0:
		return 10, "it uses no other action or image", true
	case len(loose) == 0:
		return 10, fmt.Sprintf("all %d that it uses are pinned", all), true
	}
	return min(5, 10*(all-len(loose))/all), fmt.Sprintf("%d of the %d that it uses are not pinned: %s", len(loose), all, strings.Join(loose, ", ")), true
}

func (f *Facts) owner() (int, string, bool) {
	switch o := f.Owner; {
	case o == nil:
		return 0, "", false
	case o.Organisation && o.Verified:
		return 10, "an organisation whose domain GitHub has verified", true
	case o.Organisation:
		return 5, "an organisation that GitHub has not verified", true
	}
	return 3, "a person", true
}

func (f *Facts) permissions() (int, string, bool) {
	if f.Permissions == nil {
		return 0, "", false
	}
	points, names := 10, []string{}
	writes := 0
	for _, p := range *f.Permissions {
		name := p.Scope + ": read"
		points = min(points, 8)
		if p.Write {
			name = p.Scope + ": write"
			writes++
			// What can change code, or stand in for the repository elsewhere.
			if slices.Contains([]string{"contents", "actions", "id-token", "packages"}, p.Scope) {
				points = min(points, 3)
			} else {
				points = min(points, 5)
			}
		}
		if p.Conditional {
			name += " (by its inputs)"
		}
		names = append(names, name)
	}
	if writes > 2 {
		points = min(points, 2)
	}
	if len(names) == 0 {
		return 10, "none of the job's token", true
	}
	return points, strings.Join(names, ", "), true
}

func (f *Facts) destinations() (int, string, bool) {
	d := f.Destinations
	if d == nil {
		return 0, "", false
	}
	var others, bare []string
	for _, host := range d.Seen {
		switch {
		case isAddress(host):
			bare = append(bare, host)
		case !expected(host, d.Expected):
			others = append(others, host)
		}
	}
	switch {
	case len(d.Seen) == 0:
		return 10, "it was seen to run, and contacted nobody", true
	case len(bare) > 0:
		return 0, "it contacted addresses that it had asked no name for: " + strings.Join(bare, ", "), true
	case len(others) == 0:
		return 9, "GitHub's hosts and those that the catalogue names alone: " + strings.Join(d.Seen, ", "), true
	}
	return max(8-2*len(others), 1), "hosts that the catalogue does not name: " + strings.Join(others, ", "), true
}

func (f *Facts) release() (int, string, bool) {
	r := f.Release
	if r == nil {
		return 0, "", false
	}
	if r.Tag == "" {
		return 2, "the commit is no release", true
	}
	days := f.days(r.Published)
	points := 7
	switch {
	case days < 3:
		points = 1 // most compromises were found within days
	case days < 14:
		points = 4
	}
	kept := "its tag can be moved"
	if r.Immutable {
		kept = "immutable"
		points += 3
	}
	return points, fmt.Sprintf("%s, published %s before, %s", r.Tag, counted(days), kept), true
}

func (f *Facts) popularity() (int, string, bool) {
	if f.Stars == nil {
		return 0, "", false
	}
	n := *f.Stars
	reason := fmt.Sprintf("%d stars", n)
	for _, step := range []struct{ stars, points int }{{5000, 10}, {1000, 8}, {100, 5}, {10, 3}} {
		if n >= step.stars {
			return step.points, reason, true
		}
	}
	return 1, reason, true
}

// limits are reasons that no number of good parts outweighs.
func (f *Facts) limits() []Limit {
	var out []Limit
	if f.Incidents != nil {
		for _, i := range *f.Incidents {
			switch {
			case i.Affects != AffectsYes:
			case i.Severity == "critical" || i.Severity == compromised:
				out = append(out, Limit{0, i.ID + " is about this version"})
			case i.Severity == "high":
				out = append(out, Limit{3, i.ID + " is about this version"})
			default:
				out = append(out, Limit{6, i.ID + " is about this version"})
			}
		}
	}
	if f.Origin != nil && !f.Origin.Within {
		out = append(out, Limit{0, "the commit is in no branch or tag of the repository"})
	}
	if f.Upkeep != nil && f.Upkeep.Archived {
		out = append(out, Limit{4, "the repository is archived"})
	}
	return out
}
