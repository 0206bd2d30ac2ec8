package catalogue

import (
	"regexp"
	"strings"
)

// Step is one step of a workflow, with its expressions as they were written.
type Step struct {
	Uses string
	With map[string]string

	// Env is what the step sees: its own, its job's and its workflow's variables. Nil
	// means that nobody looked; then a token in a variable is undecided.
	Env map[string]string
}

// Reach says whether the job's own token gets to an action.
type Reach int

const (
	// Out means that no input and no variable hands the token over, or another token is there
	// instead (of an app, or of a person).
	Out Reach = iota
	// In means that the action holds the token, by a default or by what the step says.
	In
	// Undecided means that only the run will tell.
	Undecided
)

// String gives a word for a report.
func (r Reach) String() string {
	return [...]string{Out: "does not reach it", In: "reaches it", Undecided: "may reach it"}[r]
}

// Needs is what a step needs of its job's permissions.
type Needs struct {
	// Token says whether the job's token reaches the action.
	Token Reach

	// Sure are the needs that hold for this step.
	Sure []Need

	// Maybe are those on which an expression will decide at run time. To leave them
	// out may break the job.
	Maybe []Need

	// Unsure is the entry's: why there may be needs that no list has; empty if there
	// are none, or if no token reaches the action.
	Unsure string

	// Dated is the entry's: the copy that was read is of a version too old to run.
	Dated bool
}

// Permissions gives the most that each scope needs, of the needs that are sure, and with
// those that an expression will decide if maybe is asked for.
func (n Needs) Permissions(maybe bool) map[Scope]Access {
	p := make(map[Scope]Access)
	for _, need := range n.Sure {
		p[need.Scope] = max(p[need.Scope], need.Access)
	}
	if maybe {
		for _, need := range n.Maybe {
			p[need.Scope] = max(p[need.Scope], need.Access)
		}
	}
	return p
}

// For says what a step needs whose environment is not known. It reports false for an
// action that is not in the catalogue; then nothing is known of its needs.
func (c *Catalogue) For(uses string, with map[string]string) (Needs, bool, []Source) {
	return c.ForStep(Step{Uses: uses, With: with})
}

// ForStep is For with the step's environment.
func (c *Catalogue) ForStep(step Step) (Needs, bool, []Source) {
	entry, ok := c.Lookup(step.Uses)
	if !ok {
		return Needs{}, false, nil
	}
	with := lower(step.With)
	needs := Needs{Token: entry.Token.reach(with, step.Env), Dated: entry.Dated()}
	for _, need := range entry.Needs {
		holds := needs.Token
		switch {
		case need.Bypass:
			holds = In
		case need.By != "":
			holds = entry.Token.reachBy(need.By, with)
		}
		for _, condition := range need.When {
			holds = and(holds, condition.holds(with))
		}
		switch holds {
		case In:
			needs.Sure = append(needs.Sure, need)
		case Undecided:
			needs.Maybe = append(needs.Maybe, need)
		case Out:
		}
	}
	if entry.Token == nil || needs.Token != Out {
		needs.Unsure = entry.Unsure
	}
	return needs, true, entry.Sources
}

func and(a, b Reach) Reach {
	if a == Out || b == Out {
		return Out
	}
	if a == In && b == In {
		return In
	}
	return Undecided
}

// reach asks the inputs first, since what a step says of an input is said of this step;
// a variable may be there for another reason, but the action takes it all the same.
func (t *Token) reach(with, env map[string]string) Reach {
	if t == nil {
		return Out
	}
	if t.Always {
		return In
	}
	reach := Out
	for _, input := range t.Inputs {
		reach = max2(reach, t.reachBy(input, with))
	}
	for _, name := range t.Env {
		if env == nil {
			reach = max2(reach, Undecided)
			continue
		}
		if value, ok := env[name]; ok {
			reach = max2(reach, holdsToken(value))
		}
	}
	return reach
}

// reachBy says whether the token comes by this input. An input that is set to the empty
// text is set: the default does not come back.
func (t *Token) reachBy(input string, with map[string]string) Reach {
	value, given := with[strings.ToLower(input)]
	if !given && t.Default && input == t.Inputs[0] {
		return In
	}
	return holdsToken(value)
}

// max2 is the more certain of two roads by which the token may come: one that is open
// beats one that may be, and that beats one that is not.
func max2(a, b Reach) Reach {
	switch {
	case a == In || b == In:
		return In
	case a == Undecided || b == Undecided:
		return Undecided
	default:
		return Out
	}
}

var (
	expression = regexp.MustCompile(`(?s)\$\{\{(.*?)\}\}`)
	ownToken   = regexp.MustCompile(`(?i)\b(github\s*\.\s*token|secrets\s*\.\s*github_token)\b|\b(github\s*\[\s*'token'\s*\]|secrets\s*\[\s*'github_token'\s*\])`)
	// The job's token is never empty, so that what stands after it is never taken.
	firstChoice = regexp.MustCompile(`^(?i)\s*(github\s*\.\s*token|secrets\s*\.\s*github_token)\s*\|\|`)
	// A token of another's making: a secret of another name, or what an earlier step
	// gave out, alone in the expression.
	otherToken = regexp.MustCompile(`^(?i)\s*(secrets\s*\.\s*[a-z0-9_-]+|steps\s*\.\s*[a-z0-9_-]+\s*\.\s*outputs\s*\.\s*[a-z0-9_-]+)\s*$`)
)

// holdsToken says whether a value hands over the job's token. A choice between it and
// another (secrets.BOT || github.token) is undecided.
func holdsToken(value string) Reach {
	found := expression.FindAllStringSubmatch(value, -1)
	reach := Out
	for _, match := range found {
		inner := match[1]
		switch loc := ownToken.FindString(inner); {
		case loc != "" && strings.TrimSpace(inner) == loc, firstChoice.MatchString(inner):
			reach = In
		case otherToken.MatchString(inner) && loc == "":
		default:
			reach = max2(reach, Undecided)
		}
	}
	return reach
}

func (c Condition) holds(with map[string]string) Reach {
	value, given := with[strings.ToLower(c.Input)]
	if !given {
		value = c.Default
	}
	value = strings.TrimSpace(value)
	if expression.MatchString(value) {
		// The text around an expression is certain to be there.
		if c.Contains != nil && contains(expression.ReplaceAllString(value, "\x00"), *c.Contains) {
			return In
		}
		if around := expression.ReplaceAllString(value, ""); c.Set != nil && strings.TrimSpace(around) != "" {
			return truth(*c.Set)
		}
		return Undecided
	}
	switch {
	case c.Is != nil:
		return truth(strings.EqualFold(value, *c.Is))
	case c.Not != nil:
		return truth(!strings.EqualFold(value, *c.Not))
	case c.Contains != nil:
		return truth(contains(value, *c.Contains))
	default:
		return truth((value != "") == *c.Set)
	}
}

func contains(value, part string) bool {
	return strings.Contains(strings.ToLower(value), strings.ToLower(part))
}

func truth(is bool) Reach {
	if is {
		return In
	}
	return Out
}

// lower gives a step's inputs by their names in lower case: GitHub takes them in any.
func lower(with map[string]string) map[string]string {
	l := make(map[string]string, len(with))
	for name, value := range with {
		l[strings.ToLower(name)] = value
	}
	return l
}
