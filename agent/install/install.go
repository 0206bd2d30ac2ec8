package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/deployments/systemd"
	"github.com/sallyport-ci/sallyport/wholefile"
)

// Where things are on the machine.
const (
	programPath  = "/usr/local/bin/sallyport-agent"
	previousPath = programPath + ".previous"
	settingsPath = "/etc/sallyport/agent.env"
	hooksFolder  = "/usr/local/lib/sallyport/hooks"
	unitName     = "sallyport-agent.service"
	unitPath     = "/etc/systemd/system/" + unitName
	orderPath    = unitPath + ".d/10-runners.conf"
	enabledPath  = "/etc/systemd/system/multi-user.target.wants/" + unitName
	stateFolder  = "/var/lib/sallyport-agent"
)

// Config says what to install, and where.
type Config struct {
	// Root is the root folder of the machine, or of an image that is made.
	Root string
	// Proc is where processes are looked up, /proc.
	Proc string
	// Program is the file that is installed.
	Program string
	// Settings are written to /etc/sallyport/agent.env, by the names of their variables.
	// They may be secrets, and are told to nobody.
	Settings map[string]string
	// Runners are the folders of runners; those that are found if Hooks and there are none.
	Runners []string
	// Hooks has the runners' job hooks set up.
	Hooks bool
	// Systemctl runs systemd's program; nil where systemd does not run.
	Systemctl func(ctx context.Context, arguments ...string) error
	// Start has the unit started, or handed over to.
	Start bool
	// Purge has Uninstall remove settings and state, too.
	Purge bool
	// DryRun changes nothing.
	DryRun bool
	// Say is told of each change, in order, before it is made.
	Say func(Change)
	Now func() time.Time
}

// Change is something that is done, or would be.
type Change struct {
	Do   string `json:"do"`
	Path string `json:"path,omitempty"`
	// Changed is false if it was so before.
	Changed bool   `json:"changed"`
	Note    string `json:"note,omitempty"`
}

// Installer installs and uninstalls. Its methods are not for concurrent use; a lock keeps
// two processes apart.
type Installer struct {
	cfg Config
	// kept is true if something had to stay.
	kept bool
}

// New returns an installer.
func New(cfg Config) (*Installer, error) {
	root, err := filepath.EvalSymlinks(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("root folder: %w", err)
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, fmt.Errorf("root folder: %w", err)
	}
	cfg.Root = root
	return &Installer{cfg: cfg}, nil
}

func (i *Installer) path(parts ...string) string {
	return filepath.Join(append([]string{i.cfg.Root}, parts...)...)
}

func (i *Installer) say(c Change) { i.cfg.Say(c) }

// Install does all of it, and may be done again: what is so already stays. Killed in the
// middle, it leaves nothing half written, and goes on when it is done again.
func (i *Installer) Install(ctx context.Context) error {
	var runners []Runner
	if i.cfg.Hooks {
		var err error
		if runners, err = i.runners(); err != nil {
			return err
		}
	}
	unlock, err := i.lock()
	if err != nil {
		return err
	}
	defer unlock()
	settings, err := i.settings()
	if err != nil {
		return err
	}
	before, _ := os.ReadFile(i.path(settingsPath)) // whether it changes; nothing more
	program, err := i.installProgram()
	if err != nil {
		return err
	}
	if err := i.write(settingsPath, settings, 0o600); err != nil {
		return err
	}
	for _, variable := range hookNames {
		text := script(variable, programPath, "", nil)
		if err := i.write(filepath.Join(hooksFolder, scriptNames[variable]), []byte(text), 0o755); err != nil {
			return err
		}
	}
	if err := i.installUnit(ctx, runners, program || !bytes.Equal(before, settings)); err != nil {
		return err
	}
	var errs []error // of one runner, the others are none the worse
	for _, r := range runners {
		if err := i.addHooks(r); err != nil {
			errs = append(errs, fmt.Errorf("hooks of the runner in %s: %w", r.Dir, err))
		}
	}
	return errors.Join(errs...)
}

