package agent

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/sallyport-ci/sallyport/wholefile"
)

// Redacted stands for a secret that was taken out, where no digest of it is to stay.
// docs/redaction.md has the rules.
const Redacted = "[redacted]"

const (
	// minSecret and maxSecret bound the values of a job's variables that are taken out
	// wherever they stand, in bytes; maxSecrets bounds their number.
	minSecret  = 8
	maxSecret  = 4 << 10
	maxSecrets = 128
	// maxRules bounds an operator's own rules.
	maxRules = 64
)

// Redactor takes secrets out of words before they leave the machine. It is safe for
// concurrent use.
type Redactor struct {
	key   []byte
	rules []*regexp.Regexp
}

// NewRedactor returns a redactor that knows the built-in rules. If key is not empty, a
// digest stays of each secret, keyed by it: equal secrets can be told to be equal, and
// nobody without the key can try words against it. Rules are regular expressions (RE2)
// of an operator's own: what their first group matches is a secret, or, without a group,
// all that they match.
func NewRedactor(key []byte, rules []string) (*Redactor, error) {
	r := &Redactor{key: key}
	if len(rules) > maxRules {
		return nil, fmt.Errorf("%d rules of redaction, more than %d", len(rules), maxRules)
	}
	for i, rule := range rules {
		expression, err := regexp.Compile(rule)
		if err != nil {
			return nil, fmt.Errorf("rule %d of redaction: %w", i+1, err)
		}
		if expression.MatchString("") {
			return nil, fmt.Errorf("rule %d of redaction: %q matches nothing, too", i+1, rule)
		}
		r.rules = append(r.rules, expression)
	}
	return r, nil
}

// LoadRedactor returns a redactor with the key in a file, which is made if it is not
// there, and the rules in another: {"match": ["expression", ...]}. No file of rules is no
// rules.
func LoadRedactor(keyFile, rulesFile string) (*Redactor, error) {
	key, err := os.ReadFile(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		key = []byte(rand.Text())
		if err := os.MkdirAll(filepath.Dir(keyFile), 0o700); err != nil {
			return nil, fmt.Errorf("keep key of redaction: %w", err)
		}
		if err := wholefile.Write(keyFile, 0o600, key); err != nil {
			return nil, fmt.Errorf("keep key of redaction: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("read key of redaction: %w", err)
	}
	if key = bytes.TrimSpace(key); len(key) < 16 {
		return nil, fmt.Errorf("read key of redaction: %s holds fewer than 16 bytes", keyFile)
	}
	var file struct {
		Match []string `json:"match"`
	}
	if rulesFile != "" {
		f, err := os.Open(rulesFile)
		if err != nil {
			return nil, fmt.Errorf("read rules of redaction: %w", err)
		}
		defer func() { _ = f.Close() }() // only read
		decoder := json.NewDecoder(f)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&file); err != nil {
			return nil, fmt.Errorf("read rules of redaction: %s: %w", rulesFile, err)
		}
	}
	return NewRedactor(key, file.Match)
}

// mark stands for a secret.
func (r *Redactor) mark(secret string) string {
	if len(r.key) == 0 {
		return Redacted
	}
	h := hmac.New(sha256.New, r.key)
	h.Write([]byte(secret))
	return "[redacted:" + hex.EncodeToString(h.Sum(nil)[:4]) + "]"
}

// takeOut replaces what the first group of an expression matches, or all of it.
func (r *Redactor) takeOut(expression *regexp.Regexp, s string) string {
	var out strings.Builder
	done := 0
	for _, m := range expression.FindAllStringSubmatchIndex(s, -1) {
		from, to := m[0], m[1]
		if len(m) > 2 && m[2] >= 0 {
			from, to = m[2], m[3]
		}
		if from == to || strings.HasPrefix(s[from:to], "[redacted") {
			continue
		}
		out.WriteString(s[done:from])
		out.WriteString(r.mark(s[from:to]))
		done = to
	}
	if done == 0 {
		return s
	}
	out.WriteString(s[done:])
	return out.String()
}

// secretsOf returns the values of the variables of an environment whose names say that
// they are secrets.
func secretsOf(data []byte) (secrets []string) {
	for len(data) > 0 && len(secrets) < maxSecrets {
		var entry []byte
		var complete bool
		entry, data, complete = bytes.Cut(data, []byte{0})
		if !complete {
			break
		}
		name, value, ok := bytes.Cut(entry, []byte{'='})
		if !ok || len(value) < minSecret || len(value) > maxSecret || value[0] == '/' || !isSecretName(string(name)) {
			continue
		}
		if v := string(value); !slices.Contains(secrets, v) {
			secrets = append(secrets, v)
		}
	}
	return secrets
}

// values takes a job's own secrets out.
func (r *Redactor) values(s string, secrets []string) string {
	for _, secret := range secrets {
		if len(s) >= len(secret) && strings.Contains(s, secret) {
			s = strings.ReplaceAll(s, secret, r.mark(secret))
		}
	}
	return s
}

// domain takes secrets out of a domain: each name between two dots is looked at.
func (r *Redactor) domain(domain string, secrets []string) string {
	for _, secret := range secrets {
		if lower := strings.ToLower(secret); strings.Contains(domain, lower) {
			domain = strings.ReplaceAll(domain, lower, r.mark(secret))
		}
	}
	if len(domain) < 16 {
		return domain
	}
	for _, shape := range secretShapes {
		if slices.ContainsFunc(shape.lowerHints, func(h string) bool { return strings.Contains(domain, h) }) {
			domain = r.takeOut(shape.folded, domain)
		}
	}
	return domain
}

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
	// Of a shape that can stand in a domain: the same for lower case.
	lowerHints []string
	folded     *regexp.Regexp
}

