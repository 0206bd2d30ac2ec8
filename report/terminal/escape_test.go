package terminal

import (
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain ü 漢":            "plain ü 漢",
		"\x1b[2J\x1b]0;x\x07":  `\x1b[2J\x1b]0;x\x07`,
		"a\nb\tc\rd":           `a\nb\tc\rd`,
		"\xff\xfe":             `\xff\xfe`,
		"\u009b31m":            `\x9b31m`,
		"abc\u202ecba":         `abc\u{202e}cba`,
		"zero\u200bwidth":      `zero\u{200b}width`,
		"no\u00a0break":        `no\xa0break`,
		"\U000e0041tag":        `\u{e0041}tag`,
		"\u2028line separator": `\u{2028}line separator`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWrapAndShorten(t *testing.T) {
	got := Wrap("the quick brown fox jumps over averyveryverylongword end", 10)
	want := []string{"the quick", "brown fox", "jumps over", "averyveryv", "erylongwor", "d end"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("Wrap: %q, want %q", got, want)
	}
	if got := Wrap("", 20); len(got) != 1 || got[0] != "" {
		t.Errorf("Wrap of nothing: %q", got)
	}
	if got := Shorten("漢字漢字", 5); got != "漢字…" || Cells(got) != 5 {
		t.Errorf("Shorten: %q of %d cells", got, Cells(got))
	}
}

func TestColouredNeedsATerminalAndNoNoColor(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if Coloured(f, func(string) (string, bool) { return "", false }) {
		t.Error("a file is coloured")
	}
	if Columns(f) != 0 {
		t.Error("a file has columns")
	}
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	if !Coloured(tty, func(string) (string, bool) { return "", false }) {
		t.Error("a terminal is not coloured")
	}
	for _, env := range []map[string]string{{"NO_COLOR": "1"}, {"TERM": "dumb"}} { //nolint:misspell // so it is called
		if Coloured(tty, func(k string) (string, bool) { v, ok := env[k]; return v, ok }) {
			t.Errorf("coloured with %v", env)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{strings.Repeat("\u0915\u094d", 40) + "\u0915", strings.Repeat("👨‍👩", 30), "", "a", "\x1b[31m", "\xc3\x28", "\u202e", "漢\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := Escape(s)
		if !utf8.ValidString(out) {
			t.Fatalf("%q is not valid UTF-8", out)
		}
		for _, r := range out {
			if !unicode.IsGraphic(r) {
				t.Fatalf("Escape(%q) lets %U through", s, r)
			}
		}
		if Escape(out) != out {
			t.Fatalf("escaping %q twice changes it", s)
		}
		for _, line := range Wrap(out, 12) {
			if Cells(line) > 12 {
				t.Fatalf("line %q is longer than 12 cells", line)
			}
		}
	})
}
