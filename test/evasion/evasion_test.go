package evasion

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// trick is a way to dodge the agent.
type trick struct {
	name string
	// run is the command of the step: a file of programs and its arguments.
	run []string
	// want is what must be reported: lines as describe writes them, with ADDRESS, PORT,
	// NAME and DIR in place of the step's own. A star stands for anything.
	want []string
	// wait names files and folders below the step's own folder that must be watched
	// before the program goes on.
	wait []string
	// unseen says why nothing of want is reported: a row of docs/limits.md.
	unseen string
	// environment stands before the step's own.
	environment []string
	// far says that it is done so far below the worker that a batch does not name it.
	far bool
	// lingers says that the step ends only when what it did has been reported.
	lingers bool
	// beside starts what works outside of the job.
	beside func(*testing.T, *step)
	// needs is what the machine must have, if not all have it.
	needs func() (missing string)
}

func TestEvasions(t *testing.T) {
	w := theWorld(t)
	for _, c := range tricks() {
		t.Run(c.name, func(t *testing.T) {
			if c.needs != nil {
				if missing := c.needs(); missing != "" {
					t.Skip("skipped: this machine has no " + missing)
				}
			}
			w.try(t, c)
		})
	}
}

func tricks() []trick {
	return slices.Concat(networkTricks, fileTricks, processTricks)
}

// step is a step that runs a trick.
type step struct {
	job     string // its own, and the name of the step
	dir     string
	replace *strings.Replacer
	began   time.Time
	output  bytes.Buffer
	worker  *exec.Cmd
	begin   io.WriteCloser // a byte lets the program go on; nil if it does not wait
}

