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

// arm64 returns Debian's 6.12 for arm64 and its tools, fetched once.
func arm64(t *testing.T) (image string, from tools) {
	t.Helper()
	dir := cached(t, "debian-6.12-arm64")
	if _, err := os.Stat(dir); err != nil {
		apt := aptOf(t, "arm64", "trixie")
		apt.fetch(dir, apt.kernel("linux-image-cloud-arm64"), "busybox-static", "bash-static")
	}
	return filepath.Join(dir, "vmlinuz"), tools{filepath.Join(dir, "busybox"), filepath.Join(dir, "bash"), filepath.Join(dir, "brd.ko")}
}

// cached is the folder for what is kept of a kernel.
func cached(t *testing.T, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cache, "sallyport", "kernels", name)
}

// apt fetches packages of one of Debian's suites, with state of its own, so that the machine's is not
// touched.
type apt struct {
	*testing.T
	work    string
	options []string
}

func (a *apt) args(tool string, args ...string) []string {
	return append(append([]string{"apt-" + tool}, a.options...), args...)
}

// kernel is the package of the kernel itself that one without a version depends on.
func (a *apt) kernel(name string) string {
	a.Helper()
	ask := a.args("cache", "depends", name)
	depends, err := exec.Command(ask[0], ask[1:]...).CombinedOutput()
	if err != nil {
		a.Fatalf("%v: %s", err, depends)
	}
	kernel := regexp.MustCompile(`linux-image-\d+\.\d+\S+`).FindString(string(depends))
	if kernel == "" {
		a.Fatalf("apt knows no kernel %s: %s", name, depends)
	}
	return kernel
}

// fetch keeps in a folder, of the packages, the kernel, its module for disks in memory and, if they
// are there, busybox and bash.
func (a *apt) fetch(dir string, packages ...string) {
	a.Helper()
	fetch := a.args("get", append([]string{"download", "-qq"}, packages...)...)
	command(a.T, a.work, fetch[0], fetch[1:]...)
	command(a.T, a.work, "sh", "-ec", `for p in *.deb; do dpkg-deb -x "$p" whole; done
mkdir kept
find whole -name 'vmlinuz*' -type f -exec mv {} kept/vmlinuz \;
for tool in busybox bash-static; do
	find whole -path "*bin/$tool" -type f -exec mv {} "kept/${tool%-static}" \;
done
disk=$(find whole -name 'brd.ko*')
case $disk in *.xz) busybox xzcat "$disk" >kept/brd.ko ;; *) mv "$disk" kept/brd.ko ;; esac`)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		a.Fatal(err)
	}
	// The folder for what is temporary may be on another file system.
	command(a.T, a.work, "cp", "-r", "kept", dir+".new")
	if err := os.Rename(dir+".new", dir); err != nil && !errors.Is(err, os.ErrExist) {
		a.Fatal(err)
	}
}

// aptOf returns an apt for packages of an architecture, of a suite of Debian, fetched by the machine's
// own from where that has its packages.
func aptOf(t *testing.T, arch, suite string) *apt {
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
	work := t.TempDir()
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(work, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sources := filepath.Join(work, "sources.list")
	text := fmt.Sprintf("deb [arch=%s signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n", arch, archive[1], suite)
	if err := os.WriteFile(sources, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	a := &apt{t, work, []string{
		"-o", "Dir::Etc::SourceList=" + sources, "-o", "Dir::Etc::SourceParts=-", "-o", "Dir::State::Lists=" + filepath.Join(work, "lists"),
		"-o", "Dir::Cache=" + filepath.Join(work, "cache"), "-o", "APT::Architectures=" + arch, "-o", "APT::Architecture=" + arch, "-o", "APT::Sandbox::User=root",
	}}
	update := a.args("get", "update", "-qq")
	command(t, work, update[0], update[1:]...)
	return a
}
