package install

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSetInEnv(t *testing.T) {
	for _, c := range []struct{ name, before, after string }{
		{"empty", "", "H=/our.sh\n"},
		{"others", "LANG=C\n", "LANG=C\nH=/our.sh\n"},
		{"no end of line", "LANG=C", "LANG=C\nH=/our.sh\n"},
		{"theirs", "H=/their.sh\nLANG=C\n", "H=/our.sh\nLANG=C\n"},
		{"the last one counts", "H=/a.sh\nH=/b.sh\n", "H=/a.sh\nH=/our.sh\n"},
		{"Windows", "H=/a.sh\r\nLANG=C\r\n", "H=/our.sh\r\nLANG=C\r\n"},
		{"old Macintosh, as .NET reads it", "A=1\rH=/a.sh\rB=2", "A=1\rH=/our.sh\rB=2"},
		{"taken away", "H=\n", "H=/our.sh\n"},
		{"byte order mark", "\xef\xbb\xbfH=/a.sh\n", "\xef\xbb\xbfH=/our.sh\n"},
		{"another name", "HH=1\n H=2\n#H=3\nh=4\n", "HH=1\n H=2\n#H=3\nh=4\nH=/our.sh\n"},
		{"a name without value", "H\n", "H\nH=/our.sh\n"},
		{"bytes that are no text", "A=\xff\x00\n", "A=\xff\x00\nH=/our.sh\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			after, edit := set([]byte(c.before), "H", "/our.sh")
			if string(after) != c.after {
				t.Errorf("%q, want %q", after, c.after)
			}
			back, ok := unset(after, edit)
			if !ok || string(back) != c.before {
				t.Errorf("taken back: %q %v, want %q", back, ok, c.before)
			}
		})
	}
}

// anyEnv draws files that look like a runner's, and some that do not.
func anyEnv(t *rapid.T) []byte {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"STARTED=/a.sh", "STARTED=", "COMPLETED=/b", "COMPLETED=", "LANG=C", "\n", "\r", "\r\n", "=", "\xef\xbb\xbf", "\x00"}),
		rapid.StringN(0, 6, -1),
	)
	return []byte(strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "env"), ""))
}

// TestSetAndUnset: whatever the file is, both variables have our values afterwards, all
// other lines are as they were, and taking both back gives the very bytes.
func TestSetAndUnset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := anyEnv(t)
		after, first := set(before, "STARTED", "/our/started.sh")
		after, second := set(after, "COMPLETED", "/our/completed.sh")
		if valueOf(after, "STARTED") != "/our/started.sh" || valueOf(after, "COMPLETED") != "/our/completed.sh" {
			t.Fatalf("not set: %q", after)
		}
		if !bytes.Equal(others(before), others(after)) {
			t.Fatalf("other lines changed: %q became %q", before, after)
		}
		back, ok := unset(after, second)
		if !ok {
			t.Fatalf("COMPLETED cannot be taken back: %q", after)
		}
		if back, ok = unset(back, first); !ok || !bytes.Equal(back, before) {
			t.Fatalf("%q was taken back to %q", before, back)
		}
	})
}

// TestUnsetAfterOthers: lines that others added since stay.
func TestUnsetAfterOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := anyEnv(t)
		after, edit := set(before, "STARTED", "/our/started.sh")
		after = append(after, "\nLATER=1\n"...)
		back, ok := unset(after, edit)
		if !ok || valueOf(back, "LATER") != "1" {
			t.Fatalf("%q was taken back to %q (%v)", after, back, ok)
		}
		if valueOf(back, "STARTED") != valueOf(before, "STARTED") {
			t.Fatalf("STARTED is %q, was %q", valueOf(back, "STARTED"), valueOf(before, "STARTED"))
		}
	})
	theirs := []byte("STARTED=/later.sh\n")
	if back, ok := unset(theirs, Edit{Name: "STARTED", Ours: "/our.sh"}); ok || !bytes.Equal(back, theirs) {
		t.Errorf("somebody else's hook was taken away: %q", back)
	}
}

// others are the lines of all other variables.
func others(data []byte) []byte {
	var out []byte
	for _, l := range lines(data) {
		text := data[l.begin:l.end]
		if len(text) > 0 && !bytes.HasPrefix(text, []byte("STARTED=")) && !bytes.HasPrefix(text, []byte("COMPLETED=")) {
			out = append(append(out, text...), '\n')
		}
	}
	return out
}

// FuzzEnv: whatever the file of a runner is, a hook is set and taken back to the byte.
func FuzzEnv(f *testing.F) {
	for _, seed := range []string{"", "A=1", "STARTED=/a.sh\r\nA=1", "STARTED=\rA", "\xef\xbb\xbfSTARTED=/b\n", "=\x00\nSTARTED"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, before []byte) {
		after, edit := set(before, "STARTED", "/our.sh")
		if valueOf(after, "STARTED") != "/our.sh" {
			t.Fatalf("not set: %q", after)
		}
		if back, ok := unset(after, edit); !ok || !bytes.Equal(back, before) {
			t.Fatalf("%q was taken back to %q", before, back)
		}
	})
}
