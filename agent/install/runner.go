package install

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Runner is a folder with GitHub's runner.
type Runner struct {
	// Dir is the folder, without links in its path, as the machine's own processes see it.
	Dir string
	// Units are the systemd units that run it.
	Units []string
	// Listeners are its listeners that run now.
	Listeners []Listener
}

// Listener is a process Runner.Listener.
type Listener struct {
	PID     int
	Started time.Time
	// environment is what it was started with, of the variables of hooks.
	environment map[string]string
}

// usualFolders are where runners lie that no unit and no process tells of.
var usualFolders = []string{
	"/actions-runner*", "/opt/actions-runner*", "/opt/runner*", "/opt/actions-runner*/*", "/srv/actions-runner*",
	"/root/actions-runner*", "/home/*/actions-runner*", "/home/runner", "/var/lib/actions-runner*",
}

// unitFolders are where systemd's units are, on Debian, Ubuntu and the Red Hat family.
var unitFolders = []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/system"}

// FindRunners looks for runners below root, the root folder of the machine or of an
// image: those of units, of running processes (of this machine, if root is /), and in the
// usual folders. notes say what was found and cannot be used. Anybody on the machine can
// make a folder look like a runner's.
func FindRunners(root, proc string) (found []Runner, notes []string) {
	byDir := make(map[string]*Runner)
	at := func(dir string) *Runner {
		real, err := filepath.EvalSymlinks(filepath.Join(root, dir))
		if err != nil || !isRunner(real) {
			return nil
		}
		if real, err = filepath.Rel(root, real); err != nil || real == ".." || strings.HasPrefix(real, "../") {
			return nil
		}
		real = filepath.Join("/", real)
		if byDir[real] == nil {
			byDir[real] = &Runner{Dir: real}
		}
		return byDir[real]
	}
	for _, folder := range unitFolders {
		units, _ := filepath.Glob(filepath.Join(root, folder, "actions.runner.*.service")) // the pattern is a good one
		for _, unit := range units {
			if r := at(workingDirectory(unit)); r != nil && !slices.Contains(r.Units, filepath.Base(unit)) {
				r.Units = append(r.Units, filepath.Base(unit))
			}
		}
	}
	for _, pattern := range usualFolders {
		dirs, _ := filepath.Glob(filepath.Join(root, pattern)) // as above
		for _, dir := range dirs {
			if dir, err := filepath.Rel(root, dir); err == nil {
				at(filepath.Join("/", dir))
			}
		}
	}
	if root == "/" {
		listeners, elsewhere := findListeners(proc)
		for dir, of := range listeners {
			if r := at(dir); r != nil {
				r.Listeners = of
			}
		}
		for _, pid := range elsewhere {
			notes = append(notes, fmt.Sprintf("process %d is a runner in a container: its hooks belong into its image (docs/self-hosted.md)", pid))
		}
	}
	for _, r := range byDir {
		found = append(found, *r)
	}
	slices.SortFunc(found, func(a, b Runner) int { return cmp.Compare(a.Dir, b.Dir) })
	return found, notes
}

// isRunner says whether a folder is a runner's, configured or not yet.
func isRunner(dir string) bool {
	f, err := openFolder(dir)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only looked at
	return f.runner()
}

// maxUnit bounds a unit's file, in bytes.
const maxUnit = 64 << 10

// workingDirectory reads where a unit of GitHub's svc.sh runs: WorkingDirectory, or the
// folder of runsvc.sh.
func workingDirectory(unit string) string {
	data, err := os.ReadFile(unit)
	if err != nil || len(data) > maxUnit {
		return ""
	}
	var started string
	for text := range strings.Lines(string(data)) {
		text = strings.TrimSpace(text)
		if dir, ok := strings.CutPrefix(text, "WorkingDirectory="); ok {
			return dir
		}
		if program, ok := strings.CutPrefix(text, "ExecStart="); ok {
			started = filepath.Dir(program)
		}
	}
	return started
}

// listenerName is the program of a runner's listener.
const listenerName = "Runner.Listener"

// findListeners looks for running listeners, by their folder. elsewhere are those in
// other mount namespaces than the process that asks: their folders are not this
// machine's.
func findListeners(proc string) (byDir map[string][]Listener, elsewhere []int) {
	byDir = make(map[string][]Listener)
	boot := bootTime(proc)
	ours, err := os.Readlink(filepath.Join(proc, "self/ns/mnt"))
	entries, listErr := os.ReadDir(proc)
	if err != nil || listErr != nil {
		return nil, nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join(proc, e.Name())
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		exe = strings.TrimSuffix(exe, " (deleted)") // after the runner's update of itself
		if err != nil || filepath.Base(exe) != listenerName {
			continue
		}
		if theirs, err := os.Readlink(filepath.Join(dir, "ns/mnt")); err != nil || theirs != ours {
			elsewhere = append(elsewhere, pid)
			continue
		}
		l := Listener{PID: pid, Started: startOf(dir, boot), environment: make(map[string]string)}
		if data, err := os.ReadFile(filepath.Join(dir, "environ")); err == nil {
			for _, entry := range bytes.Split(data, []byte{0}) {
				if name, value, ok := strings.Cut(string(entry), "="); ok && slices.Contains(hookNames, name) {
					l.environment[name] = value
				}
			}
		}
		// DIR/bin/Runner.Listener, where bin may be a link to bin.2.330.0.
		runner := filepath.Dir(filepath.Dir(exe))
		byDir[runner] = append(byDir[runner], l)
	}
	return byDir, elsewhere
}

// bootTime reads when the machine started; zero if it cannot.
func bootTime(proc string) time.Time {
	data, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return time.Time{}
	}
	for text := range strings.Lines(string(data)) {
		if seconds, ok := strings.CutPrefix(text, "btime "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(seconds), 10, 64); err == nil {
				return time.Unix(n, 0)
			}
		}
	}
	return time.Time{}
}

// ticks is how many a second of /proc/PID/stat has, on every machine that Linux runs on
// here (USER_HZ).
const ticks = 100

// startOf reads when a process started (field 22 of proc_pid_stat(5)), to some seconds;
// zero if it cannot.
func startOf(dir string, boot time.Time) time.Time {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil || boot.IsZero() {
		return time.Time{}
	}
	// The name, in brackets, may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return time.Time{}
	}
	n, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}
	}
	return boot.Add(time.Duration(n) * time.Second / ticks)
}

// errNoRunner says that a folder is not a runner's.
var errNoRunner = errors.New("is no folder of a runner: it has no run.sh and config.sh")

// namedRunner returns the runner in a folder that a person named.
func namedRunner(root, proc, dir string) (Runner, error) {
	if !filepath.IsAbs(dir) {
		return Runner{}, fmt.Errorf("--runner %s: not an absolute path", dir)
	}
	real, err := filepath.EvalSymlinks(filepath.Join(root, dir))
	if err != nil {
		return Runner{}, fmt.Errorf("--runner %s: %w", dir, err)
	}
	if !isRunner(real) {
		return Runner{}, fmt.Errorf("--runner %s %w", dir, errNoRunner)
	}
	if real, err = filepath.Rel(root, real); err != nil || real == ".." || strings.HasPrefix(real, "../") {
		return Runner{}, fmt.Errorf("--runner %s: it is not below %s", dir, root)
	}
	found, _ := FindRunners(root, proc)
	for _, r := range found {
		if r.Dir == filepath.Join("/", real) {
			return r, nil
		}
	}
	r := Runner{Dir: filepath.Join("/", real)}
	if root == "/" {
		listeners, _ := findListeners(proc)
		r.Listeners = listeners[r.Dir]
	}
	return r, nil
}
