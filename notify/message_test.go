package notify

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", path, got, want)
	}
}

func memoryRead() *sallyportv1.Finding {
	f := finding(7, "Runner.Worker")
	f.Policy = &sallyportv1.Policy{
		Id: "worker_memory", Title: "A process reads the runner's memory", Severity: sallyportv1.Severity_SEVERITY_CRITICAL,
		Description: "The worker's memory holds every secret of the job.", Technique: "T1003.007",
		Remediation: "Stop the run and rotate every secret that this job can read.",
	}
	f.Message = "python3 read the memory of Runner.Worker."
	f.Behaviour = &sallyportv1.Behaviour{
		Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PROCESS_ACCESS, Program: "python3", Target: "Runner.Worker",
		Access: "proc-mem", TargetIsWorker: true, TargetExecutable: "/opt/runner/bin/Runner.Worker",
	}
	f.Baseline = &sallyportv1.BaselineFacts{Runs: 2, RunsNeeded: 5}
	return f
}

func TestTerminalText(t *testing.T) {
	var out bytes.Buffer
	target, err := NewTerminal(&out, TerminalOptions{Width: 80})
	if err != nil {
		t.Fatal(err)
	}
	hostile := finding(3, "a\x1b[2J.example.test")
	hostile.Policy.Severity = sallyportv1.Severity_SEVERITY_MEDIUM
	for _, a := range []Alert{
		{Items: []Item{{Finding: memoryRead()}}},
		{Items: []Item{{Finding: finding(1, "evil.example.test"), PossibleRepeat: true}}},
		{Items: []Item{{Finding: hostile, FollowUp: true, More: []Repeat{{ID: "x", RunID: "8", Time: time.Unix(0, 0)}}}}},
	} {
		if err := target.Deliver(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "terminal.txt", out.Bytes())
}

func TestTerminalJSONIsOneObjectALine(t *testing.T) {
	var out bytes.Buffer
	target, err := NewTerminal(&out, TerminalOptions{JSON: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Deliver(t.Context(), Alert{Items: []Item{{Finding: memoryRead()}, {Finding: finding(1, "a\nb\x1b[m")}}}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, want := range []string{memoryRead().Id, finding(1, "").Id} {
		var got struct {
			Finding struct {
				ID     string `json:"id"`
				Policy struct {
					Severity string `json:"severity"`
				} `json:"policy"`
			} `json:"finding"`
		}
		if err := json.Unmarshal([]byte(lines[i]), &got); err != nil || got.Finding.ID != want || got.Finding.Policy.Severity == "" {
			t.Errorf("line %d: %+v, %v", i, got, err)
		}
	}
}

func TestTerminalColours(t *testing.T) {
	var out bytes.Buffer
	target, err := NewTerminal(&out, TerminalOptions{Colour: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Deliver(t.Context(), Alert{Items: []Item{{Finding: memoryRead()}}}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[1;97;41m CRITICAL \x1b[0m") {
		t.Errorf("no colour in %q", out.String())
	}
}

func TestSlackMessageShown(t *testing.T) {
	items := []Item{{Finding: memoryRead()}, {Finding: finding(1, "evil.example.test"), PossibleRepeat: true}}
	more := []Repeat{{ID: "x", RunID: "8", Time: time.Unix(1772366400, 0)}, {ID: "y", RunID: "9", Time: time.Unix(1772366460, 0)}}
	var out bytes.Buffer
	for _, a := range []Alert{
		{Items: items[:1]},
		{Items: []Item{{Finding: finding(1, "evil.example.test"), FollowUp: true, More: more}}},
		{Items: items},
		{Items: items, Refused: true},
	} {
		out.WriteString(slackfake.Render(posted(t, a), slackfake.RenderOptions{Width: 90}))
	}
	golden(t, "slack.txt", out.Bytes())
}

// posted returns an alert as Slack would see it, and fails if Slack would not take
// it.
func posted(t *testing.T, a Alert) slackfake.Message {
	t.Helper()
	body, err := json.Marshal(slackMessageOf(a, "https://github.com"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := slackfake.Parse("application/json; charset=utf-8", body)
	if err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return *m
}

// hostileFinding puts s wherever an attacker might.
func hostileFinding(s string) *sallyportv1.Finding {
	f := finding(1, s)
	f.Message = "sent to " + s
	f.Attribution = &sallyportv1.Attribution{
		Repository: s, Workflow: s, RunId: s, Job: s, Step: s, Action: s, Commit: s, Ref: s, Event: s, Actor: s, Runner: s,
	}
	f.Hostname, f.AgentId = s, s
	f.Behaviour.Access, f.Behaviour.Protocol = s, s
	f.Behaviour.Address, f.Behaviour.AddressScope = s, s
	f.Policy = &sallyportv1.Policy{Id: s, Title: s, Description: s, Remediation: s, Technique: s, Severity: sallyportv1.Severity_SEVERITY_LOW}
	f.Ancestry = nil
	for range 40 {
		f.Ancestry = append(f.Ancestry, &sallyportv1.Process{Executable: s, Arguments: []string{s, s}})
	}
	return f
}

func checkHostile(t *testing.T, s string) {
	t.Helper()
	f := hostileFinding(s)
	more := []Repeat{{ID: s, RunID: s}, {ID: s, RunID: s + "1"}}
	many := make([]Item, SlackMaxItems)
	for i := range many {
		many[i] = Item{Finding: f, PossibleRepeat: true, More: more}
	}
	for _, a := range []Alert{
		{Items: []Item{{Finding: f, More: more}}},
		{Items: []Item{{Finding: f, FollowUp: true, More: more}}},
		{Items: many},
		{Items: many, Refused: true},
	} {
		for _, text := range posted(t, a).Texts() {
			for _, sequence := range text.Sequences() {
				if strings.HasPrefix(sequence, "!date^") {
					continue
				}
				// A link is ours if it leads to a run's page.
				address, _, _ := strings.Cut(sequence, "|")
				u, err := url.Parse(address)
				if err != nil || u.Host != "github.com" || u.Scheme != "https" || !strings.Contains(u.Path, "/actions/runs/") {
					t.Fatalf("%q lets <%s> through in %q", s, sequence, text.Text)
				}
			}
			if text.Type == "mrkdwn" && strings.Count(strings.ReplaceAll(text.Text, "```", ""), "`")%2 != 0 {
				t.Fatalf("%q opens a code span in %q", s, text.Text)
			}
		}
	}
}

func TestNobodyIsMentionedByANameFromOutside(t *testing.T) {
	for _, s := range []string{
		"<!channel> <@U123> <https://evil.example.test|click>", "```\n<!here>", "`*bold*` _x_ ~y~",
		"&lt;!channel&gt;", "|><!everyone>", strings.Repeat("&", 5000), strings.Repeat("漢😀", 4000),
		strings.Repeat("`<", 4000), "", "\n\n", "\x00\xff\u202e", "../../x/y", "a/b|c",
	} {
		checkHostile(t, s)
	}
}

func FuzzSlackMessage(f *testing.F) {
	for _, s := range []string{"", "<!channel>", "`", "&amp;", "\xff", "a/b", "123", strings.Repeat("<", 700)} {
		f.Add(s)
	}
	f.Fuzz(checkHostile)
}

func TestRunURL(t *testing.T) {
	for _, c := range []struct {
		server, repository, run string
		attempt                 uint32
		want                    string
	}{
		{"https://github.com", "acme/shop", "12", 1, "https://github.com/acme/shop/actions/runs/12"},
		{"https://ghe.example.test/", "acme/shop", "12", 3, "https://ghe.example.test/acme/shop/actions/runs/12/attempts/3"},
		{"https://github.com", "acme/shop/../../evil", "12", 1, ""},
		{"https://github.com", "../evil", "12", 1, ""},
		{"https://github.com", "acme/shop", "12|x>", 1, ""},
		{"https://github.com", "", "12", 1, ""},
	} {
		if got := runURL(c.server, c.repository, c.run, c.attempt); got != c.want {
			t.Errorf("runURL(%q, %q, %q, %d) = %q, want %q", c.server, c.repository, c.run, c.attempt, got, c.want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"30": 30 * time.Second, " 1 ": time.Second, "0": 0, "-5": 0, "": 0, "soon": 0, "99999999": longestRetryAfter,
		"99999999999999999999": 0, "Sun, 01 Mar 2026 12:01:00 GMT": time.Minute, "Sun, 01 Mar 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("retryAfter(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"30", "-1", "Sun, 01 Mar 2026 12:01:00 GMT", "1e9", ""} {
		f.Add(s)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(s, now); d < 0 || d > longestRetryAfter {
			t.Fatalf("retryAfter(%q) = %s", s, d)
		}
	})
}

func FuzzGroup(f *testing.F) {
	f.Add([]byte(`{"lead":"","lead_id":"a","repeats":[{"id":"b"}],"told":["c"]}`))
	f.Add([]byte(`{"lead":"//8="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := decodeGroup("k", data)
		if err != nil {
			return
		}
		now := time.Unix(1e9, 0)
		_ = g.over(now)
		item := g.item()
		g.settle(now, time.Minute)
		if len(g.Repeats) != max(0, len(item.More)-maxRepeats) && len(item.More) < maxRepeats {
			t.Fatalf("%d repeats left of %d", len(g.Repeats), len(item.More))
		}
	})
}
