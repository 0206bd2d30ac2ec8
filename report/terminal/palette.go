package terminal

import (
	"os"

	"golang.org/x/term"
)

// Palette colours words. The zero Palette leaves them plain.
type Palette struct {
	// On says whether to colour at all.
	On bool
}

func (p Palette) paint(code, s string) string {
	if !p.On || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Bold returns s in bold.
func (p Palette) Bold(s string) string { return p.paint("1", s) }

// Dim returns s in a weaker colour.
func (p Palette) Dim(s string) string { return p.paint("2", s) }

// Red returns s in bold red.
func (p Palette) Red(s string) string { return p.paint("1;31", s) }

// Yellow returns s in yellow.
func (p Palette) Yellow(s string) string { return p.paint("33", s) }

// Green returns s in green.
func (p Palette) Green(s string) string { return p.paint("32", s) }

// Cyan returns s in cyan.
func (p Palette) Cyan(s string) string { return p.paint("36", s) }

// Alarm returns s in white on red.
func (p Palette) Alarm(s string) string { return p.paint("1;97;41", s) }

// Coloured says whether output to f should be coloured: f is a terminal, TERM is
// not "dumb", and the environment does not ask for none (https://no-color.org).
// lookup is os.LookupEnv outside tests.
func Coloured(f *os.File, lookup func(string) (string, bool)) bool {
	if v, ok := lookup("NO_COLOR"); ok && v != "" { //nolint:misspell // so it is called
		return false
	}
	if v, _ := lookup("TERM"); v == "dumb" {
		return false
	}
	return term.IsTerminal(int(f.Fd()))
}

// Columns returns the width of the terminal f in columns, or 0 if f is none.
func Columns(f *os.File) int {
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}
