package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// observer is something that watches the machine during a round.
type observer struct {
	name  string
	start func(ctx context.Context) (stop func() error, err error)
}

// measureCost runs every load under every observer, in random order within a
// round, and prints each observer's time as a ratio to the same round's time with
// none.
func measureCost(ctx context.Context, loads string, rounds, builds int, random *rand.Rand) error {
	agent, err := newAgentObserver(ctx)
	if err != nil {
		return err
	}
	defer agent.close()
	observers := []observer{
		{"none", func(context.Context) (func() error, error) { return func() error { return nil }, nil }},
		{"sallyport", agent.start},
	}
	for name, find := range map[string]func() (observer, error){"auditd": newAuditdObserver, "bpftrace": newBpftraceObserver} {
		o, err := find()
		if err != nil {
			fmt.Println(name, "is left out:", err)
			continue
		}
		observers = append(observers, o)
	}
	slices.SortFunc(observers[2:], func(a, b observer) int { return strings.Compare(a.name, b.name) })

	fmt.Printf("\n== Cost of observing: time with the observer / time without, median (range)\n")
	fmt.Printf("%-12s %12s", "load", "none")
	for _, o := range observers[1:] {
		fmt.Printf(" %22s", o.name)
	}
	fmt.Println()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	wanted := func(name string) bool { return loads == "" || slices.Contains(strings.Split(loads, ","), name) }
	for _, s := range storms() {
		if !wanted(s.name) {
			continue
		}
		load := func(ctx context.Context) (time.Duration, error) {
			out, err := exec.CommandContext(ctx, self, "storm", s.name, strconv.Itoa(s.events)).Output()
			if err != nil {
				return 0, err
			}
			ns, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
			return time.Duration(ns), err
		}
		if err := pair(ctx, s.name, s.events, rounds, observers, load, random); err != nil {
			return err
		}
	}
	for _, l := range []struct {
		name string
		load func(context.Context) (time.Duration, error)
	}{{"go build", coldBuild}, {"git clone", clone}, {"small files", smallFiles}} {
		if !wanted(l.name) {
			continue
		}
		if err := pair(ctx, l.name, 1, builds, observers, l.load, random); err != nil {
			return err
		}
	}
	return agent.report(os.Stdout)
}

// pair prints one row: the load under each observer in each round.
func pair(ctx context.Context, name string, events, rounds int, observers []observer, load func(context.Context) (time.Duration, error), random *rand.Rand) error {
	times := make([][]time.Duration, len(observers))
	for range rounds {
		for _, i := range random.Perm(len(observers)) {
			stop, err := observers[i].start(ctx)
			if err != nil {
				return fmt.Errorf("start %s: %w", observers[i].name, err)
			}
			took, err := load(ctx)
			if err := errors.Join(err, stop()); err != nil {
				return fmt.Errorf("%s under %s: %w", name, observers[i].name, err)
			}
			times[i] = append(times[i], took)
		}
	}
	base := slices.Clone(times[0])
	slices.Sort(base)
	fmt.Printf("%-12s %12s", name, base[len(base)/2]/time.Duration(events))
	for _, t := range times[1:] {
		ratios := make([]float64, rounds)
		for r := range t {
			ratios[r] = float64(t[r]) / float64(times[0][r])
		}
		slices.Sort(ratios)
		fmt.Printf(" %22s", fmt.Sprintf("%.2f (%.2f–%.2f)", ratios[rounds/2], ratios[0], ratios[rounds-1]))
	}
	fmt.Println()
	return nil
}

// clone clones this repository and checks it out.
func clone(ctx context.Context) (took time.Duration, err error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	start := time.Now()
	for i := range 5 {
		out, err := exec.CommandContext(ctx, "git", "clone", "-q", "--no-local", ".", filepath.Join(dir, strconv.Itoa(i))).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
	}
	return time.Since(start), nil
}

// smallFiles makes and reads many small files in many folders, as unpacking packages
// does.
func smallFiles(context.Context) (took time.Duration, err error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	data := make([]byte, 2000)
	start := time.Now()
	for i := range 400 {
		folder := filepath.Join(dir, "node_modules", strconv.Itoa(i), "lib")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return 0, err
		}
		for j := range 25 {
			path := filepath.Join(folder, strconv.Itoa(j)+".js")
			if err := os.WriteFile(path, data, 0o644); err != nil {
				return 0, err
			}
			if _, err := os.ReadFile(path); err != nil {
				return 0, err
			}
		}
	}
	return time.Since(start), nil
}

// coldBuild builds the agent with an empty build cache.
func coldBuild(ctx context.Context) (took time.Duration, err error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "out"), "./cmd/sallyport-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+filepath.Join(dir, "cache"))
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	return time.Since(start), nil
}
