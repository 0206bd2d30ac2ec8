package stream

import (
	"slices"
	"testing"
)

func TestSpoolName(t *testing.T) {
	names := []string{
		SpoolName{7, 9, 1}.String(), SpoolName{7, 10, 1}.String(), SpoolName{1764561404000000000, 1, 4096}.String(), SpoolName{^uint64(0), ^uint64(0), 0}.String(),
	}
	if !slices.IsSorted(names) {
		t.Errorf("the order of names is not that of batches: %q", names)
	}
	for _, name := range names {
		if n, ok := ParseSpoolName(name); !ok || n.String() != name {
			t.Errorf("%q is read as %+v, %v", name, n, ok)
		}
	}
	good := SpoolName{7, 9, 1}.String()
	for _, name := range []string{
		"", ".batch", "1-2-3.batch", good[1:], "0" + good, "+" + good[1:], good + ".foreign", "../" + good, "x/" + good, good[:len(good)-len(SpoolSuffix)],
		good[:len(good)-len("1.batch")] + "-1.batch", good[:len(good)-len("1.batch")] + "01.batch", "99999999999999999999-00000000000000000001-1.batch",
	} {
		if n, ok := ParseSpoolName(name); ok {
			t.Errorf("%q is read as %+v", name, n)
		}
	}
}

func FuzzSpoolName(f *testing.F) {
	f.Add(SpoolName{7, 9, 1}.String())
	f.Add("../x.batch")
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := ParseSpoolName(name); ok && n.String() != name {
			t.Fatalf("%q is read as %+v", name, n)
		}
	})
}
