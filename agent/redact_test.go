package agent

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRedactArguments(t *testing.T) {
	const ghp = "ghp_0123456789abcdefABCDEF0123456789abcd"
	for _, c := range []struct{ in, want string }{
		{"tool --token hunter2 --verbose", "tool --token [redacted] --verbose"},
		{"tool --password=hunter2", "tool --password=[redacted]"},
		{"tool --api-key hunter2", "tool --api-key [redacted]"},
		{"tool --token --next", "tool --token --next"},
		{"curl -u alice:hunter2 https://x.example.test", "curl -u [redacted] https://x.example.test"},
		{"/usr/bin/docker login -p hunter2", "/usr/bin/docker login -p [redacted]"},
		{"mkdir -p folder", "mkdir -p folder"},
		{"ssh -p 22 host", "ssh -p 22 host"},
		{"env DB_PASSWORD=hunter2 MODE=fast", "env DB_PASSWORD=[redacted] MODE=fast"},
		{"git clone https://alice:hunter2@git.example.test/r.git", "git clone https://[redacted]@git.example.test/r.git"},
		{"curl https://b.example.test/x?sig=hunter2&a=1", "curl https://b.example.test/x?sig=[redacted]&a=1"},
		{"curl https://hooks.slack.com/services/T0/B0/hunter2", "curl https://hooks.slack.com/services/[redacted]"},
		{"echo " + ghp, "echo [redacted]"},
		{"echo https://x.example.test/" + ghp + "/y", "echo https://x.example.test/[redacted]/y"},
		{"echo AKIA0123456789ABCDEF", "echo [redacted]"},
		{"echo eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "echo [redacted]"},
		{"go test ./... -run TestToken", "go test ./... -run TestToken"},
		{"node index.js --public-key file.pem", "node index.js --public-key file.pem"},
	} {
		got := redactArguments(strings.Split(c.in, " "))
		if !slices.Equal(got, strings.Split(c.want, " ")) {
			t.Errorf("%s\n got %s\nwant %s", c.in, strings.Join(got, " "), c.want)
		}
	}
	for _, c := range []struct{ in, want string }{
		{"Authorization: Bearer hunter2hunter2", "Authorization: [redacted]"},
		{"PRIVATE-TOKEN: hunter2", "PRIVATE-TOKEN: [redacted]"},
		{"Content-Type: text/plain", "Content-Type: text/plain"},
		{`{"client_secret": "hunter2", "a": "b"}`, `{"client_secret": "[redacted]", "a": "b"}`},
		{"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[redacted]"},
	} {
		if got := redact(c.in); got != c.want {
			t.Errorf("%q\n got %q\nwant %q", c.in, got, c.want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	for _, s := range []string{"", "=", "a=b", "token=\xff", "https://a:b@c", "-----BEGIN PRIVATE KEY-----", "\"password\": \""} {
		f.Add(s)
	}
	const secret = "ghp_0123456789abcdefABCDEF0123456789abcd"
	f.Fuzz(func(t *testing.T, s string) {
		if got := redact(s + " " + secret); strings.Contains(got, secret) {
			t.Errorf("%q kept the token: %q", s, got)
		}
		if out := text(s); !utf8.ValidString(out) {
			t.Errorf("%q became %q", s, out)
		}
	})
}

// FuzzHints: no rule matches without one of its hints.
func FuzzHints(f *testing.F) {
	for _, s := range []string{
		"--password=x", "https://u:p@h/", "Authorization: Bearer abcdefgh12345678", "x bearer abcdefghijkl", "AKIAABCDEFGHIJKLMNOP",
		"ghp_abcdefghijklmnop1234", "Cookie :a=b", "PRIVATE-TOKEN:x", "rk_test_abcdefghijklmnop", "connection_string", "SIG", "\u212aEY", "pa\u017f\u017fword",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range append(slices.Clone(secretShapes), secretPlaces...) {
			if r.expression.MatchString(s) && !r.mayMatch(s) {
				t.Errorf("%s matches %q without a hint", r.expression, s)
			}
		}
		if secretName.MatchString(s) && !notSecretName.MatchString(s) && !isSecretName(s) {
			t.Errorf("the name %q of a secret has no hint", s)
		}
	})
}
