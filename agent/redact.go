package agent

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Redacted stands for a secret that was taken out. docs/redaction.md has the rules.
const Redacted = "[redacted]"

// secretName matches the name of a flag, variable or parameter whose value is a
// secret.
var secretName = regexp.MustCompile(`(?i)(pass(word|wd|phrase|code)?|pwd|secret|token|api[-_]?key|access[-_]?key|account[-_]?key|private[-_]?key|signing[-_]?key|auth(orization)?|credentials?|cookie|session|signature|\bsig|connection[-_]?string|webhook)s?$`)

// notSecretName matches names that only look like that.
var notSecretName = regexp.MustCompile(`(?i)(^|[-_])(no|public|path|file|dir|url|name|id)[-_]?(key|token|password|auth|secret)?$|^no-`)

// rule finds secrets. Its expression is slow: most arguments lack the hints, of which
// one at least must stand in what it matches.
type rule struct {
	hints      []string
	expression *regexp.Regexp
}

func (r rule) mayMatch(s string) bool {
	return slices.ContainsFunc(r.hints, func(h string) bool { return strings.Contains(s, h) })
}

// secretShapes matches secrets by their own form, wherever they stand.
var secretShapes = []rule{
	{[]string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_"}, regexp.MustCompile(`gh[pousr]_[A-Za-z0-9_]{16,}`)},
	{[]string{"github_pat_"}, regexp.MustCompile(`github_pat_[A-Za-z0-9_]{16,}`)},
	{[]string{"glpat-"}, regexp.MustCompile(`glpat-[A-Za-z0-9_-]{16,}`)},
	{[]string{"npm_"}, regexp.MustCompile(`npm_[A-Za-z0-9]{30,}`)},
	{[]string{"pypi-"}, regexp.MustCompile(`pypi-[A-Za-z0-9_-]{30,}`)},
	{[]string{"xox"}, regexp.MustCompile(`xox[abeoprs]-[A-Za-z0-9-]{10,}`)},
	{[]string{"A3T", "AKIA", "ASIA", "AGPA", "AIDA", "AROA"}, regexp.MustCompile(`(A3T[A-Z0-9]|AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}`)},
	{[]string{"AIza"}, regexp.MustCompile(`AIza[A-Za-z0-9_-]{30,}`)},
	{[]string{"k_live_", "k_test_"}, regexp.MustCompile(`(sk|rk)_(live|test)_[A-Za-z0-9]{16,}`)},
	{[]string{"sk-"}, regexp.MustCompile(`sk-[A-Za-z0-9_-]{20,}`)},
	{[]string{"eyJ"}, regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)?`)},
	{[]string{"-----BEGIN "}, regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*`)},
}

// secretPlaces matches places where a secret stands: the first group stays, what
// comes behind it goes.
var secretPlaces = []rule{
	// https://user:password@host, https://token@host
	{[]string{"@"}, regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@'"]+@`)},
	// Authorization: Bearer x, Cookie: x, X-Api-Key: x
	{[]string{":"}, regexp.MustCompile(`(?i)((?:[a-z-]*authorization|cookie|[a-z-]*api-key|[a-z-]*token|private-token)\s*:\s*)[^'"\r\n]+`)},
	{[]string{" ", "\t", "\n", "\r", "\f"}, regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}`)},
	// Slack webhooks: the path is the secret
	{[]string{"hooks.slack.com/"}, regexp.MustCompile(`(hooks\.slack\.com/(?:services|workflows|triggers)/)[^\s'"]+`)},
}

// pairName matches name= and "name": inside an argument.
var pairName = regexp.MustCompile(`([A-Za-z0-9_.-]+)"?\s*[=:]\s*"?`)

// pairEnd are the characters that end the value behind a pairName.
const pairEnd = " \t\r\n&;,'\""

// redactArguments takes secrets out of a program's arguments, in place.
func redactArguments(arguments []string) []string {
	valueIsSecret := false
	for i, argument := range arguments {
		switch {
		case i == 0:
			arguments[i] = redact(argument)
		case valueIsSecret && !strings.HasPrefix(argument, "-"):
			arguments[i] = Redacted
		default:
			arguments[i] = redact(argument)
		}
		valueIsSecret = i > 0 && takesSecret(argument, arguments[0])
	}
	return arguments
}

// takesSecret says whether the argument behind this one is a secret.
func takesSecret(argument, program string) bool {
	name, isFlag := strings.CutPrefix(argument, "-")
	if !isFlag || strings.ContainsAny(argument, "=: ") {
		return false
	}
	if name, long := strings.CutPrefix(name, "-"); long {
		return isSecretName(name)
	}
	// Single letters mean different things to different programs.
	if base := program[strings.LastIndexByte(program, '/')+1:]; name == "u" || name == "U" {
		return base == "curl" && name == "u"
	} else if name == "p" || name == "P" {
		return base == "sshpass" || base == "docker" || base == "podman" || base == "skopeo" || base == "mysql" || base == "helm" || base == "az"
	}
	return isSecretName(name)
}

// secretWords are hints of secretName, in lower case.
var secretWords = []string{"pass", "pwd", "secret", "token", "key", "auth", "credential", "cookie", "session", "sig", "connection", "webhook"}

func isSecretName(name string) bool {
	lower := strings.ToLower(name)
	ascii := strings.IndexFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) < 0 // others may fold to it
	if ascii && !slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(lower, w) }) {
		return false
	}
	return secretName.MatchString(name) && !notSecretName.MatchString(name)
}

// redact takes secrets out of one argument.
func redact(s string) string {
	if len(s) < 4 {
		return s
	}
	for _, shape := range secretShapes {
		if shape.mayMatch(s) {
			s = shape.expression.ReplaceAllLiteralString(s, Redacted)
		}
	}
	for i, place := range secretPlaces {
		if !place.mayMatch(s) {
			continue
		}
		suffix := ""
		if i == 0 {
			suffix = "@"
		}
		s = place.expression.ReplaceAllString(s, "${1}"+Redacted+suffix)
	}
	if !strings.ContainsAny(s, "=:") {
		return s
	}
	return redactPairs(s)
}

// redactPairs takes the values of names that say so out of one argument. It looks
// at each name once, also at those inside the value of another.
func redactPairs(s string) string {
	var out strings.Builder
	done := 0
	for _, m := range pairName.FindAllStringSubmatchIndex(s, -1) {
		name, value := s[m[2]:m[3]], s[m[1]:]
		if m[0] < done || !isSecretName(strings.TrimLeft(name, "-")) || strings.HasPrefix(value, "//") {
			continue
		}
		end := strings.IndexAny(value, pairEnd)
		if end < 0 {
			end = len(value)
		}
		if end == 0 {
			continue
		}
		out.WriteString(s[done:m[1]])
		out.WriteString(Redacted)
		done = m[1] + end
	}
	if done == 0 {
		return s
	}
	out.WriteString(s[done:])
	return out.String()
}
