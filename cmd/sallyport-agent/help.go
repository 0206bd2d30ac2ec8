package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// commandHelp is what --help says of a command.
type commandHelp struct {
	usage string
	about string
	flags []string
	// settings says that the agent's own flags fit, too.
	settings bool
}

// helps has every command.
var helps = map[string]commandHelp{
	"start": {
		usage: "start [--within 10s] [flags of the agent]",
		about: `Runs an agent in the background, with the flags that it is given, and returns once
everything that is to be watched is, or with the reason why not. An agent that runs already
is left alone. Its log is agent.log in the state folder.

Exit codes: 0 it watches, 1 something failed, 2 wrong usage, 3 this kernel or these
privileges cannot run it.`,
		flags: []string{"within", "log-file", "pid-file", "environment-stdin", "begins-job", "ends-with-jobs", "json"}, settings: true,
	},
	"status": {
		usage: "status [--json]",
		about: `Says how the agent of this machine is: whether it watches, whether NATS answers, what it
saw, what waits to be sent. Anybody may ask.

Exit codes: 0 it answered, 1 no agent listens, 2 wrong usage.`,
		flags: []string{"socket", "json"},
	},
	"stop": {
		usage: "stop [--within 10s] [--unless-used] [--json]",
		about: `Ends the agent that start has started, and says what was lost and what was not sent, which
stays in the spool. Root alone may. An agent that start did not start is left alone, and with
--unless-used one that another job than that which started it counts on.

Exit codes: 0 it has ended or goes on, 1 something failed, 2 wrong usage.`,
		flags: []string{"socket", "within", "unless-used", "json"},
	},
	"hook": {
		usage: "hook started|completed",
		about: `For the runner's job hooks (ACTIONS_RUNNER_HOOK_JOB_STARTED, …_JOB_COMPLETED): tells the
agent where a job begins and ends, and waits until it has sent what it saw. started says in
the job's log whether it is observed; completed adds a summary of the job to the file that
GITHUB_STEP_SUMMARY names.

It never fails a job: without an agent it says so. Exit codes: 0, or 2 for wrong usage.`,
		flags: []string{"socket"},
	},
	"report": {
		usage: "report [--markdown | --json] [--execution ID] [--wait 2s]",
		about: `Prints what the job that it runs in did until now: as text, as Markdown for
$GITHUB_STEP_SUMMARY, or as JSON. Root may ask outside of jobs, too, for the only job that
runs or the one that --execution names; own is the job that it runs in and no other
(docs/summary.md).

Exit codes: 0 printed, 1 no agent listens, or none of its jobs is yours, 2 wrong usage.`,
		flags: []string{"socket", "markdown", "json", "execution", "wait"},
	},
	"install": {
		usage: "install [--runner DIR] [--dry-run] [flags of the agent]",
		about: `Sets this machine up, and may be done again: the program in /usr/local/bin (the one before
stays as sallyport-agent.previous), its flags and SALLYPORT_ variables as settings in
/etc/sallyport/agent.env, the systemd unit, and hooks in the .env of the runners that it
finds, before those that are there. An agent that runs hands over to the new one
(docs/self-hosted.md). A line that begins with * was changed, with ? would be (--dry-run).

Where to send to comes by the environment, since others can read arguments:
SALLYPORT_NATS or SALLYPORT_SERVER.

Exit codes: 0 all is set up, 1 something failed, 2 wrong usage.`,
		flags: []string{"runner", "no-hooks", "no-start", "root", "dry-run", "json"}, settings: true,
	},
	"uninstall": {
		usage: "uninstall [--purge] [--dry-run]",
		about: `Takes away what install has set up and restores the .env of runners (docs/self-hosted.md).
Settings and what waits to be sent stay without --purge. Hooks that a runner still calls stay
until this is done again after the runner's restart.

Exit codes: 0 done, 1 something failed, 2 wrong usage.`,
		flags: []string{"root", "purge", "dry-run", "json"},
	},
	"reload": {
		usage: "reload [flags of the agent]",
		about: `For systemctl reload: starts the next agent, with the program and the settings of now, and
ends when that one watches.

Exit codes: 0 it watches, 1 something failed, 2 wrong usage.`,
		settings: true,
	},
	"enrol": {
		usage: "enrol --server https://HOST [--name NAME] [--enrol-key-file FILE]",
		about: `Enrols this machine at a server, once, for the key that "sallyport enrol create" printed,
from a file or from SALLYPORT_ENROL_KEY. The agent needs no flag about servers after it
(docs/identity.md).

Exit codes: 0 enrolled, 1 something failed, 2 wrong usage.`,
		flags: []string{"server", "server-ca", "name", "enrol-key-file", "state"},
	},
}

// ofCommand is what a flag's description says of the command that it is for.
var ofCommand = regexp.MustCompile(`^of [a-z]+( and [a-z]+)?: `)

// settingFlags are the agent's own.
func settingFlags(f *pflag.Flag) bool {
	return !ofCommand.MatchString(f.Usage) && !slices.Contains([]string{"json", "check", "version", "begins-job", "ends-with-jobs"}, f.Name)
}

// helpFor is the help that arguments with --help among them ask for.
func helpFor(args []string, flags *pflag.FlagSet) string {
	for _, word := range args {
		if h, ok := helps[word]; ok {
			return h.text(word, flags)
		}
	}
	return fmt.Sprintf(usage, chosen(flags, func(f *pflag.Flag) bool { return !ofCommand.MatchString(f.Usage) }))
}

func (h commandHelp) text(name string, flags *pflag.FlagSet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage:\n  sallyport-agent %s\n", h.about, h.usage)
	if len(h.flags) > 0 {
		own := chosen(flags, func(f *pflag.Flag) bool { return slices.Contains(h.flags, f.Name) })
		fmt.Fprintf(&b, "\nFlags:\n%s", strings.Replace(own, "log as JSON lines; of commands: print JSON", "print JSON", 1))
	}
	if h.settings {
		settings := chosen(flags, func(f *pflag.Flag) bool {
			unit := name == "install" && (f.Name == "state" || f.Name == "socket") // the systemd unit says where they are
			return settingFlags(f) && !slices.Contains(h.flags, f.Name) && !unit
		})
		fmt.Fprintf(&b, "\nFlags of the agent:\n%s", settings)
	}
	return b.String()
}

// chosen describes some of the flags.
func chosen(flags *pflag.FlagSet, which func(*pflag.Flag) bool) string {
	some := pflag.NewFlagSet("", pflag.ContinueOnError)
	some.SortFlags = false
	flags.VisitAll(func(f *pflag.Flag) {
		if which(f) {
			g := *f
			g.Usage = ofCommand.ReplaceAllString(g.Usage, "")
			some.AddFlag(&g)
		}
	})
	return some.FlagUsages()
}
