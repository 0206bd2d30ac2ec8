package kernels

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// slow are tests that take long where every instruction is emulated, with the parts of them that
// are run all the same.
var slow = map[string]string{
	"TestAccessToWorker": "calls_false,_.*", "TestFolders": "tmpfs/(new|moved_in)", "TestReadsByName": "(cat|mapped|sendfile|in_a_mount_namespace)", "TestWrites": "(append|truncate|by_inode,_mapped)",
}

// Once, of several hundred tests there, two saw no record of what a process did; they passed when
// they were run again (docs/kernels.md). tries is how often a test may be run, maxFailed how many
// may fail at first.
const (
	tries     = 3
	maxFailed = 2
)

// TestArm64 runs the sensor's tests on Debian's 6.12 for arm64, which lacks nothing.
func TestArm64(t *testing.T) {
	if runtime.GOARCH == "arm64" {
		t.Skip("skipped: all other tests run on it")
	}
	var top, patterns []string
	for _, r := range rows(t) {
		for _, test := range r.tests {
			name, part, whole := strings.Cut(test, "/")
			switch {
			case whole:
				patterns = append(patterns, fmt.Sprintf("^%s$/^%s$", name, part))
			case slow[name] != "":
				patterns = append(patterns, fmt.Sprintf("^%s$/^%s$", name, strings.ReplaceAll(slow[name], "/", "$/^")))
			default:
				top = append(top, name)
			}
		}
	}
	slices.Sort(patterns)
	top = append(top, "TestLacks")
	slices.Sort(top)
	patterns = slices.Compact(patterns)
	for _, name := range slices.Compact(top) {
		patterns = append(patterns, "^"+name+"$")
	}
	image, from := arm64(t)
	out := boot(t, "arm64", image, initramfs(t, "arm64", from, patterns, tries))
	passed, failed := strings.Count(out, "\n--- PASS: "), strings.Count(out, "\n--- FAIL: ")
	if failed > 0 {
		t.Logf("%d tests were run again", failed)
	}
	if passed != len(patterns) || failed > maxFailed || strings.Contains(out, "no tests to run") || strings.Contains(out, "lacks: ") {
		t.Errorf("%d of %d tests passed, %d failed:\n%s", passed, len(patterns), failed, out)
	}
}

// arm64 returns Debian's 6.12 for arm64 and its tools, fetched once by the machine's own apt from
// where that has its packages.
func arm64(t *testing.T) (image string, from tools) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "sallyport", "kernels", "debian-6.12-arm64")
	image, from = filepath.Join(dir, "vmlinuz"), tools{filepath.Join(dir, "busybox"), filepath.Join(dir, "bash"), filepath.Join(dir, "brd.ko")}
	if _, err := os.Stat(dir); err == nil {
		return image, from
	}
	work, err := os.MkdirTemp("", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(work) }() // at worst a copy stays
	apt := aptOf(t, work)
	command(t, work, apt("get", "update", "-qq")[0], apt("get", "update", "-qq")[1:]...)
	ask := apt("cache", "depends", "linux-image-cloud-arm64")
	depends, err := exec.Command(ask[0], ask[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, depends)
	}
	kernel := regexp.MustCompile(`linux-image-6\.\d+\S+`).FindString(string(depends))
	if kernel == "" {
		t.Fatalf("apt knows no kernel for arm64: %s", depends)
	}
	fetch := apt("get", "download", "-qq", kernel, "busybox-static", "bash-static")
	command(t, work, fetch[0], fetch[1:]...)
	command(t, work, "sh", "-ec", `for p in *.deb; do dpkg-deb -x "$p" whole; done
mkdir kept
mv whole/boot/vmlinuz-6* kept/vmlinuz
mv "$(find whole -path '*bin/busybox' -type f | head -n 1)" kept/busybox
mv "$(find whole -path '*bin/bash-static' -type f | head -n 1)" kept/bash
disk=$(find whole -name 'brd.ko*')
case $disk in *.xz) busybox xzcat "$disk" >kept/brd.ko ;; *) mv "$disk" kept/brd.ko ;; esac`)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	// The folder for what is temporary may be on another file system.
	command(t, work, "cp", "-r", "kept", dir+".new")
	if err := os.Rename(dir+".new", dir); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return image, from
}

// aptOf returns how to call apt for packages of Debian 13 for arm64, with state of its own, so that
// the machine's is not touched.
func aptOf(t *testing.T, work string) func(tool string, args ...string) []string {
	t.Helper()
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)").Output()
	if err != nil {
		t.Fatal(err)
	}
	archive := regexp.MustCompile(`(?m)^(\S+) Debian Debian$`).FindSubmatch(out)
	if archive == nil {
		if os.Getenv("SALLYPORT_REQUIRE_ALL") == "1" {
			t.Fatalf("this machine's apt has no archive of Debian: %s", out)
		}
		t.Skip("skipped: this machine's apt has no archive of Debian")
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(work, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sources := filepath.Join(work, "sources.list")
	text := fmt.Sprintf("deb [arch=arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie main\n", archive[1])
	if err := os.WriteFile(sources, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return func(tool string, args ...string) []string {
		return append([]string{
			"apt-" + tool, "-o", "Dir::Etc::SourceList=" + sources, "-o", "Dir::Etc::SourceParts=-", "-o", "Dir::State::Lists=" + filepath.Join(work, "lists"),
			"-o", "Dir::Cache=" + filepath.Join(work, "cache"), "-o", "APT::Architectures=arm64", "-o", "APT::Architecture=arm64", "-o", "APT::Sandbox::User=root",
		}, args...)
	}
}
