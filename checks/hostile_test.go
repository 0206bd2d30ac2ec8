package checks

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/markdown"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

// nasty are words that an attacker may choose.
var nasty = []string{
	"a`b", "```\n# x", "|x|\n|-|", "<!-- x", "--> <script>x</script>", "<details><summary>x", "</details></summary>", "@alice", "x @acme/team",
	"[x](https://evil.example.test)", "![x](//evil.example.test)", "https://evil.example.test", "www.evil.example.test", "a\u202egnp.exe", "a\u2066b\u2069", "zero\u200bwidth",
	"\x1b[31mred", "\x00", "a\r\nb", "> [!NOTE]", "#1", "GH-1", "&lt;b&gt;", "&#60;b&#62;", "$x$", "~~x~~", "**x**", ":tada:", "\\", "\\`", "`\\|`", "\xff\xfe", "- [ ] x", "1. x", "\u2028x", "a\tb", "::set-output name=x::y", "%0A", `"x'`, "{{x}}", "${{ secrets.X }}", "*?[a]", "e\u0301\u0301\u0301\u0301",
}

// Whatever words an attacker chooses stay words, wherever they stand.
func TestNastyWords(t *testing.T) {
	for _, word := range nasty {
		long := word + strings.Repeat(" "+word, 400)
		for _, s := range []string{word, long} {
			v := &sallyportv1.Verdict{
				Attribution: &sallyportv1.Attribution{Repository: "acme/shop", Workflow: s, RunId: "1", RunAttempt: 1, Job: s, Runner: "r"},
				Incomplete:  s, Baseline: &sallyportv1.BaselineFacts{Stable: true},
			}
			for n := range 2 {
				f := found(v, n, n == 1, s)
				f.Message, f.Behaviour.Target, f.Behaviour.Domain, f.Behaviour.Program, f.Policy.Id, f.Policy.Remediation = s, s, s, s, s, s
				f.Policy.Title = s
				f.Ancestry = []*sallyportv1.Process{{Executable: "/bin/" + s, Arguments: []string{s, s}}, {Executable: s}}
			}
			settled := found(v, 2, false, s)
			settled.Message = s
			c := newCommit("acme/shop", strings.Repeat("a", 40), time.Now())
			w := &run{Listed: true}
			w.ID, w.Attempt, w.Name, w.Path, w.Status, w.HeadBranch = 1, 1, s, ".github/workflows/"+s, "completed", s
			w.Jobs = jobsNamed(s, "r", "other / "+s, "")
			c.Runs[1] = w
			c.Refused = "" // made of logins and roles
			rules := noRules()
			rules.problem = fmt.Errorf("read it: %s", s)
			r := evaluate(facts{commit: c, verdicts: map[int64][]*sallyportv1.Verdict{1: {v}}, rules: rules, now: time.Now(), decisions: map[string]*sallyportv1.Decision{
				settled.Id: {Kind: sallyportv1.DecisionKind_DECISION_KIND_APPROVE, FindingId: settled.Id, Person: s, Reason: s},
			}})
			check := r.checkRun(c, rules, "")
			for _, text := range []string{check.Summary, check.Text, r.comment(c, rules, "")} {
				var page bytes.Buffer
				if err := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(html.WithUnsafe())).Convert([]byte(text), &page); err != nil {
					t.Fatal(err)
				}
				out := page.String()
				for _, bad := range []string{"<script", "<img", "<h1", "<a ", "<b>", "<input", "<del>", "<ol", "<!-- x"} {
					if strings.Contains(out, bad) {
						t.Errorf("%q makes %s in\n%s", word, bad, markdown.Shorten(out, 3000))
					}
				}
				if a, b := strings.Count(out, "<details"), strings.Count(out, "</details>"); a != b {
					t.Errorf("%q: %d details, %d ends", word, a, b)
				}
				for _, x := range text {
					if x != '\n' && x != '\u200b' && (unicode.IsControl(x) || unicode.Is(unicode.Cf, x) || x == '\u2028') {
						t.Errorf("%q leaves %U", word, x)
						break
					}
				}
				for _, bad := range []string{"@alice", "@acme/team"} {
					if i := strings.Index(out, bad); i > 0 && !strings.Contains(out[max(0, i-400):i], "<code") {
						t.Errorf("%q mentions in %s", word, out[max(0, i-100):i+20])
					}
				}
			}
			if strings.ContainsFunc(check.Title, unicode.IsControl) || len(check.Title) > 200 {
				t.Errorf("title %q", check.Title)
			}
			if a, ok := annotation(r.open[0], "x", []byte(fmt.Sprintf("jobs:\n  %q:\n    steps: []\n", s))); ok && (strings.ContainsFunc(a.Title+a.Message, unicode.IsControl) || len(a.Title) > 255) {
				t.Errorf("%q: %+v", word, a)
			}
			// What is offered as an entry of the file is one, and settles this and nothing else.
			if s == word {
				entry := entryIn(t, check.Text)
				read, err := ParseRules([]byte("version: 1\n" + entry))
				if err != nil {
					t.Errorf("%q: %v in\n%s", word, err, entry)
				} else if valid := strings.ToValidUTF8(word, ""); valid == word && !strings.Contains(word, "\x00") && read.settles(r.open[0], time.Now()) == nil {
					t.Errorf("%q is not settled by\n%s", word, entry)
				}
			}
		}
	}
}

