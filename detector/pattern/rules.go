package pattern

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Rules are what people say about names: regions, suffixes where anybody can have a name,
// and families of one owner. They are immutable.
type Rules struct {
	regions   []string // the longest first
	suffixes  []Pattern
	providers []Pattern
}

// LoadRules reads data/regions.json, data/registrable_suffixes.json and
// data/provider_patterns.json. Errors name the file and what of it cannot be.
func LoadRules(files fs.FS) (*Rules, error) {
	r := &Rules{}
	var suffixes struct {
		Suffixes []struct {
			Kind, Source string
			Names        []string
		}
	}
	var providers struct {
		Patterns []struct{ Pattern, Owner, Reason, Source string }
	}
	for name, into := range map[string]any{"regions": &r.regions, "registrable_suffixes": &suffixes, "provider_patterns": &providers} {
		data, err := fs.ReadFile(files, "data/"+name+".json")
		if err != nil {
			return nil, fmt.Errorf("read list %s: %w", name, err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			return nil, fmt.Errorf("read list %s: %w", name, err)
		}
	}
	slices.SortFunc(r.regions, func(a, b string) int { return len(b) - len(a) })
	for _, s := range suffixes.Suffixes {
		for _, name := range s.Names {
			p, err := Parse(name)
			if err != nil || s.Kind == "" || s.Source == "" {
				return nil, fmt.Errorf("read list registrable_suffixes: %q: kind, source or name is wrong: %w", name, err)
			}
			r.suffixes = append(r.suffixes, p)
		}
	}
	for _, x := range providers.Patterns {
		p, err := Parse(x.Pattern)
		if err != nil || x.Owner == "" || x.Reason == "" || x.Source == "" {
			return nil, fmt.Errorf("read list provider_patterns: %q: owner, reason, source or pattern is wrong: %w", x.Pattern, err)
		}
		r.providers = append(r.providers, p)
	}
	return r, nil
}

// Fixed returns how many labels at the end of a domain stay as they are: those that
// somebody had to register; below a suffix where anybody can have a name all of them, since
// such a name may itself have dots (buckets do).
func (r *Rules) Fixed(domain string) int {
	labels := strings.Split(domain, ".")
	fixed := len(labels)
	if registered, err := publicsuffix.EffectiveTLDPlusOne(domain); err == nil {
		fixed = strings.Count(registered, ".") + 1
	}
	for i := range labels {
		suffix := strings.Join(labels[i:], ".")
		for _, p := range r.suffixes {
			if _, ok := p.Match(suffix, r.regions); ok {
				return len(labels)
			}
		}
	}
	return fixed
}

// Family returns which provider's family a domain is of, and what has to stay the same in
// it; ok is false if it is of none.
func (r *Rules) Family(domain string) (family, kept string, ok bool) {
	for _, p := range r.providers {
		if kept, ok := p.Match(domain, r.regions); ok {
			return p.text, kept, true
		}
	}
	return "", "", false
}

// Matches says whether a domain is of a pattern.
func (r *Rules) Matches(p Pattern, domain string) bool {
	_, ok := p.Match(domain, r.regions)
	return ok
}
