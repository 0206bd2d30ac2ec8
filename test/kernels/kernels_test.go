package kernels

import (
	"bytes"
	"context"
	"debug/elf"
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
	"time"
)

const page = "../../docs/kernels.md"

// row is a row of the page's table.
type row struct {
	what, later, debian string
	tests               []string
}

func rows(t *testing.T) (all []row) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || strings.HasPrefix(cells[0], "-") || strings.TrimSpace(cells[0]) == "what" {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		r := row{what: cells[0], later: cells[1], debian: cells[2]}
		for test := range strings.SplitSeq(cells[3], ", ") {
			if test != "" {
				r.tests = append(r.tests, test)
			}
		}
		all = append(all, r)
	}
	if len(all) < 10 {
		t.Fatalf("%s has a table of %d rows", page, len(all))
	}
	return all
}

// kernel returns Debian's 6.1 and its module for disks in memory, fetched once by the
// machine's own apt.
func kernel(t *testing.T) (image, disk string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "sallyport", "kernels", "debian-6.1-disk")
	find := func() (image, disk string) {
		for pattern, path := range map[string]*string{"vmlinuz-6.1*": &image, "brd.ko": &disk} {
			if found, err := filepath.Glob(filepath.Join(dir, pattern)); err == nil && len(found) > 0 {
				*path = found[0]
			}
		}
		return image, disk
	}
	if image, disk := find(); image != "" && disk != "" {
		return image, disk
	}
	// linux-image-cloud-amd64 depends on the package of the kernel itself.
	named := func() []byte {
		out, err := exec.Command("apt-cache", "depends", "linux-image-cloud-amd64").CombinedOutput()
		if err != nil {
			t.Logf("%v: %s", err, out)
		}
		return regexp.MustCompile(`linux-image-6\.1\.\S+`).Find(out)
	}
	m := named()
	if m == nil {
		command(t, "/", "apt-get", "update", "-qq")
		m = named()
	}
	switch {
	case m != nil:
	case os.Getenv("SALLYPORT_REQUIRE_ALL") == "1":
		t.Fatal("apt knows no package of Debian's kernel 6.1")
	default:
		t.Skip("skipped: apt knows no package of Debian's kernel 6.1: this is not Debian 12")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "fetch")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(work) }() // at worst a copy stays
	command(t, work, "apt-get", "download", "-qq", string(m))
	packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("%q were fetched: %v", packages, err)
	}
	command(t, work, "dpkg-deb", "-x", packages[0], "whole")
	command(t, work, "sh", "-c", "mkdir kept && mv whole/boot/vmlinuz-6.1* whole/lib/modules/*/kernel/drivers/block/brd.ko kept")
	if err := os.Rename(filepath.Join(work, "kept"), dir); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	if image, disk = find(); image == "" || disk == "" {
		t.Fatal("the package holds no kernel, or no module for disks in memory")
	}
	return image, disk
}

