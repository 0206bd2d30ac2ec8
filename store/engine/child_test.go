package engine

import (
	"encoding/json"
	"os"
	"testing"
	"time"
)

// TestChildEndsWithItsParent closes the child's standard input, as the parent's death
// does.
func TestChildEndsWithItsParent(t *testing.T) {
	library, err := Fetch(t.Context(), FetchConfig{File: os.Getenv("SALLYPORT_ENGINE")})
	if err != nil {
		if os.Getenv("SALLYPORT_REQUIRE_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip("skipped: no database engine:", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	orders, err := json.Marshal(handover{Library: library, Dir: t.TempDir(), Addr: "127.0.0.1:0", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := spawn([]string{self}, []string{"SALLYPORT_ENGINETEST_CHILD=1"}, append(orders, '\n'))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.ready:
	case <-c.gone:
		t.Fatal(c.reason())
	}
	if err := c.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.gone:
	case <-time.After(20 * time.Second):
		c.kill()
		t.Fatal("the child outlives its parent")
	}
	if c.err != nil {
		t.Fatal(c.reason())
	}
}
