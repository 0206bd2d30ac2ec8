// Command hardenbench measures `sallyport harden` on a thousand workflow files beside
// actionlint and zizmor, and prints what zizmor finds in the same files before and after they
// were hardened. The files are those of the corpus beside the project, over and over, or the
// project's own where it is missing. It is behind `make bench-harden`.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rhysd/actionlint"

	"github.com/sallyport-ci/sallyport/harden"
)

const wanted = 1000

func main() {
	sallyport := flag.String("sallyport", "bin/sallyport", "the program")
	zizmor := flag.String("zizmor", ".bin/zizmor/bin/zizmor", "zizmor; left out if it is not there")
	flag.Parse()
	if err := run(*sallyport, *zizmor); err != nil {
		fmt.Fprintln(os.Stderr, "hardenbench:", err)
		os.Exit(1)
	}
}

func run(sallyport, zizmor string) (err error) {
	sources, err := workflows()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hardenbench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	many, before, after := filepath.Join(dir, "many"), filepath.Join(dir, "before"), filepath.Join(dir, "after")
	var names []string
	size := 0
	for i := range wanted {
		s := sources[i%len(sources)]
		size += len(s)
		name := filepath.Join(many, fmt.Sprintf("r%d", i/len(sources)), ".github", "workflows", fmt.Sprintf("w%d.yml", i%len(sources)))
		if err := write(name, s); err != nil {
			return err
		}
		names = append(names, name)
	}
	fmt.Printf("%d workflow files, %d of them different, %d bytes\n\n", wanted, len(sources), size)
	if _, err := os.Stat(zizmor); err != nil {
		fmt.Printf("zizmor is not at %s: left out\n", zizmor)
		zizmor = ""
	}
	fmt.Printf("%-34s %s\n", "what", "seconds (median of 3)")
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"sallyport harden --check --offline", func() error { return tool(sallyport, "harden", "--check", "--offline", many) }},
		{"actionlint (its library)", func() error { return lint(names) }},
		{"zizmor --offline", func() error { return tool(zizmor, "--offline", "--quiet", many) }},
	} {
		if strings.HasPrefix(c.name, "zizmor") && zizmor == "" {
			continue
		}
		var took []time.Duration
		for range 3 {
			began := time.Now()
			if err := c.run(); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		fmt.Printf("%-34s %.2f\n", c.name, took[1].Seconds())
	}
	if zizmor == "" {
		return nil
	}
	for i, s := range sources {
		name := filepath.Join(".github", "workflows", fmt.Sprintf("w%d.yml", i))
		r, err := harden.Text(context.Background(), harden.Config{Resolver: everything{}}, name, s)
		if err != nil {
			return err
		}
		if r.Problem != nil {
			return r.Problem
		}
		if r.After == nil {
			r.After = s
		}
		if err := errors.Join(write(filepath.Join(before, name), s), write(filepath.Join(after, name), r.After)); err != nil {
			return err
		}
	}
	a, err := count(zizmor, before)
	if err != nil {
		return err
	}
	b, err := count(zizmor, after)
	if err != nil {
		return err
	}
	fmt.Printf("\n%-28s %8s %8s\n", "zizmor finds", "before", "after")
	var audits []string
	for k := range a {
		audits = append(audits, k)
	}
	for k := range b {
		if a[k] == 0 {
			audits = append(audits, k)
		}
	}
	slices.Sort(audits)
	for _, k := range audits {
		fmt.Printf("%-28s %8d %8d\n", k, a[k], b[k])
	}
	return nil
}

// workflows reads the corpus, or the project's own.
func workflows() (out [][]byte, err error) {
	for _, root := range []string{"../shared/corpus/workflows", "."} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || harden.KindOf(name) != harden.KindWorkflow {
				return err
			}
			data, err := os.ReadFile(name)
			out = append(out, data)
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return nil, errors.New("there are no workflows")
}

func write(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// tool runs a program whose exit code says that it found something.
func tool(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func lint(names []string) error {
	l, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		return err
	}
	_, err = l.LintFiles(names, nil)
	return err
}

// count counts zizmor's findings by audit.
func count(zizmor, dir string) (map[string]int, error) {
	out, err := exec.Command(zizmor, "--offline", "--quiet", "--format", "json", dir).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	var found []struct {
		Ident string `json:"ident"`
	}
	if err := json.Unmarshal(out, &found); err != nil {
		return nil, fmt.Errorf("read what zizmor says: %w", err)
	}
	counts := make(map[string]int)
	for _, f := range found {
		counts[f.Ident]++
	}
	return counts, nil
}

// everything resolves whatever it is asked: what is measured is the editing.
type everything struct{}

// Resolve implements harden.Resolver.
func (everything) Resolve(_ context.Context, repository, ref string) (harden.Resolution, error) {
	if len(ref) == 40 {
		return harden.Resolution{Commit: ref}, nil
	}
	sum := sha256.Sum256([]byte(repository + "@" + ref))
	return harden.Resolution{Commit: hex.EncodeToString(sum[:20])}, nil
}

// Digest implements harden.Resolver.
func (everything) Digest(_ context.Context, image string) (string, error) {
	sum := sha256.Sum256([]byte(image))
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}
