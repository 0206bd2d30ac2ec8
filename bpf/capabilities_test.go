package bpf

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// privilegeLevels are the rows of docs/kernels.md on privileges: root without some
// capabilities (capabilities(7)).
var privilegeLevels = []struct {
	without string
	numbers []int
}{
	{"nothing", nil},
	{"`CAP_SYS_RESOURCE`", []int{24}},
	{"`CAP_SYS_ADMIN`", []int{21}},
	{"`CAP_SYS_PTRACE`", []int{19}},
	{"`CAP_DAC_READ_SEARCH` and `CAP_DAC_OVERRIDE`", []int{1, 2}},
	{"`CAP_NET_ADMIN`", []int{12}},
	{"`CAP_NET_ADMIN` and `CAP_SYS_ADMIN`", []int{12, 21}},
	{"`CAP_PERFMON` and `CAP_SYS_ADMIN`", []int{38, 21}},
	{"`CAP_BPF` and `CAP_SYS_ADMIN`", []int{39, 21}},
	{"all but `CAP_BPF`, `CAP_PERFMON`, `CAP_NET_ADMIN` and `CAP_SYS_PTRACE`", allBut(39, 38, 12, 19)},
	{"all", allBut()},
}

// allBut returns the numbers of all capabilities but some.
func allBut(kept ...int) (numbers []int) {
	const last = 40 // CAP_CHECKPOINT_RESTORE
	for n := range last + 1 {
		if !slices.Contains(kept, n) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// TestPrivilegeLevels holds the page's table to what a sensor says of itself.
func TestPrivilegeLevels(t *testing.T) {
	column := 2 // of the page's table, after the row's name
	if openSensor(t, Config{}).hooks == objectHooks {
		column = 1
	}
	const page = "../docs/kernels.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	here := ""
	for _, level := range privilegeLevels {
		args := make([]string, len(level.numbers))
		for i, n := range level.numbers {
			args[i] = strconv.Itoa(n)
		}
		cmd := play(t, "without", args...)
		cmd.Stdout = nil
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("without %s: %v", level.without, err)
		}
		said := strings.TrimSpace(string(out))
		if level.numbers == nil {
			here = said // what the kernel lacks, with all privileges
		}
		// What is lost on top of that.
		var lost []string
		for what := range strings.SplitSeq(said, "; ") {
			if what != "" && !strings.Contains("; "+here+"; ", "; "+what+"; ") {
				lost = append(lost, what)
			}
		}
		outcome := "nothing"
		if len(lost) > 0 {
			outcome = strings.Join(lost, "; ")
		}
		t.Logf("without %s: %s", level.without, outcome)
		_, row, found := strings.Cut(string(text), "\n| "+level.without+" |")
		row, _, _ = strings.Cut(row, "\n")
		cells := strings.Split(row, "|")
		if !found || len(cells) <= column || strings.TrimSpace(cells[column-1]) != outcome {
			t.Errorf("%s says of what is lost without %s, in column %d: %q; want %s", page, level.without, column, row, outcome)
		}
	}
}