func command(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

const initScript = `#!/bin/busybox sh
export PATH=/bin:/usr/bin HOME=/root SALLYPORT_REQUIRE_ALL=1
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts pts /dev/pts
mount -t cgroup2 none /sys/fs/cgroup; mount -t tmpfs tmp /tmp; mount -t tmpfs tmp /var/tmp
ip link set lo up
# Files in memory pass the page cache by: a real file system, on a disk in memory. Its
# inodes are large enough for times in nanoseconds.
insmod /brd.ko rd_nr=1 rd_size=131072
mkdir /disk; mke2fs -I 256 /dev/ram0 >/dev/null; mount -t ext2 /dev/ram0 /disk
export TMPDIR=/disk
cd /root
while read -r pattern; do
	for try in TRIES; do /bpf.test -test.v -test.run "$pattern" -test.timeout 600s && break; done
done </patterns
echo "every pattern was run"
poweroff -f
`

// tools are programs of the machine that is emulated: busybox, bash, and its module for disks
// in memory.
type tools struct{ busybox, bash, disk string }

// ownTools are those of this machine.
func ownTools(t *testing.T, disk string) tools {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	return tools{busybox, "/bin/bash", disk}
}

// initramfs makes a machine's first files: busybox, bash, and the tests of package bpf.
// A pattern some test of which fails is run as often as tries says.
func initramfs(t *testing.T, arch string, from tools, patterns []string, tries int) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, d := range []string{"bin", "usr/bin", "proc", "sys", "dev", "tmp", "var/tmp", "root", "etc", "run"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(from, to string) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to = filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(from.busybox, "bin/busybox")
	// Also of a machine whose busybox does not run here: Debian builds all alike.
	list, err := exec.Command("busybox", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(list)) {
		if name != "busybox" {
			if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Remove(filepath.Join(root, "bin/bash")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	put(from.bash, "bin/bash")
	put(from.disk, "brd.ko")
	put(page, "docs/kernels.md") // seen from /root as from a package
	for _, library := range libraries(t, from.bash) {
		put(library, library)
	}
	build := exec.Command("go", "test", "-c", "-o", filepath.Join(root, "bpf.test"), "../../bpf")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the tests: %v\n%s", err, out)
	}
	script := strings.Replace(initScript, "TRIES", strings.Repeat("x ", tries), 1)
	for name, text := range map[string]string{"init": script, "patterns": strings.Join(patterns, "\n") + "\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command(t, root, "sh", "-c", "find . | cpio -o -H newc --quiet | gzip -1 >../initramfs.gz")
	return filepath.Join(dir, "initramfs.gz")
}

// libraries returns the shared libraries of a program, and its loader.
func libraries(t *testing.T, path string) (found []string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	if f.Section(".interp") == nil {
		return nil
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`/\S+`).FindAllString(string(out), -1)
}

// emulators run a kernel of an architecture, with its console. KVM is not asked for: where
// machines are nested it may hang.
var emulators = map[string]struct {
	program []string
	console string
}{
	"amd64": {[]string{"qemu-system-x86_64", "-machine", "q35,accel=tcg"}, "ttyS0"},
	"arm64": {[]string{"qemu-system-aarch64", "-machine", "virt,accel=tcg"}, "ttyAMA0"},
}

// boot runs a kernel until it powers off, and returns what it printed.
func boot(t *testing.T, arch, kernel, initramfs string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	e := emulators[arch]
	args := append(slices.Clone(e.program[1:]), "-cpu", "max", "-m", "1024", "-smp", "2",
		"-nodefaults", "-no-reboot", "-nographic", "-serial", "stdio", "-kernel", kernel, "-initrd", initramfs,
		"-append", "console="+e.console+" quiet panic=-1 lsm=lockdown,yama,integrity,apparmor,bpf")
	cmd := exec.CommandContext(ctx, e.program[0], args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	text := strings.ReplaceAll(out.String(), "\r", "")
	if err != nil || !strings.Contains(text, "every pattern was run") {
		t.Fatalf("the virtual machine: %v\n%s", err, text)
	}
	return text
}

// patternsOf fit the tests of the page, and others.
func patternsOf(all []row, top ...string) []string {
	below := map[string][]string{} // tests of which only some parts are run
	for _, r := range all {
		for _, test := range r.tests {
			if name, part, ok := strings.Cut(test, "/"); ok {
				below[name] = append(below[name], part)
			} else if !slices.Contains(top, test) {
				top = append(top, test)
			}
		}
	}
	patterns := []string{"^(" + strings.Join(top, "|") + ")$"}
	for name, parts := range below {
		patterns = append(patterns, fmt.Sprintf("^%s$/^(%s)$", name, strings.Join(parts, "|")))
	}
	return patterns
}

func TestDebian61(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("skipped: the virtual machine is x86-64")
	}
	all := rows(t)
	patterns := patternsOf(all, "TestLacks", "TestPrivilegeLevels")
	image, disk := kernel(t)
	out := boot(t, "amd64", image, initramfs(t, "amd64", ownTools(t, disk), patterns, 1))
	passed := func(test string) bool { return strings.Contains(out, "--- PASS: "+test+" (") }
	if strings.Contains(out, "--- FAIL") || !passed("TestLacks") || !passed("TestPrivilegeLevels") || !strings.Contains(out, "6.1.") && !strings.Contains(out, "lacks: ") {
		t.Errorf("tests failed on Debian's 6.1:\n%s", out)
	}
	for _, r := range all {
		lacks := strings.Contains(out, "lacks: "+r.what+"\n")
		for _, test := range r.tests {
			if !passed(test) {
				t.Errorf("%s: %s did not pass on Debian's 6.1", r.what, test)
			}
		}
		if !strings.HasPrefix(r.debian, "yes") && r.debian != "no" || lacks != (r.debian == "no") || r.debian == "no" && len(r.tests) > 0 {
			t.Errorf("%s: the page says %q of Debian's 6.1, which lacks it: %t", r.what, r.debian, lacks)
		}
	}
	for what := range strings.Lines(out) {
		if _, lack, ok := strings.Cut(strings.TrimSpace(what), "lacks: "); ok && !slices.ContainsFunc(all, func(r row) bool { return r.what == lack }) {
			t.Errorf("the page has no row for what 6.1 lacks: %s", lack)
		}
	}
}
