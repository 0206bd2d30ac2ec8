package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/agent/install"
	"github.com/sallyport-ci/sallyport/cmd/internal/process"
)

// installOptions are the flags of install and uninstall alone.
type installOptions struct {
	runners                         []string
	root                            string
	noHooks, noStart, dryRun, purge bool
}

// ownFlags are those that are no settings of the agent that is installed.
var ownFlags = []string{"runner", "root", "no-hooks", "no-start", "dry-run", "purge", "json", "check", "version", "markdown", "execution", "wait", "name", "enrol-key-file"}

func (o *installOptions) add(f *pflag.FlagSet) {
	f.StringSliceVar(&o.runners, "runner", nil, "of install: folder of a runner whose hooks are set up; may be repeated (default: those that are found)")
	f.BoolVar(&o.noHooks, "no-hooks", false, "of install: leave the runners as they are")
	f.BoolVar(&o.noStart, "no-start", false, "of install: start nothing now, and do not ask where to send to")
	f.StringVar(&o.root, "root", "/", "of install and uninstall: root folder of the machine's image that is set up")
	f.BoolVar(&o.dryRun, "dry-run", false, "of install and uninstall: say what would be done")
	f.BoolVar(&o.purge, "purge", false, "of uninstall: remove settings and what waits to be sent, too")
}

var (
	installCommand = command{
		name: "install",
		valid: func(o *options) error {
			if len(o.arguments) != 0 {
				return errors.New("install takes no arguments: the folder of a runner is --runner DIR")
			}
			// What is on the command line; the environment is read later.
			if hasPassword(o.nats.URL) {
				return errors.New("others can read a password on the command line: give the address as SALLYPORT_NATS in the environment")
			}
			for _, name := range []string{"state", "socket"} {
				if o.flags.Changed(name) {
					return fmt.Errorf("install does not take --%s: the systemd unit says where they are", name)
				}
			}
			return nil
		},
		run: func(ctx context.Context, o *options) error { return o.runInstall(ctx) },
	}
	uninstallCommand = command{
		name: "uninstall",
		valid: func(o *options) error {
			if len(o.arguments) != 0 {
				return errors.New("uninstall takes no arguments")
			}
			return nil
		},
		run: func(ctx context.Context, o *options) error {
			i, err := o.installer(nil)
			if err != nil {
				return err
			}
			return i.Uninstall(ctx)
		},
	}
)

// addressSettings are those that say where an agent sends to.
var addressSettings = []string{"SALLYPORT_NATS", "SALLYPORT_SERVER"}

func (o *options) runInstall(ctx context.Context) error {
	if err := o.needsRoot(); err != nil {
		return err
	}
	settings := make(map[string]string)
	o.flags.Visit(func(f *pflag.Flag) {
		if slices.Contains(ownFlags, f.Name) || f.Name == "state" || f.Name == "socket" {
			return
		}
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		settings[process.Variable(f.Name)] = value
	})
	if err := o.validWay(o.flags); err != nil {
		return err
	}
	// An enrolled machine knows its server.
	if !o.byServer && !o.install.noStart && o.install.root == "/" {
		known, err := install.Settings(o.install.root)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(addressSettings, func(name string) bool { return settings[name] != "" || slices.Contains(known, name) }) {
			return errors.New("where does the agent send to? Give SALLYPORT_NATS or SALLYPORT_SERVER in the environment, enrol the machine (sallyport-agent enrol), or say --no-start")
		}
	}
	i, err := o.installer(settings)
	if err != nil {
		return err
	}
	return i.Install(ctx)
}

// hasPassword says whether one of several addresses has a password in it.
func hasPassword(addresses string) bool {
	return slices.ContainsFunc(strings.Split(addresses, ","), func(address string) bool {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil { // which may be because of a password
			return strings.Contains(address, "@")
		}
		_, has := u.User.Password()
		return has
	})
}

// needsRoot is said before anything else that is wrong: it may come of it.
func (o *options) needsRoot() error {
	if os.Geteuid() != 0 && !o.install.dryRun {
		return errors.New("this needs root; --dry-run says what it would do")
	}
	return nil
}

func (o *options) installer(settings map[string]string) (*install.Installer, error) {
	if err := o.needsRoot(); err != nil {
		return nil, err
	}
	cfg := install.Config{
		Root: o.install.root, Proc: "/proc", Program: "/proc/self/exe", Settings: settings, Runners: o.install.runners,
		Hooks: !o.install.noHooks, Start: !o.install.noStart, Purge: o.install.purge, DryRun: o.install.dryRun,
		Say: sayChange(os.Stdout, o.install.dryRun, o.json), Now: time.Now,
	}
	// Where systemd runs there is this folder (sd_booted(3)).
	if _, err := os.Stat("/run/systemd/system"); err == nil && filepath.Clean(o.install.root) == "/" {
		cfg.Systemctl = systemctl
	}
	return install.New(cfg)
}

func systemctl(ctx context.Context, arguments ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// sayChange prints changes for people, or a line of JSON for each.
func sayChange(out io.Writer, dry, asJSON bool) func(install.Change) {
	return func(c install.Change) {
		if asJSON {
			data, err := json.Marshal(c)
			if err != nil {
				data = []byte(`{"do":"` + c.Do + `"}`)
			}
			fmt.Fprintf(out, "%s\n", data)
			return
		}
		mark := "  "
		if c.Changed {
			mark = "* "
			if dry {
				mark = "? "
			}
		}
		text := mark + c.Do
		if c.Path != "" {
			text += " " + printable(c.Path)
		}
		if c.Note != "" {
			text += ": " + printable(c.Note)
		}
		fmt.Fprintln(out, text)
	}
}

// printable is a text that somebody else may have made up, for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
