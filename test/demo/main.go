// Command demo is `make demo`: it starts Sallyport, lets a real workflow run until
// its baseline is stable, lets an attacker in, and shows what one sees. Everything
// happens on this machine, in a network of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport/report/terminal"
	"github.com/sallyport-ci/sallyport/test/githubfake"
	"github.com/sallyport-ci/sallyport/test/lab"
	"github.com/sallyport-ci/sallyport/test/pullrequest"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

const (
	data       = ".demo"
	repository = "acme/shop"
	// The first six runs teach; then come three pull requests.
	cleanRun, mirrorRun, attackRun = 7, 8, 9
)

// expected are the policies that the attack breaks.
var expected = []string{"decoded_command", "masked_secret_printed", "new_endpoint", "pipe_to_interpreter", "process_memory_read"}

// queries are the look further that the demo ends with.
var queries = []struct{ question, sql string }{
	{"Which runs ever spoke to that host?",
		"SELECT run_id, job, step, program, domain, sum(bytes_received) AS received FROM egress WHERE domain = 'gist.example.test' GROUP BY ALL"},
	{"What did the step start?",
		"SELECT parent_program, program, arrayStringConcat(arguments, ' ') AS command FROM processes WHERE run_id = '9' AND step = 'changed' ORDER BY started_at"},
	{"Who asked for which names?",
		"SELECT step, program, name, arrayMap(a -> toString(a), any(addresses)) AS answer FROM dns WHERE run_id = '9' AND length(addresses) > 0 GROUP BY ALL"},
}

func main() {
	lab.BeWorld()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := demo(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// screen keeps alerts, which arrive when they like, from cutting through lines.
var screen sync.Mutex

func say(format string, args ...any) {
	screen.Lock()
	defer screen.Unlock()
	fmt.Printf(format, args...)
}

func demo(ctx context.Context) (err error) {
	start := time.Now()
	colours := terminal.Palette{On: terminal.Coloured(os.Stdout, os.LookupEnv)}
	section := func(s string) { say("\n%s\n\n", colours.Bold("== "+s)) }
	if os.Geteuid() != 0 {
		return errors.New("eBPF and network namespaces need root: run `make demo`, which uses sudo")
	}
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}

	// What people watch: a channel like Slack's, which prints what arrives.
	receiver := slackfake.New("/services/T000/B000/demo", func(m slackfake.Received) {
		say("%s\n", slackfake.Render(m.Message, slackfake.RenderOptions{Colour: colours.On, Width: terminal.Columns(os.Stdout)}))
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	channel := &http.Server{Handler: receiver, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- channel.Serve(l) }()
	defer func() {
		err = errors.Join(err, channel.Close())
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}()

	// GitHub, with an organisation in which the App is installed.
	github, err := githubfake.Start()
	if err != nil {
		return err
	}
	defer func() {
		for _, wrong := range github.Stop() {
			err = errors.Join(err, errors.New("not as GitHub describes itself: "+wrong))
		}
	}()
	stage, err := pullrequest.New(github, repository, filepath.Join(data, "github-app"))
	if err != nil {
		return err
	}

	section("sallyport up")
	log, err := os.Create(filepath.Join(data, "up.log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	program, err := filepath.Abs("bin/sallyport")
	if err != nil {
		return err
	}
	up, err := lab.StartUp(ctx, program, data, "http://"+l.Addr().String()+"/services/T000/B000/demo", log)
	if err != nil {
		return errors.Join(err, show(log.Name()))
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, up.Stop())
		}
	}()
	// The banner is printed after the addresses are written.
	time.Sleep(200 * time.Millisecond)
	if err := show(log.Name()); err != nil {
		return err
	}

	section("A workflow runs until its baseline is stable")
	act, err := filepath.Abs(".bin/act")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sallyport-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	world, err := lab.Open(context.WithoutCancel(ctx), dir, act, repository)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, world.Close()) }()
	for run := 1; run < cleanRun; run++ {
		took, err := workflow(ctx, world, run)
		if err != nil {
			return err
		}
		state, err := learned(ctx, up, run)
		if err != nil {
			return err
		}
		say("  run %d of .github/workflows/ci.yml by act, %.1f s: baseline of job build is %s\n", run, took.Seconds(), state)
	}
	if n := len(receiver.Messages()); n > 0 { // no pull request yet
		return fmt.Errorf("%d alerts for clean runs", n)
	}
	say("\n  No alert for any of them. Run %d came after the baseline was stable.\n", cleanRun-1)

	p := &pulls{stage: stage, world: world, up: up, colours: colours}
	if err := stage.Join(world, up); err != nil {
		return err
	}
	section("A pull request that changes nothing that a job does")
	if err := p.clean(ctx); err != nil {
		return err
	}
	section("A pull request that fetches from a mirror, too")
	if err := p.mirror(ctx); err != nil {
		return err
	}
	section("The tag of the action changed-files moves to other code, as in March 2025; a pull request runs it")
	if err := world.Compromise(); err != nil {
		return err
	}
	say("  What arrives in the channel:\n\n")
	attacked, err := p.attacked(ctx)
	if err != nil {
		return err
	}
	if err := found(ctx, up, receiver); err != nil {
		return err
	}
	say("  and on the pull request:\n\n")
	if err := p.show(ctx, attacked, attackRun, "build"); err != nil {
		return err
	}

	for _, args := range [][]string{{"runs", "--limit", "3"}, {"runs", fmt.Sprint(attackRun), "--repository", repository}, {"findings"}, {"baseline"}} {
		section("sallyport " + strings.Join(args, " "))
		out, err := up.Ask(ctx, args...)
		if err != nil {
			return err
		}
		say("%s", out)
	}

	section("Look further in SQL")
	say("  curl --user reader:$(cat %s/reader.password) 'http://%s/?database=sallyport' --data-binary 'SELECT …'\n", data, up.ClickHouse)
	for _, q := range queries {
		out, err := up.Query(ctx, q.sql+" FORMAT PrettyCompactNoEscapesMonoBlock")
		if err != nil {
			return err
		}
		say("\n  %s\n  %s\n\n%s", q.question, colours.Dim(q.sql), out)
	}

	stopped = true
	if err := up.Stop(); err != nil {
		return err
	}
	section("Done")
	say("%.0f s. What was recorded is in %s: `sudo bin/sallyport up --data %s` goes on from here,\nand `sudo bin/sallyport findings --data %s` asks it.\nWatch any command: `sudo bin/sallyport run -- COMMAND`.\n", time.Since(start).Seconds(), data, data, data)
	return nil
}

func show(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	say("%s", strings.TrimRight(string(text), "\n")+"\n")
	return nil
}

func workflow(ctx context.Context, world *lab.Lab, run int) (time.Duration, error) {
	start := time.Now()
	var out strings.Builder
	if err := world.Run(ctx, "ci.yml", run, io.Writer(&out)); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, out.String())
	}
	return time.Since(start), nil
}

