package lab

import (
	"bufio"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Repository, workflow files and actions as the victims have them.
//
//go:embed all:repository
var repository embed.FS

// The action as the attacker leaves it.
//
//go:embed compromised/index.js
var compromised []byte

// Lab is a running world with a repository in it.
type Lab struct {
	world *exec.Cmd
	hold  io.Closer
	dir   string
	act   string
	name  string
	env   []string // of jobs
}

// Set gives all jobs a variable.
func (l *Lab) Set(name, value string) { l.env = append(l.env, "--env", name+"="+value) }

// Open starts a world and checks out a repository of the given name, owner/name,
// below dir. act is the path of the program that runs workflows. It needs root.
// Agents see the whole machine: labs that run side by side need different names.
func Open(ctx context.Context, dir, act, name string) (*Lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("open lab: %w", err)
	}
	l := &Lab{world: exec.CommandContext(ctx, self), dir: dir, act: act, name: name}
	l.world.Env = append(os.Environ(), childVariable+"=1")
	l.world.Stderr = os.Stderr
	l.world.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if l.hold, err = l.world.StdinPipe(); err != nil {
		return nil, fmt.Errorf("open lab: %w", err)
	}
	out, err := l.world.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("open lab: %w", err)
	}
	if err := l.world.Start(); err != nil {
		return nil, fmt.Errorf("open lab, which needs root: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if strings.TrimSpace(line) != "ready" {
		return nil, errors.Join(fmt.Errorf("open lab: %s %w", strings.TrimSpace(line), err), l.Close())
	}
	if err := l.checkOut(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close ends the world.
func (l *Lab) Close() error {
	err := l.hold.Close()
	if e := l.world.Wait(); e != nil {
		err = errors.Join(err, fmt.Errorf("close lab: %w", e))
	}
	return err
}

func (l *Lab) checkout() string { return filepath.Join(l.dir, "shop") }

func (l *Lab) checkOut(ctx context.Context) error {
	files, err := fs.Sub(repository, "repository")
	if err != nil {
		return fmt.Errorf("check out: %w", err)
	}
	if err := os.CopyFS(l.checkout(), files); err != nil {
		return fmt.Errorf("check out: %w", err)
	}
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"},
		{"remote", "add", "origin", "https://github.com/" + l.name + ".git"}, // never contacted: act takes the name from it
	} {
		if err := l.git(ctx, args...); err != nil {
			return err
		}
	}
	return l.commit(ctx, "the shop")
}

func (l *Lab) commit(ctx context.Context, message string) error {
	if err := l.git(ctx, "add", "-A"); err != nil {
		return err
	}
	return l.git(ctx, "-c", "user.name=Alice", "-c", "user.email=alice@example.test", "commit", "-q", "-m", message)
}

func (l *Lab) git(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = l.checkout()
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Commit returns the commit that is checked out.
func (l *Lab) Commit(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "git", "rev-parse", "HEAD")
	cmd.Dir = l.checkout()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("read commit: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Compromise does to the action changed-files what happened in March 2025: the
// same tag, other code.
func (l *Lab) Compromise() error {
	path := filepath.Join(l.checkout(), ".github/actions/changed-files/dist/index.js")
	if err := os.WriteFile(path, compromised, 0o644); err != nil {
		return fmt.Errorf("compromise action: %w", err)
	}
	return nil
}

// Mirror makes the workflow ci.yml fetch from another host, too, as a person does who means it.
func (l *Lab) Mirror(ctx context.Context) error {
	path := filepath.Join(l.checkout(), ".github/workflows/ci.yml")
	text, err := os.ReadFile(path)
	if err == nil {
		const fetch = `          curl -sSf -o "$RUNNER_TEMP/index.json" http://registry.example.test/index.json` + "\n"
		changed := strings.Replace(string(text), fetch, fetch+"          curl -sSf -o /dev/null http://mirror.example.test/index.json\n", 1)
		err = os.WriteFile(path, []byte(changed), 0o644)
	}
	if err != nil {
		return fmt.Errorf("add a mirror: %w", err)
	}
	return l.commit(ctx, "fetch from the mirror, too")
}

// File returns the text of a file of the checkout.
func (l *Lab) File(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(l.checkout(), filepath.FromSlash(name)))
	if err != nil {
		return "", fmt.Errorf("read checkout: %w", err)
	}
	return string(text), nil
}

// Run runs a workflow file with act for a push, as run number id, and writes its log to out.
func (l *Lab) Run(ctx context.Context, workflow string, id int, out io.Writer) error {
	return l.RunFor(ctx, "push", workflow, id, out)
}

// RunFor is Run for another event.
func (l *Lab) RunFor(ctx context.Context, event, workflow string, id int, out io.Writer) error {
	home := filepath.Join(l.dir, "home")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return fmt.Errorf("run workflow %s: %w", workflow, err)
	}
	about := filepath.Join(l.dir, "event.json")
	if err := os.WriteFile(about, fmt.Appendf(nil, `{"number": %d, "pull_request": {"number": %d, "head": {"ref": "change"}, "base": {"ref": "main"}}}`, id, id), 0o644); err != nil {
		return fmt.Errorf("run workflow %s: %w", workflow, err)
	}
	var payload []string // a push needs none
	if event != "push" {
		payload = []string{"--eventpath", about}
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(l.world.Process.Pid), "--net", "--mount", "--",
		l.act, event, "--directory", l.checkout(), "--workflows", filepath.Join(".github/workflows", workflow),
		"--platform", "ubuntu-latest=-self-hosted", "--actor", "alice", "--action-offline-mode",
		"--env", "GITHUB_RUN_ID=" + strconv.Itoa(id), "--env", "GITHUB_RUN_NUMBER=" + strconv.Itoa(id), "--env", "GITHUB_RUN_ATTEMPT=1"}, slices.Concat(payload, l.env)...)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CACHE_HOME=" + filepath.Join(home, ".cache"),
		"XDG_CONFIG_HOME=" + filepath.Join(home, ".config"), "LANG=C.UTF-8", "DO_NOT_TRACK=1",
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run workflow %s: %w", workflow, err)
	}
	return nil
}
