package pattern

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/publicsuffix"
	"pgregory.net/rapid"

	"github.com/sallyport-ci/sallyport/policies"
)

func rules(t testing.TB) *Rules {
	t.Helper()
	r, err := LoadRules(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// learned returns the text forms of what names come to, each seen in a run of its own.
func learned(r *Rules, names ...string) []string {
	var members []Member
	for i, n := range names {
		members = append(members, Member{n, uint32(i + 1), false})
	}
	var out []string
	for _, l := range r.Learn(members) {
		out = append(out, l.Pattern.String())
	}
	return out
}

func TestLearn(t *testing.T) {
	r := rules(t)
	for _, c := range []struct {
		names string
		want  string
	}{
		{"cdn1.example.test cdn7.example.test cdn12.example.test", "cdn{0..24}.example.test"},
		{"cdn1.example.test cdn2.example.test", ""}, // two hosts are two hosts
		{"a1.b2.example.test a1.b3.example.test a1.b4.example.test", "a1.b{0..10}.example.test"},
		{"eu-west-1.mirror.example.test us-east-1.mirror.example.test ap-south-1.mirror.example.test", "{region}.mirror.example.test"},
		{"mirror-eu-west-1.example.test mirror-us-east-1.example.test mirror-eu-north-1.example.test", "mirror-{region}.example.test"},
		{"0a1b2c3d.cache.example.test ffee0011.cache.example.test 9d8c7b6a.cache.example.test", "{hex:8}.cache.example.test"},
		{"k3j9x2m4q8.cache.example.test a1z2y3x4w5.cache.example.test q9w8e7r6t5.cache.example.test", "{id:10}.cache.example.test"},
		{"build-20260101.example.test build-20260102.example.test build-20260107.example.test", "build-{n:8-8}.example.test"},
		{"0a1b2c3d.cache.example.test ffee0011.cache.example.test", "{hex:8}.cache.example.test"},
		{"build-20260101.example.test build-20260102.example.test", "build-{n:8-8}.example.test"},
		{"0a1b2c3d.cache.example.test", ""},
		{"cdn10.example.test cdn27.example.test cdn42.example.test", "cdn{0..84}.example.test"},
		{"cdn010.example.test cdn027.example.test cdn042.example.test", "cdn{n:3-3}.example.test"},
		// Letters do not vary: these may be anybody's within the domain, and are few.
		{"alice.example.test bob.example.test carol.example.test", ""},
		// The registered domain itself never varies, nor does what is below where anybody can register.
		{"host1.test host2.test host3.test", ""},
		{"sa1.blob.core.windows.net sa2.blob.core.windows.net sa3.blob.core.windows.net", ""},
		{"b1.s3.amazonaws.com b2.s3.amazonaws.com b3.s3.amazonaws.com", ""},
		{"b1.s3.eu-west-1.amazonaws.com b2.s3.eu-west-1.amazonaws.com b3.s3.eu-west-1.amazonaws.com", ""},
		{"d1abcdefghij23.cloudfront.net d2abcdefghij34.cloudfront.net d3abcdefghij45.cloudfront.net", ""},
		{"x1.workers.dev x2.workers.dev x3.workers.dev", ""},
		{"a1.ngrok-free.app a2.ngrok-free.app a3.ngrok-free.app", ""},
		{"1.1.duckdns.org 2.1.duckdns.org 3.1.duckdns.org", ""},
		{"shard1.acme.s3.amazonaws.com shard2.acme.s3.amazonaws.com shard3.acme.s3.amazonaws.com", ""}, // buckets may have dots
		{"v1.co.uk v2.co.uk v3.co.uk", ""},
		{"shard1.db.acme.github.io shard2.db.acme.github.io shard3.db.acme.github.io", ""},
	} {
		got := strings.Join(learned(r, strings.Fields(c.names)...), " ")
		if got != c.want {
			t.Errorf("%s become %q, want %q", c.names, got, c.want)
		}
	}
	// Names that come together in every run do not rotate.
	if got := r.Learn([]Member{{"cdn1.example.test", 9, false}, {"cdn2.example.test", 9, false}, {"cdn3.example.test", 9, false}}); len(got) > 0 {
		t.Errorf("they do not rotate: %v", got)
	}
	// A number beyond a pattern widens it.
	if got := r.Learn([]Member{{"cdn1.example.test", 9, true}, {"cdn8.example.test", 9, true}, {"cdn31.example.test", 10, false}}); len(got) != 1 || got[0].Pattern.String() != "cdn{0..62}.example.test" {
		t.Errorf("a number more: %v", got)
	}
}

func TestFamily(t *testing.T) {
	r := rules(t)
	for name, want := range map[string]string{
		"productionresultssa0.blob.core.windows.net":           "productionresultssa{0..19}.blob.core.windows.net",
		"productionresultssa19.blob.core.windows.net":          "productionresultssa{0..19}.blob.core.windows.net",
		"productionresultssa20.blob.core.windows.net":          "",
		"productionresultssa999.blob.core.windows.net":         "",
		"productionresultssa00.blob.core.windows.net":          "",
		"productionresultssa1x.blob.core.windows.net":          "",
		"xproductionresultssa1.blob.core.windows.net":          "",
		"productionresultssa1.blob.core.windows.net.evil.test": "",
		"acme.s3.eu-west-1.amazonaws.com":                      "{=}.s3.{region}.amazonaws.com",
		"acme.s3.mars-1.amazonaws.com":                         "",
		"sts.eu-west-1.amazonaws.com":                          "sts.{region}.amazonaws.com",
		"sts.amazonaws.com":                                    "",
	} {
		if got, _, _ := r.Family(name); got != want {
			t.Errorf("%s is of %q, want %q", name, got, want)
		}
	}
	_, a, _ := r.Family("acme.s3.eu-west-1.amazonaws.com")
	_, b, _ := r.Family("evil.s3.eu-west-1.amazonaws.com")
	if a != "acme" || b != "evil" {
		t.Errorf("the buckets are %q and %q", a, b)
	}
}

// TestNeighbours: beside names that rotate stand names that anybody may have; no pattern
// and no family swallows one.
func TestNeighbours(t *testing.T) {
	r := rules(t)
	known := []string{
		"cdn1.example.test", "cdn2.example.test", "cdn30.example.test", "eu-west-1.mirror.example.test", "us-east-1.mirror.example.test", "ap-south-1.mirror.example.test",
		"0a1b2c3d.cache.example.test", "ffee0011.cache.example.test", "9d8c7b6a.cache.example.test", "productionresultssa1.blob.core.windows.net", "productionresultssa7.blob.core.windows.net",
		"productionresultssa12.blob.core.windows.net", "acme-releases.s3.eu-west-1.amazonaws.com", "acme-releases.s3.us-east-1.amazonaws.com", "d2glxqk2uabbnd.cloudfront.net",
		"acme1.workers.dev", "acme2.workers.dev", "acme3.workers.dev", "pipelinesghubeus1.actions.githubusercontent.com", "pipelinesghubeus9.actions.githubusercontent.com",
	}
	var members []Member
	for i, n := range known {
		members = append(members, Member{n, uint32(i + 1), false})
	}
	patterns := r.Learn(members)
	if len(patterns) < 3 {
		t.Fatalf("patterns %v", patterns)
	}
	var hostile []string
	add := func(names ...string) { hostile = append(hostile, names...) }
	for _, suffixes := range [][]string{{
		"blob.core.windows.net", "s3.amazonaws.com", "s3.eu-west-1.amazonaws.com", "storage.googleapis.com", "workers.dev", "pages.dev", "cloudfront.net", "github.io", "ngrok-free.app",
		"trycloudflare.com", "duckdns.org", "azurewebsites.net", "herokuapp.com", "web.core.windows.net", "plesk.page", "vercel.app", "netlify.app", "fly.dev", "oast.fun", "webhook.site",
	}} {
		for _, s := range suffixes {
			for _, label := range []string{
				"evil", "evil-1234", "acme1", "acme4", "acme", "acme-release", "acme-releases2", "productionresultssa", "productionresultssa99", "productionresultsa1", "d2glxqk2uabbne", "cdn1", "cdn9", "0a1b2c3d",
			} {
				if name := label + "." + s; !slices.Contains(known, name) && name != "acme-releases.s3.eu-west-1.amazonaws.com" {
					add(name)
				}
			}
		}
	}
	for _, n := range known {
		add(n+".evil.test", "x"+n, n+"x", strings.Replace(n, ".", "-", 1), strings.Replace(n, ".example.test", ".exarnple.test", 1)+"x", "a."+n+".b")
	}
	add("cdn1.examp1e.test", "cdn1.example.test.co", "cdnx.example.test", "cdn.example.test", "cdn61.example.test", "cdn12345.example.test", "cdn1a.example.test", "cdn-1.example.test", "mars-1.mirror.example.test",
		"evil.mirror.example.test", "0a1b2c3g.cache.example.test", "0a1b2c3d4.cache.example.test", "0a1b2c3.cache.example.test", "evil.cache.example.test", "raw.githubusercontent.com", "gist.githubusercontent.com",
		"pipelinesghubeus1.actions.githubusercontent.co", "pipelinesghubeus99.actions.githubusercontent.com", "198.51.100.7", "")
	swallowed := 0
	for _, name := range hostile {
		for _, l := range patterns {
			if r.Matches(l.Pattern, name) {
				t.Errorf("%s is taken for %s", name, l.Pattern)
				swallowed++
			}
		}
		if f, kept, ok := r.Family(name); ok {
			for _, n := range known {
				if g, k, ok := r.Family(n); ok && f == g && kept == k {
					t.Errorf("%s is taken for one of %s", name, f)
					swallowed++
					break
				}
			}
		}
	}
	t.Logf("%d names, %d taken", len(hostile), swallowed)
}

func TestParse(t *testing.T) {
	for _, text := range []string{"a{n:1-2}.b", "{region}", "{=}.s3.{region}.x", "p{0..19}.q", "{hex:8}", "{id:14}-x", "plain"} {
		p, err := Parse(text)
		if err != nil || p.String() != text {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
	for _, text := range []string{"", "{", "a}", "{n}", "{n:0-2}", "{n:3-2}", "{n:01-2}", "{hex:0}", "{hex:x}", "{hex:+8}", "{5..4}", "{a..b}", "{other}", "{{n:1-2}}", "{=}.{=}", strings.Repeat("a", 2000)} {
		if p, err := Parse(text); !errors.Is(err, ErrPattern) {
			t.Errorf("%q is read as %v, %v", text, p, err)
		}
	}
}

// TestLearnedPatterns: a pattern matches its members, reaches no other owner, reads back
// from its text, and does not depend on the order of the names.
func TestLearnedPatterns(t *testing.T) {
	r := rules(t)
	rapid.Check(t, func(t *rapid.T) {
		stem := rapid.SampledFrom([]string{"cdn%d.example.test", "a-%d-b.x.example.test", "%08x.cache.example.test", "n%d.evil.github.io", "sa%d.blob.core.windows.net", "x.n%d.acme.workers.dev"}).Draw(t, "stem")
		var members []Member
		for range rapid.IntRange(1, 8).Draw(t, "members") {
			members = append(members, Member{fmt.Sprintf(stem, rapid.Uint32Range(0, 5000).Draw(t, "n")), uint32(rapid.IntRange(1, 5).Draw(t, "run")), false})
		}
		all := r.Learn(members)
		shuffled := rapid.Permutation(members).Draw(t, "order")
		again := r.Learn(shuffled)
		if len(all) != len(again) {
			t.Fatalf("%v in one order, %v in another", all, again)
		}
		for i, l := range all {
			if l.Pattern.String() != again[i].Pattern.String() {
				t.Fatalf("%v in one order, %v in another", l.Pattern, again[i].Pattern)
			}
			back, err := Parse(l.Pattern.String())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range l.Members {
				if !r.Matches(l.Pattern, m.Name) || !r.Matches(back, m.Name) {
					t.Fatalf("%s is not of its own pattern %s", m.Name, l.Pattern)
				}
			}
			owner, err := publicsuffix.EffectiveTLDPlusOne(l.Members[0].Name)
			if err != nil {
				t.Fatal(err)
			}
			other := rapid.StringMatching(`[a-z0-9]{1,6}(\.[a-z0-9]{1,6}){1,3}`).Draw(t, "other")
			for _, name := range []string{other, l.Members[0].Name + "." + other, strings.Replace(l.Members[0].Name, owner, "x"+owner, 1)} {
				if own, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil && own != owner && r.Matches(l.Pattern, name) {
					t.Fatalf("%s of %s is of %s, learned from %s", name, own, l.Pattern, owner)
				}
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	r := rules(f)
	for _, s := range []string{"a{n:1-2}.b", "{=}.s3.{region}.x", "{hex:8}{id:3}", "{0..19}"} {
		f.Add(s, "a1.b")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		if back, err := Parse(p.String()); err != nil || back.String() != text {
			t.Errorf("%q reads back as %v, %v", text, back, err)
		}
		_ = r.Matches(p, name)
		if !p.Varies() && r.Matches(p, name) != (text == name) {
			t.Errorf("%q without a part that varies, and %q", text, name)
		}
		_ = r.Learn([]Member{{name, 1, false}, {text, 2, false}, {name + "1", 3, true}})
	})
}