func shape(inDomains bool, expression string, hints ...string) rule {
	r := rule{hints: hints, expression: regexp.MustCompile(expression)}
	if inDomains {
		for _, h := range hints {
			r.lowerHints = append(r.lowerHints, strings.ToLower(h))
		}
		r.folded = regexp.MustCompile("(?i)" + expression)
	}
	return r
}

func (r rule) mayMatch(s string) bool {
	return slices.ContainsFunc(r.hints, func(h string) bool { return strings.Contains(s, h) })
}

// secretShapes matches secrets by their own form, wherever they stand.
var secretShapes = []rule{
	shape(true, `gh[pousr]_[A-Za-z0-9_]{16,}`, "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
	shape(true, `github_pat_[A-Za-z0-9_]{16,}`, "github_pat_"),
	shape(true, `glpat-[A-Za-z0-9_-]{16,}`, "glpat-"),
	shape(true, `npm_[A-Za-z0-9]{30,}`, "npm_"),
	shape(true, `pypi-[A-Za-z0-9_-]{30,}`, "pypi-"),
	shape(true, `xox[abeoprs]-[A-Za-z0-9-]{10,}`, "xox"),
	shape(true, `(?:A3T[A-Z0-9]|AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}`, "A3T", "AKIA", "ASIA", "AGPA", "AIDA", "AROA"),
	shape(true, `AIza[A-Za-z0-9_-]{30,}`, "AIza"),
	shape(true, `(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}`, "k_live_", "k_test_"),
	shape(false, `sk-[A-Za-z0-9_-]{20,}`, "sk-"),
	shape(false, `eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?`, "eyJ"),
	shape(false, `(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*`, "-----BEGIN "),
}

// secretPlaces matches places where a secret stands: the first group.
var secretPlaces = []rule{
	// https://user:password@host, https://token@host
	shape(false, `[A-Za-z][A-Za-z0-9+.-]*://([^/\s@'"]+)@`, "@"),
	// Authorization: Bearer x, Cookie: x, X-Api-Key: x
	shape(false, `(?i)(?:[a-z-]*authorization|cookie|[a-z-]*api-key|[a-z-]*token|private-token)\s*:\s*([^'"\r\n]+)`, ":"),
	shape(false, `(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{8,})`, " ", "\t", "\n", "\r", "\f"),
	// Slack webhooks: the path is the secret
	shape(false, `hooks\.slack\.com/(?:services|workflows|triggers)/([^\s'"]+)`, "hooks.slack.com/"),
}

// pairName matches name= and "name": inside an argument.
var pairName = regexp.MustCompile(`([A-Za-z0-9_.-]+)"?\s*[=:]\s*"?`)

// pairEnd are the characters that end the value behind a pairName.
const pairEnd = " \t\r\n&;,'\""

// Arguments returns a program's arguments without what looks like a secret.
func (r *Redactor) Arguments(arguments []string) []string {
	return r.arguments(slices.Clone(arguments), nil)
}

// arguments takes secrets out of a program's arguments, in place: a job's own, and what
// looks like one.
func (r *Redactor) arguments(arguments, secrets []string) []string {
	valueIsSecret := false
	for i, argument := range arguments {
		if i > 0 && valueIsSecret && !strings.HasPrefix(argument, "-") {
			arguments[i] = r.mark(argument)
		} else if attached := attachedSecret(argument, arguments[0]); i > 0 && attached != "" {
			arguments[i] = strings.TrimSuffix(argument, attached) + r.mark(attached)
		} else {
			arguments[i] = r.words(argument, secrets)
		}
		valueIsSecret = i > 0 && takesSecret(argument, arguments[0])
	}
	return arguments
}

// attachedSecret returns the user and password behind curl's -u without a space, if they are there.
func attachedSecret(argument, program string) string {
	if program[strings.LastIndexByte(program, '/')+1:] != "curl" || len(argument) < 5 || argument[0] != '-' {
		return ""
	}
	if user, ok := strings.CutPrefix(argument, "-u"); ok && strings.Contains(user, ":") && !strings.Contains(user, "[redacted") {
		return user
	}
	return ""
}

// takesSecret says whether the argument behind this one is a secret.
func takesSecret(argument, program string) bool {
	name, isFlag := strings.CutPrefix(argument, "-")
	if !isFlag || strings.ContainsAny(argument, "=: ") {
		return false
	}
	base := program[strings.LastIndexByte(program, '/')+1:]
	if name, long := strings.CutPrefix(name, "-"); long {
		return isSecretName(name) || base == "curl" && (name == "user" || name == "proxy-user")
	}
	// Single letters mean different things to different programs.
	switch name {
	case "u", "U":
		return base == "curl"
	case "p", "P":
		return slices.Contains([]string{"sshpass", "docker", "podman", "skopeo", "mysql", "helm", "az"}, base)
	default:
		return isSecretName(name)
	}
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

// words takes secrets out of one argument, or anything like it.
func (r *Redactor) words(s string, secrets []string) string {
	if len(s) < 4 {
		return s
	}
	s = r.values(s, secrets)
	for _, shape := range secretShapes {
		if shape.mayMatch(s) {
			s = r.takeOut(shape.expression, s)
		}
	}
	for _, place := range secretPlaces {
		if place.mayMatch(s) {
			s = r.takeOut(place.expression, s)
		}
	}
	for _, own := range r.rules {
		s = r.takeOut(own, s)
	}
	if !strings.ContainsAny(s, "=:") {
		return s
	}
	return r.pairs(s)
}

// pairs takes the values of names that say so out of one argument. It looks
// at each name once, also at those inside the value of another.
func (r *Redactor) pairs(s string) string {
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
		if end == 0 || strings.HasPrefix(value, "[redacted") {
			continue
		}
		out.WriteString(s[done:m[1]])
		out.WriteString(r.mark(value[:end]))
		done = m[1] + end
	}
	if done == 0 {
		return s
	}
	out.WriteString(s[done:])
	return out.String()
}
