package githubfake

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
)

//go:embed contract/webhooks.json
var webhookDescription []byte

// describedWebhooks is GitHub's description of them, read once for all tests of a program.
var describedWebhooks = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(webhookDescription)
	if err != nil {
		return nil, fmt.Errorf("read GitHub's description of webhooks: %w", err)
	}
	return doc, nil
})

// Delivery is a webhook as GitHub sends it. It can be sent any number of times, in any order.
type Delivery struct {
	// ID, Event and Signature are those of the headers.
	ID, Event, Signature string
	Body                 []byte
}

// Send posts it to an address, as GitHub does: without an answer within ten seconds it has
// failed, and is not sent again by itself.
func (d Delivery) Send(ctx context.Context, url string) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(d.Body))
	if err != nil {
		return 0, fmt.Errorf("deliver %s: %w", d.Event, err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "GitHub-Hookshot/044aadd")
	r.Header.Set("X-GitHub-Event", d.Event)
	r.Header.Set("X-GitHub-Delivery", d.ID)
	r.Header.Set("X-GitHub-Hook-ID", "292430182")
	r.Header.Set("X-Hub-Signature-256", d.Signature)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, fmt.Errorf("deliver %s: %w", d.Event, err)
	}
	return resp.StatusCode, resp.Body.Close()
}

// delivery makes a webhook of an App that is installed for the repository.
func (r *Repository) delivery(app *App, event, action, sender string, payload map[string]any) Delivery {
	s := r.server
	payload["action"] = action
	if action == "" {
		delete(payload, "action")
	}
	payload["repository"], payload["sender"] = s.repositoryJSON(r), s.userJSON(sender)
	for _, i := range app.installations {
		if strings.EqualFold(i.account, r.owner()) {
			payload["installation"] = map[string]any{"id": i.id, "node_id": fmt.Sprint("I_", i.id)}
		}
	}
	full, err := webhook(event, action, payload)
	if err != nil {
		s.violation("%v", err)
	}
	body, err := json.Marshal(full)
	if err != nil {
		s.violation("webhook %s: %v", event, err)
	}
	mac := hmac.New(sha256.New, []byte(app.WebhookSecret))
	_, _ = mac.Write(body)
	return Delivery{ID: word(32), Event: event, Signature: "sha256=" + hex.EncodeToString(mac.Sum(nil)), Body: body}
}

// webhook completes a payload with what GitHub's description requires, and holds it to it.
func webhook(event, action string, payload map[string]any) (any, error) {
	doc, err := describedWebhooks()
	if err != nil {
		return nil, err
	}
	name := strings.ReplaceAll(event, "_", "-")
	if action != "" {
		name += "-" + strings.ReplaceAll(action, "_", "-")
	}
	item := doc.Paths.Value("/webhooks/" + name)
	if item == nil {
		return payload, fmt.Errorf("GitHub describes no webhook %s", name)
	}
	schema := item.Post.RequestBody.Value.Content.Get("application/json").Schema.Value
	full := fill(schema, copied(payload), 0)
	if err := schema.VisitJSON(full); err != nil {
		line, _, _ := strings.Cut(err.Error(), "\n") // the rest is the whole schema
		return full, fmt.Errorf("webhook %s: %s", name, line)
	}
	return full, nil
}

// RunWebhook tells of a workflow run: action is requested, in_progress or completed.
func (r *Repository) RunWebhook(app *App, action string, run int64) Delivery {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for _, w := range r.runs {
		if w.ID == run {
			out := r.server.runJSON(r, w)
			return r.delivery(app, "workflow_run", action, "alice", map[string]any{"workflow_run": out, "workflow": nil})
		}
	}
	panic(fmt.Sprintf("there is no run %d", run))
}

// JobWebhook tells of a job of a run: action is queued, in_progress or completed.
func (r *Repository) JobWebhook(app *App, action string, run, job int64) Delivery {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for _, w := range r.runs {
		for _, j := range w.Jobs {
			if w.ID == run && j.ID == job {
				return r.delivery(app, "workflow_job", action, "alice", map[string]any{"workflow_job": r.server.jobJSON(r, w, j)})
			}
		}
	}
	panic(fmt.Sprintf("there is no job %d of run %d", job, run))
}

// Click is somebody pressing a button of a check, or, without an identifier, asking for it again.
func (r *Repository) Click(app *App, check int64, login, identifier string) Delivery {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for _, c := range r.checks {
		if c.id == check {
			payload := map[string]any{"check_run": r.server.checkJSON(r, c)}
			if identifier == "" {
				return r.delivery(app, "check_run", "rerequested", login, payload)
			}
			payload["requested_action"] = map[string]any{"identifier": identifier}
			return r.delivery(app, "check_run", "requested_action", login, payload)
		}
	}
	panic(fmt.Sprintf("there is no check %d", check))
}

// PullWebhook tells of a pull request: action is opened, or the one of a push.
func (r *Repository) PullWebhook(app *App, action string, number int) Delivery {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	i := r.issues[number-1]
	payload := map[string]any{"number": number, "pull_request": r.server.pullJSON(r, i)}
	if action == "synchronize" { //nolint:misspell // GitHub's
		payload["before"], payload["after"] = strings.Repeat("0", 40), i.pull.sha.String()
	}
	return r.delivery(app, "pull_request", action, i.login, payload)
}

// QueueBranch is how a merge queue names the branch of a group: by the pull request that it adds to a
// commit.
func QueueBranch(pull int, base string) string {
	return fmt.Sprintf("gh-readonly-queue/main/pr-%d-%s", pull, base)
}

// QueueWebhook tells that a merge queue wants the checks of a commit, which adds a pull request to a
// base.
func (r *Repository) QueueWebhook(app *App, pull int, base, sha string) Delivery {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	return r.delivery(app, "merge_group", "checks_requested", "alice", map[string]any{"merge_group": map[string]any{
		"head_sha": sha, "head_ref": "refs/heads/" + QueueBranch(pull, base), "base_sha": base, "base_ref": "refs/heads/main", "head_commit": map[string]any{},
	}})
}

// PushWebhook tells of a push of files to a branch.
func (r *Repository) PushWebhook(app *App, branch string, files ...string) Delivery {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	head := r.refs["refs/heads/"+branch].String()
	commit := map[string]any{"id": head, "added": []string{}, "removed": []string{}, "modified": append([]string{}, files...)}
	return r.delivery(app, "push", "", "alice", map[string]any{
		"ref": "refs/heads/" + branch, "before": strings.Repeat("0", 40), "after": head, "commits": []any{commit}, "head_commit": commit,
	})
}
