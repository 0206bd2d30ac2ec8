package harden

import (
	"strings"
	"testing"
)

const observedJobs = `on: push
jobs:
  build:
    runs-on: x
    steps:
      - uses: actions/checkout@v4
      - run: ./release.sh
        env: {GITHUB_TOKEN: "${{ github.token }}"}
  quiet:
    runs-on: x
    steps:
      - uses: ./local
`

func TestObserved(t *testing.T) {
	run := func(t *testing.T, repository string, lines ...string) (string, error) {
		t.Helper()
		c := settings()
		c.Rules, c.Repository = []string{"permissions"}, repository
		var err error
		if c.Observed, err = ReadObservations(strings.NewReader(strings.Join(lines, "\n"))); err != nil {
			t.Fatal(err)
		}
		r, err := Text(t.Context(), c, "/x/shop/.github/workflows/ci.yml", []byte(observedJobs))
		if err != nil {
			return "", err
		}
		return strings.Join(saidOf(r), "\n") + "\n" + string(r.After), nil
	}
	line := func(job, method, host, path, runs, of string) string {
		return `{"repository":"acme/shop","file":".github/workflows/ci.yml","job":"` + job + `","method":"` + method + `","host":"` + host + `","path":"` + path + `","runs":"` + runs + `","of":` + of + `,"more":1}`
	}
	// A few runs add to what is inferred; they do not settle what is unknown.
	got, err := run(t, "", line("build", "POST", "api.github.com", "/repos/acme/shop/releases", "3", "3"), line("build", "GET", "api.github.com", "/repos/acme/shop/pulls/*", "2", "3"))
	for _, want := range []string{
		"contents: write for what was seen: POST /repos/{owner}/{repo}/releases in 3 of 3 runs; pull-requests: read for what was seen: GET /repos/{owner}/{repo}/pulls/{pull_number} in 2 of 3 runs",
		"job build: nobody knows what a script that has the token needs", "job quiet: nobody knows what ./local needs",
	} {
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s%v", want, got, err)
		}
	}
	// Enough runs do.
	got, err = run(t, "Acme/Shop", line("build", "POST", "github.com", "/acme/shop.git/git-receive-pack", "1", "40"), line("quiet", "", "", "", "0", "12"), "")
	if err != nil || strings.Contains(got, "nobody knows") || !strings.Contains(got, "contents: write for what was seen: git-receive-pack in 1 of 40 runs; what a script that has the token needs is taken from 40 runs that were seen") ||
		!strings.Contains(got, "  build:\n    runs-on: x\n    permissions:\n      contents: write\n") || !strings.HasPrefix(got[strings.Index(got, "\non: push"):], "\non: push\npermissions: {}\n") {
		t.Errorf("%s%v", got, err)
	}
	// What is not of the repository, or not known, gives nothing; GraphQL leaves it unknown.
	got, err = run(t, "acme/shop",
		line("build", "POST", "api.github.com", "/repos/acme/shop2/releases", "20", "20"), line("build", "PUT", "api.github.com", "/repos/acme/shop/actions/secrets/X", "20", "20"),
		line("build", "POST", "api.github.com", "/graphql", "20", "20"), line("other", "POST", "api.github.com", "/repos/acme/shop/releases", "20", "20"),
		line("build", "POST", "github.com", "/acme/other/git-receive-pack", "20", "20"), strings.ReplaceAll(line("build", "POST", "api.github.com", "/repos/acme/shop/releases", "20", "20"), `"acme/shop"`, `"acme/else"`))
	if err != nil || strings.Contains(got, "seen") || !strings.Contains(got, "nobody knows what a script that has the token") {
		t.Errorf("%s%v", got, err)
	}
	if _, err := run(t, "", line("build", "", "", "", "0", "1"), strings.ReplaceAll(line("build", "", "", "", "0", "1"), "acme/shop", "acme/else")); err == nil {
		t.Error("observations of two repositories, and nobody knows which it is")
	}
}

func TestObservationsAreStrict(t *testing.T) {
	for _, text := range []string{
		"x", `{"file": "a", "job": "b", "runs": -1, "of": 1}`, `{"file": "a", "job": "b", "runs": "x"}`, `{"file": "a", "runs": 1, "of": 1}`, `{"file": "a", "job": "b", "runs": 2, "of": 1}`,
		`{"file": "a", "job": "b", "method": "GET", "of": 1}`,
	} {
		if _, err := ReadObservations(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
