package score

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/catalogue"
)

// some makes facts, each known or not.
func some(r *rand.Rand) *Facts {
	day := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	before := func() time.Time { return day.Add(-time.Duration(r.IntN(1500*24)) * time.Hour) }
	bit := func() bool { return r.IntN(2) == 0 }
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	f := &Facts{Action: "acme/tool", Ref: "v1", Commit: strings.Repeat("a", 40), Learned: day, Unknown: map[string]string{}}
	if bit() {
		f.Upkeep = &Upkeep{Archived: r.IntN(5) == 0, Pushed: before()}
		if bit() {
			f.Upkeep.Released = before()
		}
	}
	if bit() {
		n := r.IntN(20000)
		f.Stars = &n
	}
	if bit() {
		f.Owner = &Owner{bit(), bit()}
	}
	if bit() {
		f.Inside = &[]harden.InnerUse{}
		for range r.IntN(4) {
			*f.Inside = append(*f.Inside, harden.InnerUse{Uses: pick("a/b@v1", "docker://x"), Pinned: bit()})
		}
	}
	if bit() {
		f.Permissions = &[]Permission{}
		for range r.IntN(4) {
			*f.Permissions = append(*f.Permissions, Permission{pick("contents", "issues", "checks"), bit(), bit()})
		}
	}
	if bit() {
		f.Destinations = &Destinations{Seen: []string{}, Expected: []string{"*.example.test:443"}}
		for range r.IntN(4) {
			f.Destinations.Seen = append(f.Destinations.Seen, pick("api.github.com", "a.example.test", "other.test", "192.0.2.1", "2001:db8::1"))
		}
	}
	if bit() {
		f.Incidents = &[]Incident{}
		for range r.IntN(3) {
			*f.Incidents = append(*f.Incidents, Incident{"GHSA-1", "x", pick("low", "high", "critical", compromised), pick(AffectsYes, AffectsNo, AffectsUnknown)})
		}
	}
	if bit() {
		b := bit()
		f.Policy = &b
	}
	if bit() {
		f.Origin = &Origin{Within: r.IntN(4) != 0, Where: "branch main", Signed: bit()}
	}
	if bit() {
		f.Release = &Release{Tag: pick("", "v1.0.0"), Published: before(), Immutable: bit()}
	}
	return f
}

// TestSavedFacts: facts that were saved score to the same, byte for byte, whenever that is done.
func TestSavedFacts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var all []*Facts
	for range 2000 {
		all = append(all, some(r))
	}
	var saved bytes.Buffer
	if err := WriteFacts(&saved, all); err != nil {
		t.Fatal(err)
	}
	read, err := ReadFacts(saved.Bytes())
	if err != nil || len(read) != len(all) {
		t.Fatalf("%d of %d, %v", len(read), len(all), err)
	}
	for i := range all {
		a, errA := json.Marshal(Of(all[i]))
		b, errB := json.Marshal(Of(read[i]))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Fatalf("%s\n%s", a, b)
		}
	}
}

// TestScoreHolds: a score is from 0 to 10, never without a reason for each part; what is not known
// counts for nothing and changes no other part; and its sum can be done again by hand.
func TestScoreHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		f := some(r)
		s := Of(f)
		sum, weights, known := 0, 0, 0
		for i, p := range s.Parts {
			if p.Reason == "" || p.Points < 0 || p.Points > 10 || p.Name != Weights[i].Part {
				t.Fatalf("%+v", p)
			}
			if p.Known {
				sum, weights, known = sum+p.Points*p.Weight, weights+p.Weight, known+1
			} else if p.Points != 0 {
				t.Fatalf("an unknown part has points: %+v", p)
			}
		}
		if s.Known != known || s.Of != len(s.Parts) || (s.Score == nil) != (known == 0) {
			t.Fatalf("%+v", s)
		}
		if s.Score == nil {
			continue
		}
		most := 10.0
		for _, l := range s.Limits {
			most = min(most, l.Most)
		}
		mean := float64(sum) / float64(weights)
		if *s.Score < 0 || *s.Score > most || most == 10 && (*s.Score < mean-0.05001 || *s.Score > mean+0.05001) {
			t.Fatalf("%v for a mean of %v and limits %+v", *s.Score, mean, s.Limits)
		}
		// Without the stars the other parts are what they were.
		without := *f
		without.Stars = nil
		for i, p := range Of(&without).Parts {
			if p.Name != "popularity" && !reflect.DeepEqual(p, s.Parts[i]) {
				t.Fatalf("%+v became %+v", s.Parts[i], p)
			}
		}
	}
}

