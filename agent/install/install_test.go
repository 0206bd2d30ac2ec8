package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// image is the root folder of a made-up machine, with a runner of another user's in it.
type image struct {
	t       *testing.T
	root    string
	program string
	changes []Change
	// change is done to the configuration before each use.
	change func(*Config)
}

const (
	runnerFolder = "/home/ci/actions-runner"
	runnerUser   = 61234
)

func newImage(t *testing.T) *image {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("SALLYPORT_REQUIRE_ALL") == "1" {
			t.Fatal("this test needs root")
		}
		t.Skip("skipped: this test needs root")
	}
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &image{t: t, root: root, program: filepath.Join(root, "download")}
	m.write("/download", "version one", 0o755)
	for _, name := range []string{"run.sh", "config.sh", ".runner"} {
		m.write(runnerFolder+"/"+name, "", 0o755)
	}
	m.own(runnerFolder)
	return m
}

func (m *image) write(path, text string, mode fs.FileMode) {
	m.t.Helper()
	full := filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}

// own gives a folder and what is in it to the runner's user.
func (m *image) own(path string) {
	m.t.Helper()
	err := filepath.WalkDir(filepath.Join(m.root, path), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, runnerUser, runnerUser))
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *image) installer() *Installer {
	m.t.Helper()
	m.changes = nil
	cfg := Config{
		Root: m.root, Proc: "/proc", Program: m.program, Hooks: true, Start: true,
		Say: func(c Change) { m.changes = append(m.changes, c) }, Now: time.Now,
	}
	if m.change != nil {
		m.change(&cfg)
	}
	i, err := New(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	return i
}

func (m *image) install() {
	m.t.Helper()
	if err := m.installer().Install(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

func (m *image) uninstall() {
	m.t.Helper()
	if err := m.installer().Uninstall(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

func (m *image) read(path string) string {
	m.t.Helper()
	data, err := os.ReadFile(filepath.Join(m.root, path))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(data)
}

// tree is all of the machine: names, modes, owners and contents.
func (m *image) tree() string {
	m.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %o %d:%d", path, st.Mode, st.Uid, st.Gid)
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return b.String()
}

func (m *image) changed() (all []string) {
	for _, c := range m.changes {
		if c.Changed {
			all = append(all, c.Do+" "+c.Path)
		}
	}
	return all
}

// hook runs the hook that `.env` names as the runner does, and returns what it says and
// its exit code.
func (m *image) hook(variable string) (string, int) {
	m.t.Helper()
	path := valueOf([]byte(m.read(runnerFolder+"/.env")), variable)
	// The machine's own paths are below its root.
	text := strings.ReplaceAll(m.read(path), hooksFolder, filepath.Join(m.root, hooksFolder))
	text = strings.ReplaceAll(text, programPath, filepath.Join(m.root, programPath))
	copied := filepath.Join(m.t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(copied, []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
	out, err := exec.Command("bash", "-e", copied).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return string(out), 0
}

func TestInstallTwiceAndUninstall(t *testing.T) {
	m := newImage(t)
	m.write("/download", "#!/bin/sh\necho \"agent $*\"\n", 0o755)
	m.write(runnerFolder+"/.env", "LANG=C\r\nSECRET=x y=z", 0o640)
	m.own(runnerFolder)
	m.write("/etc/systemd/system/actions.runner.acme.one.service", "[Service]\nExecStart="+runnerFolder+"/runsvc.sh\nWorkingDirectory="+runnerFolder+"\n", 0o644)
	m.change = func(c *Config) { c.Settings = map[string]string{"SALLYPORT_NATS": `nats://agent:p"$\@h`} }
	runner := func() string {
		var all string
		for line := range strings.Lines(m.tree()) {
			if strings.Contains(line, runnerFolder) {
				all += line
			}
		}
		return all
	}
	before := runner()
	dry := m.tree()
	changeSettings := m.change
	m.change = func(c *Config) { changeSettings(c); c.DryRun = true }
	m.install()
	if m.tree() != dry {
		t.Errorf("a dry run changed the machine:\n%s\n%s", dry, m.tree())
	}
	would := m.changed()
	m.change = changeSettings
	m.install()
	if did := m.changed(); !slices.Equal(did, would) {
		t.Errorf("it did\n%q\nthe dry run said\n%q", did, would)
	}
	if got, want := m.read(settingsPath), "SALLYPORT_NATS=\"nats://agent:p\\\"\\$\\\\@h\"\n"; !strings.HasSuffix(got, want) {
		t.Errorf("settings %q", got)
	}
	if got := m.read(orderPath); !strings.Contains(got, "Before=actions.runner.acme.one.service\n") {
		t.Errorf("order %q", got)
	}
	if target, err := os.Readlink(filepath.Join(m.root, enabledPath)); err != nil || target != unitPath {
		t.Errorf("enabled: %q %v", target, err)
	}
	for _, c := range []struct{ variable, says string }{{startedVariable, "agent hook started\n"}, {completedVariable, "agent hook completed\n"}} {
		if said, code := m.hook(c.variable); said != c.says || code != 0 {
			t.Errorf("%s says %q and ends with %d", c.variable, said, code)
		}
	}
	m.change = nil // settings stay that are not given again
	after := m.tree()
	m.install()
	if did := m.changed(); len(did) > 0 || m.tree() != after {
		t.Errorf("a second time it did %q", did)
	}

	m.uninstall()
	if got := runner(); got != before {
		t.Errorf("the runner was\n%s\nis\n%s", before, got)
	}
	for _, path := range []string{programPath, unitPath, orderPath, enabledPath, "/usr/local/lib/sallyport"} {
		if _, err := os.Lstat(filepath.Join(m.root, path)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	m.read(settingsPath) // stays
	m.change = func(c *Config) { c.Purge = true }
	m.uninstall()
	if _, err := os.Lstat(filepath.Join(m.root, settingsPath)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("settings after a purge: %v", err)
	}
}

func TestEnvThatWasNotThere(t *testing.T) {
	m := newImage(t)
	m.install()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(m.root, runnerFolder, ".env"), &st); err != nil || st.Uid != runnerUser || st.Mode&0o777 != 0o600 {
		t.Errorf(".env: owner %d, mode %o, %v", st.Uid, st.Mode, err)
	}
	m.uninstall()
	if _, err := os.Lstat(filepath.Join(m.root, runnerFolder, ".env")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf(".env is left: %v", err)
	}
}

// TestTheirHooks: hooks that a runner has already are called, in the right order, and
// decide how ours ends; also those that were put before ours later.
func TestTheirHooks(t *testing.T) {
	m := newImage(t)
	m.write("/download", "#!/bin/sh\necho \"agent $*\"\n", 0o755)
	theirs := filepath.Join(m.root, "their hook's.sh")
	m.write("/their hook's.sh", "echo theirs \"$-\"\nexit 7\n", 0o644) // not executable: the runner needs not that either
	env := startedVariable + "=" + theirs + "\n" + completedVariable + "=" + theirs + "\n"
	m.write(runnerFolder+"/.env", env, 0o600)
	m.own(runnerFolder)
	m.install()
	if said, code := m.hook(startedVariable); !strings.HasPrefix(said, "agent hook started\ntheirs ") || !strings.Contains(said, "e") || code != 7 {
		t.Errorf("started says %q and ends with %d", said, code)
	}
	if said, code := m.hook(completedVariable); !strings.HasPrefix(said, "theirs ") || !strings.HasSuffix(said, "\nagent hook completed\n") || code != 7 {
		t.Errorf("completed says %q and ends with %d", said, code)
	}

	// Somebody puts a hook before ours, which calls it; and it is installed again.
	ours := filepath.Join(m.root, valueOf([]byte(m.read(runnerFolder+"/.env")), startedVariable))
	m.write("/later.sh", "echo later\nsed 's|"+programPath+"|"+filepath.Join(m.root, programPath)+"|g' '"+ours+"' >'"+m.root+"/now.sh'\nbash -e '"+m.root+"/now.sh'\n", 0o755)
	later := filepath.Join(m.root, "later.sh")
	data, _ := set([]byte(m.read(runnerFolder+"/.env")), startedVariable, later)
	m.write(runnerFolder+"/.env", string(data), 0o600)
	m.install()
	said, code := m.hook(startedVariable)
	if !strings.HasPrefix(said, "agent hook started\nlater\ntheirs ") || strings.Count(said, "\n") != 3 || code != 7 {
		t.Errorf("with a later one, started says %q and ends with %d", said, code)
	}
	m.uninstall()
	if got, want := m.read(runnerFolder+"/.env"), strings.Replace(env, theirs, later, 1); got != want {
		t.Errorf(".env is %q, want %q", got, want)
	}
}

// TestMovedRunner: a runner that was moved with its `.env` does not lose what ours called.
func TestMovedRunner(t *testing.T) {
	m := newImage(t)
	theirs := "/opt/hooks/clean.sh"
	env := completedVariable + "=" + theirs + "\n"
	m.write(runnerFolder+"/.env", env, 0o600)
	m.own(runnerFolder)
	m.install()
	moved := "/opt/actions-runner"
	if err := errors.Join(os.MkdirAll(filepath.Join(m.root, "opt"), 0o755), os.Rename(filepath.Join(m.root, runnerFolder), filepath.Join(m.root, moved))); err != nil {
		t.Fatal(err)
	}
	m.install()
	path := valueOf([]byte(m.read(moved+"/.env")), completedVariable)
	if text := m.read(path); !strings.Contains(path, hookFolder(moved)) || !strings.Contains(text, "bash -e '"+theirs+"'") {
		t.Errorf("the hook is %s:\n%s", path, text)
	}
	m.uninstall()
	if got := m.read(moved + "/.env"); got != env {
		t.Errorf(".env is %q, want %q", got, env)
	}
}

func TestUpgradeAndRollback(t *testing.T) {
	m := newImage(t)
	m.install()
	m.write("/download", "version two", 0o755)
	m.install()
	if now, old := m.read(programPath), m.read(previousPath); now != "version two" || old != "version one" {
		t.Errorf("program %q, before it %q", now, old)
	}
	m.program = filepath.Join(m.root, previousPath) // sallyport-agent.previous install
	m.install()
	if now, old := m.read(programPath), m.read(previousPath); now != "version one" || old != "version two" {
		t.Errorf("rolled back to %q, before it %q", now, old)
	}
}

// TestHostileRunnerFolder: what the jobs' user prepares does not lead root elsewhere.
func TestHostileRunnerFolder(t *testing.T) {
	const canary = "root's own\n"
	for _, c := range []struct {
		name    string
		prepare func(m *image, env, outside string) error
	}{
		{"link", func(_ *image, env, outside string) error { return os.Symlink(outside, env) }},
		{"hard link", func(_ *image, env, outside string) error { return os.Link(outside, env) }},
		{"link to nothing", func(m *image, env, _ string) error { return os.Symlink(m.root+"/etc/cron.d/evil", env) }},
		{"pipe", func(_ *image, env, _ string) error { return unix.Mkfifo(env, 0o666) }},
		{"folder", func(_ *image, env, _ string) error { return os.Mkdir(env, 0o777) }},
		{"somebody else's file", func(_ *image, env, _ string) error {
			return errors.Join(os.WriteFile(env, nil, 0o600), os.Chown(env, runnerUser+1, runnerUser+1))
		}},
		{"large", func(_ *image, env, _ string) error {
			return errors.Join(os.WriteFile(env, nil, 0o600), os.Truncate(env, 1<<40))
		}},
		{"hook with a line end", func(_ *image, env, _ string) error {
			return os.WriteFile(env, []byte(startedVariable+"=/x\x0b; touch /tmp/evil\n"), 0o600)
		}},
		{"hook by a relative path", func(_ *image, env, _ string) error {
			return os.WriteFile(env, []byte(startedVariable+"=evil.sh\n"), 0o600)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newImage(t)
			m.write("/root/secret", canary, 0o600)
			env, outside := filepath.Join(m.root, runnerFolder, ".env"), filepath.Join(m.root, "root/secret")
			if err := c.prepare(m, env, outside); err != nil {
				t.Fatal(err)
			}
			before := m.read("/root/secret")
			done := make(chan error, 1)
			go func() { done <- m.installer().Install(t.Context()) }()
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), runnerFolder) {
					t.Errorf("error %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it waits")
			}
			var st unix.Stat_t
			if err := unix.Stat(outside, &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o600 || m.read("/root/secret") != before {
				t.Errorf("root's file: owner %d, mode %o, %v", st.Uid, st.Mode, err)
			}
			if _, err := os.Lstat(filepath.Join(m.root, "etc/cron.d/evil")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a file was made elsewhere: %v", err)
			}
			m.read(unitPath) // the agent is installed all the same
		})
	}
}

// TestRaceForEnv: whatever the jobs' user puts in the place of `.env` meanwhile, a file of
// root's is neither written nor given away.
func TestRaceForEnv(t *testing.T) {
	m := newImage(t)
	m.write("/root/secret", "root's own\n", 0o600)
	env, outside := filepath.Join(m.root, runnerFolder, ".env"), filepath.Join(m.root, "root/secret")
	other := filepath.Join(m.root, "elsewhere")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	away := filepath.Join(m.root, runnerFolder+".away")
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		dir := filepath.Join(m.root, runnerFolder)
		for n := 0; !stop.Load(); n++ { // each of these fails at times
			switch n % 4 {
			case 0:
				_ = os.Remove(env)
				_ = os.Symlink(outside, env)
			case 1:
				_ = os.Remove(env)
				_ = os.WriteFile(env, []byte("A=1\n"), 0o600)
				_ = os.Chown(env, runnerUser, runnerUser)
			case 2:
				_ = os.Remove(env)
				_ = os.Link(outside, env)
			case 3: // the folder itself
				_ = os.Rename(dir, away)
				_ = os.Symlink(other, dir)
				_ = os.Remove(dir)
				_ = os.Rename(away, dir)
			}
		}
	}()
	i := m.installer()
	succeeded := 0
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
		if i.addHooks(Runner{Dir: runnerFolder}) == nil {
			succeeded++
		}
	}
	stop.Store(true)
	<-done
	if succeeded == 0 {
		t.Error("it never won the race: the test tries nothing")
	}
	var st unix.Stat_t
	if err := unix.Stat(outside, &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o600 || m.read("/root/secret") != "root's own\n" {
		t.Errorf("root's file: owner %d, mode %o, %v, %q", st.Uid, st.Mode, err, m.read("/root/secret"))
	}
	if left, err := os.ReadDir(other); err != nil || len(left) > 0 {
		t.Errorf("written elsewhere: %v %v", left, err)
	}
}

// TestFoldersOfOthers: root installs no program where others could change it.
func TestFoldersOfOthers(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(path string) error
	}{
		{"another owner", func(path string) error { return os.Chown(path, runnerUser, 0) }},
		{"open to all", func(path string) error { return os.Chmod(path, 0o777) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newImage(t)
			m.write("/usr/local/keep", "", 0o644)
			if err := c.change(filepath.Join(m.root, "usr/local")); err != nil {
				t.Fatal(err)
			}
			if err := m.installer().Install(t.Context()); !errors.Is(err, errOpenFolder) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestRunningListener: hooks that a listener may have read of stay until it was started
// again, and what its own environment names is called, too.
func TestRunningListener(t *testing.T) {
	m := newImage(t)
	dir := filepath.Join(m.root, runnerFolder)
	listener := filepath.Join(dir, "bin.2.330.0", listenerName)
	m.write(runnerFolder+"/bin.2.330.0/"+listenerName, "", 0o755)
	data, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(listener, data, 0o755); err != nil {
		t.Fatal(err)
	}
	m.own(runnerFolder)
	cmd := exec.Command(listener, "1000")
	cmd.Env = []string{startedVariable + "=/opt/theirs.sh", "OTHER=1"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it may have ended
	// The file of the program is known by the machine's own root folder.
	found, _ := FindRunners("/", "/proc")
	at := slices.IndexFunc(found, func(r Runner) bool { return r.Dir == dir })
	if at < 0 || len(found[at].Listeners) != 1 || found[at].Listeners[0].PID != cmd.Process.Pid {
		t.Fatalf("found %+v", found)
	}
	r := found[at]
	if since := time.Since(r.Listeners[0].Started); since < -5*time.Second || since > time.Minute {
		t.Errorf("it started %s ago", since)
	}
	if got := r.hookOfEnvironment(startedVariable); got != "/opt/theirs.sh" {
		t.Errorf("its environment has the hook %q", got)
	}
	if named, err := namedRunner("/", "/proc", dir); err != nil || len(named.Listeners) != 1 {
		t.Errorf("named: %+v %v", named, err)
	}
	if _, err := namedRunner("/", "/proc", m.root); !errors.Is(err, errNoRunner) {
		t.Errorf("no runner: %v", err)
	}
	if note := restartNote(r, true); !strings.Contains(note, fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("note %q", note)
	}
}

// TestKilledAnywhere: an installation, and its removal, that are killed before any of
// their changes are whole when they are done again, and no hook of others is lost.
func TestKilledAnywhere(t *testing.T) {
	const env = "LANG=C\n" + startedVariable + "=/opt/theirs.sh"
	// until runs act with an installer that is killed before its nth change, and says
	// whether it was.
	until := func(m *image, n int, act func(i *Installer) error) (was bool) {
		m.change = func(c *Config) {
			say := c.Say
			c.Say = func(change Change) {
				if say(change); change.Changed {
					if n--; n < 0 {
						was = true
						panic("killed")
					}
				}
			}
		}
		defer func() {
			m.change = nil
			if r := recover(); r != nil && !was {
				panic(r)
			}
		}()
		if err := act(m.installer()); err != nil {
			t.Fatal(err)
		}
		return false
	}
	for n := 0; ; n++ {
		m := newImage(t)
		m.write(runnerFolder+"/.env", env, 0o600)
		m.own(runnerFolder)
		was := until(m, n, func(i *Installer) error { return i.Install(t.Context()) })
		m.install()
		path := valueOf([]byte(m.read(runnerFolder+"/.env")), startedVariable)
		if text := m.read(path); !strings.Contains(text, "bash -e '/opt/theirs.sh'") {
			t.Errorf("killed before change %d, their hook is lost:\n%s", n, text)
		}
		// What a listener reads at any time names a hook that is there.
		until(m, n, func(i *Installer) error { return i.Uninstall(t.Context()) })
		if path := valueOf([]byte(m.read(runnerFolder+"/.env")), startedVariable); path != "/opt/theirs.sh" {
			m.read(path)
		}
		m.uninstall()
		if got := m.read(runnerFolder + "/.env"); got != env {
			t.Errorf("killed before change %d, .env is %q, want %q", n, got, env)
		}
		if _, err := os.Lstat(filepath.Join(m.root, "/usr/local/lib/sallyport")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("killed before change %d, hooks are left: %v", n, err)
		}
		if !was {
			if n < 8 {
				t.Errorf("only %d changes", n)
			}
			return
		}
	}
}
