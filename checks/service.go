package checks

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// Verdicts gives the verdicts of a run: *detector.Verdicts.
type Verdicts interface {
	OfRun(ctx context.Context, repository, run string) ([]*sallyportv1.Verdict, error)
}

// Config of a Service. JetStream, App, Secret, Baselines, Decisions and Verdicts are needed.
type Config struct {
	JetStream jetstream.JetStream
	// App is the client of the GitHub App itself, Secret that of its webhooks.
	App       *github.Client
	Secret    []byte
	Baselines Baselines
	Decisions Decisions
	Verdicts  Verdicts
	// DetailsURL is where a check's title leads; empty for GitHub's own page.
	DetailsURL string

	// Grace is how long after the end of a run the verdicts on its jobs are waited for; 4 s by
	// default. What comes later changes the check all the same.
	Grace time.Duration
	// Patience is how long a commit that a pull request or a merge queue asks about may be without
	// a run; a minute by default.
	Patience time.Duration
	// Resync is how long a run may be silent before GitHub is asked about it; 2 minutes by default.
	Resync time.Duration

	Registerer prometheus.Registerer
	Logger     *slog.Logger
	// Now is the clock; time.Now by default.
	Now func() time.Time
}

// Service keeps the checks of all commits up to date. There should be one for a NATS; while two
// are there they are slower and not wrong.
type Service struct {
	config  Config
	log     *slog.Logger
	commits *commits
	queue   *queue
	large   chan struct{} // webhooks that are being read
	id      string        // of this process, for others at the same work

	mu        sync.Mutex
	clients   map[int64]*github.Client
	decisions map[string]*sallyportv1.Decision // the one that counts about each finding
	byFinding map[string]string                // key of the commit whose check tells of it
	byRun     map[string]string                // key of the commit of a run
	rules     map[string]kept
	failures  map[string]int
	unsure    map[string]bool // keys of commits that another process changed meanwhile

	trouble  atomic.Pointer[string]
	webhooks *prometheus.CounterVec
	rounds   *prometheus.CounterVec
	delay    prometheus.Histogram
}

// kept are the rules of a repository when they were read.
type kept struct {
	rules *Rules
	at    time.Time
}

// How long things are kept, and how many are worked on at once.
const (
	rulesKept   = 30 * time.Second
	parallel    = 8
	activeFor   = 24 * time.Hour      // verdicts on a commit's jobs come before
	longestRun  = 35 * 24 * time.Hour // GitHub ends runs before
	callTimeout = time.Minute
	keepTimeout = 5 * time.Second
	followed    = 200 * time.Millisecond // between two looks at verdicts and decisions
)

// New makes a Service; the bucket CHECKS is there (stream.Declare).
func New(ctx context.Context, c Config) (*Service, error) {
	c.Grace, c.Patience, c.Resync = cmp.Or(c.Grace, 4*time.Second), cmp.Or(c.Patience, time.Minute), cmp.Or(c.Resync, 2*time.Minute)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if len(c.Secret) == 0 {
		return nil, errors.New("checks: the App has no webhook secret: anybody could tell lies")
	}
	s := &Service{
		config: c, log: c.Logger, queue: newQueue(c.Now), large: make(chan struct{}, largeAtOnce), clients: make(map[int64]*github.Client), decisions: make(map[string]*sallyportv1.Decision),
		byFinding: make(map[string]string), byRun: make(map[string]string), rules: make(map[string]kept), failures: make(map[string]int), unsure: make(map[string]bool), id: rand.Text(),
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_checks_webhooks_total", Help: "Webhooks from GitHub, by event and what became of them: taken, ignored, refused or failed."}, []string{"event", "result"}),
		rounds:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_checks_rounds_total", Help: "Times that a check was worked out, by result: unchanged, changed or failed."}, []string{"result"}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sallyport_checks_delay_seconds", Help: "Time from hearing of the end of a commit's last run to its concluded check.", Buckets: []float64{.25, .5, 1, 2, 3, 4, 5, 7.5, 10, 30, 120},
		}),
	}
	if c.Registerer != nil {
		for _, m := range []prometheus.Collector{s.webhooks, s.rounds, s.delay} {
			if err := c.Registerer.Register(m); err != nil {
				return nil, fmt.Errorf("checks: register metrics: %w", err)
			}
		}
	}
	var err error
	if s.commits, err = openCommits(ctx, c.JetStream); err != nil {
		return nil, err
	}
	return s, nil
}

// Health says whether GitHub can be spoken to.
func (s *Service) Health() (healthy bool, detail string) {
	if t := s.trouble.Load(); t != nil {
		return false, *t
	}
	return true, "up to date"
}

// Run works until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	if err := s.load(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	away := func(err error) { s.log.Debug("NATS does not answer", "error", err) }
	g.Go(func() error {
		return stream.Follow(ctx, s.config.JetStream, stream.DecisionsBucket, followed, s.heardDecision, away)
	})
	g.Go(func() error {
		return stream.Follow(ctx, s.config.JetStream, stream.VerdictsBucket, followed, s.heardVerdict, away)
	})
	g.Go(func() error {
		// A process that this one takes the place of may have left more since.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.config.Resync):
		}
		if err := s.load(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("what was left is not known", "error", err)
		}
		return nil
	})
	g.Go(func() error {
		s.queue.run(ctx, parallel, s.work)
		return nil
	})
	err := g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// load takes up what an earlier process left.
