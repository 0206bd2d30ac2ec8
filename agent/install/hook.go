package install

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The variables that name a runner's job hooks, and the hooks.
const (
	startedVariable   = "ACTIONS_RUNNER_HOOK_JOB_STARTED"
	completedVariable = "ACTIONS_RUNNER_HOOK_JOB_COMPLETED"
)

var hookNames = []string{startedVariable, completedVariable}

// scriptNames are the files of the hooks.
var scriptNames = map[string]string{startedVariable: "job-started.sh", completedVariable: "job-completed.sh"}

// script returns a hook for a runner. theirs are the hooks that were there before, the
// last one first: it is called as the runner would, and its exit code is the hook's. Ours
// never fails a job. agent is the path of the program.
//
// Ours comes first at the start of a job and last at its end, so that theirs is seen.
// theirs may itself call ours, if it was put before it: then the one is called that ours
// called at that time. SALLYPORT_IN_HOOK counts.
func script(variable, agent, runner string, theirs []string) string {
	what := "started"
	if variable == completedVariable {
		what = "completed"
	}
	call := quote(agent) + " hook " + what
	ours := "if [ -x " + quote(agent) + " ]; then\n  " + call + " || :\nelse\n" +
		"  echo '::warning title=Sallyport::This job is not observed: the agent is not installed any more.'\nfi\n"
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# Made by sallyport-agent install; removed by sallyport-agent uninstall.\n")
	if runner != "" {
		fmt.Fprintf(&b, "# For the runner in %s.\n", commented(runner))
	}
	if len(theirs) == 0 {
		return b.String() + ours + "exit 0\n"
	}
	b.WriteString("# Hooks that were there before are called, too; their exit code is this one's.\n" +
		"code=0\ndepth=${SALLYPORT_IN_HOOK:-0}\nSALLYPORT_IN_HOOK=$((depth + 1))\nexport SALLYPORT_IN_HOOK\n")
	if what == "started" {
		b.WriteString("if [ \"$depth\" = 0 ]; then\n" + ours + "fi\n")
	}
	b.WriteString("case $depth in\n")
	for n, path := range theirs {
		fmt.Fprintf(&b, "%d)\n%s;;\n", n, callTheirs(path))
	}
	b.WriteString("esac\n")
	if what == "completed" {
		b.WriteString("if [ \"$depth\" = 0 ]; then\n" + ours + "fi\n")
	}
	return b.String() + "exit \"$code\"\n"
}

// callTheirs calls a hook as the runner does: bash or else sh with -e, PowerShell for
// .ps1 (GitHub's documentation, "Running scripts before or after a job").
func callTheirs(path string) string {
	first, second, arguments := "bash", "sh", "-e "+quote(path)
	if strings.EqualFold(filepath.Ext(path), ".ps1") {
		first, second = "pwsh", "powershell"
		arguments = "-command " + quote(". '"+strings.ReplaceAll(path, "'", "''")+"'")
	}
	return fmt.Sprintf("if command -v %[1]s >/dev/null 2>&1; then\n  %[1]s %[3]s || code=$?\nelse\n  %[2]s %[3]s || code=$?\nfi\n", first, second, arguments)
}

// quote makes one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// commented makes a text that cannot leave its comment.
func commented(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// errBadHook says that a hook cannot be chained.
var errBadHook = errors.New("names a hook that cannot be called from another one")

// chainable says whether theirs can be called from ours.
func chainable(variable, path string) error {
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) || !filepath.IsAbs(path) {
		return fmt.Errorf("%s=%q %w", variable, path, errBadHook)
	}
	return nil
}

