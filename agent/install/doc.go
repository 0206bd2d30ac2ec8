// Package install answers: how does the agent come onto a machine that runs jobs, and
// its hooks into the machine's runners? It copies the program, writes its settings and
// its systemd unit, and puts job hooks before those that a runner has already; and it
// takes all of that away again. It runs as root. What it writes lies in folders of
// root's, but for one file: a runner's `.env`, in a folder that the jobs' user owns and
// that a hostile job may have prepared, or change meanwhile. That file is reached in one
// way only (folder.go).
package install
