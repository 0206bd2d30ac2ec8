package notify

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// What follows says in words what a finding holds. The words still contain what an
// attacker may have chosen: each target escapes them in its own way.

var severityNames = map[sallyportv1.Severity]string{
	sallyportv1.Severity_SEVERITY_LOW:      "Low",
	sallyportv1.Severity_SEVERITY_MEDIUM:   "Medium",
	sallyportv1.Severity_SEVERITY_HIGH:     "High",
	sallyportv1.Severity_SEVERITY_CRITICAL: "Critical",
}

func severityName(s sallyportv1.Severity) string {
	if name, ok := severityNames[s]; ok {
		return name
	}
	return "Unrated"
}

// policyTitle returns the policy's title, or its identity if it has none.
func policyTitle(p *sallyportv1.Policy) string {
	if p.GetTitle() != "" {
		return p.GetTitle()
	}
	return p.GetId()
}

// messageOf returns the sentence that says what happened.
func messageOf(f *sallyportv1.Finding) string {
	if f.GetMessage() != "" {
		return f.GetMessage()
	}
	return policyTitle(f.GetPolicy())
}

// destination says whom or what a behaviour concerns: a title and a value, both
// empty for a behaviour that concerns nobody else.
func destination(b *sallyportv1.Behaviour) (title, value string) {
	switch b.GetKind() {
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS:
		host := b.GetDomain()
		if host == "" {
			host = b.GetTarget()
		}
		value = fmt.Sprintf("%s %s", net.JoinHostPort(host, strconv.FormatUint(uint64(b.GetPort()), 10)), b.GetProtocol())
		switch {
		case b.GetDomain() == "":
			value += " (no name was looked up)"
		case b.GetAddress() != "":
			value += " at " + b.GetAddress()
		}
		if s := b.GetAddressScope(); s != "" && s != "public" {
			value += ", " + s + " address"
		}
		return "Destination", value
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PROCESS_ACCESS:
		value = commandOf(b.GetTargetExecutable(), b.GetTargetArguments(), b.GetTarget())
		if b.GetTargetIsWorker() {
			value += " (the runner's worker, which holds the job's secrets)"
		}
		return "Reached into (" + b.GetAccess() + ")", value
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PIPE:
		return "Piped into", commandOf(b.GetTargetExecutable(), b.GetTargetArguments(), b.GetTarget())
	default:
		return "", ""
	}
}

// commandOf returns a command line, or a name where there is none.
func commandOf(executable string, arguments []string, name string) string {
	switch {
	case len(arguments) > 0:
		return strings.Join(arguments, " ")
	case executable != "":
		return executable
	default:
		return name
	}
}

// programOf returns the base name of a process's program.
func programOf(p *sallyportv1.Process) string {
	if p.GetExecutable() != "" {
		return path.Base(p.GetExecutable())
	}
	if len(p.GetArguments()) > 0 {
		return path.Base(p.GetArguments()[0])
	}
	return "pid " + strconv.FormatUint(uint64(p.GetPid()), 10)
}

// baselineSentence says what the job's baseline knew; nothing of what is done to an agent,
// about which no baseline is asked.
func baselineSentence(f *sallyportv1.Finding) string {
	if f.GetBehaviour().GetKind() == sallyportv1.BehaviourKind_BEHAVIOUR_KIND_AGENT {
		return ""
	}
	b := f.GetBaseline()
	if b == nil {
		return "The baseline of this job was not asked."
	}
	if !b.GetStable() {
		return fmt.Sprintf("The job's baseline is still being learned (%d of %d clean runs); this is reported whatever it says.",
			b.GetRuns(), b.GetRunsNeeded())
	}
	knows := "does not hold this"
	if b.GetKnown() {
		knows = "holds this"
	}
	return fmt.Sprintf("The job's baseline %s: it is stable after %d clean runs with %s, nothing new in the last %d.",
		knows, b.GetRuns(), held(f.GetBehaviour().GetKind(), b.GetBehaviours()), b.GetRunsWithoutChange())
}

// held counts behaviours that a baseline holds in the words for their kind.
func held(kind sallyportv1.BehaviourKind, n uint32) string {
	word := "endpoint"
	switch kind {
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EXEC:
		word = "program"
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_FILE:
		word = "file"
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_REQUEST:
		word = "request"
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_LOOKUP:
		word = "look-up"
	default:
	}
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}

var (
	repositoryPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$`)
	runPattern        = regexp.MustCompile(`^[0-9]{1,20}$`)
)

// runURL returns the address of a run's page, or "" if repository or run are not of
// the form that GitHub gives them: then a link could lead anywhere.
func runURL(server, repository, run string, attempt uint32) string {
	if server == "" || !repositoryPattern.MatchString(repository) || !runPattern.MatchString(run) ||
		strings.Contains(repository, "..") {
		return ""
	}
	u := strings.TrimSuffix(server, "/") + "/" + repository + "/actions/runs/" + run
	if attempt > 1 {
		u += "/attempts/" + strconv.FormatUint(uint64(attempt), 10)
	}
	return u
}

// checkServerURL checks the address of a GitHub server; "" means github.com.
func checkServerURL(server string) (string, error) {
	if server == "" {
		return "https://github.com", nil
	}
	u, err := url.Parse(server)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(server, "<>|\" ") {
		return "", fmt.Errorf("GitHub server %q is not an address such as https://github.com", server)
	}
	return strings.TrimSuffix(server, "/"), nil
}

// startedBy says who or what started the run.
func startedBy(a *sallyportv1.Attribution) string {
	if a == nil {
		return "" // outside of every job
	}
	who := a.GetActor()
	if who == "" {
		who = "unknown"
	}
	var how []string
	if a.GetEvent() != "" {
		how = append(how, a.GetEvent())
	}
	if a.GetRef() != "" {
		how = append(how, a.GetRef())
	}
	if len(how) > 0 {
		who += " (" + strings.Join(how, ", ") + ")"
	}
	return who
}

// stepOf says which step it was.
func stepOf(a *sallyportv1.Attribution) string {
	if a == nil {
		return "" // outside of every job
	}
	switch {
	case a.GetAction() != "" && a.GetStep() != "":
		return a.GetStep() + " (" + a.GetAction() + ")"
	case a.GetStep() != "":
		return a.GetStep()
	case a.GetAction() != "":
		return a.GetAction()
	default:
		return "between steps"
	}
}

// moreSentence says how many repeats there are and in how many runs.
func moreSentence(more []Repeat) string {
	if len(more) == 0 {
		return ""
	}
	runs := make(map[string]bool)
	for _, r := range more {
		if r.RunID != "" {
			runs[r.RunID] = true
		}
	}
	s := fmt.Sprintf("%d more like it", len(more))
	switch len(runs) {
	case 0:
	case 1:
		s += " in 1 run"
	default:
		s += fmt.Sprintf(" in %d runs", len(runs))
	}
	return s
}
