package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/test/githubfake"
	"github.com/sallyport-ci/sallyport/test/pullrequest"
)

// TestPullRequest: the check on a pull request, from the kernel to GitHub: green for a clean one,
// neutral and settled by a button for a new destination, red for the attack, green again when
// somebody who may says that it was meant. Nothing that was made anywhere holds a secret.
func TestPullRequest(t *testing.T) {
	github := githubfake.New(t)
	var stage *pullrequest.Stage
	s := newSystemWith(t, func(data string) {
		var err error
		if stage, err = pullrequest.New(github, repository, filepath.Join(data, "github-app")); err != nil {
			t.Fatal(err)
		}
	})
	if err := stage.Join(s.world, s.up); err != nil {
		t.Fatal(err)
	}
	const planted = "ghp_plantedplantedplantedplantedplanted1"
	s.world.Set("DEPLOY_TOKEN", planted)
	ctx := t.Context()
	push := func(branch string) string {
		t.Helper()
		text, err := s.world.File(".github/workflows/ci.yml")
		if err != nil {
			t.Fatal(err)
		}
		sha, err := stage.Push(ctx, branch, map[string]string{".github/workflows/ci.yml": text, "branch": branch})
		if err != nil {
			t.Fatal(err)
		}
		return sha
	}
	push("main")
	for run := 1; run <= 6; run++ {
		s.run(t, "ci.yml", run)
		s.learned(t, "build", run, run >= 5)
	}
	s.learned(t, "test", 6, true)

	played := func(branch string, id int, conclusion, title string) githubfake.Check {
		t.Helper()
		sha := push(branch)
		if err := stage.Run(ctx, sha, "ci.yml", id, "build", "test"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c, err := stage.Check(ctx, sha, func(c githubfake.Check) bool { return c.Conclusion == conclusion && strings.Contains(c.Title, title) })
		if err != nil {
			t.Fatalf("%s: %v\n%s\n%s", branch, err, c.Summary, s.log)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: %s after the end", branch, took)
		}
		return c
	}
	press := func(c githubfake.Check, label string) {
		t.Helper()
		if err := stage.Press(ctx, c, "mia", label); err != nil {
			t.Fatal(err)
		}
		if now, err := stage.Concluded(ctx, c.SHA, "success"); err != nil || now.ID != c.ID {
			t.Fatalf("%v\n%s\n%s", err, now.Summary, s.log)
		}
	}
	stage.Repository.SetRole("mia", "maintain")
	played("clean", 101, "success", "Nothing new in 2 jobs")

	if err := s.world.Mirror(ctx); err != nil {
		t.Fatal(err)
	}
	c := played("mirror", 102, "neutral", "1 new behaviour")
	if !strings.Contains(c.Summary, "mirror\\.example\\.test") || len(c.Annotations) != 1 || c.Annotations[0].StartLine != 10 {
		t.Errorf("%s\n%+v", c.Summary, c.Annotations)
	}
	press(c, "Approve for this job")
	played("mirror-again", 103, "success", "Nothing new in 2 jobs")

	if err := s.world.Compromise(); err != nil {
		t.Fatal(err)
	}
	c = played("attack", 104, "failure", "threat")
	for _, want := range []string{"step `changed`", "gist\\.example\\.test"} {
		if !strings.Contains(c.Summary, want) {
			t.Errorf("%q is missing in\n%s", want, c.Summary)
		}
	}
	press(c, "Settle: it is meant")

	said := s.log.String()
	for _, c := range stage.Repository.Checks() {
		said += c.Title + c.Summary + c.Text
	}
	for _, r := range github.Requests() {
		said += r.Path
	}
	for _, m := range s.receiver.Messages() {
		for _, x := range m.Texts() {
			said += x.Text
		}
	}
	tables, err := s.up.Query(ctx, "SELECT name FROM system.tables WHERE database = 'sallyport' AND engine NOT LIKE '%View' FORMAT TSV")
	if err != nil {
		t.Fatal(err)
	}
	for table := range strings.FieldsSeq(tables) {
		rows, err := s.up.Query(ctx, fmt.Sprintf("SELECT * FROM sallyport.`%s` FORMAT JSONEachRow", table))
		if err != nil {
			t.Fatal(err)
		}
		said += rows
	}
	secrets := map[string]string{"the job's token": planted, "an installation's token": "ghs_", "the App's key": "PRIVATE KEY", "the webhooks' secret": stage.App.WebhookSecret}
	for _, name := range []string{"token", "agent.password", "operator.password", "owner.password", "reader.password"} {
		text, err := os.ReadFile(filepath.Join(s.data, name))
		if err != nil {
			t.Fatal(err)
		}
		secrets[name] = strings.TrimSpace(string(text))
	}
	for what, secret := range secrets {
		if i := strings.Index(said, secret); i >= 0 {
			t.Errorf("%s is in %q", what, said[max(0, i-80):min(len(said), i+80)])
		}
	}
}
