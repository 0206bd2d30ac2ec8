package catalogue

import (
	"maps"
	"strings"
	"testing"
)

// given writes permissions as a test reads them: "contents: read, issues: write".
func given(t *testing.T, text string) map[Scope]Access {
	t.Helper()
	p := make(map[Scope]Access)
	for _, one := range strings.Split(text, ",") {
		scope, access, ok := strings.Cut(strings.TrimSpace(one), ": ")
		if !ok {
			continue
		}
		var a Access
		if err := a.UnmarshalText([]byte(access)); err != nil {
			t.Fatal(err)
		}
		p[Scope(scope)] = a
	}
	return p
}

type with = map[string]string

func TestFor(t *testing.T) {
	c := embeddedForTest(t)
	for _, test := range []struct {
		name  string
		uses  string
		with  with
		env   with
		token Reach
		sure  string
		all   string // With what an expression decides; the same as sure if empty.
	}{
		{name: "checkout", uses: "actions/checkout@v4", token: In, sure: "contents: read"},
		{
			name: "checkout with a deploy key", uses: "actions/checkout@v4",
			with: with{"ssh-key": "${{ secrets.DEPLOY_KEY }}"}, token: In, all: "contents: read",
		},
		{
			name: "checkout with another token", uses: "actions/checkout@v4",
			with: with{"token": "${{ secrets.BOT }}"}, token: Out,
		},
		{
			name: "checkout with the token, spelt out in capitals", uses: "ACTIONS/checkout@v4",
			with: with{"Token": "${{ SECRETS.GITHUB_TOKEN }}"}, token: In, sure: "contents: read",
		},
		{
			name: "checkout with one token or the other", uses: "actions/checkout@v4",
			with: with{"token": "${{ secrets.BOT || github.token }}"}, token: Undecided, all: "contents: read",
		},
		{
			name: "checkout with the token of an app", uses: "actions/checkout@v4",
			with: with{"token": "${{ steps.app-token.outputs.token }}"}, token: Out,
		},
		{
			name: "checkout in a reusable workflow", uses: "actions/checkout@v4",
			with: with{"token": "${{ inputs.token }}"}, token: Undecided, all: "contents: read",
		},
		{
			name: "checkout without a token", uses: "actions/checkout@v4",
			with: with{"token": ""}, token: Out,
		},
		{name: "a setup action holds the token and needs nothing", uses: "actions/setup-go@v5", token: In},
		{name: "download of what this run made", uses: "actions/download-artifact@v4", token: Out},
		{
			name: "download of what another run made", uses: "actions/download-artifact@v4",
			with: with{"github-token": "${{ github.token }}"}, token: In, sure: "actions: read",
		},
		{
			name: "build without push", uses: "docker/build-push-action@v6",
			with: with{"context": ".", "tags": "ghcr.example.test/example/app:1"},
		},
		{
			name: "build of what it fetches itself", uses: "docker/build-push-action@v6",
			with: with{"tags": "ghcr.example.test/example/app:1"}, sure: "contents: read",
		},
		{
			name: "build and push", uses: "docker/build-push-action@v6",
			with: with{"context": ".", "push": "true", "tags": "ghcr.example.test/example/app:${{ github.sha }}"}, sure: "packages: write",
		},
		{
			name: "push elsewhere", uses: "docker/build-push-action@v6",
			with: with{"context": ".", "push": "true", "tags": "registry.example.test/app:1"},
		},
		{
			name: "push on some events", uses: "docker/build-push-action@v6",
			with: with{"context": ".", "push": "${{ github.event_name != 'pull_request' }}", "tags": "ghcr.example.test/example/app:1"},
			all:  "packages: write",
		},
		{
			name: "push of computed tags", uses: "docker/build-push-action@v6",
			with: with{"context": ".", "push": "true", "tags": "${{ steps.meta.outputs.tags }}"}, all: "packages: write",
		},
		{
			name: "release", uses: "softprops/action-gh-release@v2", token: In, sure: "contents: write",
		},
		{
			name: "release with a discussion", uses: "softprops/action-gh-release@v2",
			with:  with{"discussion_category_name": "Announcements"},
			token: In, sure: "contents: write, discussions: write",
		},
		{
			name: "token in the environment", uses: "actions/create-release@v1",
			env: with{"GITHUB_TOKEN": "${{ secrets.GITHUB_TOKEN }}"}, token: In, sure: "contents: write",
		},
		{
			name: "environment without a token", uses: "actions/create-release@v1",
			env: with{"CI": "true"}, token: Out,
		},
		{
			name: "environment nobody looked at", uses: "actions/create-release@v1",
			token: Undecided, all: "contents: write",
		},
		{
			name: "OIDC does not wait for the token", uses: "actions/attest-build-provenance@v3",
			with: with{"github-token": "${{ secrets.BOT }}"}, token: Out, sure: "id-token: write",
		},
		{
			name: "cloud by OIDC", uses: "aws-actions/configure-aws-credentials@v4",
			with: with{"role-to-assume": "arn:aws:iam::000000000000:role/ci"}, sure: "id-token: write",
		},
		{
			name: "cloud by key", uses: "aws-actions/configure-aws-credentials@v4",
			with: with{"role-to-assume": "arn:aws:iam::000000000000:role/ci", "aws-access-key-id": "AKIDEXAMPLE"},
		},
		{
			name: "default of an input", uses: "zizmorcore/zizmor-action@v0", token: In,
			sure: "security-events: write, contents: read, actions: read",
		},
		{
			name: "default of an input turned off", uses: "zizmorcore/zizmor-action@v0",
			with: with{"advanced-security": "False"}, token: In,
		},
		{
			name: "comment of the dependency review", uses: "actions/dependency-review-action@v4",
			with: with{"comment-summary-in-pr": "on-failure"}, token: In, sure: "contents: read, pull-requests: write",
		},
		{
			name: "default that an expression decides", uses: "bufbuild/buf-action@v1", token: In,
			sure: "contents: read", all: "contents: read, pull-requests: write",
		},
		{
			name: "default that an expression decides, overruled", uses: "bufbuild/buf-action@v1",
			with: with{"pr_comment": "false"}, token: In, sure: "contents: read",
		},
		{
			name: "a composite action takes the token itself", uses: "slsa-framework/slsa-verifier/actions/installer@v2.7.1",
			env: with{}, token: In, sure: "contents: read",
		},
		{
			name: "an empty list of what to lock is all", uses: "dessant/lock-threads@v5",
			with:  with{"process-only": ""},
			token: In, sure: "issues: write, pull-requests: write, discussions: write",
		},
		{
			name: "one kind of what to lock", uses: "dessant/lock-threads@v5",
			with: with{"process-only": "prs"}, token: In, sure: "pull-requests: write",
		},
		{
			name: "a second token of another's making", uses: "aquasecurity/trivy-action@0.33.1",
			with: with{"github-pat": "${{ secrets.PAT }}"}, token: In,
		},
		{
			name: "the job's token as the second", uses: "aquasecurity/trivy-action@0.33.1",
			with: with{"github-pat": "${{ secrets.GITHUB_TOKEN }}"}, token: In, sure: "contents: write",
		},
		{
			name: "the job's token as the second, perhaps", uses: "aquasecurity/trivy-action@0.33.1",
			with: with{"github-pat": "${{ inputs.token }}"}, token: In, all: "contents: write",
		},
		{
			name: "no comment of the dependency review", uses: "actions/dependency-review-action@v4",
			with: with{"comment-summary-in-pr": "never"}, token: In, sure: "contents: read",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			needs, known, sources := c.ForStep(Step{Uses: test.uses, With: test.with, Env: test.env})
			if !known || len(sources) == 0 {
				t.Fatalf("%s is not known, or without source", test.uses)
			}
			if needs.Token != test.token {
				t.Errorf("the token %v, want %v", needs.Token, test.token)
			}
			if got, want := needs.Permissions(false), given(t, test.sure); !maps.Equal(got, want) {
				t.Errorf("sure of %v, want %v", got, want)
			}
			all := test.all
			if all == "" {
				all = test.sure
			}
			if got, want := needs.Permissions(true), given(t, all); !maps.Equal(got, want) {
				t.Errorf("with maybe %v, want %v", got, want)
			}
		})
	}
}

