//go:build newest

package kernels

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNewest runs the same tests on the newest kernel that Debian has for its stable release: what
// verifiers refuse one day is known before runners have it. It is no part of make test, which is not
// to fail because the world has moved on: make test-newest-kernel.
func TestNewest(t *testing.T) {
	apt := aptOf(t, "amd64", "trixie-backports")
	release := strings.TrimPrefix(apt.kernel("linux-image-cloud-amd64"), "linux-image-")
	dir := cached(t, "debian-"+release)
	if _, err := os.Stat(dir); err != nil {
		apt.fetch(dir, "linux-binary-"+release, "linux-modules-"+release)
	}
	all := rows(t)
	files := initramfs(t, "amd64", ownTools(t, filepath.Join(dir, "brd.ko")), patternsOf(all, "TestLacks"), 1)
	out := boot(t, "amd64", filepath.Join(dir, "vmlinuz"), files)
	for _, r := range all {
		for _, test := range r.tests {
			if !strings.Contains(out, "--- PASS: "+test+" (") {
				t.Errorf("%s: %s did not pass on %s", r.what, test, release)
			}
		}
	}
	if t.Failed() || strings.Contains(out, "--- FAIL") {
		t.Errorf("on %s:\n%s", release, out)
	}
	t.Logf("tried on %s", release)
}