func (i *Installer) runners() ([]Runner, error) {
	if len(i.cfg.Runners) == 0 {
		found, notes := FindRunners(i.cfg.Root, i.cfg.Proc)
		for _, n := range notes {
			i.say(Change{Do: "find runners", Note: n})
		}
		if len(found) == 0 {
			i.say(Change{Do: "find runners", Note: "none found: give its folder with --runner, if there is one; jobs are observed without hooks, too"})
		}
		return found, nil
	}
	var all []Runner
	for _, dir := range i.cfg.Runners {
		r, err := namedRunner(i.cfg.Root, i.cfg.Proc, dir)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// installProgram copies the program, and keeps the one that was there.
func (i *Installer) installProgram() (changed bool, err error) {
	data, err := os.ReadFile(i.cfg.Program)
	if err != nil {
		return false, fmt.Errorf("read the program: %w", err)
	}
	old, err := os.ReadFile(i.path(programPath))
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return false, fmt.Errorf("read the program that is there: %w", err)
	case bytes.Equal(old, data):
		return false, i.write(programPath, data, 0o755) // its mode, perhaps
	default:
		if err := i.write(previousPath, old, 0o755); err != nil {
			return false, err
		}
	}
	return true, i.write(programPath, data, 0o755)
}

// installUnit writes the unit, has it start with the machine, and starts it, or has the
// agent that runs hand over to a new one.
func (i *Installer) installUnit(ctx context.Context, runners []Runner, renewed bool) error {
	if target, err := os.Readlink(i.path(unitPath)); err == nil {
		return fmt.Errorf("%s is a link to %s: systemctl unmask %s first, or remove it", unitPath, target, unitName)
	}
	if err := i.write(unitPath, systemd.Agent, 0o644); err != nil {
		return err
	}
	var units []string
	for _, r := range runners {
		units = append(units, r.Units...)
	}
	if len(units) > 0 {
		slices.Sort(units)
		text := "# Made by sallyport-agent install: runners start when the agent watches.\n[Unit]\n"
		for _, unit := range units {
			text += "Before=" + unit + "\n"
		}
		if err := i.write(orderPath, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if target, err := os.Readlink(i.path(enabledPath)); err != nil || target != unitPath {
		i.say(Change{Do: "enable", Path: enabledPath, Changed: true})
		if !i.cfg.DryRun {
			if err := i.link(unitPath, enabledPath); err != nil {
				return err
			}
		}
	}
	if i.cfg.Systemctl == nil {
		i.say(Change{Do: "start", Path: unitName, Note: "systemd does not run here: it starts with the machine"})
		return nil
	}
	if !i.cfg.DryRun {
		if err := i.cfg.Systemctl(ctx, "daemon-reload"); err != nil {
			return err
		}
	}
	if !i.cfg.Start {
		i.say(Change{Do: "start", Path: unitName, Note: "not asked to"})
		return nil
	}
	running := i.cfg.Systemctl(ctx, "is-active", "--quiet", unitName) == nil
	switch {
	case running && renewed:
		i.say(Change{Do: "hand over", Path: unitName, Changed: true})
		if i.cfg.DryRun {
			return nil
		}
		return i.cfg.Systemctl(ctx, "reload", unitName)
	case running:
		i.say(Change{Do: "start", Path: unitName})
		return nil
	default:
		i.say(Change{Do: "start", Path: unitName, Changed: true})
		if i.cfg.DryRun {
			return nil
		}
		return i.cfg.Systemctl(ctx, "start", unitName)
	}
}

// Uninstall takes away what Install made. Settings and state stay unless Purge: what
// could not be sent yet is in the state.
func (i *Installer) Uninstall(ctx context.Context) error {
	unlock, err := i.lock()
	if err != nil {
		return err
	}
	defer unlock()
	folders, err := os.ReadDir(i.path(hooksFolder))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read hooks: %w", err)
	}
	var errs []error
	for _, f := range folders {
		if f.IsDir() {
			errs = append(errs, i.removeHooks(f.Name()))
		}
	}
	if err := errors.Join(errs...); err != nil {
		// What a runner may still call stays whole.
		return err
	}
	if i.cfg.Systemctl != nil && i.exists(unitPath) {
		i.say(Change{Do: "stop", Path: unitName, Changed: true})
		if !i.cfg.DryRun {
			if err := i.cfg.Systemctl(ctx, "stop", unitName); err != nil {
				return err
			}
		}
	}
	gone := []string{enabledPath, orderPath, filepath.Dir(orderPath), unitPath, programPath, previousPath}
	if !i.kept {
		gone = append(gone, hooksFolder, filepath.Dir(hooksFolder))
	}
	if i.cfg.Purge {
		gone = append(gone, settingsPath, stateFolder)
	}
	for _, path := range gone {
		errs = append(errs, i.remove(path))
	}
	if i.cfg.Systemctl != nil && !i.cfg.DryRun {
		errs = append(errs, i.cfg.Systemctl(ctx, "daemon-reload"))
	}
	return errors.Join(errs...)
}

// lock keeps other installers away.
func (i *Installer) lock() (unlock func(), err error) {
	if i.cfg.DryRun {
		return func() {}, nil
	}
	if err := os.MkdirAll(i.path("run"), 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	file, err := os.OpenFile(i.path("run/sallyport-install.lock"), os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), file.Close())
	}
	return func() { _ = file.Close() }, nil // nothing is in it
}

func (i *Installer) exists(path string) bool {
	_, err := os.Lstat(i.path(path))
	return err == nil
}

// write writes a file in a folder of root's, at once or not at all.
func (i *Installer) write(path string, data []byte, mode fs.FileMode) error {
	full := i.path(path)
	if info, err := os.Lstat(full); err == nil && info.Mode().IsRegular() && info.Mode().Perm() == mode && info.Size() == int64(len(data)) {
		if old, err := os.ReadFile(full); err == nil && bytes.Equal(old, data) {
			i.say(Change{Do: "write", Path: path})
			return nil
		}
	}
	i.say(Change{Do: "write", Path: path, Changed: true})
	if i.cfg.DryRun {
		return nil
	}
	if err := i.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if err := wholefile.Sync(full, mode, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// errOpenFolder says that others than root may write in a folder.
var errOpenFolder = errors.New("can be written to by others than root")

// makeFolder makes a folder, and refuses one that somebody else could change: what root
// installs there would be theirs.
func (i *Installer) makeFolder(path string) error {
	at := i.cfg.Root
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		at = filepath.Join(at, name)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make folder: %w", err)
		}
		var st unix.Stat_t
		if err := unix.Stat(at, &st); err != nil {
			return fmt.Errorf("stat %s: %w", at, err)
		}
		// A group may be let in by who runs the machine, as Debian's staff is.
		if st.Uid != 0 || st.Mode&0o002 != 0 {
			return fmt.Errorf("%s %w", at, errOpenFolder)
		}
	}
	return nil
}

// link makes a link, or puts it in the place of another one.
func (i *Installer) link(target, path string) error {
	if err := i.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	temporary := i.path(path) + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("link %s: %w", path, err)
	}
	if err := os.Symlink(target, temporary); err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	if err := os.Rename(temporary, i.path(path)); err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	return nil
}

// remove removes a file of root's, or a folder with what is in it.
func (i *Installer) remove(path string) error {
	if !i.exists(path) {
		return nil
	}
	i.say(Change{Do: "remove", Path: path, Changed: true})
	if i.cfg.DryRun {
		return nil
	}
	if path == filepath.Dir(orderPath) || path == filepath.Dir(hooksFolder) {
		// Others may have put something there.
		if err := os.Remove(i.path(path)); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("remove %s: %w", path, err)
		}
		return nil
	}
	if err := os.RemoveAll(i.path(path)); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
