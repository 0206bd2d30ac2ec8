package harden

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// known is a resolver of a few references.
type known struct{ refs, images map[string]string }

func (k known) Resolve(_ context.Context, repository, ref string) (Resolution, error) {
	commit := k.refs[repository+"@"+ref]
	if commitForm.MatchString(ref) {
		commit = ref
	}
	if commit == "" {
		return Resolution{}, fmt.Errorf("resolve %s@%s: %w", repository, ref, ErrUnknown)
	}
	out := Resolution{Commit: commit, Branch: ref == "main"}
	for key, c := range k.refs {
		if tag, ok := strings.CutPrefix(key, repository+"@"); ok && c == commit && tag != "main" {
			out.Tags = append(out.Tags, tag)
		}
	}
	out.Version = mostPrecise(out.Tags)
	return out, nil
}

func (k known) Digest(_ context.Context, image string) (string, error) {
	if d := k.images[image]; d != "" {
		return d, nil
	}
	return "", fmt.Errorf("image %s: %w", image, ErrUnknown)
}

func commit(n int) string { return fmt.Sprintf("%040x", n) }
func digest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

var world = known{
	map[string]string{
		"actions/checkout@v4": commit(4), "actions/checkout@v4.2.2": commit(4), "actions/checkout@v4.2.1": commit(3), "actions/checkout@v3": commit(30),
		"acme/deploy@main": commit(7), "acme/flows@v1.0.0": commit(9), "github/codeql-action@v3": commit(11), "github/codeql-action@v3.1.0": commit(11),
	},
	map[string]string{"alpine:3.20": digest(1), "postgres:16": digest(2), "golang:1.26": digest(3), "alpine": digest(4)},
}

func settings() Config {
	return Config{Resolver: world, Lock: &Lock{Version: lockVersion}, Now: func() time.Time { return time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC) }}
}

// TestCases runs testdata/*.txt: a file name, what it holds, what it becomes, and what is said.
func TestCases(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(cases) == 0 {
		t.Fatal(cases, err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, rest, ok := strings.Cut(string(data), "\n---- before\n")
			before, rest, ok2 := strings.Cut(rest, "---- after\n")
			after, said, ok3 := strings.Cut(rest, "---- said\n")
			if !ok || !ok2 || !ok3 {
				t.Fatal("it is no case")
			}
			c := settings()
			name := ".github/workflows/x.yml"
			for _, line := range strings.Split(head, "\n") {
				key, value, _ := strings.Cut(line, ": ")
				switch key {
				case "file":
					name = value
				case "agent":
					c.Agent = value
				case "server":
					c.AgentServer = value
				case "only":
					c.Rules = strings.Split(value, ",")
				case "permissive":
					c.Permissive = true
				case "replace":
					c.ReplaceHardenRunner = true
				case "exempt":
					c.Exempt = []string{value}
				case "self-hosted":
					c.SelfHosted = []string{value}
				case "crlf":
					before, after = strings.ReplaceAll(before, "\n", "\r\n"), strings.ReplaceAll(after, "\n", "\r\n")
				case "bom":
					before, after = "\uFEFF"+before, "\uFEFF"+after
				case "lock":
					key, commit, _ := strings.Cut(value, " ")
					c.Lock.Actions = append(c.Lock.Actions, LockedAction{Uses: key, Commit: commit, Seen: "2026-01-01"})
				case "update":
					c.Update = true
				case "offline":
					c.Resolver = nil
				}
			}
			if strings.TrimSpace(after) == "same" {
				after = before
			}
			r, err := Text(t.Context(), c, name, []byte(before))
			if err != nil {
				t.Fatal(err)
			}
			got := before
			if r.After != nil {
				got = string(r.After)
			}
			if *update {
				plain := strings.ReplaceAll(strings.ReplaceAll(got, "\r\n", "\n"), "\uFEFF", "")
				if r.After == nil {
					plain = "same\n"
				}
				before = strings.ReplaceAll(strings.ReplaceAll(before, "\r\n", "\n"), "\uFEFF", "")
				whole := head + "\n---- before\n" + before + "---- after\n" + plain + "---- said\n" + strings.Join(saidOf(r), "\n") + "\n"
				if err := os.WriteFile(file, []byte(whole), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != after {
				t.Errorf("it becomes\n%s\nwant\n%s", got, after)
			}
			if got := strings.Join(saidOf(r), "\n"); got != strings.TrimSpace(said) {
				t.Errorf("it says\n%s\nwant\n%s", got, strings.TrimSpace(said))
			}
			if r.After == nil {
				return
			}
			again, err := Text(t.Context(), c, name, r.After)
			if err != nil || again.After != nil || again.Problem != nil {
				t.Errorf("a second run is not empty: %v %v\n%s", err, again.Problem, again.After)
			}
		})
	}
}

func saidOf(r *Result) (lines []string) {
	if r.Problem != nil {
		lines = append(lines, "problem "+r.Problem.Error())
	}
	for _, f := range r.Fixes {
		lines = append(lines, fmt.Sprintf("fix %d:%d %s %s", f.At.Line, f.At.Column, f.Rule, f.Reason))
	}
	for _, f := range r.Findings {
		lines = append(lines, fmt.Sprintf("%s %d:%d %s %s", f.Severity, f.At.Line, f.At.Column, f.Rule, f.Message))
	}
	return lines
}

func TestErrorsAreErrors(t *testing.T) {
	for _, c := range []Config{{Rules: []string{"pins"}}, {Agent: "x"}} {
		if _, err := Text(t.Context(), c, "x", nil); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if !errors.Is(fmt.Errorf("x: %w", ErrUnknown), ErrUnknown) {
		t.Fatal()
	}
}
