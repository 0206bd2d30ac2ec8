// Command bench measures what `make bench` reports: what observing costs a
// machine, paired with no observer and with auditd in random order; how fast a
// stream becomes rows; and how long a kernel event takes to a webhook. It prints
// ratios and never judges them: goals are for people to compare.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "storm" {
		var n int
		if _, err := fmt.Sscan(os.Args[3], &n); err != nil {
			fatal(err)
		}
		if err := runStorm(os.Args[2], n); err != nil {
			fatal(err)
		}
		return
	}
	rounds := flag.Int("rounds", 7, "rounds of each storm")
	builds := flag.Int("builds", 3, "rounds of the go build")
	samples := flag.Int("samples", 15, "samples of the latency from kernel to webhook")
	repeats := flag.Int("repeats", 3, "repeats of each part of the pipeline")
	only := flag.String("only", "cost,loss,pipeline,latency", "parts to run")
	loads := flag.String("loads", "", "loads of the cost to run, separated by commas (default all)")
	seed := flag.Uint64("seed", 1, "seed of the order of observers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	parts := strings.Split(*only, ",")
	for _, part := range parts {
		var err error
		switch part {
		case "cost":
			err = measureCost(ctx, *loads, *rounds, *builds, rand.New(rand.NewPCG(*seed, 0)))
		case "loss":
			err = measureLoss(ctx)
		case "pipeline":
			err = measurePipeline(ctx, *repeats)
		case "latency":
			err = measureLatency(ctx, *samples)
		default:
			err = fmt.Errorf("there is no part %q; there are cost, loss, pipeline and latency", part)
		}
		if err != nil {
			fatal(fmt.Errorf("%s: %w", part, err))
		}
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// program returns the path of a program that `make build` made.
func program(name string) (string, error) {
	path, err := filepath.Abs(filepath.Join("bin", name))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("run make build first, from the top folder: %w", err)
	}
	return path, nil
}
