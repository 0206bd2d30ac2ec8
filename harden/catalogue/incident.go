package catalogue

import (
	"bytes"
	_ "embed" // What was taken over is part of the program, too.
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"go.yaml.in/yaml/v3"
)

//go:embed incidents.yaml
var embeddedIncidents []byte

// Incident is a published compromise of an action.
type Incident struct {
	// ID is a CVE or GHSA number, or empty where none is known.
	ID string `yaml:"id,omitempty"`
	// When is the month, YYYY-MM, or the year.
	When string `yaml:"when"`
	// What happened, in one sentence.
	What string `yaml:"what"`

	// Tags, Versions (a range such as "<=45.0.7") and Commits are what was an attacker's. AllTags
	// says that every tag was.
	Tags     []string `yaml:"tags,omitempty"`
	Versions string   `yaml:"versions,omitempty"`
	AllTags  bool     `yaml:"all_tags,omitempty"`
	Commits  []string `yaml:"commits,omitempty"`
	// Complete says that Commits are all of them: another commit of the same tag is not one.
	Complete bool `yaml:"complete,omitempty"`
	// From and Until are when it was so; the zero Until says that it was so still.
	From  time.Time `yaml:"from,omitempty"`
	Until time.Time `yaml:"until,omitempty"`
	// Safe is what to use.
	Safe string `yaml:"safe,omitempty"`
	// Sources are the pages that say so.
	Sources []string `yaml:"sources,omitempty"`
}

var sourceForm = regexp.MustCompile(`^https://[a-z0-9.-]+/[^ #]*$`)

func (in Incident) faults() (f []string) {
	add := func(format string, args ...any) { f = append(f, fmt.Sprintf(format, args...)) }
	if !whenForm.MatchString(in.When) || in.What == "" {
		add("it has no month, or does not say what happened")
	}
	for _, c := range in.Commits {
		if !commitForm.MatchString(c) {
			add("commit %q is not 40 hex digits", c)
		}
	}
	if in.Versions != "" {
		if _, err := semver.NewConstraint(in.Versions); err != nil {
			add("versions %q are no range", in.Versions)
		}
	}
	if in.Complete && len(in.Commits) == 0 {
		add("no commits cannot be all of them")
	}
	named := in.AllTags || len(in.Tags)+len(in.Commits) > 0 || in.Versions != ""
	if named && in.From.IsZero() || !in.Until.IsZero() && in.Until.Before(in.From) {
		add("it does not say from when, or ends before it begins")
	}
	for _, s := range in.Sources {
		if !sourceForm.MatchString(s) {
			add("source %q is no page", s)
		}
	}
	return f
}

// Span says when it was, to the minute where that is known.
func (in Incident) Span() string {
	const form = "2006-01-02 15:04"
	switch {
	case in.From.IsZero():
		return in.When
	case in.Until.IsZero():
		return in.From.UTC().Format(form) + " until today"
	}
	return in.From.UTC().Format(form) + " to " + in.Until.UTC().Format(form)
}

// Affected says which references were an attacker's.
func (in Incident) Affected() string {
	switch {
	case in.AllTags:
		return "every tag"
	case in.Versions != "":
		return "tags of versions " + in.Versions
	case len(in.Tags) > 0:
		return "tags " + strings.Join(in.Tags, ", ")
	}
	return "what ran then"
}

// HasCommit says whether a commit is one of the attacker's that are known.
func (in Incident) HasCommit(commit string) bool { return slices.Contains(in.Commits, commit) }

// HasTag says whether a tag, also one such as v4, was an attacker's.
func (in Incident) HasTag(tag string) bool {
	if in.AllTags || slices.Contains(in.Tags, tag) {
		return true
	}
	if in.Versions == "" {
		return false
	}
	v, err := semver.NewVersion(tag)
	if err != nil {
		return false
	}
	c, err := semver.NewConstraint(in.Versions)
	return err == nil && c.Check(v)
}

// Names says whether it is known which references were an attacker's.
func (in Incident) Names() bool {
	return in.AllTags || in.Versions != "" || len(in.Tags) > 0 || len(in.Commits) > 0
}

// Covers says whether a day, YYYY-MM-DD, is one on which it was so.
func (in Incident) Covers(day string) bool {
	at, err := time.Parse(time.DateOnly, day)
	if err != nil || in.From.IsZero() {
		return false
	}
	return !at.Before(in.From.UTC().Truncate(24*time.Hour)) && (in.Until.IsZero() || !at.After(in.Until.UTC()))
}

// loadIncidents reads them, by the repositories that they are of. It is as strict as Load.
func loadIncidents(text []byte) (map[string][]Incident, error) {
	var doc struct {
		Read      string `yaml:"read"`
		Incidents []struct {
			Actions  []string `yaml:"actions"`
			Incident `yaml:",inline"`
		} `yaml:"incidents"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("read incidents: %w", err)
	}
	out := make(map[string][]Incident)
	var wrong []error
	if _, err := time.Parse(time.DateOnly, doc.Read); err != nil {
		wrong = append(wrong, fmt.Errorf("day of reading: %w", err))
	}
	for i, in := range doc.Incidents {
		if len(in.Actions) == 0 || len(in.Sources) == 0 {
			wrong = append(wrong, fmt.Errorf("incident %d: no action, or no source", i+1))
		}
		for _, fault := range in.faults() {
			wrong = append(wrong, fmt.Errorf("incident %d of %s: %s", i+1, strings.Join(in.Actions, ", "), fault))
		}
		if i > 0 && in.From.Before(doc.Incidents[i-1].From) {
			wrong = append(wrong, fmt.Errorf("incident %d of %s: they are sorted by their beginning", i+1, strings.Join(in.Actions, ", ")))
		}
		for _, name := range in.Actions {
			if !nameForm.MatchString(name) || strings.Count(name, "/") != 1 {
				wrong = append(wrong, fmt.Errorf("incident %d: %q is not owner/repo", i+1, name))
			}
			out[strings.ToLower(name)] = append(out[strings.ToLower(name)], in.Incident)
		}
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("read incidents: %w", errors.Join(wrong...))
	}
	return out, nil
}

// Incidents are those of an action, as it stands in a step, whether there is an entry for it or not.
func (c *Catalogue) Incidents(uses string) []Incident {
	if e, ok := c.Lookup(uses); ok {
		return e.Incidents
	}
	name, _, _ := strings.Cut(strings.TrimSpace(uses), "@")
	return c.incidents[strings.ToLower(repositoryOf(name))]
}

// Compromised are the actions that incidents are known of, ordered.
func (c *Catalogue) Compromised() []string {
	names := make(map[string]bool)
	for name := range c.incidents {
		names[name] = true
	}
	for _, e := range c.entries {
		if len(e.Incidents) > 0 {
			names[strings.ToLower(e.Name)] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// repositoryOf is the repository, owner/repo, of an action.
func repositoryOf(name string) string {
	parts := strings.SplitN(name, "/", 3)
	return strings.Join(parts[:min(len(parts), 2)], "/")
}
