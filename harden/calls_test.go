package harden

import (
	"strings"
	"testing"
)

func TestJavaScript(t *testing.T) {
	for source, want := range map[string]string{
		"a // github\nb":                 "a          \nb",
		"a /* x */ b":                    "a         b",
		"a /* x":                         "a     ",
		"'it\\'s' + \"x\"":               "'     ' + \" \"",
		"`a${b + `c${d}`}e`;f":           "` ${b + ` ${d}`} `;f",
		"x = /['\"]/.test(y) / 2 // z":   "x = /    /.test(y) / 2     ",
		"({a: {b: `${ {c: 1}.c }`}})":    "({a: {b: `${ {c: 1}.c }`}})",
		"`unfinished ${":                 "`           ${",
		"'unfinished\nnext":              "'          \nnext",
		"https = a / b; c = 'd'; // 'e'": "https = a / b; c = ' ';       ",
	} {
		if code, _ := javaScript(source); code != want {
			t.Errorf("%q is %q, want %q", source, code, want)
		}
	}
}

func FuzzScripts(f *testing.F) {
	for _, s := range []string{"`a${b}", "'", "/*", "//", "`${`${", "gh api x -f", "curl -X", "a <<E\nE", "${{ github.token }} | gh pr", "x=/[/]/", "github.request('GET /x')"} {
		f.Add(s)
	}
	h, err := newHardener(settings())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		code, texts := javaScript(s)
		if len(code) != len(s) || strings.Count(code, "\n") != strings.Count(s, "\n") {
			t.Fatalf("%q became %q", s, code)
		}
		for at, text := range texts {
			if s[at+1:at+1+len(text)] != text {
				t.Fatalf("%q is not at %d of %q", text, at, s)
			}
		}
		g := newGrant(nil)
		h.needsOfScript(g, s, map[string]string{"GH_TOKEN": "${{ github.token }}"})
		h.needsOfJavaScript(g, s)
	})
}
