package detector

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Exception says that what a policy finds somewhere is expected there for a time. Patterns
// are those of path.Match; one that is empty is any. See docs/exceptions.md.
type Exception struct {
	// Policy, and where it is not to find anything.
	Policy, Repository, Workflow, Job, Step, Program, Target string
	// Owner answers for it, Reason says why.
	Owner, Reason string
	// Until is the end of its last day, UTC.
	Until time.Time
	// File and Line where it stands.
	File string
	Line int
}

// live says whether it holds for what happened at a time.
func (e *Exception) live(t time.Time) bool { return t.Before(e.Until) }

// String is the exception as logs and verdicts name it.
func (e *Exception) String() string {
	return fmt.Sprintf("%s:%d (%s, until %s)", e.File, e.Line, e.Owner, e.Until.AddDate(0, 0, -1).Format(time.DateOnly))
}

// Fields are what a file says of it, by name.
func (e *Exception) Fields() map[string]string {
	out := map[string]string{"until": e.Until.AddDate(0, 0, -1).Format(time.DateOnly)}
	for name, value := range map[string]string{
		"policy": e.Policy, "repository": e.Repository, "workflow": e.Workflow, "job": e.Job, "step": e.Step,
		"program": e.Program, "target": e.Target, "owner": e.Owner, "reason": e.Reason,
	} {
		if value != "" {
			out[name] = value
		}
	}
	return out
}

// covers says whether the exception is about a finding, whatever the time.
func (e *Exception) covers(f *sallyportv1.Finding, b *sallyportv1.Behaviour) bool {
	a := f.GetAttribution()
	for _, x := range [][2]string{
		{e.Policy, f.GetPolicy().GetId()}, {e.Repository, a.GetRepository()}, {e.Workflow, a.GetWorkflow()}, {e.Job, a.GetJob()},
		{e.Step, a.GetStep()}, {e.Program, b.GetProgram()}, {e.Target, b.GetTarget()},
	} {
		if x[0] == "" {
			continue
		}
		if ok, err := path.Match(x[0], x[1]); err != nil || !ok {
			return false
		}
	}
	return true
}

// ParseExceptions reads a file of exceptions, a list in YAML or JSON. Problems name those
// that are wrong, with their lines; the others are returned. The error says that the file is
// no such list.
func ParseExceptions(name string, data []byte) (exceptions []*Exception, problems []error, err error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, nil, fmt.Errorf("read exceptions %s: %w", name, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil, nil
	}
	list := doc.Content[0]
	if list.Kind != yaml.SequenceNode {
		return nil, nil, fmt.Errorf("read exceptions %s:%d: it is no list", name, list.Line)
	}
	for _, n := range list.Content {
		e, err := parseException(n)
		if err != nil {
			problems = append(problems, fmt.Errorf("read exceptions %s:%w", name, err))
			continue
		}
		e.File = name
		exceptions = append(exceptions, e)
	}
	return exceptions, problems, nil
}

// parseException reads one. Errors begin with the line.
func parseException(n *yaml.Node) (*Exception, error) {
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%d: an exception is a mapping", n.Line)
	}
	e := &Exception{Line: n.Line}
	var until string
	fields := []struct {
		name string
		to   *string
	}{
		{"policy", &e.Policy}, {"repository", &e.Repository}, {"workflow", &e.Workflow}, {"job", &e.Job}, {"step", &e.Step},
		{"program", &e.Program}, {"target", &e.Target}, {"owner", &e.Owner}, {"reason", &e.Reason}, {"until", &until},
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(fields, func(f struct {
			name string
			to   *string
		}) bool {
			return f.name == key.Value
		})
		switch {
		case at < 0:
			return nil, fmt.Errorf("%d: there is no field %q", key.Line, key.Value)
		case value.Kind != yaml.ScalarNode:
			return nil, fmt.Errorf("%d: %s is no text", value.Line, key.Value)
		case *fields[at].to != "":
			return nil, fmt.Errorf("%d: %s is given twice", key.Line, key.Value)
		case strings.TrimSpace(value.Value) == "":
			return nil, fmt.Errorf("%d: %s is empty", value.Line, key.Value)
		}
		*fields[at].to = strings.TrimSpace(value.Value)
		if at < 7 { // a pattern
			if _, err := path.Match(value.Value, ""); err != nil {
				return nil, fmt.Errorf("%d: %s: pattern %q: %w", value.Line, key.Value, value.Value, err)
			}
		}
	}
	for _, needed := range []struct{ name, value string }{{"policy", e.Policy}, {"owner", e.Owner}, {"reason", e.Reason}, {"until", until}} {
		if needed.value == "" {
			return nil, fmt.Errorf("%d: %s is missing", n.Line, needed.name)
		}
	}
	if e.Repository == "" && e.Program == "" && e.Target == "" {
		return nil, fmt.Errorf("%d: it holds everywhere: give a repository, a program or a target", n.Line)
	}
	day, err := time.Parse(time.DateOnly, until)
	if err != nil {
		return nil, fmt.Errorf("%d: until %q is no day such as 2026-12-31", n.Line, until)
	}
	e.Until = day.AddDate(0, 0, 1)
	return e, nil
}

// mergeExceptions returns the exceptions of all layers. Those of a file that cannot be read
// stay as they were in before.
func mergeExceptions(before []*Exception, layers []*layer) []*Exception {
	var out []*Exception
	for _, l := range layers {
		out = append(out, l.exceptions...)
		for _, e := range before {
			if l.unexcepted[e.File] {
				out = append(out, e)
			}
		}
	}
	return out
}

// excepted returns the exception that covers a finding at its time; if only expired ones do,
// it returns the last of them as expired.
func excepted(all []*Exception, f *sallyportv1.Finding, b *sallyportv1.Behaviour) (live, expired *Exception) {
	for _, e := range all {
		if !e.covers(f, b) {
			continue
		}
		if e.live(f.GetTime().AsTime()) {
			return e, nil
		}
		if expired == nil || e.Until.After(expired.Until) {
			expired = e
		}
	}
	return nil, expired
}

// Exceptions returns those in force and those that have expired, by file and line.
func (p *Policies) Exceptions() []*Exception { return slices.Clone(p.set.Load().exceptions) }

// ErrExpired says that an exception's last day is over.
var ErrExpired = errors.New("the exception has expired")

// Expired returns an error for each exception that does not hold any more.
func (p *Policies) Expired(now time.Time) []error {
	var out []error
	for _, e := range p.set.Load().exceptions {
		if !e.live(now) {
			out = append(out, fmt.Errorf("%s: %w: policy %s, reason %q", e, ErrExpired, e.Policy, e.Reason))
		}
	}
	return out
}