// patience bounds how long the demo waits for what should take a second.
const patience = 30 * time.Second

// learned waits until a run has taught the job's baseline, and describes it.
func learned(ctx context.Context, up *lab.Up, runs int) (string, error) {
	var b struct {
		Stable     bool
		Runs       int
		RunsNeeded int `json:"runs_needed"`
		Behaviours []struct{ Kind, Target string }
	}
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var out string
		if out, last = up.Ask(ctx, "baseline", "build", "--repository", repository, "--json"); last != nil {
			continue // no baseline before the first clean run has ended
		}
		if err := json.Unmarshal([]byte(out), &b); err != nil {
			return "", fmt.Errorf("read baseline: %w", err)
		}
		if b.Runs >= runs {
			state := fmt.Sprintf("learning, %d of %d", b.Runs, b.RunsNeeded)
			if b.Stable {
				state = "stable"
			}
			endpoints := 0
			for _, x := range b.Behaviours {
				if x.Kind == "BEHAVIOUR_KIND_EGRESS" {
					endpoints++
				}
			}
			return fmt.Sprintf("%s, %d endpoints", state, endpoints), nil
		}
	}
	return "", errors.Join(fmt.Errorf("run %d did not teach the baseline", runs), last)
}

// found waits until every expected finding is stored and told of.
func found(ctx context.Context, up *lab.Up, receiver *slackfake.Receiver) error {
	missing := expected
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		out, err := up.Ask(ctx, "findings", "--json", "--repository", repository, "--run", fmt.Sprint(attackRun))
		if err != nil {
			return err
		}
		missing = slices.Clone(expected)
		for line := range strings.Lines(out) {
			var f struct{ Policy struct{ ID, Title string } }
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				return fmt.Errorf("read finding: %w", err)
			}
			if told(receiver, f.Policy.Title) {
				missing = slices.DeleteFunc(missing, func(p string) bool { return p == f.Policy.ID })
			}
		}
		if len(missing) == 0 {
			return nil
		}
	}
	return fmt.Errorf("no alert for %s", strings.Join(missing, ", "))
}

func told(receiver *slackfake.Receiver, title string) bool {
	for _, m := range receiver.Messages() {
		for _, t := range m.Texts() {
			if strings.Contains(t.Text, title) {
				return true
			}
		}
	}
	return false
}
