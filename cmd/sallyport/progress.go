package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// progress shows how far long work is, in one line that changes; where that is not on a
// terminal it shows nothing.
type progress struct {
	out   io.Writer
	on    bool
	width int
}

func newProgress(f *os.File) *progress { return &progress{out: f, on: term.IsTerminal(int(f.Fd()))} }

func (p *progress) say(format string, args ...any) {
	if !p.on {
		return
	}
	text := fmt.Sprintf(format, args...)
	fmt.Fprint(p.out, "\r", text, strings.Repeat(" ", max(p.width-len(text), 0)))
	p.width = len(text)
}

// done takes the line away.
func (p *progress) done() {
	if p.on && p.width > 0 {
		fmt.Fprint(p.out, "\r", strings.Repeat(" ", p.width), "\r")
		p.width = 0
	}
}

// grouped writes a number as people read it: 1,234,567.
func grouped[N int | int64 | uint64](n N) string {
	text := strconv.FormatInt(int64(n), 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// size writes a number of bytes as people read it.
func size[N int | int64 | uint64](n N) string {
	const kib = 1 << 10
	f := float64(n)
	switch {
	case f < kib:
		return fmt.Sprintf("%.0f B", f)
	case f < kib*kib:
		return fmt.Sprintf("%.1f KiB", f/kib)
	case f < kib*kib*kib:
		return fmt.Sprintf("%.1f MiB", f/kib/kib)
	default:
		return fmt.Sprintf("%.1f GiB", f/kib/kib/kib)
	}
}