// record is what was done to a runner: kept beside its hooks, in root's own folder.
type record struct {
	Runner string `json:"runner"`
	// Made is true if there was no `.env` before.
	Made bool `json:"made_env,omitempty"`
	// Theirs are, by variable, the hooks that were there before, the last one first.
	Theirs map[string][]string `json:"theirs,omitempty"`
	// Edits of `.env`, in the order in which they were made.
	Edits []Edit `json:"edits"`
	// Restored is when `.env` was taken back while a listener ran that still knows the
	// hooks; zero if it was not.
	Restored time.Time `json:"restored,omitzero"`
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// hookFolder is the name of the folder of a runner's hooks.
func hookFolder(runner string) string {
	sum := sha256.Sum256([]byte(runner))
	name := strings.Trim(notInNames.ReplaceAllString(runner, "-"), "-.")
	return name[max(0, len(name)-60):] + "-" + hex.EncodeToString(sum[:4])
}

// readRecord returns false if there is none.
func readRecord(dir string) (record, bool, error) {
	var r record
	data, err := os.ReadFile(filepath.Join(dir, recordName))
	if errors.Is(err, os.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, false, fmt.Errorf("read %s: %w", filepath.Join(dir, recordName), err)
	}
	return r, true, nil
}

const recordName = "runner.json"

// addHooks puts our hooks before those of a runner. Whatever the folder of the runner
// holds is the doing of somebody who is not trusted.
func (i *Installer) addHooks(r Runner) error {
	dir := i.path(hooksFolder, hookFolder(r.Dir))
	known, had, err := readRecord(dir)
	if err != nil {
		return err
	}
	f, err := openFolder(i.path(r.Dir))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // all is written by then
	if !f.runner() {
		return fmt.Errorf("%s %w", r.Dir, errNoRunner)
	}
	was, err := f.read(".env")
	if err != nil {
		return err
	}
	data, next := was.data, record{Runner: r.Dir, Made: was.missing, Theirs: make(map[string][]string)}
	had = had && known.Restored.IsZero()
	if had {
		next.Made, next.Theirs = next.Made || known.Made, known.Theirs
		if next.Theirs == nil {
			next.Theirs = make(map[string][]string)
		}
	}
	for _, variable := range hookNames {
		ours := filepath.Join(hooksFolder, hookFolder(r.Dir), scriptNames[variable])
		now := valueOf(data, variable)
		if now == filepath.Join(hooksFolder, scriptNames[variable]) {
			continue // the hook for images, which is ours and calls nobody's
		}
		if now == ours {
			at := slices.IndexFunc(known.Edits, func(e Edit) bool { return e.Name == variable })
			if had && at >= 0 {
				next.Edits = append(next.Edits, known.Edits[at])
			} else { // nobody knows any more what was before
				next.Edits = append(next.Edits, Edit{Name: variable, Ours: ours})
			}
			continue
		}
		theirs := now
		if _, _, set := find(data, variable); !set {
			theirs = r.hookOfEnvironment(variable)
		}
		var edit Edit
		data, edit = set(data, variable, ours)
		if moved, ok := i.hookOfMoved(variable, now); ok {
			theirs, edit.Before, edit.Replaced = moved.Before, moved.Before, moved.Replaced
		}
		if theirs != "" {
			if err := chainable(variable, theirs); err != nil {
				return fmt.Errorf("%s/.env: %w", r.Dir, err)
			}
			chain := slices.DeleteFunc(next.Theirs[variable], func(path string) bool { return path == theirs })
			chain = append([]string{theirs}, chain...)
			next.Theirs[variable] = chain[:min(len(chain), maxChain)]
		}
		next.Edits = append(next.Edits, edit)
	}
	// First what `.env` names, and what is needed to take it back.
	text, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := i.write(filepath.Join(hooksFolder, hookFolder(r.Dir), recordName), append(text, '\n'), 0o600); err != nil {
		return err
	}
	for _, variable := range hookNames {
		text := script(variable, programPath, r.Dir, next.Theirs[variable])
		if err := i.write(filepath.Join(hooksFolder, hookFolder(r.Dir), scriptNames[variable]), []byte(text), 0o755); err != nil {
			return err
		}
	}
	changed := string(data) != string(was.data)
	i.say(Change{Do: "set hooks", Path: filepath.Join(r.Dir, ".env"), Changed: changed, Note: restartNote(r, changed)})
	if !changed || i.cfg.DryRun {
		return nil
	}
	return f.replace(".env", was, data)
}

// restartNote says who must be started again before the hooks count.
func restartNote(r Runner, changed bool) string {
	switch {
	case !changed || len(r.Listeners) == 0:
		return ""
	case len(r.Units) > 0:
		return "the runner reads it when it starts: systemctl restart " + r.Units[0] + ", when it has no job"
	default:
		return fmt.Sprintf("the runner reads it when it starts: restart process %d, when it has no job", r.Listeners[0].PID)
	}
}

// maxChain bounds how many hooks of others are remembered.
const maxChain = 8

// hookOfEnvironment is the hook that a listener was started with: `.env` takes its place,
// so it is chained, too.
func (r *Runner) hookOfEnvironment(variable string) string {
	for _, l := range r.Listeners {
		if theirs := l.environment[variable]; theirs != "" && !strings.HasPrefix(theirs, hooksFolder+"/") {
			return theirs
		}
	}
	return ""
}

// hookOfMoved says what was there before a hook of ours that was made for the same runner
// in another folder.
func (i *Installer) hookOfMoved(variable, path string) (Edit, bool) {
	if filepath.Base(path) != scriptNames[variable] || filepath.Dir(filepath.Dir(path)) != hooksFolder {
		return Edit{}, false
	}
	known, had, err := readRecord(i.path(filepath.Dir(path)))
	if err != nil || !had {
		return Edit{Name: variable}, true // gone: there is nothing to call
	}
	for _, e := range known.Edits {
		if e.Name == variable {
			return e, true
		}
	}
	return Edit{Name: variable}, true
}

// removeHooks takes the hooks of a runner away, by their folder. They stay while a
// listener runs that may have read `.env` before: a hook that is not there fails a job.
func (i *Installer) removeHooks(name string) error {
	dir := i.path(hooksFolder, name)
	known, had, err := readRecord(dir)
	if err != nil || !had {
		return err
	}
	if err := i.restoreEnv(known); err != nil {
		return err
	}
	if root := i.path("/"); root == "/" {
		listeners, _ := findListeners(i.cfg.Proc)
		for _, l := range listeners[known.Runner] {
			// Starts are known to some seconds only: the cautious way.
			if !known.Restored.IsZero() && l.Started.After(known.Restored.Add(2*time.Second)) {
				continue
			}
			i.say(Change{Do: "keep hooks", Path: filepath.Join(hooksFolder, name), Note: fmt.Sprintf(
				"the runner still calls them: restart process %d when it has no job, then uninstall again", l.PID)})
			if known.Restored.IsZero() {
				known.Restored = i.cfg.Now()
			}
			text, err := json.MarshalIndent(known, "", "  ")
			if err != nil {
				return err
			}
			i.kept = true
			return i.write(filepath.Join(hooksFolder, name, recordName), append(text, '\n'), 0o600)
		}
	}
	return i.remove(filepath.Join(hooksFolder, name))
}

// restoreEnv takes our lines out of a runner's `.env` again.
func (i *Installer) restoreEnv(known record) error {
	path := filepath.Join(known.Runner, ".env")
	f, err := openFolder(i.path(known.Runner))
	if errors.Is(err, os.ErrNotExist) {
		i.say(Change{Do: "restore", Path: path, Note: "the runner is gone"})
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // all is written by then
	was, err := f.read(".env")
	if errors.Is(err, errHostile) {
		// Nothing of ours is in it that root could take back.
		i.say(Change{Do: "restore", Path: path, Note: err.Error() + "; it is left as it is"})
		return nil
	}
	if err != nil || was.missing {
		return err
	}
	data := was.data
	for _, e := range slices.Backward(known.Edits) {
		data, _ = unset(data, e)
	}
	if string(data) == string(was.data) {
		i.say(Change{Do: "restore", Path: path})
		return nil
	}
	i.say(Change{Do: "restore", Path: path, Changed: true})
	switch {
	case i.cfg.DryRun:
		return nil
	case len(data) == 0 && known.Made:
		return f.remove(".env", was)
	default:
		return f.replace(".env", was, data)
	}
}