// entryIn is the first block of YAML in a text.
func entryIn(t *testing.T, text string) string {
	t.Helper()
	_, rest, _ := strings.Cut(text, "yaml\n")
	entry, _, ok := strings.Cut(rest, "\n```")
	if !ok {
		t.Fatal(text)
	}
	return entry
}

// A job that nobody observed is not held to be by what was seen of another.
func TestBorrowedVerdict(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	r.Jobs = append(r.Jobs, githubfake.Job{ID: 30, Name: "build (fake)", Runner: "mine"}, githubfake.Job{ID: 31, Name: "deploy", Runner: "shared"}, githubfake.Job{ID: 32, Name: "prepare", Runner: "shared"})
	began := time.Now().Add(-time.Hour)
	for i := range r.Jobs {
		r.Jobs[i].Status, r.Jobs[i].Started = "queued", began
	}
	r.Jobs[3].Started = began.Add(2 * time.Hour)
	w.requested(r)
	w.judged(r, 1, nil)
	for n := range 3 { // an agent that is started three times in one job
		w.judged(r, 0, func(v *sallyportv1.Verdict) { v.Attribution.ExecutionId = fmt.Sprint("x", n) })
	}
	for n := range 2 { // and in one on a machine that takes another later
		w.judged(r, 4, func(v *sallyportv1.Verdict) {
			v.Attribution.ExecutionId, v.Started, v.Ended = fmt.Sprint("y", n), timestamppb.New(began), timestamppb.New(began.Add(time.Minute))
		})
	}
	w.completed(r)
	got := w.wants(sha, neutral, "2 jobs not observed")
	for _, name := range []string{"build (fake)", "deploy"} {
		if !strings.Contains(got.Summary, "| `"+name+"` | `CI` | **not observed**") {
			t.Errorf("%s\n%s", name, got.Summary)
		}
	}
}

// jobsNamed are completed jobs: name and runner, one after another.
func jobsNamed(words ...string) map[int64]*github.Job {
	out := make(map[int64]*github.Job)
	for i := 0; i+1 < len(words); i += 2 {
		out[int64(i+1)] = &github.Job{ID: int64(i + 1), RunID: 1, Attempt: 1, Name: words[i], Runner: words[i+1], Status: "completed", Conclusion: "success"}
	}
	return out
}

// Of a workflow that runs as the default branch has it no line of the pull request's is remarked on,
// unless it is the same.
func TestRemarksOnAnotherFile(t *testing.T) {
	w := newWorld(t)
	for n, text := range []string{workflowText, strings.Replace(workflowText, "jobs:", "#\n#\njobs:", 1)} {
		sha := w.shop.Commit(fmt.Sprint("b", n), "mallory", "x", map[string]string{workflowFile: text, "x": fmt.Sprint(n)})
		r := ci(int64(n+1), sha)
		r.Event = "pull_request_target"
		w.requested(r)
		w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "changed") })
		w.judged(r, 1, nil)
		w.completed(r)
		if got := w.wants(sha, failure, "1 threat"); len(got.Annotations) != 1-n {
			t.Errorf("%d: %+v", n, got.Annotations)
		}
	}
}

// What an agent tells of an attempt that there is not is told all the same.
func TestAttemptThatIsNot(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { v.Attribution.RunAttempt = 7; found(v, 1, true, "") })
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(sha, failure, "1 threat")
}

// A machine that GitHub names otherwise than it does itself is no reason not to know its job.
func TestRunnerOfAnotherName(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	for i := range r.Jobs {
		w.judged(r, i, func(v *sallyportv1.Verdict) { v.Attribution.Runner = "a name of its own" })
	}
	w.completed(r)
	w.wants(sha, success, "Nothing new in 2 jobs")
}
