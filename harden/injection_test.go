package harden

import (
	"os/exec"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// workflowOf is a workflow with one script.
func workflowOf(script string) string {
	var b strings.Builder
	b.WriteString("on:\n  pull_request:\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n")
	for line := range strings.Lines(script) {
		b.WriteString("          " + line)
	}
	b.WriteString("\n      - run: make\n")
	return b.String()
}

// stepOf is the script of a workflow's first step, and its variables.
func stepOf(t testing.TB, text []byte) (string, map[string]string) {
	t.Helper()
	var doc struct {
		Jobs map[string]struct {
			Steps []struct {
				Run string
				Env map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	s := doc.Jobs["a"].Steps[0]
	return s.Run, s.Env
}

const title, branch = "${{ github.event.pull_request.title }}", "${{ github.head_ref }}"

// bash runs a script as a runner would: expressions become text first.
func bash(t testing.TB, script string, env, values map[string]string) string {
	t.Helper()
	for e, v := range values {
		script = strings.ReplaceAll(script, e, v)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+values[v])
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out) + err.Error()
	}
	return string(out)
}

// TestInjectionMeansTheSame runs scripts before and after in a real shell: the same comes out for
// what is harmless, and what is not is not run.
func TestInjectionMeansTheSame(t *testing.T) {
	c := settings()
	c.Rules = []string{"injection"}
	for _, script := range []string{
		"echo \"" + title + "\"\n",
		"T=" + branch + "\nprintf '%s|' \"$T\" \"a" + title + "b\"\n",
		"if [ \"" + branch + "\" = main ]; then echo yes; else echo \"no: " + branch + "\"; fi\n",
		"echo \"$(echo \"x " + title + "\" | tr a-z A-Z)\" | cat\n",
		"export A=\"" + title + "\"\necho \"${A}\" >\"out-" + branch + "\"\ncat \"out-" + branch + "\"\n",
	} {
		r, err := Text(t.Context(), c, ".github/workflows/x.yml", []byte(workflowOf(script)))
		if err != nil || r.Problem != nil || r.After == nil {
			t.Fatalf("%v %v: nothing is done about\n%s", err, r.Problem, script)
		}
		after, env := stepOf(t, r.After)
		rapid.Check(t, func(rt *rapid.T) {
			values := map[string]string{
				title:  rapid.StringMatching(`[A-Za-z0-9.,:_/-][A-Za-z0-9 .,:_/-]{0,12}[a-z]`).Draw(rt, "title"),
				branch: rapid.StringMatching(`[a-z][a-z0-9._-]{0,8}`).Draw(rt, "branch"),
			}
			if was, is := bash(t, script, nil, values), bash(t, after, env, values); was != is {
				rt.Errorf("%q before, %q after\n%s", was, is, after)
			}
		})
		evil := map[string]string{title: "\"; echo OW\"NED; $(echo OW`true`NED) #", branch: "x\";{echo,OW\"NED}"}
		if out := bash(t, after, env, evil); strings.Contains(strings.ReplaceAll(out, "\"", "'"), "OWNED") {
			t.Errorf("it runs: %q\n%s", out, after)
		}
	}
}

// What would mean something else stays, with its finding.
func TestInjectionLeaves(t *testing.T) {
	for _, script := range []string{
		"echo \"\\" + title + "\"\n", "echo \"$" + title + "\"\n", "echo " + title + "\n", "eval \"x " + title + "\"\n", "echo $(( " + branch + " + 1 ))\n",
		"for x in \"" + title + "\"; do echo \"$x\"; done\n", "f() { echo \"" + title + "\"; }\n", "echo \"${X:-" + title + "}\"\n", "echo \"" + title + "\" | sudo bash\n",
		"PULL_REQUEST_TITLE=x\necho \"" + title + "\"\n", "echo \"" + title + "\n", "case \"" + title + "\" in a) ;; esac\n", "X[" + branch + "]=1\n",
		"bash -c \"$(echo \"" + title + "\")\"\n", "echo \"$(eval \"" + title + "\")\"\n", "A=\"" + title + "\" ./x\n",
	} {
		c := settings()
		c.Rules = []string{"injection", "audit"}
		r, err := Text(t.Context(), c, ".github/workflows/x.yml", []byte(workflowOf(script)))
		if err != nil || r.Problem != nil {
			t.Fatal(err, r.Problem)
		}
		found := false
		for _, f := range r.Findings {
			found = found || f.Rule == "template-injection"
		}
		if r.After != nil || !found {
			t.Errorf("%s becomes\n%s\n%v", script, r.After, saidOf(r))
		}
	}
}