func TestForUnknownActionKnowsNothing(t *testing.T) {
	needs, known, sources := embeddedForTest(t).For("example/unheard-of@v1", nil)
	if known || sources != nil || len(needs.Permissions(true)) > 0 {
		t.Errorf("an unknown action is known: %v %v", needs, sources)
	}
}

func TestUnsureGoesWithTheToken(t *testing.T) {
	c := embeddedForTest(t)
	needs, _, _ := c.For("actions/github-script@v7", with{"script": "await github.rest.issues.create({})"})
	if needs.Unsure == "" {
		t.Error("a script with the job's token is taken for known")
	}
	needs, _, _ = c.For("actions/github-script@v7", with{"github-token": "${{ secrets.BOT }}"})
	if needs.Unsure != "" {
		t.Errorf("a script without the job's token needs %q", needs.Unsure)
	}
}

func TestHoldsToken(t *testing.T) {
	for value, want := range map[string]Reach{
		"${{ github.token }}":                                 In,
		"${{github.token}}":                                   In,
		"${{ github['token'] }}":                              In,
		"${{ secrets['GITHUB_TOKEN'] }}":                      In,
		"Bearer ${{ secrets.GITHUB_TOKEN }}":                  In,
		"${{ secrets.BOT }}${{ github.token }}":               In,
		"${{ secrets.GITHUB_TOKEN_OLD }}":                     Out,
		"${{ secrets.MY_GITHUB_TOKEN }}":                      Out,
		"github.token":                                        Out,
		"ghp_example":                                         Out,
		"":                                                    Out,
		"${{ env.TOKEN }}":                                    Undecided,
		"${{ secrets.GITHUB_TOKEN || '' }}":                   In,
		"${{ github.token || secrets.BOT }}":                  In,
		"${{ github.token_old || secrets.BOT }}":              Undecided,
		"${{ github.event_name == 'push' && github.token }}":  Undecided,
		"${{ secrets[matrix.secret] }}":                       Undecided,
		"${{ steps.a.outputs.b || secrets.GITHUB_TOKEN }}":    Undecided,
		"${{\n  secrets.GITHUB_TOKEN\n}}":                     In,
		"${{ needs.token.outputs.token }}":                    Undecided,
		"${{ fromJSON(secrets.ALL).token }}":                  Undecided,
		"${{ secrets.BOT }} and ${{ fromJSON(env.A).token }}": Undecided,
	} {
		if got := holdsToken(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func FuzzFor(f *testing.F) {
	f.Add("actions/checkout@v4", "token", "${{ github.token }}")
	f.Add("docker/build-push-action", "push", "${{ true }")
	f.Add("softprops/action-gh-release@", "discussion_category_name", "\x00${{}}")
	c, err := Embedded()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, uses, name, value string) {
		needs, known, _ := c.For(uses, with{name: value})
		if !known && len(needs.Permissions(true)) > 0 {
			t.Errorf("%q is unknown and has needs", uses)
		}
		sure, all := needs.Permissions(false), needs.Permissions(true)
		for scope, access := range sure {
			if all[scope] < access {
				t.Errorf("%q: %s is surer without what may be", uses, scope)
			}
		}
	})
}