// try runs a trick and compares what was reported.
func (w *world) try(t *testing.T, c trick) {
	s := w.start(t, c)
	var want []string
	for _, line := range c.want {
		want = append(want, s.replace.Replace(line))
	}
	if c.lingers {
		for _, line := range want {
			w.await(t, s, line, func(e event) bool { return matches(line, describe(e)) })
		}
		if err := s.begin.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.worker.Wait(); err != nil {
		t.Fatalf("the trick itself failed: %v\n%s", err, &s.output)
	}
	if c.unseen != "" {
		w.passBarrier(t)
		for _, e := range w.sink.events(s.job) {
			if line := describe(e); slices.ContainsFunc(want, func(w string) bool { return matches(w, line) }) {
				t.Errorf("held to be unseen (%s), but reported: %s", c.unseen, line)
			}
		}
		return
	}
	acted := s.acted(t)
	for _, line := range want {
		s.check(t, c, acted, w.await(t, s, line, func(e event) bool { return matches(line, describe(e)) }))
	}
}

// start starts the worker of a job with one step.
func (w *world) start(t *testing.T, c trick) *step {
	t.Helper()
	n := w.next()
	address := netip.AddrFrom4([4]byte{127, byte(64 + os.Getpid()%128), byte(1 + n/250), byte(1 + n%250)})
	s := &step{job: "job-" + strconv.Itoa(n), dir: t.TempDir(), began: time.Now()}
	port := receiver(t, address)
	resolver(t, netip.AddrPortFrom(address, 53))
	resolver(t, netip.AddrPortFrom(address, 54))
	s.replace = strings.NewReplacer("ADDRESS", address.String(), "PORT", strconv.Itoa(int(port)), "NAME", domain(address), "DIR", s.dir, "BIN", filepath.Join(w.dir, "bin"))
	s.prepare(t, c, filepath.Join(w.dir, "tool"))
	if c.beside != nil {
		c.beside(t, s)
	}

	run := []string{w.find(t, c.run[0])}
	switch filepath.Ext(c.run[0]) {
	case ".py":
		run = []string{"/usr/bin/python3", run[0]}
	case ".sh":
		run = []string{"/bin/sh", "-e", run[0]}
	}
	for _, argument := range c.run[1:] {
		run = append(run, s.replace.Replace(argument))
	}
	worker := filepath.Join(s.dir, "runner/bin/Runner.Worker")
	install(t, w.find(t, "worker.c"), worker)
	s.worker = exec.CommandContext(t.Context(), worker, run...)
	s.worker.Dir = s.dir
	s.worker.Stdout, s.worker.Stderr = &s.output, &s.output
	s.worker.Env = append(slices.Clone(c.environment),
		"PATH="+s.dir+"/path:/usr/bin:/bin:/usr/sbin", "HOME="+s.dir+"/home", "DIR="+s.dir, "BIN="+filepath.Join(w.dir, "bin"),
		"ADDRESS="+address.String(), "PORT="+strconv.Itoa(int(port)), "NAME="+domain(address), "PAYLOAD=a stolen secret",
		"GITHUB_REPOSITORY=acme/evasion", "GITHUB_WORKFLOW=CI", "GITHUB_RUN_ID=1", "GITHUB_RUN_ATTEMPT=1",
		"GITHUB_JOB="+s.job, "GITHUB_ACTION="+s.job,
		"GITHUB_ENV="+s.dir+"/commands/env", "GITHUB_PATH="+s.dir+"/commands/path", "GITHUB_WORKSPACE="+s.dir+"/work",
	)
	if len(c.wait) > 0 {
		var err error
		if s.begin, err = s.worker.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.worker.Start(); err != nil {
		t.Fatal(err)
	}
	for _, name := range c.wait {
		if err := until(func() bool { return w.sensor.watches(filepath.Join(s.dir, name)) }); err != nil {
			t.Fatalf("%s is not watched: %v\n%s", name, err, &s.output)
		}
	}
	if s.begin != nil {
		if _, err := s.begin.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// prepare makes the files that tricks are after.
func (s *step) prepare(t *testing.T, c trick, tool string) {
	t.Helper()
	for name, text := range map[string]string{
		"home/.aws/credentials": "aws_secret_access_key=" + s.job,
		"commands/env":          "",
		"commands/path":         "",
	} {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// What a step finds in its PATH is older than the step.
	if err := os.Mkdir(filepath.Join(s.dir, "path"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(tool, filepath.Join(s.dir, "path/tool")); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(c.wait, func(name string) bool { return strings.HasPrefix(name, "work/") }) {
		return
	}
	const checkOut = `mkdir work && cd work && echo 'int main(void) { return 0; }' >main.c && git init -q && git add . &&
git -c user.name=a -c user.email=a@example.test commit -qm a`
	cmd := exec.Command("sh", "-c", checkOut)
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// install puts a program somewhere under another name.
func install(t *testing.T, program, at string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, at); err != nil {
		t.Fatal(err)
	}
}

// acted returns the numbers of the processes that said that they do it.
func (s *step) acted(t *testing.T) (pids []uint32) {
	t.Helper()
	for line := range strings.Lines(s.output.String()) {
		number, ok := strings.CutPrefix(strings.TrimSpace(line), "acted ")
		if !ok {
			continue
		}
		pid, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, uint32(pid))
	}
	if len(pids) == 0 {
		t.Fatalf("no process said that it did it\n%s", &s.output)
	}
	return pids
}

// await waits for an event of a job.
func (w *world) await(t *testing.T, s *step, what string, is func(event) bool) (found event) {
	t.Helper()
	err := until(func() bool {
		all := w.sink.events(s.job)
		i := slices.IndexFunc(all, is)
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	if err != nil {
		var seen []string
		for _, e := range w.sink.events(s.job) {
			seen = append(seen, describe(e))
		}
		lost, err := w.sensor.Lost()
		t.Fatalf("not reported: %s\nbut\n%s\noutput\n%s\nlost by the kernel %v %v", what, strings.Join(seen, "\n"), &s.output, lost, err)
	}
	return found
}

// check compares who did it: the process by its number, below the step's worker, in the
// step, at this time.
func (s *step) check(t *testing.T, c trick, acted []uint32, e event) {
	t.Helper()
	line := describe(e)
	if e.at.Step != s.job || e.at.Repository != "acme/evasion" {
		t.Errorf("%s: in step %q of %q", line, e.at.Step, e.at.Repository)
	}
	if e.process == nil || !slices.Contains(acted, e.process.Pid) {
		t.Errorf("%s: by %v, not one of %v", line, e.process, acted)
	}
	if !c.far && !slices.ContainsFunc(e.ancestors, func(p *sallyportv1.Process) bool { return int(p.Pid) == s.worker.Process.Pid }) {
		t.Errorf("%s: not below the worker %d but %v", line, s.worker.Process.Pid, e.ancestors)
	}
	if at := time.Unix(0, int64(e.TimeUnixNano)); at.Before(s.began.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("%s: at %v, begun at %v", line, at, s.began)
	}
}

// passBarrier returns when all that the agent may tell of what was done before has been
// told: the kernel's records and fanotify's events come in their order.
func (w *world) passBarrier(t *testing.T) {
	t.Helper()
	s := w.start(t, trick{run: []string{"barrier.c"}, wait: []string{"path"}})
	if err := s.worker.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &s.output)
	}
	w.await(t, s, "the barrier", func(e event) bool { return e.GetFileAccess().GetRule() == "path_folder" })
}

func matches(want, line string) bool {
	for i, part := range strings.Split(want, "*") {
		at := strings.Index(line, part)
		if at < 0 || i == 0 && at > 0 {
			return false
		}
		line = line[at+len(part):]
	}
	return line == "" || strings.HasSuffix(want, "*")
}

// describe writes an event as a line: who did what.
func describe(e event) string {
	who := filepath.Base(e.process.GetExecutable())
	for _, name := range []string{"python3", "ld-linux"} { // of some version
		if strings.HasPrefix(who, name) {
			who = name
		}
	}
	what := ""
	switch {
	case e.GetProcessForked() != nil:
		what = "forked"
	case e.GetProcessExecuted() != nil:
		what = "ran " + strings.Join(e.process.Arguments, " ")
		if e.process.ArgumentsTruncated {
			what += " …"
		}
	case e.GetProcessExited() != nil:
		what = fmt.Sprintf("exited %d %d", e.GetProcessExited().ExitCode, e.GetProcessExited().Signal)
	case e.GetFlow() != nil:
		what = describeFlow(e.GetFlow())
	case e.GetDnsExchange() != nil:
		what = "asked " + e.GetDnsExchange().Name + " " + e.GetDnsExchange().Type
	case e.GetProcessAccess() != nil:
		what = "reached " + lower(e.GetProcessAccess().Kind, "ACCESS_KIND_") + " of " + filepath.Base(e.target.GetExecutable())
		if e.GetProcessAccess().TargetIsWorker {
			what = "reached " + lower(e.GetProcessAccess().Kind, "ACCESS_KIND_") + " of the worker"
		}
	case e.GetFileAccess() != nil:
		f := e.GetFileAccess()
		what = lower(f.Operation, "FILE_OPERATION_") + " " + f.Path + " " + f.Rule
	case e.GetPrivilegeUse() != nil:
		u := e.GetPrivilegeUse()
		what = strings.Join(slices.Concat([]string{"privilege", lower(u.Kind, "PRIVILEGE_KIND_")}, u.Namespaces), " ")
		if u.Kind == sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED {
			what += fmt.Sprintf(" %d to %d", u.EffectiveUidBefore, u.EffectiveUid)
		}
	case e.GetJobStarted() != nil:
		what = "job started"
	case e.GetJobEnded() != nil:
		what = "job ended"
	}
	return who + " " + what
}

func describeFlow(f *sallyportv1.Flow) string {
	address, _ := netip.AddrFromSlice(f.DestinationAddress)
	to := netip.AddrPortFrom(address, uint16(f.DestinationPort)).String()
	protocol := lower(f.Protocol, "PROTOCOL_")
	switch {
	case f.Direction == sallyportv1.Direction_DIRECTION_LISTENING:
		from, _ := netip.AddrFromSlice(f.SourceAddress)
		return lower(f.Phase, "FLOW_PHASE_") + " listening " + protocol + " " + netip.AddrPortFrom(from, uint16(f.SourcePort)).String()
	case f.Direction == sallyportv1.Direction_DIRECTION_INBOUND:
		from, _ := netip.AddrFromSlice(f.SourceAddress)
		return lower(f.Phase, "FLOW_PHASE_") + " inbound " + protocol + " " + netip.AddrPortFrom(from, uint16(f.SourcePort)).String()
	case f.Phase == sallyportv1.FlowPhase_FLOW_PHASE_STARTED:
		line := "sent " + protocol + " " + to
		if f.Domain != "" {
			line += " as " + f.Domain + " by " + lower(f.DomainSource, "DOMAIN_SOURCE_")
		}
		return line
	case f.Phase == sallyportv1.FlowPhase_FLOW_PHASE_IDENTIFIED:
		return "said " + lower(f.Application, "APPLICATION_") + " " + f.ServerName
	default:
		return lower(f.Phase, "FLOW_PHASE_") + " " + protocol + " " + to
	}
}

func lower(s fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), prefix))
}
