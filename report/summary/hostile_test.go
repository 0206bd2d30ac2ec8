package summary

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	reader "github.com/yuin/goldmark/text"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

var github = goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote))

// skeleton is the structure of Markdown without its words, and the words of its text (not
// of code), as GitHub's reader takes them.
func skeleton(t testing.TB, source []byte) (structure, words string) {
	t.Helper()
	var s, w strings.Builder
	root := github.Parser().Parse(reader.NewReader(source))
	last := ""
	if err := ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		kind := n.Kind().String()
		if !entering {
			if kind != "Text" && kind != "String" {
				fmt.Fprintf(&s, "/%s ", kind)
				last = ""
			}
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Text:
			if last != "Text" {
				s.WriteString("Text ")
			}
			last = "Text"
			w.Write(n.Segment.Value(source))
			return ast.WalkContinue, nil
		case *ast.CodeSpan, *ast.FencedCodeBlock:
			fmt.Fprintf(&s, "%s ", kind)
			last = ""
			w.WriteString(" ")
			return ast.WalkSkipChildren, nil
		case *ast.Link:
			fmt.Fprintf(&s, "Link(%s) ", n.Destination)
		case *ast.HTMLBlock:
			for i := range n.Lines().Len() {
				line := n.Lines().At(i)
				fmt.Fprintf(&s, "HTML(%s) ", bytes.TrimSpace(line.Value(source)))
			}
		case *ast.RawHTML:
			for i := range n.Segments.Len() {
				segment := n.Segments.At(i)
				fmt.Fprintf(&s, "RawHTML(%s) ", segment.Value(source))
			}
		case *ast.Heading:
			fmt.Fprintf(&s, "Heading%d ", n.Level)
		default:
			fmt.Fprintf(&s, "%s ", kind)
		}
		last = kind
		w.WriteString(" ")
		return ast.WalkContinue, nil
	}); err != nil {
		t.Fatal(err)
	}
	return s.String(), w.String()
}

// nasty are words that want to be more than words.
var nasty = []string{
	"x | y |\n| a | b |", "</details><script>alert(1)</script>", "[click](https://evil.example.test)", "![i](https://evil.example.test/i.png)",
	"<img src=x onerror=alert(1)>", "@octocat fixes #1, GH-2", "https://evil.example.test", "www.evil.example.test", "a@evil.example.test",
	"```\n# heading", "`` ` ``", "`", "``", " ` ", "# heading", "> quote", "- item", "1. item", "* * *", "---", "***bold***", "~~gone~~", "&lt;b&gt;", "&#60;b&#62;",
	"[x]: https://evil.example.test", "[^1]", "\u202egnp.exe", "a\x00b\x1b[31m", "\xff\xfe", "\\", "\\`", "\\|", "|", "||", "\t", "\r\n\r\n<b>", "<!-- ", "-->", "$(x)", "{{ secrets.X }}",
	"<https://evil.example.test>", "<a@evil.example.test>", "![", "](", "[ ] task", "[x] task", ":octocat:", "::error::x", "x  \ny", "=====", "http://", "ftp://x", "mailto:a@b.test", "xmpp:a@b.test", " ", "  ", "\u200b",
	strings.Repeat("w", 5000), strings.Repeat("@", 500), strings.Repeat("|", 500), strings.Repeat("`", 500), strings.Repeat("\u202e", 500), strings.Repeat("𝕏", 500),
}

// spoil puts words in the place of all words from outside.
func spoil(m protoreflect.Message, word func() string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Name() == "link" || f.Name() == "event":
		case f.IsMap():
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			for i := range v.List().Len() {
				spoil(v.List().Get(i).Message(), word)
			}
		case f.IsList() && f.Kind() == protoreflect.StringKind:
			for i := range v.List().Len() {
				v.List().Set(i, protoreflect.ValueOfString(word()))
			}
		case f.Kind() == protoreflect.MessageKind:
			spoil(v.Message(), word)
		case f.Kind() == protoreflect.StringKind && f.Name() != "protocol":
			m.Set(f, protoreflect.ValueOfString(word()))
		}
		return true
	})
}

var live = []*regexp.Regexp{
	regexp.MustCompile(`(^|[^\\\w])@[A-Za-z0-9]`), regexp.MustCompile(`(^|\W)#[0-9]`), regexp.MustCompile(`(?i)\bgh-[0-9]`), regexp.MustCompile(`[A-Za-z]://`), regexp.MustCompile(`(?i)\bwww\.`),
}

