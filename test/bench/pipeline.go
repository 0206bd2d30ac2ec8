package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// measurePipeline runs the benchmarks that live beside ingest, and prints the median and
// the range of what they report.
func measurePipeline(ctx context.Context, repeats int) error {
	fmt.Println("\n== Stream to queryable rows, everything on this machine: median (range)")
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "StreamToRows|RowByRow|Steady|Encode",
		"-benchtime", "1x", "-timeout", "30m", "-count", strconv.Itoa(repeats), "./ingest")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, os.Stderr), os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	names, reported := parseBenchmarks(out.String())
	rate := func(name string) float64 {
		values := slices.Sorted(slices.Values(reported[name+" events/s"]))
		if len(values) == 0 {
			return 0
		}
		return values[len(values)/2]
	}
	for _, name := range names {
		values := slices.Sorted(slices.Values(reported[name]))
		fmt.Printf("%-48s %12.6g (%.6g–%.6g)\n", name, values[len(values)/2], values[0], values[len(values)-1])
	}
	fmt.Printf("stream to rows over clickhouse-go row by row: %.2f (goal: at least 1.00, and 200,000 events/s)\n",
		rate("StreamToRows/agents=1")/rate("RowByRow"))
	fmt.Printf("a thousand agents over one: %.2f of the events/s (goal: flat)\n",
		rate("StreamToRows/agents=1000")/rate("StreamToRows/agents=1"))
	fmt.Println("goals: encode at least 500,000 events/s; at most 40 bytes an event on the wire and 30 on disk;\n" +
		"at 50,000 events/s p99 under 2 s and at most 256 MiB resident")
	return nil
}

// parseBenchmarks reads what go test -bench printed: for each "name unit", in order, the
// values of all repeats.
func parseBenchmarks(out string) (names []string, reported map[string][]float64) {
	reported = make(map[string][]float64)
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(fields[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i] // the number of cores
		}
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil || fields[i+1] == "ns/op" {
				continue
			}
			key := name + " " + fields[i+1]
			if reported[key] == nil {
				names = append(names, key)
			}
			reported[key] = append(reported[key], value)
		}
	}
	return names, reported
}