// TestPoints: each part by examples, as docs/actions.md says.
func TestPoints(t *testing.T) {
	day := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	yes, no, few, many := true, false, 12, 6000
	ago := func(days int) time.Time { return day.AddDate(0, 0, -days) }
	for _, c := range []struct {
		part   string
		points int
		reason string
		f      Facts
	}{
		{"maintenance", 10, "last release 30 days before", Facts{Upkeep: &Upkeep{Pushed: ago(400), Released: ago(30)}}},
		{"maintenance", 4, "last push 400 days before", Facts{Upkeep: &Upkeep{Pushed: ago(400)}}},
		{"maintenance", 1, "last push 800 days before", Facts{Upkeep: &Upkeep{Pushed: ago(800)}}},
		{"maintenance", 0, "archived", Facts{Upkeep: &Upkeep{Pushed: ago(1), Archived: true}}},
		{"popularity", 3, "12 stars", Facts{Stars: &few}},
		{"popularity", 10, "6000 stars", Facts{Stars: &many}},
		{"owner", 10, "verified", Facts{Owner: &Owner{true, true}}},
		{"owner", 3, "a person", Facts{Owner: &Owner{}}},
		{"policy", 10, "vulnerability", Facts{Policy: &yes}},
		{"policy", 0, "does not", Facts{Policy: &no}},
		{"origin", 10, "tag v1", Facts{Origin: &Origin{true, "tag v1", true}}},
		{"origin", 6, "without a signature", Facts{Origin: &Origin{true, "tag v1", false}}},
		{"origin", 0, "from a fork", Facts{Origin: &Origin{}}},
		{"release", 10, "immutable", Facts{Release: &Release{"v1", ago(30), true}}},
		{"release", 7, "can be moved", Facts{Release: &Release{"v1", ago(30), false}}},
		{"release", 1, "1 day before", Facts{Release: &Release{"v1", ago(1), false}}},
		{"release", 2, "no release", Facts{Release: &Release{}}},
		{"permissions", 10, "none", Facts{Permissions: &[]Permission{}}},
		{"permissions", 5, "issues: write (by its inputs)", Facts{Permissions: &[]Permission{{"issues", true, true}}}},
		{"permissions", 3, "contents: write", Facts{Permissions: &[]Permission{{"contents", true, false}, {"issues", false, false}}}},
		{"dependencies", 10, "no other", Facts{Inside: &[]harden.InnerUse{}}},
		{"dependencies", 5, "1 of the 2 that it uses are not pinned: a/b@v1", Facts{Inside: &[]harden.InnerUse{{Uses: "a/b@v1"}, {Uses: "c/d@x", Pinned: true}}}},
		{"destinations", 9, "alone", Facts{Destinations: &Destinations{[]string{"api.github.com", "x.example.test"}, []string{"*.example.test"}}}},
		{"destinations", 6, "does not name: evil.test", Facts{Destinations: &Destinations{[]string{"evil.test", "github.com"}, nil}}},
		{"destinations", 0, "192.0.2.9", Facts{Destinations: &Destinations{[]string{"192.0.2.9"}, nil}}},
		{"incidents", 10, "none", Facts{Incidents: &[]Incident{}}},
		{"incidents", 0, "of this version", Facts{Incidents: &[]Incident{{"G", "w", "high", AffectsYes}}}},
		{"incidents", 7, "not of this version", Facts{Incidents: &[]Incident{{"G", "w", "high", AffectsNo}}}},
	} {
		c.f.Learned = day
		for _, p := range Of(&c.f).Parts {
			if p.Name == c.part && (!p.Known || p.Points != c.points || !strings.Contains(p.Reason, c.reason)) {
				t.Errorf("%+v, want %d for %q", p, c.points, c.reason)
			}
		}
	}
	// A compromise of this version outweighs everything.
	f := Facts{Learned: day, Stars: &many, Policy: &yes, Owner: &Owner{true, true}, Incidents: &[]Incident{{"G", "w", "critical", AffectsYes}}}
	if s := Of(&f); *s.Score != 0 || len(s.Limits) != 1 {
		t.Errorf("%+v", s)
	}
}

func TestReadSeen(t *testing.T) {
	s, err := ReadSeen(strings.NewReader(`{"action":"Acme/tool@v1","domain":"A.example.test.","address":"192.0.2.1"}
{"action":"acme/tool@v1","domain":"","address":"::ffff:192.0.2.2"}

{"action":"acme/quiet@v1","domain":"","address":""}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.of("acme/Tool", "x", "v1"); err != nil || strings.Join(got, " ") != "192.0.2.2 a.example.test" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := s.of("acme/quiet", "v1", ""); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := s.of("acme/tool", "v2", ""); err == nil || !strings.Contains(err.Error(), "other versions") {
		t.Error(err)
	}
	for _, bad := range []string{"{", `{"action":"acme/tool"}`, `[]`} {
		if _, err := ReadSeen(strings.NewReader(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestAffects(t *testing.T) {
	for _, c := range []struct{ versions, version, want string }{
		{"<= 45.0.7", "v45.0.7", AffectsYes},
		{"<= 45.0.7", "v46.0.1", AffectsNo},
		{">= 1.0, < 1.2", "v1.1", AffectsYes},
		{"= 1", "v1", AffectsYes},
		{"< 2", "main", AffectsUnknown},
		{"< 2", "", AffectsUnknown},
		{"nonsense", "v1", AffectsUnknown},
	} {
		if got := affects([]string{c.versions}, c.version); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestAttacked: a commit of an attack is one whatever its tag, and a tag that was moved back is not
// known to be clean unless all commits of the attack are known.
func TestAttacked(t *testing.T) {
	bad, good := strings.Repeat("b", 40), strings.Repeat("a", 40)
	for _, c := range []struct {
		in     catalogue.Incident
		commit string
		tags   []string
		want   string
	}{
		{catalogue.Incident{Commits: []string{bad}}, bad, nil, AffectsYes},
		{catalogue.Incident{Commits: []string{bad}, Complete: true, AllTags: true}, good, []string{"v1"}, AffectsNo},
		{catalogue.Incident{Commits: []string{bad}, AllTags: true}, good, []string{"v1"}, AffectsUnknown},
		{catalogue.Incident{Versions: "<2"}, good, []string{"v2.1.0"}, AffectsNo},
		{catalogue.Incident{Versions: "<2"}, good, []string{"v1.1.0"}, AffectsUnknown},
		{catalogue.Incident{}, good, []string{"v1"}, AffectsUnknown},
		{catalogue.Incident{Commits: []string{bad}, Complete: true, AllTags: true}, "", []string{"v1"}, AffectsUnknown},
	} {
		if got := attacked(c.in, c.commit, c.tags); got != c.want {
			t.Errorf("%+v %s %v: %s", c.in, c.commit, c.tags, got)
		}
	}
}