func (s *Service) load(ctx context.Context) error {
	list, err := s.config.Decisions.List(ctx) // newest first
	if err != nil {
		return fmt.Errorf("load checks: %w", err)
	}
	s.mu.Lock()
	for _, d := range list {
		if id := d.GetFindingId(); id != "" && detector.Stands(d, s.decisions[id]) {
			s.decisions[id] = d
		}
	}
	s.mu.Unlock()
	keys, err := s.commits.keys(ctx)
	if err != nil {
		return fmt.Errorf("load checks: %w", err)
	}
	for _, key := range keys {
		if inner, ok := strings.CutPrefix(key, inboxPrefix); ok {
			if i := strings.LastIndexByte(inner, '.'); i > 0 {
				s.queue.add(inner[:i], s.config.Now())
			}
			continue
		}
		c, err := s.commits.get(ctx, key)
		if err != nil {
			s.log.Error("a commit is left out", "error", err)
			continue
		}
		if c == nil {
			continue
		}
		s.index(c)
		if s.left(c) {
			s.queue.add(key, s.config.Now())
		}
	}
	return nil
}

// left says whether an earlier process may have left something to do on a commit, or something came
// in while none worked.
func (s *Service) left(c *commit) bool {
	now := s.config.Now()
	switch open := slices.ContainsFunc(c.ordered(), func(r *run) bool { return !r.over() }); {
	case len(c.Clicks) > 0, now.Sub(c.Touched) < activeFor:
		return true
	case !c.Completed || open:
		return now.Sub(c.lastBegan()) < longestRun
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(c.Findings, func(id string) bool {
		d := s.decisions[id]
		return d != nil && d.GetTime().AsTime().After(c.Touched)
	})
}

// index notes where to look when something comes in.
func (s *Service) index(c *commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range c.Findings {
		s.byFinding[id] = c.key()
	}
	for _, r := range c.Runs {
		s.byRun[runKey(c.Repository, r.ID)] = c.key()
	}
}

// indexFindings notes which commit the findings of verdicts are told of.
func (s *Service) indexFindings(c *commit, verdicts []*sallyportv1.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range verdicts {
		for _, id := range v.GetFindingIds() {
			s.byFinding[id] = c.key()
		}
	}
}

func runKey(repository string, run int64) string {
	return fmt.Sprintf("%s %d", strings.ToLower(repository), run)
}

func (s *Service) heardDecision(value []byte) {
	d := new(sallyportv1.Decision)
	if proto.Unmarshal(value, d) != nil || d.GetFindingId() == "" {
		return
	}
	s.note(d)
}

// note takes a decision, and has the check that it is about worked out again.
func (s *Service) note(d *sallyportv1.Decision) {
	s.mu.Lock()
	if detector.Stands(d, s.decisions[d.GetFindingId()]) {
		s.decisions[d.GetFindingId()] = d
	}
	key := s.byFinding[d.GetFindingId()]
	s.mu.Unlock()
	if key != "" {
		s.queue.add(key, s.config.Now())
	}
}

func (s *Service) heardVerdict(value []byte) {
	v := new(sallyportv1.Verdict)
	if proto.Unmarshal(value, v) != nil {
		return
	}
	a := v.GetAttribution()
	s.mu.Lock()
	key := s.byRun[strings.ToLower(a.GetRepository())+" "+a.GetRunId()]
	s.mu.Unlock()
	if key != "" { // otherwise GitHub has not told of the run yet: its verdicts are asked for then
		s.queue.add(key, s.config.Now())
	}
}

// clientOf is the client of the installation that a commit is in.
func (s *Service) clientOf(ctx context.Context, c *commit) (*github.Client, error) {
	if c.Installation == 0 {
		id, err := s.config.App.InstallationOf(ctx, c.Repository)
		if err != nil {
			return nil, err
		}
		c.Installation = id
	}
	s.mu.Lock()
	client := s.clients[c.Installation]
	s.mu.Unlock()
	if client != nil {
		return client, nil
	}
	client, err := s.config.App.InstallationByID(ctx, c.Installation)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.clients[c.Installation] = client
	s.mu.Unlock()
	return client, nil
}

// rulesOf are the rules of a repository. A file that is wrong counts as none, and the check says
// so.
func (s *Service) rulesOf(ctx context.Context, client *github.Client, c *commit) (*Rules, error) {
	name := strings.ToLower(c.Repository)
	s.mu.Lock()
	old, ok := s.rules[name]
	s.mu.Unlock()
	if ok && s.config.Now().Sub(old.at) < rulesKept {
		return old.rules, nil
	}
	rules := noRules()
	text, err := client.File(ctx, c.Repository, "", RulesFile) // of the default branch
	switch {
	case errors.Is(err, github.ErrNotFound):
	case errors.Is(err, github.ErrTooLarge):
		rules.problem = err
	case err != nil:
		return nil, err
	default:
		read, err := ParseRules(text)
		if err != nil {
			rules.problem = err
		} else {
			rules = read
		}
	}
	s.mu.Lock()
	s.rules[name] = kept{rules, s.config.Now()}
	s.mu.Unlock()
	return rules, nil
}

// forgetRules has them read again, and the checks of the repository that are not green worked out
// again.
func (s *Service) forgetRules(ctx context.Context, repository string) error {
	s.mu.Lock()
	delete(s.rules, strings.ToLower(repository))
	s.mu.Unlock()
	prefix, _, _ := strings.Cut(keyOf(repository, ""), ".")
	keys, err := stream.KeysLike(ctx, s.config.JetStream, stream.ChecksBucket, prefix+".*")
	if err != nil {
		return fmt.Errorf("list the commits of %s: %w", repository, err)
	}
	for _, key := range keys {
		s.queue.add(key, s.config.Now())
	}
	return nil
}
