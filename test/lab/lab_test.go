package lab

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	BeWorld()
	os.Exit(m.Run())
}

func open(t *testing.T) *Lab {
	t.Helper()
	act, err := filepath.Abs("../../.bin/act")
	if err != nil {
		t.Fatal(err)
	}
	reason := ""
	if os.Geteuid() != 0 {
		reason = "the lab needs root"
	} else if _, err := os.Stat(act); err != nil {
		reason = "act is not built (make test builds it)"
	}
	if reason != "" && os.Getenv("SALLYPORT_REQUIRE_ALL") != "" {
		t.Fatal(reason)
	} else if reason != "" {
		t.Skip("skipped: " + reason)
	}
	l, err := Open(context.WithoutCancel(t.Context()), t.TempDir(), act, "acme/lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestWorkflowsCleanAndCompromised(t *testing.T) {
	l := open(t)
	for name, want := range map[string]string{"ci.yml": "['left', 'right']", "evasion.yml": "hello from elsewhere"} {
		var out bytes.Buffer
		start := time.Now()
		if err := l.Run(t.Context(), name, 1, &out); err != nil {
			t.Fatalf("%v\n%s", err, out.Bytes())
		}
		t.Logf("%s took %s", name, time.Since(start))
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("%s did not print %q:\n%s", name, want, out.Bytes())
		}
	}
	if err := l.Compromise(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := l.Run(t.Context(), "ci.yml", 2, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	// "harmless: 16 bytes …" in base64, twice.
	if !bytes.Contains(out.Bytes(), []byte("YUdGeWJXeGxjM002SURFMklHSjVkR1Z6")) {
		t.Errorf("the memory was not read:\n%s", out.Bytes())
	}
}