// sameStructure fails if words from outside changed what Markdown is made of.
func sameStructure(t testing.TB, r *sallyportv1.JobReport, next func() string) {
	t.Helper()
	render := func(next func() string) []byte {
		// Each word differs from all others, so that what is shown once for several that are
		// alike is shown the same way.
		spoiled, n := proto.CloneOf(r), 0
		spoil(spoiled.ProtoReflect(), func() string {
			n++
			return fmt.Sprintf("%s%d", next(), n)
		})
		var b bytes.Buffer
		if err := Job(&b, spoiled); err != nil {
			t.Fatal(err)
		}
		if b.Len() > MaxBytes {
			t.Errorf("%d bytes", b.Len())
		}
		return b.Bytes()
	}
	want, _ := skeleton(t, render(func() string { return "word" }))
	source := render(next)
	got, words := skeleton(t, source)
	if got != want {
		t.Errorf("structure\n%s\nwant\n%s\nof\n%s", got, want, source)
	}
	for _, l := range live {
		if m := l.FindString(words); m != "" {
			t.Errorf("the text holds %q, which GitHub makes a link of:\n%s", m, source)
		}
	}
}

func TestHostileWords(t *testing.T) {
	for _, word := range nasty {
		for _, r := range []*sallyportv1.JobReport{attacked(), alone()} {
			sameStructure(t, r, func() string { return word })
		}
	}
}

func TestHostileWordsMixed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.OneOf(rapid.SampledFrom(nasty), rapid.String(), rapid.StringOfN(rapid.RuneFrom([]rune("|`*_[]()<>!@#\\~-=+.:/&\n\r \tw1")), 1, 12, -1))
		sameStructure(t, rapid.SampledFrom([]*sallyportv1.JobReport{attacked(), alone()}).Draw(rt, "report"), func() string { return word.Draw(rt, "word") })
	})
}

func FuzzHostileWord(f *testing.F) {
	for _, w := range nasty {
		f.Add(w)
	}
	f.Fuzz(func(t *testing.T, word string) {
		sameStructure(t, attacked(), func() string { return word })
	})
}

// TestHostileLink: whoever answers for the server cannot make the link do more than lead
// somewhere.
func TestHostileLink(t *testing.T) {
	for _, l := range []string{"javascript:alert(1)", "https://x.test/)[a](b", "https://user:secret@x.test/", "//x.test", "https://x.test/\n# y", "ftp://x.test"} {
		r := quiet()
		r.Judgement.Link = l
		var b bytes.Buffer
		if err := Job(&b, r); err != nil {
			t.Fatal(err)
		}
		if s, _ := skeleton(t, b.Bytes()); strings.Contains(s, "Link") {
			t.Errorf("%q became a link:\n%s", l, s)
		}
	}
}

// TestBounded: everything at its bound, and every word as long and as bad as it can be,
// stays below what GitHub takes.
func TestBounded(t *testing.T) {
	for _, word := range nasty[len(nasty)-6:] {
		r := attacked()
		for i := range 128 {
			s := &sallyportv1.JobStep{Step: fmt.Sprint(i), Action: "x"}
			for n := range 8 {
				d := to("x", first, "a", "b", "c", "d")
				d.MorePrograms, d.Domain = true, fmt.Sprint(i, n)
				s.Destinations = append(s.Destinations, d)
			}
			r.Steps = append(r.Steps, s)
			r.Judgement.Findings = append(r.Judgement.Findings, proto.CloneOf(r.Judgement.Findings[1]))
			r.Remarks = append(r.Remarks, proto.CloneOf(r.Remarks[0]), proto.CloneOf(r.Remarks[1]))
			r.Gaps.Damage = append(r.Gaps.Damage, "x")
		}
		n := 0
		spoil(r.ProtoReflect(), func() string { n++; return fmt.Sprint(word, n) })
		var b bytes.Buffer
		if err := Job(&b, r); err != nil {
			t.Fatal(err)
		}
		if b.Len() > MaxBytes {
			t.Errorf("%d bytes of %.10q", b.Len(), word)
		}
		for _, want := range []string{"more findings are not shown here", "more that are new", "more.\n"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%q is not said", want)
			}
		}
	}
}
