package main

import (
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/test/githubfake"
	"github.com/sallyport-ci/sallyport/test/pullrequest"
)

// testChecks runs the checks with the rights of their role alone.
func testChecks(t *testing.T, c *cluster) {
	github := githubfake.New(t)
	folder := t.TempDir()
	stage, err := pullrequest.New(github, "acme/shop", folder)
	if err != nil {
		t.Fatal(err)
	}
	checks := (&cluster{t: t, dir: c.dir, servers: c.servers}).run("checks", "--github-app", folder, "--webhooks", "127.0.0.1:0")
	checks.waitReady()
	defer checks.stop()
	sha := stage.Repository.Commit("main", "alice", "begin", map[string]string{"README.md": "x"})
	stage.Repository.SetRun(githubfake.Run{ID: 1, Name: "CI", Path: ".github/workflows/ci.yml", Event: "push", SHA: sha, Attempt: 1, Status: "queued"})
	d := stage.Repository.RunWebhook(stage.App, "requested", 1)
	eventually(t, 30*time.Second, func() error {
		_, err := d.Send(t.Context(), "http://"+checks.address("webhooks")+webhookPath)
		return err
	})
	if _, err := stage.Check(t.Context(), sha, func(c githubfake.Check) bool { return c.Status == "in_progress" && c.Title == "Watching" }); err != nil {
		t.Error(err)
	}
}
