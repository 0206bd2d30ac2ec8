package agent

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport/bpf"
)

func TestRedactArguments(t *testing.T) {
	const ghp = "ghp_0123456789abcdefABCDEF0123456789abcd"
	for _, c := range []struct{ in, want string }{
		{"tool --token hunter2 --verbose", "tool --token [redacted] --verbose"},
		{"tool --password=hunter2", "tool --password=[redacted]"},
		{"tool --api-key hunter2", "tool --api-key [redacted]"},
		{"tool --token --next", "tool --token --next"},
		{"curl -u alice:hunter2 https://x.example.test", "curl -u [redacted] https://x.example.test"},
		{"curl -ualice:hunter2 https://x.example.test", "curl -u[redacted] https://x.example.test"},
		{"/usr/bin/curl --user alice:hunter2 --proxy-user bob:hunter3 https://x.example.test", "/usr/bin/curl --user [redacted] --proxy-user [redacted] https://x.example.test"},
		{"id --user alice", "id --user alice"},
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
		got := new(Redactor).arguments(strings.Split(c.in, " "), nil)
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
		if got := new(Redactor).words(c.in, nil); got != c.want {
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
		if got := new(Redactor).words(s+" "+secret, nil); strings.Contains(got, secret) {
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

func TestRedactorOfAnOperator(t *testing.T) {
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules.json")
	if err := os.WriteFile(rules, []byte(`{"match": ["ACME-[0-9]{6}", "seat=([a-z]+);"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(dir string) *Redactor {
		t.Helper()
		r, err := LoadRedactor(filepath.Join(dir, "state/redaction.key"), rules)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := open(dir)
	got := r.words("ACME-123456 ACME-654321 ACME-123456 seat=window; --token=x", nil)
	fields := strings.Fields(got)
	digest := regexp.MustCompile(`^\[redacted:[0-9a-f]{8}\]$`)
	if len(fields) != 5 || !digest.MatchString(fields[0]) || fields[0] != fields[2] || fields[0] == fields[1] || !strings.HasPrefix(fields[3], "seat=[redacted:") ||
		!strings.HasSuffix(fields[3], "];") || !strings.HasPrefix(fields[4], "--token=[redacted:") {
		t.Errorf("%q", got)
	}
	if again := open(dir).words("ACME-123456", nil); again != fields[0] {
		t.Errorf("after a restart %s, before %s", again, fields[0])
	}
	if other := open(t.TempDir()).words("ACME-123456", nil); other == fields[0] {
		t.Errorf("another key gives the same digest %s", other)
	}
	for name, c := range map[string][]string{"broken": {"a("}, "empty": {"a*"}, "too many": make([]string, 65)} {
		if _, err := NewRedactor(nil, c); err == nil {
			t.Errorf("%s rules are taken", name)
		}
	}
	if err := os.WriteFile(rules, []byte(`{"mach": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRedactor(filepath.Join(dir, "state/redaction.key"), rules); err == nil || !strings.Contains(err.Error(), "mach") {
		t.Errorf("%v", err)
	}
}

func TestRedactDomain(t *testing.T) {
	for in, want := range map[string]string{
		"api.github.com": "api.github.com",
		"ghp_0123456789abcdefabcdef0123456789abcd.evil.example.test": "[redacted].evil.example.test",
		"x.akia0123456789abcdef.evil.example.test":                   "x.[redacted].evil.example.test",
		"swordfish1.evil.example.test":                               "[redacted].evil.example.test",
	} {
		if got := new(Redactor).domain(in, []string{"SwordFish1"}); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestSecretsOf(t *testing.T) {
	got := secretsOf([]byte("A=b\x00DEPLOY_TOKEN=0123456789\x00SHORT_TOKEN=abc\x00GIT_ASKPASS=/usr/bin/ask\x00PUBLIC_KEY=0123456789\x00COPY_OF_TOKEN=0123456789\x00DB_PASSWORD=p\xffssword\x00CUT_TOKEN=01234567"))
	if want := []string{"0123456789", "p\xffssword"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestOwnSecrets: what a job's variables hold is taken out wherever it stands in that
// job, and only there.
func TestOwnSecrets(t *testing.T) {
	m := newMachine(t)
	worker := m.exec(0, "/opt/runner/bin/Runner.Worker", func(e *bpf.Exec) { e.Worker = true })
	data := "GITHUB_REPOSITORY=example/app\x00GITHUB_RUN_ID=7\x00GITHUB_JOB=build\x00GITHUB_ACTION=deploy\x00DEPLOY_TOKEN=correct horse\x00"
	m.tell(&bpf.Environment{Header: bpf.Header{Process: (m.next + 1) << 10}, Size: uint32(len(data)), Data: []byte(data)})
	shell := m.exec(worker, "/bin/bash", func(e *bpf.Exec) { e.Step = true; e.Arguments = []byte("bash\x00-c\x00echo correct horse\x00") })
	m.exec(shell, "/bin/echo", func(e *bpf.Exec) { e.Arguments = []byte("echo\x00a-correct horse-b\x00") })
	m.exec(0, "/outside", func(e *bpf.Exec) { e.Arguments = []byte("outside\x00correct horse\x00") })
	for program, want := range map[string]string{
		"/bin/bash": "echo [redacted]", "/bin/echo": "a-[redacted]-b", "/outside": "correct horse",
	} {
		arguments := m.execOf(program).process.GetArguments()
		if got := arguments[len(arguments)-1]; got != want {
			t.Errorf("%s %q, want %q", program, got, want)
		}
	}
}
